import numpy as np
import pytest
import torch

from gvsl.geometry import affine_dvf, affine_matrix, identity_grid, jacobian_determinant, nonpositive_jacobian_fraction


def test_a_constant_field_changes_no_volume() -> None:
    dvf = torch.tensor([1.5, -2, 30]).view(1, 3, 1, 1, 1).expand(2, 3, 4, 5, 6)
    torch.testing.assert_close(jacobian_determinant(dvf), torch.ones(2, 3, 4, 5))


def test_an_affine_map_has_its_matrixs_determinant() -> None:
    matrix = affine_matrix(
        torch.tensor([[0.1, -0.2, 0.3]]),
        torch.tensor([[3.0, 2, 1]]),
        torch.tensor([[0.8, 1.1, 1.3]]),
        torch.tensor([[0.1, -0.1, 0.05, 0.2, 0, 0.1]]),
    ).double()
    found = jacobian_determinant(affine_dvf(matrix, (5, 6, 7)))
    torch.testing.assert_close(found, torch.linalg.det(matrix[0]).expand_as(found))


def test_it_is_the_determinant_of_forward_differences() -> None:
    shape = (4, 5, 6)
    dvf = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = jacobian_determinant(dvf)
    field = dvf.numpy()
    for batch, *voxel in np.ndindex(2, 3, 4, 5):
        here = field[(batch, slice(None), *voxel)]
        steps = [np.array(voxel) + unit for unit in np.eye(3, dtype=int)]
        columns = [field[(batch, slice(None), *step)] - here for step in steps]
        expected = np.linalg.det(np.eye(3) + np.stack(columns, axis=1))
        np.testing.assert_allclose(found[(batch, *voxel)].item(), expected, atol=1e-12)


@pytest.mark.parametrize(("slope", "share"), [(0.0, 0.0), (-0.99, 0.0), (-1.0, 1.0), (-2.0, 1.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_collapsed_and_mirrored_voxels_are_folded(axis: int, slope: float, share: float) -> None:
    dvf = torch.zeros(1, 3, 4, 5, 6)
    dvf[:, axis] = slope * identity_grid((4, 5, 6), dtype=torch.float32, device="cpu")[:, axis]
    assert nonpositive_jacobian_fraction(dvf).item() == share


def test_the_share_counts_voxels() -> None:
    dvf = torch.zeros(2, 3, 6, 5, 5)
    dvf[1, 0, 3] = -1.5  # 16 voxels of one of two fields look back behind their neighbours
    assert nonpositive_jacobian_fraction(dvf).item() == pytest.approx(16 / (2 * 5 * 4 * 4))


def test_gradient() -> None:
    dvf = torch.randn(2, 3, 3, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(jacobian_determinant, dvf.requires_grad_())
