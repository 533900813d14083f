import pytest
import torch
from torch import Tensor

from gvsl.datasets.phantom import subject
from gvsl.types import PairBatch

SHAPE = (32, 16, 32)


@pytest.fixture(scope="session")
def batch() -> PairBatch:
    """Two pairs of phantoms, 32 voxels along the first axis, which leaves two at the bottleneck."""

    def volumes(*indices: int) -> Tensor:
        images = [torch.from_numpy(subject(0, index, SHAPE)[0])[None] for index in indices]
        return ((torch.stack(images) + 1024) / 2048).clamp(0, 1)

    return PairBatch(volumes(0, 1), volumes(2, 0), ["0", "1"], ["2", "0"])
