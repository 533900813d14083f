import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import load_backbone
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS
from gvsl.transfer import SegmentationNetwork, TransferSettings, load_segmenter, save_adapted
from gvsl.transfer.weights import segmenter_config

LABELS = {2: "anterior", 5: "posterior"}


@pytest.fixture
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(UNet3D(width=8), 3, frozen=True, precision="bf16")


@pytest.fixture
def run(tmp_path: Path, network: SegmentationNetwork) -> Path:
    settings = TransferSettings(crop=(32, 24, 16), overlap=0.25)
    save_adapted(
        tmp_path,
        network,
        segmenter_config(LABELS, kernel=3),
        settings=settings,
        method="gvsl",
        preprocessing=PRESETS["ct"],
        provenance={},
    )
    return tmp_path


def test_gives_the_same_logits_and_all_there_is_to_know(run: Path, network: SegmentationNetwork) -> None:
    loaded = load_segmenter(run)
    image = torch.rand(1, 1, 12, 16, 20)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network.eval()(image))
    assert (loaded.labels, loaded.crop, loaded.overlap) == (LABELS, (32, 24, 16), 0.25)
    assert loaded.preprocessing == PRESETS["ct"]
    assert not any(part.training for part in loaded.network.modules())


def test_the_backbone_loads_alone(run: Path) -> None:
    assert load_backbone(run).method == "gvsl"


def refusal(run: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_segmenter(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_a_head_is_refused(run: Path) -> None:
    (run / "head.json").unlink()
    assert "name the folder of a run of gvsl transfer" in refusal(run)


def test_a_head_of_other_classes_is_refused(run: Path) -> None:
    config = json.loads((run / "head.json").read_text(encoding="utf-8"))
    (run / "head.json").write_text(json.dumps({**config, "labels": {"1": "one"}}), encoding="utf-8")
    assert "2 mismatched" in refusal(run)


def test_broken_files_are_refused(run: Path) -> None:
    tensors = load_file(run / "head.safetensors")
    (run / "head.safetensors").write_bytes(b"nothing")
    assert "can't be read" in refusal(run)
    save_file(tensors, run / "head.safetensors")
    (run / "head.json").write_text('{"format": 1, "labels": {"one": "x"}}', encoding="utf-8")
    assert "not a valid head config" in refusal(run)
