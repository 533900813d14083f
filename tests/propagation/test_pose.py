import math

import pytest
import torch
from torch.nn.functional import avg_pool3d

from gvsl.geometry import gaussian_smooth, identity_grid, spatial_shape
from gvsl.propagation.pose import FACTOR, LARGEST_SIDE, LEAST_SIDE, _factors, turned

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


@pytest.mark.parametrize(("axis", "turns"), [pytest.param("left-right", 1, marks=pytest.mark.slow), ("back-front", 3)])
def test_a_turn_of_voxels_that_are_no_cubes_is_told(axis: str, turns: int) -> None:
    """The turn is of the body: it maps the thick slices of one image onto in-plane rows of the other."""
    texture = gaussian_smooth(torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0)), 3.0)
    moving, fixed = (avg_pool3d(each, (1, 1, 3)) for each in (texture, texture.rot90(turns, TURNS[axis])))
    voxel = (1.0, 1.0, 3.0)
    assert turned(moving, fixed, voxel=voxel) == f"turned by 90 degrees about the {axis} axis"
    assert turned(moving, fixed) != f"turned by 90 degrees about the {axis} axis"
    assert turned(moving, moving.flip(0) + 0.01, voxel=voxel) == ""


@pytest.mark.parametrize("shape", [(24, 20, 22), (70, 90, 8), (33, 65, 100), (5, 40, 40)])
def test_cubes_are_shrunk_alike_along_all_axes_that_stay_long_enough(shape: tuple[int, int, int]) -> None:
    alike = max(min(FACTOR, min(shape) // LEAST_SIDE), math.ceil(max(shape) / LARGEST_SIDE), 1)
    found = _factors(shape, (0.7, 0.7, 0.7))
    assert found == [alike if side // alike >= LEAST_SIDE else max(side // LEAST_SIDE, 1) for side in shape]


def test_thick_slices_are_shrunk_less_and_no_side_too_far() -> None:
    for shape, voxel in (
        ((256, 256, 24), (0.8, 0.8, 3.0)),
        ((512, 30, 512), (1.0, 5.0, 1.0)),
        ((40, 40, 9), (1, 1, 8)),
    ):
        factors = _factors(shape, voxel)
        sides = [side // factor for side, factor in zip(shape, factors, strict=True)]
        assert min(sides) >= LEAST_SIDE
        assert max(sides) <= LARGEST_SIDE + 1
        edges = [factor * edge for factor, edge in zip(factors, voxel, strict=True)]
        assert max(edges) / min(edges) < 2


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
