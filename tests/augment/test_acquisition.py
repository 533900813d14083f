"""Each change by itself, against its definition written plainly."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.augment import AcquisitionSettings, change_acquisition, draw_acquisition

OFF = AcquisitionSettings(1, noise=0, blur=0, brightness=0, contrast=0, resolution=0, gamma=0, curve_rate=0)
SHAPE = (12, 10, 14)


def changed(image: Tensor, seed: int = 0, **ranges: Any) -> Tensor:
    settings = replace(OFF, **ranges)
    generator = torch.Generator().manual_seed(seed)
    return change_acquisition(image, draw_acquisition(len(image), SHAPE, settings, generator))


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_a_range_of_0_leaves_its_change_out(image: Tensor) -> None:
    assert torch.equal(changed(image), image)
    everything = AcquisitionSettings(rate=0, curve_rate=0)
    drawn = draw_acquisition(3, SHAPE, everything, torch.Generator().manual_seed(0))
    assert torch.equal(change_acquisition(image, drawn), image)


def test_brightness_is_one_factor_a_volume(image: Tensor) -> None:
    factors = changed(image, brightness=0.25) / image
    assert factors.flatten(1).std(1).max() < 1e-5
    means = factors.flatten(1).mean(1)
    assert ((means > 0.75) & (means < 1.25)).all()
    assert means.std() > 0.01


def test_gamma_keeps_the_ends_and_the_order(image: Tensor) -> None:
    image[:, 0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    bent = changed(image, gamma=0.5)
    assert torch.equal(bent[:, 0, 0, 0, :2], image[:, 0, 0, 0, :2])
    exponents = (bent.log() / image.log()).flatten(1).nanmedian(1).values
    assert ((exponents > 1 / 1.5) & (exponents < 1.5)).all()
    assert torch.allclose(bent, image ** exponents.view(3, 1, 1, 1, 1), atol=1e-4)


def test_contrast_keeps_the_mean_and_the_range(image: Tensor) -> None:
    image = 0.25 + image / 2  # within the range, of which nothing is cut off
    image[:, 0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    for one, other in zip(changed(image, contrast=0.25), image, strict=True):
        assert float(one.mean()) == pytest.approx(float(other.mean()), abs=1e-3)
        assert 0.7 < one.std() / other.std() < 1.3
        assert (one.min(), one.max()) >= (0, 0)
        assert one.max() <= 1


def test_noise_is_a_fraction_of_the_images_own_spread(image: Tensor) -> None:
    for scale in (1.0, 1e-3):
        noise = changed(scale * image, noise=0.3) - scale * image
        parts = noise.flatten(1).std(1) / (scale * image).flatten(1).std(1)
        assert ((parts > 0) & (parts < 0.33)).all()
        assert noise.flatten(1).mean(1).abs().max() < 0.02 * scale


@pytest.mark.parametrize("ranges", [{"blur": 1.5}, {"resolution": 2.0}], ids=str)
def test_blur_and_low_resolution_smooth_and_shift_nothing(ranges: dict[str, float]) -> None:
    slope = torch.linspace(0, 1, SHAPE[0]).view(1, 1, -1, 1, 1).expand(1, 1, *SHAPE)
    noisy = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    middle = slice(4, -4)
    for seed in range(5):
        assert torch.allclose(changed(slope, seed, **ranges)[:, :, middle], slope[:, :, middle], atol=1e-3)
        assert changed(noisy, seed, **ranges).std() < noisy.std()


def test_each_change_has_its_rate() -> None:
    image = torch.rand(400, 1, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    settings = replace(OFF, rate=0.25, brightness=0.5)
    drawn = draw_acquisition(400, (3, 3, 3), settings, torch.Generator().manual_seed(4))
    moved = (change_acquisition(image, drawn) != image).flatten(1).any(1)
    assert int(moved.sum()) == pytest.approx(100, abs=30)
