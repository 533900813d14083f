"""--trainer.loggers: how it is given, what it writes, and what it says where a package is missing."""

import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gvsl.cli import main
from gvsl.cli.pretrain import pretrain_options
from gvsl.errors import UserError
from gvsl.settings import Loggers
from gvsl.store import Store
from gvsl.training import PretrainSettings, TrainerSettings, pretrain
from gvsl.training.loggers import resolve_loggers
from gvsl.training.metrics_logger import read_curves


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.loggers", "csv", "tensorboard", "STORE"],
        ["STORE", "--loggers", "csv,tensorboard"],
        ["STORE", "--trainer.loggers=[csv, tensorboard]"],
    ],
)
def test_several_loggers_are_one_setting(words: list[str]) -> None:
    options = pretrain_options([*words, "--out", "RUN"])
    assert tuple(options.settings.trainer.loggers) == ("csv", "tensorboard")
    assert options.store == Path("STORE")


def test_without_the_setting_there_is_no_choice_and_it_decides_nothing(tiny: PretrainSettings) -> None:
    assert pretrain_options(["STORE", "--out", "RUN"]).settings.trainer.loggers is None
    recipe = pretrain_options(["STORE", "--out", "RUN", "--recipe", "quick", "--loggers", "csv"]).settings
    assert tuple(recipe.trainer.loggers) == ("csv",)


def test_an_unknown_logger_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pretrain", "STORE", "--out", str(tmp_path / "run"), "--loggers", "csv", "tensorbord"]) == 2
    said = capsys.readouterr().err
    assert main(["pretrain", "STORE", "--out", str(tmp_path / "run"), "--loggers", "wandbb"]) == 2
    assert "did you mean wandb?" in capsys.readouterr().err and said.count("\n") == 1
    with pytest.raises(UserError, match="there is no logger comet"):
        TrainerSettings(loggers=("comet",))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_written(
    name: str, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    settings = replace(tiny, trainer=TrainerSettings(max_steps=2, device="cpu", loggers=("csv", name)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf'logger {name} needs {name}.*pip install "gvsl\[{name}\]"'):
        pretrain(phantom_store, tmp_path / "run", settings)
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_default_is_the_table_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolve_loggers(None) == ("tensorboard",)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert resolve_loggers(None) == ()
    assert 'pip install "gvsl[tensorboard]"' in capsys.readouterr().err
    assert resolve_loggers(("csv",)) == ()


def run_with(store: Store, settings: PretrainSettings, out: Path, loggers: Loggers) -> Path:
    chosen = replace(settings.trainer, max_steps=2, loggers=loggers)
    pretrain(store, out, replace(settings, trainer=chosen))
    assert len(read_curves(out / "curves.csv")) == 2
    return out


def test_csv_alone_writes_the_table_and_nothing_else(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    run = run_with(phantom_store, tiny, tmp_path / "run", ("csv",))
    assert sorted(path.name for path in run.iterdir()) == ["curves.csv", "record.json", "weights"]


@pytest.mark.slow
def test_wandb_takes_the_values_and_nothing_of_the_machine(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = run_with(phantom_store, tiny, tmp_path / "clinic" / "run", ("wandb", "tensorboard"))
    (sent,) = (run / "wandb").glob("offline-run-*/*.wandb")
    data = sent.read_bytes()
    assert b"gradient_norm_affine" in data and b"ncc_identity" in data
    for secret in ("clinic", str(phantom_store.path), str(Path.home()), sys.executable):
        assert secret.encode() not in data, secret
    assert (run / "tensorboard").is_dir()


@pytest.mark.slow
def test_mlflow_has_what_the_table_has(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = run_with(phantom_store, tiny, tmp_path / "run", ("mlflow",))
    with sqlite3.connect(run / "mlruns" / "mlflow.db") as base:
        rows = base.execute("select step, value from metrics where key = 'loss' order by step").fetchall()
        tags = dict(base.execute("select key, value from tags").fetchall())
    assert [value for _, value in rows] == pytest.approx([row["loss"] for row in read_curves(run / "curves.csv")])
    assert tags["mlflow.source.name"] == "gvsl pretrain" and tags["mlflow.user"] == ""
