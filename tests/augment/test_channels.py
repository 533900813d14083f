"""Volumes of several channels: moved and damaged alike, each with an appearance of its own."""

import torch

from gvsl.augment import (
    AcquisitionSettings,
    AppearanceSettings,
    SpatialSettings,
    change_appearance,
    draw_appearance,
    draw_intensity,
    draw_noise,
)
from gvsl.augment.intensity import change_intensity
from gvsl.transfer.augmentation import AugmentSettings, augment

SHAPE = (16, 12, 14)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twins(batch: int = 3) -> torch.Tensor:
    """Volumes of two equal channels."""
    return torch.rand(batch, 1, *SHAPE, generator=generator(1)).repeat(1, 2, 1, 1, 1)


def test_each_channel_has_a_curve_of_its_own() -> None:
    draw = draw_intensity(3, 1.0, generator(), channels=2)
    image = torch.rand(3, 2, *SHAPE, generator=generator(2))
    found = change_intensity(image, draw)
    for volume in range(3):
        for channel in range(2):
            row = 2 * volume + channel
            alone = type(draw)(draw.table[[row]], draw.applies[[row]])
            expected = change_intensity(image[[volume]][:, [channel]], alone)
            torch.testing.assert_close(found[volume, channel], expected[0, 0])
    assert not torch.equal(*change_intensity(twins(), draw).unbind(1))


def test_what_is_lost_in_one_channel_is_lost_in_all() -> None:
    settings = AppearanceSettings(shuffle_rate=1.0, intensity_rate=0.0, inpaint_rate=1.0)
    changed = change_appearance(twins(), draw_appearance(3, SHAPE, settings, generator(), channels=2))
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert not torch.equal(changed, twins())


def test_noise_is_independent() -> None:
    first, second = draw_noise(2, SHAPE, 1.0, generator(), channels=2).unbind(1)
    assert abs(float((first * second).mean())) < 0.1


def test_training_examples_are_moved_alike_and_changed_apart() -> None:
    image = twins(1)
    still = AugmentSettings(spatial=SpatialSettings(rate=1.0), intensity=AcquisitionSettings(rate=0.0, curve_rate=0.0))
    moved, _ = augment(image, None, still, 0, 0)
    assert torch.equal(moved[:, 0], moved[:, 1]) and not torch.equal(moved, image)
    intensity = AcquisitionSettings(rate=1.0, curve_rate=1.0)
    changed, _ = augment(image, None, AugmentSettings(spatial=SpatialSettings(rate=0.0), intensity=intensity), 0, 0)
    assert changed.shape == image.shape and not torch.equal(changed[:, 0], changed[:, 1])
