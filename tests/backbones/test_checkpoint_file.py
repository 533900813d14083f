import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from gvsl.backbones import UNet3DSettings
from gvsl.backbones.checkpoint_file import check_checkpoint, load_checkpoint
from gvsl.errors import UserError
from gvsl.training import PretrainSettings
from gvsl.training.module import PretrainModule
from gvsl.training.pretrain import build_method

SETTINGS = PretrainSettings(backbone=UNet3DSettings(width=8, levels=2))


class Evil:
    """Executed on unpickling, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def module() -> PretrainModule:
    return PretrainModule(build_method("denoising", SETTINGS), SETTINGS.optimiser, 0, 8)


@pytest.fixture
def checkpoint(module: PretrainModule) -> dict[str, Any]:
    optimiser = torch.optim.Adam(module.parameters())
    for value in module.parameters():
        value.grad = torch.ones_like(value)
    optimiser.step()
    return {"global_step": 3, "state_dict": module.state_dict(), "optimizer_states": [optimiser.state_dict()]}


def refusal(path: Path, module: PretrainModule) -> str:
    with pytest.raises(UserError) as caught:
        check_checkpoint(path, module, 8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_saved_is_taken(tmp_path: Path, module: PretrainModule, checkpoint: dict[str, Any]) -> None:
    torch.save(checkpoint, tmp_path / "last.ckpt")
    check_checkpoint(tmp_path / "last.ckpt", module, 8)
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 3


def test_tensors_of_another_run_and_values_that_are_not_finite_are_refused(
    tmp_path: Path, module: PretrainModule, checkpoint: dict[str, Any]
) -> None:
    path, name = tmp_path / "last.ckpt", "method.backbone.encoder.0.0.0.weight"
    good = dict(checkpoint["state_dict"])
    for value, reason in ((good[name][:4], "1 mismatched"), (good[name] * torch.nan, "NaN"), (None, "1 missing")):
        torch.save({**checkpoint, "state_dict": {**good, name: value}}, path)
        assert reason in refusal(path, module)
    state = checkpoint["optimizer_states"][0]
    broken = {**state, "state": {**state["state"], 0: {**state["state"][0], "exp_avg": torch.zeros(3)}}}
    torch.save({**checkpoint, "optimizer_states": [broken]}, path)
    assert "state of the optimiser" in refusal(path, module)
    torch.save({**checkpoint, "global_step": 9}, path)
    assert "step 9" in refusal(path, module)


def test_nothing_is_executed_and_damage_is_seen(
    tmp_path: Path, module: PretrainModule, checkpoint: dict[str, Any]
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({**checkpoint, "x": Evil(tmp_path / "executed")}, path)
    assert "no whole checkpoint" in refusal(path, module)
    assert not (tmp_path / "executed").exists()
    torch.save(checkpoint, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of a tensor
    path.write_bytes(content)
    assert "damaged" in refusal(path, module)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**20))
    assert "compressed" in refusal(path, module)
    path.unlink()
    os.mkfifo(path)
    assert "pipe" in refusal(path, module)
