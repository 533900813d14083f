import numpy as np
import torch

from gvsl.geometry import identity_grid
from gvsl.losses import smoothness_loss


def field(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_mean_square_of_the_nine_differences() -> None:
    dvf = field(2, 3, 4, 5, 6)
    means = [
        np.mean(np.diff(dvf[:, component].numpy(), axis=axis) ** 2) for component in range(3) for axis in (1, 2, 3)
    ]
    expected = sum(means) / 9
    np.testing.assert_allclose(smoothness_loss(dvf).item(), expected, rtol=1e-12)


def test_a_linear_field_has_its_matrixs_mean_square_at_any_size() -> None:
    matrix = field(3, 3)
    for shape in ((24, 32, 40), (3, 2, 5)):
        grid = identity_grid(shape, dtype=torch.float64, device="cpu")
        dvf = torch.einsum("ij,bjdhw->bidhw", matrix, grid)
        torch.testing.assert_close(smoothness_loss(dvf), matrix.square().mean())


def test_a_constant_field_costs_nothing() -> None:
    assert smoothness_loss(torch.full((1, 3, 4, 5, 6), 7.0)) == 0


def test_a_batch_has_the_mean_of_its_fields() -> None:
    dvf = field(3, 3, 4, 5, 6)
    alone = torch.stack([smoothness_loss(dvf[[index]]) for index in range(3)])
    torch.testing.assert_close(smoothness_loss(dvf), alone.mean())


def test_autocast_and_bfloat16_are_summed_in_float32() -> None:
    dvf = field(1, 3, 8, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = smoothness_loss(dvf)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, smoothness_loss(dvf.float()))


def test_gradient() -> None:
    assert torch.autograd.gradcheck(smoothness_loss, field(2, 3, 3, 4, 2).requires_grad_())
