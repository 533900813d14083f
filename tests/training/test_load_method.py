import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gvsl.errors import UserError
from gvsl.methods import GVSL
from gvsl.methods.load_method import load_method
from gvsl.store import Store


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be spoiled."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def change(path: Path, *keys: str, value: Any) -> None:
    values = inner = json.loads(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_run_is_loaded_whole_and_ready_to_use(finished: Path, phantom_store: Store) -> None:
    method = load_method(finished)
    assert isinstance(method, GVSL)
    assert not any(part.training for part in method.modules())
    saved = {f"backbone.{key}": value for key, value in load_file(finished / "weights" / "model.safetensors").items()}
    saved |= load_file(finished / "weights" / "heads.safetensors")
    state = method.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[key], saved[key]) for key in saved)
    assert getattr(method.backbone, "preprocessing") == phantom_store.preprocessing  # noqa: B009
    assert method.settings.window == 9
    assert method.settings.spatial.rotation == 20
    image = torch.rand(1, 1, 16, 16, 16)
    assert method.match(image, image).dvf.isfinite().all()


def test_the_runs_own_settings_are_used(run: Path) -> None:
    change(run / "record.json", "config", "pretext", "window", value=5)
    change(run / "record.json", "config", "pretext", "spatial", "knots", value=3)
    settings = load_method(run).settings
    assert (settings.window, settings.spatial.knots) == (5, 3)


def test_a_method_that_is_not_there_is_refused(run: Path) -> None:
    change(run / "weights" / "config.json", "method", value="guess")
    with pytest.raises(UserError, match="'guess', which this gvsl does not have"):
        load_method(run)


def test_settings_that_are_not_known_are_refused(run: Path) -> None:
    change(run / "record.json", "config", "pretext", "stranger", value=1)
    with pytest.raises(UserError, match=r"settings that this gvsl does not know.*stranger"):
        load_method(run)


def test_a_setting_that_came_after_the_run_has_its_default(run: Path) -> None:
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    del record["config"]["pretext"]["affine_gradient"]
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    assert load_method(run).settings.affine_gradient


def test_heads_of_another_method_are_refused(run: Path) -> None:
    path = run / "weights" / "heads.safetensors"
    heads = load_file(path)
    heads["stranger"] = heads.pop("matching.affine.log_sharpness")
    save_file(heads, path)
    with pytest.raises(UserError, match=r"1 missing \(matching.affine.log_sharpness\), 1 unexpected \(stranger\)"):
        load_method(run)


def test_a_run_without_weights_or_record_is_refused(run: Path) -> None:
    shutil.rmtree(run / "weights")
    with pytest.raises(UserError, match="name the folder of a finished run"):
        load_method(run)
    with pytest.raises(UserError, match=r"holds no record\.json"):
        load_method(run.parent)
