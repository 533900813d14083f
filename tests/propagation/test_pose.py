import pytest
import torch

from gvsl.geometry import identity_grid, spatial_shape
from gvsl.propagation.pose import turned

from .anatomy import anatomy, moved

TURNS = {"left-right": (3, 4), "back-front": (2, 4), "foot-head": (2, 3)}


@pytest.mark.parametrize(("axis", "turns"), [("left-right", 1), ("back-front", 3), ("foot-head", 2)])
def test_a_turn_is_told_by_its_axis(axis: str, turns: int) -> None:
    image, _ = anatomy()
    told = turned(image, moved(image, turns).rot90(turns, TURNS[axis]))
    assert told == f"turned by {180 if turns == 2 else 90} degrees about the {axis} axis"


def test_a_turn_about_two_axes_is_told() -> None:
    image, _ = anatomy()
    assert turned(image, moved(image, 1).rot90(1, (2, 3)).rot90(1, (3, 4))) == "turned about several axes"


def test_images_that_lie_alike_are_not_told() -> None:
    image, _ = anatomy()
    assert turned(image, moved(image, 0)) == ""
    assert turned(image, 0.2 + 0.5 * moved(image, 1)[..., 2:20, 1:]) == ""
    assert turned(image, torch.zeros_like(image)) == ""
    assert turned(torch.zeros_like(image), image) == ""


def test_a_turn_that_the_network_finds_is_no_failure() -> None:
    image, _ = anatomy()
    other = image.rot90(1, (2, 4))
    shape = spatial_shape(other)
    grid = identity_grid(shape, dtype=torch.float32, device="cpu")
    centre = torch.tensor([(side - 1) / 2 for side in shape]).view(1, 3, 1, 1, 1)
    turns = [grid - centre for _ in range(2)]
    for turn, sign in zip(turns, (1, -1), strict=True):
        turn[:, 0], turn[:, 2] = sign * (grid - centre)[:, 2], -sign * (grid - centre)[:, 0]
    told = [turned(image, other, turn - (grid - centre)) for turn in turns]
    assert sorted(told) == ["", "turned by 90 degrees about the back-front axis"]


@pytest.mark.parametrize(("axis", "name"), [(2, "left-right"), (3, "back-front"), (4, "foot-head")])
def test_a_mirror_image_is_told_by_its_axis(axis: int, name: str) -> None:
    image, _ = anatomy()  # which is most unlike its mirror image along its first axis
    told = turned(image.transpose(2, axis), moved(image, axis).transpose(2, axis).flip(axis))
    assert told == f"mirrored along the {name} axis"


def test_what_equals_its_mirror_image_is_not_told() -> None:
    image, _ = anatomy()
    symmetric = image + image.flip(2)
    assert turned(symmetric, moved(symmetric, 0)) == ""
    assert turned(symmetric, moved(symmetric, 1).flip(2)) == ""
