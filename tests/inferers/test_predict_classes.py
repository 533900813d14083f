from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.inferers import predict_classes
from gvsl.io import Box

CPU = torch.device("cpu")


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 1, 21, 9, 14, generator=torch.Generator().manual_seed(0))


def thresholds(image: Tensor) -> Callable[[Box], Tensor]:
    """Three classes by intensity alone: no voxel looks at another."""

    def logits(box: Box) -> Tensor:
        part = image[..., *box]
        return torch.cat([-(part - centre).square() for centre in (0.1, 0.5, 0.9)], dim=1)

    return logits


@pytest.mark.parametrize("crop", [(64, 64, 64), (8, 8, 8), (21, 4, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_give_what_the_whole_volume_gives(image: Tensor, crop: tuple[int, int, int], overlap: float) -> None:
    logits = thresholds(image)
    whole = logits((slice(0, 21), slice(0, 9), slice(0, 14))).argmax(1, keepdim=True)
    predicted = predict_classes(logits, image.shape[2:], crop, overlap, CPU)
    assert predicted.dtype == torch.int64
    assert torch.equal(predicted, whole)
    assert whole.unique().tolist() == [0, 1, 2]


def test_a_small_receptive_field_gives_the_same_away_from_the_windows_rims() -> None:
    image = torch.rand(1, 1, 40, 8, 8, generator=torch.Generator().manual_seed(1))
    kernel = torch.ones(1, 1, 3, 3, 3) / 27

    def logits(box: Box) -> Tensor:
        mean = functional.conv3d(image[..., *box], kernel, padding=1)
        return torch.cat([torch.full_like(mean, 0.5), mean], dim=1)

    whole = logits((slice(0, 40), slice(0, 8), slice(0, 8))).argmax(1, keepdim=True)
    predicted = predict_classes(logits, (40, 8, 8), (16, 16, 16), 0.5, CPU)
    same = (predicted == whole).float().mean()
    assert same > 0.97  # a window's own rim, zero-padded, counts little in the Gaussian mean
    assert torch.equal(predicted[:, :, 10:14], whole[:, :, 10:14])


def test_a_volume_that_fits_is_asked_for_once_and_whole(image: Tensor) -> None:
    asked = []

    def logits(box: Box) -> Tensor:
        asked.append(box)
        return thresholds(image)(box)

    predict_classes(logits, image.shape[2:], (21, 16, 14), 0.5, CPU)
    assert asked == [(slice(0, 21), slice(0, 9), slice(0, 14))]
