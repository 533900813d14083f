"""Pairs of volumes of different subjects: a pure function of seed and step, so that a stopped run goes on exactly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gvsl.data.crop import Shape, centre_crop, fit_crop
from gvsl.errors import UserError
from gvsl.store import Store
from gvsl.types import PairBatch


@dataclass(frozen=True)
class DataSettings:
    """How pairs are made of a store."""

    split: str = "pretrain"
    """The split whose volumes are used; no label is ever read."""
    batch_size: int = 2
    """Pairs a step (Appendix D.2: 2)."""
    crop: tuple[int, int, int] | None = None
    """Voxels along each axis; without it, what fits the store's median volume, in multiples of 16."""
    most_voxels: int = 128**3
    """The largest crop that is chosen where none is given."""
    workers: int = 1
    """Processes that read volumes; 0 reads in the training process."""


def draw_pairs(ids: Sequence[str], batch_size: int, seed: int, step: int) -> list[tuple[str, str]]:
    """The pairs of one step: two different subjects each, uniformly at random (Section 3.1.1).

    Args:
        ids: at least two case ids.
        batch_size: pairs to draw.
        seed: the run's seed.
        step: the step's number from 0.
    """
    generator = np.random.default_rng([seed, step])
    pairs = (generator.choice(len(ids), size=2, replace=False) for _ in range(batch_size))
    return [(ids[moving], ids[fixed]) for moving, fixed in pairs]


def crop_for(store: Store, settings: DataSettings) -> Shape:
    """The crop that a run on this store uses."""
    return settings.crop or fit_crop(store.shapes(settings.split), settings.most_voxels)


def read_crop(store: Store, case: str, crop: Shape) -> torch.Tensor:
    """One case's image about its centre: (1, D, H, W), float32 in [0, 1]."""
    return torch.from_numpy(centre_crop(partial(store.image, case), store.cases[case].shape, crop))[None]


class PairStream(IterableDataset[PairBatch]):
    """The batches of a run, one a step, from any step on and without end."""

    def __init__(self, store: Store, settings: DataSettings, seed: int, first_step: int = 0) -> None:
        """Check that there are pairs to draw.

        Raises:
            UserError: the split holds fewer than two volumes, or a setting is out of range.
        """
        self.store, self.settings, self.seed, self.first_step = store, settings, seed, first_step
        self.ids = store.split(settings.split)
        if len(self.ids) < 2:
            raise UserError(
                f"{store.path} has one volume in the split {settings.split!r}; a pair needs two of different subjects"
            )
        if settings.batch_size < 1:
            raise UserError(f"data.batch_size is {settings.batch_size}; it must be at least 1")
        if settings.crop is not None and min(settings.crop) < 2:
            raise UserError(f"data.crop is {settings.crop}; each side must be at least 2 voxels")
        self.crop = crop_for(store, settings)

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches; each of several workers makes every n-th, which the loader puts in order again."""
        worker = get_worker_info()
        step, stride = (self.first_step, 1) if worker is None else (self.first_step + worker.id, worker.num_workers)
        while True:
            yield self.batch(step)
            step += stride

    def batch(self, step: int) -> PairBatch:
        """The batch of one step."""
        pairs = draw_pairs(self.ids, self.settings.batch_size, self.seed, step)
        moving, fixed = ([pair[side] for pair in pairs] for side in (0, 1))
        images = [torch.stack([read_crop(self.store, case, self.crop) for case in side]) for side in (moving, fixed)]
        return PairBatch(images[0], images[1], moving, fixed)


def pair_loader(stream: PairStream) -> DataLoader[PairBatch]:
    """A loader of whole batches."""
    workers = stream.settings.workers
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
