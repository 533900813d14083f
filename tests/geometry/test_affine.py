import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import polar
from scipy.spatial.transform import Rotation
from torch import Tensor

from gvsl.geometry import (
    affine_dvf,
    affine_matrix,
    affine_of,
    affine_positions,
    decompose_affine,
    identity_grid,
    warp,
)

Float = NDArray[np.float64]


def parameters(batch: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotations up to a right angle, translations up to a voxel, scales 0.5 to 1.5, shears up to 0.5."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int, most: float, middle: float = 0.0) -> Tensor:
        return (middle + most * (2 * torch.rand(batch, count, generator=generator, dtype=torch.float64) - 1)).to(dtype)

    return draw(3, math.pi / 2), draw(3, 1), draw(3, 0.5, 1), draw(6, 0.5)


def equation_11(rotation: Float, translation: Float, scale: Float, shear: Float) -> Float:
    """Eq. 11, element by element.

    The paper prints cos(z) as the last factor of the first row's third element, which is no rotation; it is sin(z).
    """
    (tx, ty, tz), (a, b, c) = translation, scale
    xy, xz, yx, yz, zx, zy = shear
    cx, cy, cz = (math.cos(angle) for angle in rotation)
    sx, sy, sz = (math.sin(angle) for angle in rotation)
    rotate = [
        [cy * cz, sx * sy * cz - sz * cx, sy * cx * cz + sx * sz, 0],
        [cy * sz, cx * cz + sx * sy * sz, -sx * cz + sz * sy * cx, 0],
        [-sy, sx * cy, cx * cy, 0],
        [0, 0, 0, 1],
    ]
    scaling = [[a, 0, 0, 0], [0, b, 0, 0], [0, 0, c, 0], [0, 0, 0, 1]]
    shearing = [[1, yx, zx, 0], [xy, 1, zy, 0], [xz, yz, 1, 0], [0, 0, 0, 1]]
    translating = [[1, 0, 0, tx], [0, 1, 0, ty], [0, 0, 1, tz], [0, 0, 0, 1]]
    result: Float = np.array(rotate) @ np.array(scaling) @ np.array(shearing) @ np.array(translating)
    return result


def only(**given: list[float]) -> Tensor:
    """The matrix of the identity but for what is given."""
    values = {"rotation": [0.0] * 3, "translation": [0.0] * 3, "scale": [1.0] * 3, "shear": [0.0] * 6} | given
    return affine_matrix(**{name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_matrix_is_equation_11(dtype: torch.dtype, tolerance: float) -> None:
    drawn = parameters(40, seed=0, dtype=dtype)
    found = affine_matrix(*drawn)
    assert found.dtype == dtype
    for index in range(40):
        expected = equation_11(*(value[index].double().numpy() for value in drawn))
        np.testing.assert_allclose(found[index].numpy(), expected, rtol=tolerance, atol=tolerance)


def test_the_rotation_turns_about_the_first_axis_first_and_the_third_last() -> None:
    angles = parameters(10, seed=1)[0]
    for index in range(10):
        expected = Rotation.from_euler("xyz", angles[index].numpy()).as_matrix()
        found = only(rotation=angles[index].tolist())[0, :3, :3]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_every_one_of_the_fifteen_values_gets_a_gradient() -> None:
    drawn = [value.requires_grad_() for value in parameters(2, seed=2)]
    weights = torch.arange(1.0, 17, dtype=torch.float64).sqrt().view(4, 4)
    (affine_matrix(*drawn) * weights).sum().backward()
    for value in drawn:
        assert value.grad is not None
        assert value.grad.abs().min() > 1e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_right_angle_is_rot90(axis: int) -> None:
    """The positions turn from axis k + 1 towards k + 2, so what is seen turns back: rot90 by -1 in (k + 1, k + 2)."""
    cube = torch.rand(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(axis))
    angles = [0.0, 0.0, 0.0]
    angles[axis] = math.pi / 2
    turned = warp(cube, affine_dvf(only(rotation=angles), (9, 9, 9)), padding="border")
    expected = np.rot90(cube[0, 0].numpy(), -1, ((axis + 1) % 3, (axis + 2) % 3))
    np.testing.assert_allclose(turned[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_half_turn_of_a_volume_that_is_no_cube_flips_two_axes(axis: int) -> None:
    image = torch.rand(1, 1, 24, 32, 40, generator=torch.Generator().manual_seed(axis))
    angles = [0.0, 0.0, 0.0]
    angles[axis] = math.pi
    turned = warp(image, affine_dvf(only(rotation=angles), (24, 32, 40)), padding="border")
    others = [2 + other for other in range(3) if other != axis]
    torch.testing.assert_close(turned, image.flip(others), rtol=0, atol=1e-6)


def test_a_right_angle_in_a_volume_that_is_no_cube_does_not_shear() -> None:
    image = torch.rand(1, 1, 4, 7, 11, generator=torch.Generator().manual_seed(0))
    turned = warp(image, affine_dvf(only(rotation=[math.pi / 2, 0, 0]), (4, 7, 11)), padding="border")
    middle = np.rot90(image[0, 0, :, :, 2:9].numpy(), -1, (1, 2))
    np.testing.assert_allclose(turned[0, 0, :, :, 2:9].numpy(), middle, atol=1e-6)


def test_a_translation_is_in_voxels_of_its_own_axis() -> None:
    dvf = affine_dvf(only(translation=[1.0, -2.0, 3.5]), (4, 6, 8))
    expected = torch.tensor([1.0, -2.0, 3.5], dtype=torch.float64).view(1, 3, 1, 1, 1).expand_as(dvf)
    torch.testing.assert_close(dvf, expected)


def test_a_scaling_leaves_the_centre() -> None:
    dvf = affine_dvf(only(scale=[2.0, 1.0, 0.5]), (5, 7, 9))
    torch.testing.assert_close(dvf[0, :, 2, 3, 4], torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(dvf[0, :, 0, 0, 0], torch.tensor([-2.0, 0, 2], dtype=torch.float64))
    torch.testing.assert_close(dvf[0, :, 4, 6, 8], torch.tensor([2.0, 0, -2], dtype=torch.float64))


def test_positions_are_moved_about_the_centre_one_by_one() -> None:
    shape = (3, 4, 6)
    drawn = parameters(2, seed=3)
    moved = affine_positions(affine_matrix(*drawn), identity_grid(shape, dtype=torch.float64, device="cpu"), shape)
    centre = (np.array(shape) - 1) / 2
    for index in range(2):
        matrix = equation_11(*(value[index].numpy() for value in drawn))
        for voxel in np.ndindex(shape):
            expected = (matrix @ [*(voxel - centre), 1])[:3] + centre
            np.testing.assert_allclose(moved[(index, slice(None), *voxel)].numpy(), expected, atol=1e-12)


def test_gradient() -> None:
    drawn = tuple(value.requires_grad_() for value in parameters(2, seed=4))
    assert torch.autograd.gradcheck(affine_matrix, drawn)
    assert torch.autograd.gradcheck(lambda *values: affine_dvf(affine_matrix(*values), (2, 3, 4)), drawn)


def test_the_fifteen_values_of_any_map_give_it_back() -> None:
    matrices = affine_matrix(*parameters(200, seed=5))
    mirrored = matrices * torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)
    for given in (matrices, mirrored):
        torch.testing.assert_close(affine_matrix(*decompose_affine(given)), given, rtol=0, atol=1e-10)


def test_the_rotation_is_that_of_the_polar_decomposition() -> None:
    """Scaling times shearing is then symmetric, which is what the three values too many are spent on."""
    matrices = affine_matrix(*parameters(50, seed=6))
    matrices = matrices[torch.linalg.det(matrices) > 0.05]
    found = decompose_affine(matrices)
    for index, matrix in enumerate(matrices):
        rotation, symmetric = polar(matrix[:3, :3].numpy())
        expected = Rotation.from_matrix(rotation).as_euler("xyz")
        np.testing.assert_allclose(found.rotation[index].numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(found.scale[index].numpy(), symmetric.diagonal(), atol=1e-9)
        xy, xz, yx, yz, zx, zy = found.shear[index].tolist()
        shearing = np.array([[1, yx, zx], [xy, 1, zy], [xz, yz, 1]])
        np.testing.assert_allclose(found.scale[index].numpy()[:, None] * shearing, symmetric, atol=1e-9)


def test_known_values_are_found() -> None:
    angles, shift, factors, _ = parameters(100, seed=7)
    found = decompose_affine(affine_matrix(angles, shift, factors, torch.zeros(100, 6, dtype=torch.float64)))
    for one, expected in zip(found, (angles, shift, factors, torch.zeros(100, 6)), strict=True):
        torch.testing.assert_close(one, expected.double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("quarter", [math.pi / 2, -math.pi / 2])
def test_a_quarter_turn_about_the_second_axis_is_found_although_the_others_are_one(quarter: float) -> None:
    matrix = only(rotation=[0.3, quarter, -0.2])
    found = decompose_affine(matrix)
    assert found.rotation[0, 1].item() == pytest.approx(quarter)
    torch.testing.assert_close(affine_matrix(*found), matrix, rtol=0, atol=1e-7)


def test_a_map_that_collapses_an_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="collapses an axis"):
        decompose_affine(only(scale=[1.0, 0.0, 1.0]))


@pytest.mark.parametrize("shape", [(3, 4, 6), (24, 20, 18)])
def test_the_matrix_of_a_field_is_the_one_that_made_it(shape: tuple[int, int, int]) -> None:
    matrix = affine_matrix(*parameters(4, seed=8))
    torch.testing.assert_close(affine_of(affine_dvf(matrix, shape)), matrix, rtol=0, atol=1e-12)
    found = affine_of(affine_dvf(matrix.float(), shape)).double()
    torch.testing.assert_close(found, matrix, rtol=0, atol=1e-5)


def test_along_an_axis_of_one_voxel_a_map_is_the_identity() -> None:
    matrix = only(scale=[2.0, 1.0, 0.5])
    expected = only(scale=[2.0, 1.0, 1.0])
    torch.testing.assert_close(affine_of(affine_dvf(matrix, (5, 4, 1))), expected)
