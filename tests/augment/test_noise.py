import pytest
import torch

from gvsl.augment import add_noise, draw_noise


def test_noise_has_its_deviation_and_no_mean() -> None:
    draw = draw_noise(2, (32, 32, 32), 0.1, torch.Generator().manual_seed(0))
    assert draw.shape == (2, 1, 32, 32, 32)
    assert draw.std().item() == pytest.approx(0.1, rel=0.02)
    assert abs(draw.mean().item()) < 0.002
    image = torch.rand(2, 3, 32, 32, 32)
    torch.testing.assert_close(add_noise(image, draw) - image, draw.expand(-1, 3, -1, -1, -1), atol=1e-6, rtol=0)
