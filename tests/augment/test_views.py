from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings, ViewSettings, check_views, draw_views, make_view
from gvsl.augment.views import overlap

SHAPE = (30, 20, 24)
STILL = replace(ViewSettings(), spatial=SpatialSettings(rate=0), appearance=AppearanceSettings(0, 0, 0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("least", "smallest", "largest"), [(0.5, 0.8, 1.0), (0.0, 0.3, 0.9), (0.3, 0.5, 0.7), (0.9, 0.6, 0.6), (1, 1, 1)]
)
def test_boxes_lie_in_the_volume_and_share_what_they_must(least: float, smallest: float, largest: float) -> None:
    settings = replace(STILL, least_overlap=least, smallest=smallest, largest=largest)
    check_views(settings)
    first, second = draw_views(500, (4, 4, 4), settings, generator())
    for view in (first, second):
        assert view.start.min() >= -1e-6
        assert (view.start + view.side).max() <= 1 + 1e-6
        assert smallest - 1e-6 <= view.side.min() <= view.side.max() <= largest + 1e-6
    shared = overlap(first.start, first.side, second.start, second.side)
    assert shared.min() >= least - 1e-5
    for index in range(20):  # the function itself, by hand
        lengths = [
            max(
                0.0,
                float(
                    min(first.start[index, k] + first.side[index], second.start[index, k] + second.side[index])
                    - max(first.start[index, k], second.start[index, k])
                ),
            )
            for k in range(3)
        ]
        larger = float(max(first.side[index], second.side[index])) ** 3
        assert lengths[0] * lengths[1] * lengths[2] / larger == pytest.approx(float(shared[index]), abs=1e-5)
    if least < 0.5 * smallest**3:
        assert shared.std() > 0.05  # they are not all pushed to the limit


def test_a_view_shows_its_box_and_nothing_else() -> None:
    """Without augmentation: each voxel shows the intensity of its place in the volume."""
    ramps = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, side) for side in SHAPE), indexing="ij"))[None]
    view, _ = draw_views(1, SHAPE, STILL, generator(3))
    shown = make_view(ramps, view)
    assert shown.shape[2:] == (24, 16, 19)
    for axis in range(3):
        ends = shown[0, axis].movedim(axis, 0)
        start = view.start[0, axis]
        assert ends[0].mean().item() == pytest.approx(start.item(), abs=1e-5)
        assert ends[-1].mean().item() == pytest.approx((start + view.side[0]).item(), abs=1e-5)


def test_whole_boxes_at_full_size_are_the_volume() -> None:
    volume = torch.rand(2, 1, 8, 9, 10)
    settings = replace(STILL, smallest=1.0, largest=1.0, least_overlap=1.0)
    for draw in draw_views(2, (8, 9, 10), settings, generator()):
        torch.testing.assert_close(make_view(volume, draw), volume, atol=1e-5, rtol=0)


def test_views_are_drawn_once_and_applied_as_often_as_you_like() -> None:
    volume = functional.interpolate(torch.rand(2, 1, 5, 5, 5, generator=generator()), size=SHAPE, mode="trilinear")
    draws, again = (draw_views(2, SHAPE, ViewSettings(), generator(4)) for _ in range(2))
    first, second = (make_view(volume, draw) for draw in draws)
    assert torch.equal(first, make_view(volume, again[0]))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize(("smallest", "largest", "least"), [(0.7, 1.0, 0.9), (0.5, 0.6, 0.7), (0.8, 1.0, 0.6)])
def test_an_overlap_that_cannot_be_met_is_refused_with_ones_that_can(
    smallest: float, largest: float, least: float
) -> None:
    settings = ViewSettings(least_overlap=least, smallest=smallest, largest=largest)
    with pytest.raises(ValueError, match="least_overlap") as caught:
        check_views(settings)
    words = str(caught.value).split()
    check_views(replace(settings, least_overlap=float(words[words.index("give") + 1]) - 1e-3))
    check_views(replace(settings, smallest=float(words[-1]) + 1e-3))


@pytest.mark.parametrize("change", [{"smallest": 0}, {"largest": 1.2}, {"least_overlap": 1.1}, {"least_overlap": -0.1}])
def test_views_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give"):
        check_views(replace(ViewSettings(), **change))  # type: ignore[arg-type]
