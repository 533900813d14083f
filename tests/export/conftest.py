from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from gvsl.backbones import BackboneSettings, build_backbone
from gvsl.backbones.weights import save_weights
from gvsl.cases import Case
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.settings.backbones import BackboneName
from gvsl.store import Store
from gvsl.transfer import ClassificationNetwork, SegmentationNetwork, TransferSettings, save_adapted
from gvsl.transfer.weights import CLASSIFIER_CONFIG, segmenter_config

LABELS = {1: "ball", 7: "box"}
WINDOW = Preprocessing(intensity="window", lower=-100, upper=300, crop="none")
CROP = (16, 16, 16)

MakeRun = Callable[..., Path]


def spread(module: nn.Module) -> None:
    """Give normalisation and biases random values, so that a part that is left out shows."""
    generator = torch.Generator().manual_seed(1)
    for name, value in module.state_dict().items():
        if value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + (0.0 if name.endswith("bias") else 0.5))


def save_run(
    root: Path,
    kind: str,
    spec: Preprocessing = PRESETS["mr"],
    width: int = 8,
    name: BackboneName = "unet",
    kernel: int = 3,
) -> Path:
    """Save random weights as a run: pre-training, of a method of the encoder alone, segmentation or classification."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneSettings(name=name, width=width, levels=3))
    spread(backbone)
    folder = root / kind
    settings = TransferSettings(width=width, crop=CROP)
    provenance = {"pretrained": ["encoder"]} if kind == "encoder" else {}
    if kind in ("pretrain", "encoder"):
        save_weights(folder, backbone, method="x", preprocessing=spec, provenance=provenance)
        return folder
    network = (
        SegmentationNetwork(backbone, 3, kernel=kernel) if kind == "segmentation" else ClassificationNetwork(backbone)
    )
    spread(network.head)
    config = segmenter_config(LABELS, kernel=kernel) if kind == "segmentation" else CLASSIFIER_CONFIG
    assert network.head.bias is not None
    with torch.no_grad():
        network.head.bias.zero_()  # no class wins everywhere
    save_adapted(folder, network, config, settings=settings, method="x", preprocessing=spec, provenance=provenance)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Save random weights as a run."""
    return partial(save_run, tmp_path)


SHAPES = ((18, 23, 20), (24, 20, 18), (17, 16, 25), CROP)
SPLITS = ("train", "train", "val", "test")


def write_images(root: Path) -> Path:
    """Write four labelled images at 1 mm: the second lies in another orientation, the last is one window."""
    generator = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        label = np.zeros(shape, np.uint8)
        label[3:8, 4:10, 5:9] = 1
        label[10:15, 8:13, 9:15] = 7
        image = generator.normal(0, 15, shape) + 200 * (label == 1) - 150 * (label == 7)
        affine = np.diag([-1.0, 1, 1, 1]) if number == 1 else np.eye(4)
        for folder, array in (("images", image.astype(np.float32)), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(array, affine).to_filename(root / folder / f"s{number}.nii.gz")
    return root / "images"


def prepare_of(images: Path, out: Path, spec: Preprocessing) -> Store:
    cases = [
        Case(f"s{number}", images / f"s{number}.nii.gz", images.parent / "labels" / f"s{number}.nii.gz", (split,))
        for number, split in enumerate(SPLITS)
    ]
    return prepare(cases, out, spec, label_names=LABELS, source="made")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four labelled images."""
    return write_images(tmp_path / "source")


@pytest.fixture
def prepare_images(images: Path, tmp_path: Path) -> Callable[[Preprocessing], Store]:
    """Prepare the images."""
    return partial(prepare_of, images, tmp_path / "store")
