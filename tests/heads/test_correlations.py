"""The pyramid head's cost volume, against one that autograd differentiates by itself."""

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.heads.pyramid import _correlations


def plainly(moving: Tensor, fixed: Tensor, radius: int) -> Tensor:
    moving, fixed = functional.normalize(moving, dim=1), functional.normalize(fixed, dim=1)
    padded = functional.pad(moving, [radius] * 6)
    depth, height, width = fixed.shape[2:]
    side = range(2 * radius + 1)
    parts = [padded[:, :, i : i + depth, j : j + height, k : k + width] for i in side for j in side for k in side]
    return torch.stack([(part * fixed).sum(dim=1) for part in parts], dim=1)


def test_correlations_and_their_gradients_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    for radius in (0, 1, 2):
        features = [torch.randn(2, 4, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
        moving, fixed = (feature.contiguous(memory_format=torch.channels_last_3d) for feature in features)
        moving.requires_grad_()
        fixed.requires_grad_()
        found, expected = _correlations(moving, fixed, radius), plainly(moving, fixed, radius)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
        weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        gradients = (torch.autograd.grad(value, (moving, fixed), weights) for value in (found, expected))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
