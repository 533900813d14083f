from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.augment import AcquisitionSettings, SpatialSettings
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.transfer.augmentation import AugmentSettings, augment, warp_classes

STILL = SpatialSettings(rate=0)
SAME = AcquisitionSettings(rate=0, curve_rate=0)
MOVED = AugmentSettings(spatial=SpatialSettings(), intensity=SAME)


def ball(shape: tuple[int, int, int] = (24, 20, 22)) -> tuple[Tensor, Tensor]:
    """An image that falls off from a point, so that a threshold of it is a ball, and that ball."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in shape), indexing="ij"))
    distance = (grid - torch.tensor([11.0, 9.0, 12.0]).view(3, 1, 1, 1)).square().sum(0).sqrt()
    image = (1 - distance / 20).clamp(0, 1)[None, None]
    return image, (image > 0.7).long()


def test_image_and_classes_move_together() -> None:
    image, classes = ball()
    moved_by = []
    for number in range(8):
        warped, labels = augment(image, classes, MOVED, 0, number)
        assert labels is not None
        assert labels.dtype == torch.int64
        known = labels != IGNORED
        differ = (warped > 0.7).long()[known] != labels[known]
        # Thresholding an interpolated image and interpolating a thresholded one differ on the surface alone.
        assert differ.sum() < 0.02 * known.sum()
        assert ((warped - 0.7).abs()[known][differ] < 0.05).all()
        moved_by.append(float((labels[known] != classes[known]).float().mean()))
    assert min(moved_by) > 0.01


def test_what_was_sampled_outside_has_no_class() -> None:
    classes = torch.ones(1, 1, 4, 3, 3, dtype=torch.int64)
    dvf = torch.zeros(1, 3, 4, 3, 3)
    dvf[:, 0] = 2
    assert warp_classes(classes, dvf)[0, 0, :, 1, 1].tolist() == [1, 1, IGNORED, IGNORED]
    assert torch.equal(warp_classes(classes, 0 * dvf), classes)


def test_weighted_votes_move_as_classes_do() -> None:
    image, classes = ball()
    votes = torch.cat([classes == 0, classes == 1], dim=1).float() / 2
    for number in range(3):
        _, labels = augment(image, classes, MOVED, 0, number)
        _, moved = augment(image, votes, MOVED, 0, number)
        assert labels is not None
        assert moved is not None
        known = labels != IGNORED
        assert (moved.argmax(dim=1, keepdim=True)[known] == labels[known]).float().mean() > 0.999
        assert torch.allclose(moved.sum(dim=1, keepdim=True), known / 2)


@pytest.mark.parametrize(
    "settings", [AugmentSettings(rate=0), AugmentSettings(spatial=STILL, intensity=SAME)], ids=["off", "nothing on"]
)
def test_nothing_is_changed_if_all_is_off(settings: AugmentSettings) -> None:
    image, classes = ball()
    for number in range(5):
        same = augment(image, classes, settings, 0, number)
        assert torch.equal(same[0], image)
        assert same[1] is classes


def test_the_rate_is_the_fraction_of_examples_that_change() -> None:
    image, classes = ball((6, 6, 6))
    settings = AugmentSettings(rate=0.3, spatial=SpatialSettings(rate=1))
    changed = [not torch.equal(augment(image, classes, settings, 0, number)[0], image) for number in range(300)]
    assert sum(changed) == pytest.approx(90, abs=25)


def test_intensities_change_where_they_are() -> None:
    image, classes = ball()
    settings = AugmentSettings(spatial=STILL)
    changed = [augment(image, classes, settings, 0, number) for number in range(10)]
    assert all(labels is classes for _, labels in changed)
    assert all(each.isfinite().all() for each, _ in changed)
    assert sum(not torch.equal(each, image) for each, _ in changed) > 0


def test_only_the_given_axes_are_mirrored_and_half_of_the_time() -> None:
    image, classes = ball()
    settings = AugmentSettings(spatial=STILL, intensity=SAME, mirror=(0,))
    mirrored = 0
    for number in range(40):
        each, labels = augment(image, classes, settings, 0, number)
        assert labels is not None
        if torch.equal(each, image):
            assert torch.equal(labels, classes)
        else:
            mirrored += 1
            assert torch.equal(each, image.flip(2))
            assert torch.equal(labels, classes.flip(2))
    assert 10 < mirrored < 30


@pytest.mark.parametrize("settings", [MOVED, AugmentSettings(), AugmentSettings(mirror=(0, 1, 2))])
def test_a_change_is_a_function_of_seed_and_number(settings: AugmentSettings) -> None:
    image, classes = ball()
    draws = [augment(image, classes, settings, seed, number)[0] for seed, number in ((0, 3), (0, 4), (1, 3))]
    torch.manual_seed(5)
    assert torch.equal(draws[0], augment(image, None, settings, 0, 3)[0])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rate", 1.5, "augment.rate is 1.5: give 0 to 1"),
        ("rate", -0.1, "augment.rate is -0.1"),
        ("rate", float("nan"), "augment.rate is nan"),
        ("spatial", SpatialSettings(rate=2), "augment.spatial.rate is 2: give 0 to 1"),
        ("spatial", SpatialSettings(scale=1), "augment.spatial.scale is 1: give 0 to 0.9"),
        ("spatial", SpatialSettings(rotation=-1), "augment.spatial.rotation is -1"),
        ("spatial", SpatialSettings(knots=1), "augment.spatial.knots is 1: give 2 or more"),
        ("intensity", AcquisitionSettings(rate=2), "augment.intensity.rate is 2: give 0 to 1"),
        ("intensity", AcquisitionSettings(brightness=1.5), "augment.intensity.brightness is 1.5: give 0 to 1"),
        ("intensity", AcquisitionSettings(blur=-1), "augment.intensity.blur is -1"),
        ("mirror", (3,), r"augment.mirror is \[3\]: give axes"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}") as caught:
        replace(AugmentSettings(), **{name: value})
    assert "\n" not in str(caught.value)
