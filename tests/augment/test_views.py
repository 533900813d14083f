import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gvsl.augment import AppearanceSettings, SpatialSettings, ViewSettings, draw_views, make_view
from gvsl.augment.views import draw_boxes
from gvsl.errors import UserError

PLAIN = AppearanceSettings(0, 0, 0)
STILL = SpatialSettings(rate=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(overlap=st.floats(0, 1), least=st.floats(0.05, 1), seed=st.integers(0, 10**6))
def test_two_boxes_share_what_was_asked_for_and_lie_inside(overlap: float, least: float, seed: int) -> None:
    corners, sides = draw_boxes(8, ViewSettings(overlap=overlap, least_side=least), generator(seed))
    corners, sides = corners.double(), sides.double()

    assert (corners >= 0).all()
    assert (corners + sides <= 1 + 1e-6).all()
    assert (sides >= least - 1e-6).all()
    shared = (torch.minimum(*(corners + sides)) - torch.maximum(*corners)).clamp(min=0).prod(dim=1)
    assert (shared >= (overlap - 1e-4) * sides.prod(dim=2).amin(dim=0) - 1e-6).all()


def test_a_whole_box_without_augmentation_is_the_volume() -> None:
    image = torch.rand(2, 1, 8, 10, 12, generator=generator())
    for draw in draw_views(2, (8, 10, 12), ViewSettings(0.5, 1.0, STILL, PLAIN), generator()):
        torch.testing.assert_close(make_view(image, draw), image, atol=1e-5, rtol=0)


def test_a_box_is_brought_to_the_volumes_size() -> None:
    """An image linear in its coordinates shows where each view looks."""
    shape = (9, 11, 13)
    image = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, side) for side in shape), indexing="ij"))[None]
    chosen = ViewSettings(0.3, 0.4, STILL, PLAIN)
    corners, sides = draw_boxes(1, chosen, generator(3))
    for draw, corner, side in zip(draw_views(1, shape, chosen, generator(3)), corners[:, 0], sides[:, 0], strict=True):
        view = make_view(image, draw)[0]
        for axis in range(3):
            torch.testing.assert_close(view[axis].amin(), corner[axis], atol=1e-5, rtol=0)
            torch.testing.assert_close(view[axis].amax(), corner[axis] + side[axis], atol=1e-5, rtol=0)


def test_views_are_of_their_generator_alone_and_differ() -> None:
    image = torch.rand(2, 1, 8, 10, 12, generator=generator())
    first, again = (
        [make_view(image, draw) for draw in draw_views(2, (8, 10, 12), ViewSettings(), generator(5))] for _ in range(2)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(*first)
    assert all(view.min() >= 0 and view.max() <= 1 for view in first)


@pytest.mark.parametrize(("name", "value"), [("overlap", 1.5), ("overlap", -0.1), ("least_side", 0.0)])
def test_what_cannot_be_met_is_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        ViewSettings(**{name: value})  # type: ignore[arg-type]
