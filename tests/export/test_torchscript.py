"""The file in TorchScript's own loader, against gvsl's own network."""

from pathlib import Path

import pytest
import torch

from gvsl.backbones.weights import load_backbone
from gvsl.export.export import export
from gvsl.transfer import load_adapted

from .conftest import MakeRun

IMAGE = torch.rand(2, 1, 13, 22, 17, generator=torch.Generator().manual_seed(3))


def test_features_of_a_pretraining_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("pretrain")
    export(run, tmp_path / "out", "torchscript")
    with torch.no_grad():
        local, deepest = torch.jit.load(str(tmp_path / "out" / "model.ts"))(IMAGE)
        wanted = load_backbone(run)(IMAGE)
    torch.testing.assert_close(local, wanted.local)
    torch.testing.assert_close(deepest, wanted.global_)


def test_a_method_that_trains_no_decoder_gives_global_features_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("encoder")
    export(run, tmp_path / "out", "torchscript")
    with torch.no_grad():
        deepest = torch.jit.load(str(tmp_path / "out" / "model.ts"))(IMAGE)
        torch.testing.assert_close(deepest, load_backbone(run).encode(IMAGE))


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_logits_of_a_transfer_run(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(kind)
    export(run, tmp_path / "out", "torchscript")
    with torch.no_grad():
        found = torch.jit.load(str(tmp_path / "out" / "model.ts"))(IMAGE)
        torch.testing.assert_close(found, load_adapted(run).network(IMAGE))
