import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.io import Box
from gvsl.transfer import SegmentationNetwork
from gvsl.transfer.features import FrozenFeatures

WINDOW_BYTES = 2 * 8 * 16**3


@pytest.fixture
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(UNet3D(width=8, levels=3), 2, frozen=True)


def image(case: str, box: Box) -> Tensor:
    volume = torch.rand(24, 16, 16, generator=torch.Generator().manual_seed(int(case)))
    return volume[box][None, None]


def box(start: int) -> Box:
    return slice(start, start + 16), slice(0, 16), slice(0, 16)


def test_a_window_is_computed_once_and_told_from_others(network: SegmentationNetwork) -> None:
    features = FrozenFeatures(network, image, 1e9)
    first = features("1", box(0))
    others = [features("1", box(8)), features("2", box(0))]
    assert torch.equal(features("1", box(0)), first)
    assert not any(torch.equal(first, other) for other in others)
    assert features.computed == 3
    assert (first.dtype, first.shape, first.requires_grad) == (torch.float32, (1, 8, 16, 16, 16), False)
    assert torch.equal(first, network.features(image("1", box(0))).half().float())


def test_memory_stays_within_the_limit_and_results_do_not_depend_on_it(network: SegmentationNetwork) -> None:
    kept = FrozenFeatures(network, image, 1e9)
    bounded = FrozenFeatures(network, image, 2.5 * WINDOW_BYTES)
    for _ in range(2):
        for case in "1234":
            assert torch.equal(kept(case, box(0)), bounded(case, box(0)))
    assert (kept.held_bytes, bounded.held_bytes) == (4 * WINDOW_BYTES, 2 * WINDOW_BYTES)
    assert (kept.computed, bounded.computed) == (4, 4 + 2)


def test_fitting_says_what_will_be_kept(network: SegmentationNetwork) -> None:
    features = FrozenFeatures(network, image, 2.5 * WINDOW_BYTES)
    features("1", box(0))
    small: Box = (slice(0, 8), slice(0, 16), slice(0, 16))
    wanted = [("2", box(0)), ("3", box(0)), ("4", small), ("4", box(0))]
    fitting = features.fitting(wanted)
    assert fitting == [wanted[0], wanted[2]]
    for case, part in wanted:
        features(case, part)
    before = features.computed
    for case, part in fitting:
        features(case, part)
    assert features.computed == before
    assert features.held_bytes == 2.5 * WINDOW_BYTES
