from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.io import read_volume
from gvsl.prediction import segment_probabilities, segment_volume
from gvsl.prediction.volumes import windowed_logits
from gvsl.preprocessing import Preprocessing
from gvsl.transfer import (
    SegmentationNetwork,
    Segmenter,
)
from gvsl.types import Features

from .grids import GRIDS, allowed, phantom


class Intensities(UNet3D):
    """A backbone whose local features are the grey values."""

    def __init__(self) -> None:
        super().__init__(width=8)

    def forward(self, image: Tensor) -> Features:
        return Features(image, image.repeat(1, 8, 1, 1, 1))


def thresholding(contract: Preprocessing, crop: tuple[int, int, int]) -> Segmenter:
    """A network that calls 9 what is brighter than the middle of the range, and 4 what is brighter still."""
    network = SegmentationNetwork(Intensities(), 3, kernel=1).eval()
    slopes, starts = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, -0.5, -1.6])
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[:, 0, 0, 0, 0] = 20 * slopes
        assert network.head.bias is not None
        network.head.bias.copy_(20 * starts)
    return Segmenter(network, {4: "core", 9: "rind"}, contract, crop, 0.5)


def swap(model: Segmenter) -> Segmenter:
    """Values need not rise with the classes in what is predicted; these are told apart by name."""
    return replace(model, labels={9: "rind", 4: "core"})


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_a_threshold_comes_back_to_within_half_a_voxel(name: str, crop: Any, tmp_path: Path) -> None:
    image, distance = phantom(GRIDS[name])
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    volume = read_volume(path)
    contract = Preprocessing(intensity="window", lower=-1000, upper=1000, crop=crop, margin=2)
    model = swap(thresholding(contract, (32, 32, 32)))
    found = segment_volume(model, volume)
    assert found.shape == volume.array.shape
    # The rind begins where the grey value is 0, at the surface; the core at 100, that is 2 mm further in.
    for values, surface in (((4, 9), 0.0), ((4,), -2.0)):
        wrong = np.isin(found, values) != (distance < surface)
        assert (np.abs(distance - surface) <= allowed(distance))[wrong].all()
        assert wrong.mean() < 0.02
    assert np.unique(found).tolist() == [0, 4, 9]


@pytest.mark.parametrize("name", GRIDS)
def test_probabilities_lie_where_the_structures_do(name: str, tmp_path: Path) -> None:
    image, distance = phantom(GRIDS[name])
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    volume = read_volume(path)
    contract = Preprocessing(intensity="window", lower=-1000, upper=1000, crop="foreground", margin=2)
    model = swap(thresholding(contract, (32, 32, 32)))
    shares = dict(segment_probabilities(model, volume, scratch=tmp_path))
    total = shares[4] + shares[9]
    assert ((total >= 0) & (total <= 1.001)).all()
    wrong = (total > 0.5) != (distance < 0)
    assert (np.abs(distance) <= allowed(distance))[wrong].all()
    assert [item.name for item in tmp_path.iterdir()] == ["image.nii.gz"]


def test_mirroring_makes_a_network_blind_to_sides() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8, levels=3), 2).eval()
    array = np.random.default_rng(0).random((16, 12, 14)).astype(np.float32)
    box = (slice(0, 16), slice(0, 12), slice(0, 14))
    for mirror in (False, True):
        here = windowed_logits(network, array, mirror)(box)
        there = windowed_logits(network, array[::-1, :, ::-1].copy(), mirror)(box).flip(2, 4)
        assert torch.allclose(here, there, atol=1e-4) is mirror
