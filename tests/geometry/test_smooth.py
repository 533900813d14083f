import pytest
import torch
from scipy.ndimage import gaussian_filter

from gvsl.geometry import gaussian_smooth, smoother
from gvsl.geometry.smooth import MATRIX_SIDE


def test_an_impulse_becomes_a_gaussian_of_that_width() -> None:
    impulse = torch.zeros(1, 1, 25, 25, 25, dtype=torch.float64)
    impulse[..., 12, 12, 12] = 1
    smoothed = gaussian_smooth(impulse, 2.0)
    places = torch.arange(25, dtype=torch.float64) - 12
    variance = (smoothed[0, 0].sum(dim=(1, 2)) * places**2).sum()
    assert smoothed.sum() == pytest.approx(1)
    assert float(variance) == pytest.approx(4, rel=0.15)  # cut off at 2.5 standard deviations


def test_a_ramp_stays_away_from_the_border_and_channels_do_not_mix() -> None:
    ramp = torch.arange(20.0).view(1, 1, 20, 1, 1).expand(1, 1, 20, 8, 8)
    both = torch.cat([ramp, torch.zeros_like(ramp)], dim=1)
    smoothed = gaussian_smooth(both, 1.0)
    torch.testing.assert_close(smoothed[:, :, 4:-4], both[:, :, 4:-4])


@pytest.mark.parametrize("sigma", [0.7, 2.0])
@pytest.mark.parametrize("longest", [9, MATRIX_SIDE + 3])
def test_a_smoother_and_scipy_agree_with_it(sigma: float, longest: int) -> None:
    volumes = torch.rand(2, 2, longest, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    radius = 2 if sigma < 1 else 5  # 2.5 standard deviations, rounded up
    expected = torch.from_numpy(gaussian_filter(volumes.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3, 4)))
    turned = volumes.movedim(1, -1).contiguous().movedim(-1, 1)  # channels innermost
    for smoothed in (gaussian_smooth(volumes, sigma), *map(smoother(volumes, sigma), (volumes, turned))):
        torch.testing.assert_close(smoothed, expected, rtol=0, atol=1e-12)


def test_each_axis_may_have_its_own_width() -> None:
    volumes = torch.rand(1, 2, 9, 8, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(
        gaussian_filter(volumes.numpy(), (0, 0, 2, 0, 0.7), mode="nearest", radius=(0, 0, 5, 0, 2))
    )
    torch.testing.assert_close(gaussian_smooth(volumes, (2, 0, 0.7)), expected, rtol=0, atol=1e-12)
    assert torch.equal(gaussian_smooth(volumes, (0, 0, 0)), volumes)


def test_no_width_changes_nothing_and_a_negative_one_is_refused() -> None:
    volume = torch.rand(1, 1, 4, 4, 4)
    assert torch.equal(gaussian_smooth(volume, 0), volume)
    with pytest.raises(ValueError, match="sigma is -1"):
        gaussian_smooth(volume, -1)
