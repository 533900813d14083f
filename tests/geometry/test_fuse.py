import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from gvsl.geometry import Fusion, affine_dvf, affine_matrix, fuse, identity_grid, inside, warp

SHAPE = (24, 32, 40)
FUSIONS: list[Fusion] = ["compose", "paper"]


def draw_matrix(batch: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = [2 * torch.rand(batch, count, generator=generator, dtype=dtype) - 1 for count in (3, 3, 3, 6)]
    return affine_matrix(0.2 * values[0], 1.5 * values[1], 1 + 0.15 * values[2], 0.1 * values[3])


def draw_field(batch: int, shape: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 4 * torch.rand(batch, 3, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 2


def linear_image(slopes: tuple[float, float, float], shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """An image linear in the coordinates, which trilinear interpolation reads exactly."""
    grid = identity_grid(shape, dtype=dtype, device="cpu")
    return (grid * torch.tensor(slopes, dtype=dtype).view(1, 3, 1, 1, 1)).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("shape", [SHAPE, (24, 24, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compose_is_the_two_warps_one_after_the_other(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    matrix, local = draw_matrix(2, seed=1, dtype=dtype), draw_field(2, shape, seed=2, dtype=dtype)
    image = linear_image((0.02, -0.01, 0.03), shape, dtype).expand(2, -1, -1, -1, -1)
    affine = affine_dvf(matrix, shape)
    twice = warp(warp(image, affine), local)
    once = warp(image, fuse(matrix, local, "compose"))
    # The second warp mixes the first one's eight voxels about its position: all of them must be from inside.
    clear = warp(inside(affine).to(dtype), local) > 1 - 1e-6
    assert clear.float().mean() > 0.3
    assert (once - twice)[clear].abs().max() < 1e-4
    paper = warp(image, fuse(matrix, local, "paper"))
    assert (paper - twice)[clear].abs().max() > 1e-3


def test_compose_moves_by_the_local_field_first() -> None:
    matrix, local = draw_matrix(1, seed=3), draw_field(1, (4, 5, 6), seed=4)
    found = fuse(matrix, local, "compose")
    centre = (np.array([4, 5, 6]) - 1) / 2
    linear, shift = matrix[0, :3, :3].numpy(), matrix[0, :3, 3].numpy()
    for voxel in np.ndindex(4, 5, 6):
        moved = np.array(voxel) + local[(0, slice(None), *voxel)].numpy()
        expected = linear @ (moved - centre) + shift + centre - voxel
        np.testing.assert_allclose(found[(0, slice(None), *voxel)].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(12, 12, 12), (7, 9, 12)])
def test_paper_is_equation_12(shape: tuple[int, int, int]) -> None:
    matrix, local = draw_matrix(2, seed=5), draw_field(2, shape, seed=6)
    found = fuse(matrix, local, "paper").numpy()
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    grid = np.indices(shape)
    for index in range(2):
        homogeneous = np.concatenate([grid - centre, np.ones((1, *shape))])
        moved = np.einsum("ij,jdhw->idhw", matrix[index].numpy(), homogeneous)[:3] + centre
        for component in range(3):
            read = ndimage.map_coordinates(local[index, component].numpy(), moved, order=1, mode="nearest")
            expected = read + moved[component] - grid[component]
            np.testing.assert_allclose(found[index, component], expected, atol=1e-10)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_a_local_field_it_is_the_affine_one(fusion: Fusion) -> None:
    matrix = draw_matrix(2, seed=7)
    fused = fuse(matrix, torch.zeros(2, 3, *SHAPE, dtype=torch.float64), fusion)
    torch.testing.assert_close(fused, affine_dvf(matrix, SHAPE))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_an_affine_map_it_is_the_local_field(fusion: Fusion) -> None:
    local = draw_field(1, SHAPE, seed=8)
    torch.testing.assert_close(fuse(torch.eye(4, dtype=torch.float64)[None], local, fusion), local)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_batch_is_what_its_pairs_are_alone(fusion: Fusion) -> None:
    matrix, local = draw_matrix(3, seed=9), draw_field(3, (5, 6, 7), seed=10)
    alone = torch.cat([fuse(matrix[[index]], local[[index]], fusion) for index in range(3)])
    torch.testing.assert_close(fuse(matrix, local, fusion), alone)


def test_another_fusion_is_refused() -> None:
    with pytest.raises(ValueError, match="'both' is not one of compose, paper"):
        fuse(torch.eye(4)[None], torch.zeros(1, 3, 2, 2, 2), "both")  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradient(fusion: Fusion) -> None:
    matrix = draw_matrix(2, seed=11).requires_grad_()
    local = draw_field(2, (3, 4, 5), seed=12).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, u: fuse(m, u, fusion), (matrix, local))
