"""Checkpoints of a pre-training that can't be lost."""

import os
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from gvsl.errors import DivergedError, UserError
from gvsl.files import claimed
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.training import PretrainSettings, pretrain
from gvsl.training.checkpoints import CHECKPOINT, PREVIOUS, WholeCheckpoints, read_checkpoint


class Bomb:
    """What fails while it is saved, as on a full disk."""

    def __reduce__(self) -> Any:
        raise OSError(28, os.strerror(28))


def saved(run: Path, *steps: int) -> None:
    for step in steps:
        (run / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
        WholeCheckpoints().save_checkpoint(
            {"global_step": step, "state_dict": {"weight": torch.ones(1000)}, "optimizer_states": []}, run / CHECKPOINT
        )


def test_the_last_two_are_kept_and_a_failing_third_takes_none(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert read_checkpoint(tmp_path) == (tmp_path / CHECKPOINT, 3)
    with pytest.raises(OSError, match=r"last\.ckpt"):
        WholeCheckpoints().save_checkpoint(
            {"global_step": 4, "weight": torch.ones(10**6), "b": Bomb()}, tmp_path / CHECKPOINT
        )
    assert read_checkpoint(tmp_path) == (tmp_path / CHECKPOINT, 3)
    (tmp_path / CHECKPOINT).unlink()
    assert read_checkpoint(tmp_path) == (tmp_path / PREVIOUS, 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [PREVIOUS.name]


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_broken_one_is_told_and_the_one_before_is_taken(
    tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, 5, 6)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:keep])
    assert read_checkpoint(tmp_path) == (tmp_path / PREVIOUS, 5)
    said = capsys.readouterr().err
    assert "last.ckpt is no whole checkpoint" in said
    assert "resuming from the one before it, of step 5" in said
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(UserError, match="no whole checkpoint to resume from; remove"):
        read_checkpoint(tmp_path)


def test_a_run_that_diverges_stops_at_once_and_keeps_the_checkpoint_before(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    wild = replace(
        tiny,
        optimiser=replace(tiny.optimiser, learning_rate=1e36, warmup_steps=0),
        trainer=replace(tiny.trainer, max_steps=50, checkpoint_every=1),
    )
    run = tmp_path / "run"
    with pytest.raises(
        DivergedError, match=r"at step \d: start another run with an optimiser.learning_rate below 1e\+36"
    ):
        pretrain(phantom_store, run, wild)
    assert read_record(run).status == "failed"
    assert not (run / "weights").exists()
    for path in (run / "checkpoints").iterdir():
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())


def test_a_run_is_begun_once(phantom_store: Store, tiny: PretrainSettings, tmp_path: Path) -> None:
    with claimed(tmp_path / "run", "gvsl pretrain"), pytest.raises(UserError, match="another gvsl pretrain is writing"):
        pretrain(phantom_store, tmp_path / "run", tiny)
    assert list(tmp_path.iterdir()) == []


def test_what_was_stopped_before_its_first_checkpoint_makes_way_and_nothing_else_does(
    finished: Path, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="exists already"):
        pretrain(phantom_store, finished, tiny)
    run = tmp_path / "run"
    run.mkdir()
    text = (finished / "record.json").read_text(encoding="utf-8")
    (run / "record.json").write_text(text.replace('"status": "finished"', '"status": "running"'), encoding="utf-8")
    assert read_record(run).status == "stopped"
    (run / "notes.txt").write_text("the user's")
    with pytest.raises(UserError, match="exists already"):
        pretrain(phantom_store, run, tiny)
    (run / "notes.txt").unlink()
    one = replace(tiny, trainer=replace(tiny.trainer, max_steps=1))
    assert pretrain(phantom_store, run, one).status == "finished"


def test_a_store_that_grew_or_was_prepared_otherwise_is_refused(
    finished: Path, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    copytree(finished, run)
    path = run / "record.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"finished"', '"failed"'), encoding="utf-8")
    grown = replace(phantom_store, hash="0" * 64)
    with pytest.raises(UserError, match=r"was begun with store .*, now 000000.* has changed since; name the store"):
        pretrain(grown, run, tiny, resume=True)
