from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gvsl.methods import Method
from gvsl.phantom.cohort import subject
from gvsl.types import PairBatch

SHAPE = (32, 16, 32)


@pytest.fixture(scope="session")
def batch() -> PairBatch:
    """Two pairs of phantoms, 32 voxels along the first axis, which leaves two at the bottleneck."""

    def volumes(*indices: int) -> Tensor:
        images = [torch.from_numpy(subject(0, index, SHAPE)[0])[None] for index in indices]
        return ((torch.stack(images) + 1024) / 2048).clamp(0, 1)

    return PairBatch(volumes(0, 1), volumes(2, 0), ["0", "1"], ["2", "0"])


@pytest.fixture(scope="session")
def cohort() -> dict[str, Tensor]:
    """Twelve phantoms by id, those of `batch` among them, 32 x 16 x 32 voxels."""
    images = {str(index): torch.from_numpy(subject(0, index, SHAPE)[0])[None] for index in range(12)}
    return {case: ((image + 1024) / 2048).clamp(0, 1) for case, image in images.items()}


@pytest.fixture(scope="session")
def prepared(cohort: dict[str, Tensor]) -> Callable[[Method, PairBatch], PairBatch]:
    """Make a method ready for a step as training does, and give it the batch as it needs it."""

    def prepare(method: Method, batch: PairBatch) -> PairBatch:
        device = batch.moving.device
        if method.cubic:
            side = min(batch.moving.shape[2:])
            batch = batch._replace(
                moving=batch.moving[..., :side, :side, :side], fixed=batch.fixed[..., :side, :side, :side]
            )
        shape = (batch.moving.shape[2], batch.moving.shape[3], batch.moving.shape[4])
        method.check(shape, volumes=100)
        if method.min_epoch_steps is not None:
            volumes = {case: image.to(device) for case, image in cohort.items()}
            volumes |= dict(zip(batch.moving_ids, batch.moving, strict=True))
            volumes |= dict(zip(batch.fixed_ids, batch.fixed, strict=True))
            method.start_epoch(volumes.items(), torch.Generator(device).manual_seed(0))
        return batch

    return prepare
