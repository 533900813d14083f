import numpy as np
import pytest
import torch
from torch.nn import functional

from gvsl.geometry import ALIGN_CORNERS, identity_grid, normalised_grid


def test_each_voxel_has_its_own_indices() -> None:
    grid = identity_grid((3, 5, 4), dtype=torch.float64, device="cpu")
    assert grid.shape == (1, 3, 3, 5, 4)
    assert grid.dtype == torch.float64
    np.testing.assert_array_equal(grid[0].numpy(), np.indices((3, 5, 4)))


def test_first_and_last_voxel_are_the_ends_and_axes_are_reversed() -> None:
    shape = (3, 5, 9)
    grid = normalised_grid(identity_grid(shape, dtype=torch.float64, device="cpu"), shape)
    assert grid.shape == (1, 3, 5, 9, 3)
    torch.testing.assert_close(grid[0, 0, 0, 0], torch.tensor([-1.0, -1, -1], dtype=torch.float64))
    torch.testing.assert_close(grid[0, 2, 4, 8], torch.tensor([1.0, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(grid[0, 2, 0, 2], torch.tensor([-0.5, -1, 1], dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 2, 6), (1, 1, 1)])
def test_grid_sample_finds_every_voxel_where_the_grid_says(shape: tuple[int, int, int]) -> None:
    image = torch.arange(float(np.prod(shape)), dtype=torch.float64).reshape(1, 1, *shape)
    grid = normalised_grid(identity_grid(shape, dtype=torch.float64, device="cpu"), shape)
    torch.testing.assert_close(functional.grid_sample(image, grid, align_corners=ALIGN_CORNERS), image)
