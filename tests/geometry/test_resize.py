import torch

from gvsl.geometry import affine_dvf, affine_matrix, compose, resize_dvf

SHAPE = (12, 16, 20)


def affine(scale: float, shift: float) -> torch.Tensor:
    zeros = torch.zeros(1, 3)
    return affine_matrix(zeros, zeros + shift, zeros + scale, torch.zeros(1, 6))


def test_a_linear_field_is_the_same_map_on_half_the_grid() -> None:
    dvf = affine_dvf(affine(1.1, 2.0), SHAPE)
    half = tuple(side // 2 for side in SHAPE)
    expected = affine_dvf(affine(1.1, 1.0), half)  # type: ignore[arg-type]
    found = resize_dvf(dvf, half)  # type: ignore[arg-type]
    torch.testing.assert_close(found[..., 1:-1, 1:-1, 1:-1], expected[..., 1:-1, 1:-1, 1:-1], rtol=0, atol=1e-4)


def test_the_composition_of_affine_fields_is_the_field_of_their_product() -> None:
    outer, inner = affine(0.9, 1.0), affine(0.8, -0.5)
    found = compose(affine_dvf(outer, SHAPE), affine_dvf(inner, SHAPE))
    expected = affine_dvf(outer @ inner, SHAPE)
    torch.testing.assert_close(found[..., 2:-2, 2:-2, 2:-2], expected[..., 2:-2, 2:-2, 2:-2], rtol=0, atol=1e-4)
