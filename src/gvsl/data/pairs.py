"""Pairs of volumes of different subjects: a pure function of seed and step, so that a stopped run goes on exactly."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gvsl.data.crop import Place, Shape, aligned_places, centre_crop, fit_crop, place_within
from gvsl.data.order import EpochPairs, independent_pairs
from gvsl.errors import UserError
from gvsl.settings import NOTHING, check_settings
from gvsl.store import Store, StoredCase
from gvsl.types import PairBatch

MIDDLE = (0.5, 0.5, 0.5)
PLACE_STREAM = 0x706C616365
"""Keeps the draws of places apart from those of pairs."""


@dataclass(frozen=True)
class DataSettings:
    """Pairs of volumes of different subjects, drawn from a store.

    Raises:
        UserError: there is no such order or pairing; `PairStream` checks the other values.
    """

    split: str = "pretrain"
    """Split of the store to draw from; labels are never read."""
    batch_size: int = 2
    """Pairs per step (Appendix D.2: 2)."""
    crop: tuple[int, int, int] | None = None
    """Crop in voxels, one side or three; if not given, the multiples of 16 that fit the store's median volume."""
    most_voxels: int = 128**3
    """Maximum size in voxels of the crop that is chosen if none is given."""
    order: Literal["independent", "epoch"] = "independent"
    """Order of the pairs: drawn independently at each step, or in epochs that use each volume once."""
    pairing: Literal["whole", "aligned"] = "whole"
    """Position of crops in larger volumes: at the centre of each foreground, or at the same relative position in both
    foregrounds."""
    jitter: float = 0.05
    """For aligned pairs, the maximum offset of the moving crop, as a fraction of its sides."""
    workers: int = field(default=1, metadata=NOTHING)
    """Processes that read volumes; 0 reads in the training process."""

    def __post_init__(self) -> None:
        check_settings(self, "data.")


def draw_pairs(ids: Sequence[str], batch_size: int, seed: int, step: int) -> list[tuple[str, str]]:
    """The pairs of one step: two different subjects each, uniformly at random (Section 3.1.1).

    Args:
        ids: at least two case ids.
        batch_size: pairs to draw.
        seed: the run's seed.
        step: the step's number from 0.
    """
    return [(ids[moving], ids[fixed]) for moving, fixed in independent_pairs(len(ids), batch_size, seed, step)]


def crop_for(store: Store, settings: DataSettings) -> Shape:
    """The crop that a run on this store uses."""
    return settings.crop or fit_crop(store.shapes(settings.split), settings.most_voxels)


def foreground_place(case: StoredCase, place: Place = MIDDLE) -> Place:
    """A place in a case's foreground, by default its centre, as one in the stored volume.

    Where the store doesn't say what is foreground, the volume was cropped to it, and all of it is.
    """
    return place if case.foreground is None else place_within(place, case.foreground, case.shape)


def read_crop(store: Store, case: str, crop: Shape, centre: Place | None = None) -> torch.Tensor:
    """One case's image about its foreground's centre, or another place: (1, D, H, W), float32 in [0, 1]."""
    known = store.cases[case]
    centre = foreground_place(known) if centre is None else centre
    return torch.from_numpy(centre_crop(partial(store.image, case), known.shape, crop, centre))[None]


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
        if not 0 <= settings.jitter <= 0.5:
            raise UserError(f"data.jitter is {settings.jitter:g}; it must be from 0 to 0.5")
        self.crop = crop_for(store, settings)
        self.rank, self.world = 0, 1
        self.epochs = EpochPairs(len(self.ids), seed)

    def share(self, rank: int, world: int) -> "PairStream":
        """The same stream for one of `world` processes, which share each step's pairs and see none of the others'."""
        shared = copy(self)
        shared.rank, shared.world = rank, world
        return shared

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches; each of several workers makes every n-th, which the loader puts in order again."""
        worker = get_worker_info()
        step, stride = (self.first_step, 1) if worker is None else (self.first_step + worker.id, worker.num_workers)
        while True:
            yield self.batch(step)
            step += stride

    def pairs(self, step: int) -> list[tuple[str, str]]:
        """The ids of one step's pairs: moving and fixed."""
        size = self.settings.batch_size
        if self.settings.order == "epoch":
            drawn = self.epochs.pairs(size, step, self.rank, self.world)
        else:
            drawn = independent_pairs(len(self.ids), size, self.seed, step, self.rank, self.world)
        return [(self.ids[moving], self.ids[fixed]) for moving, fixed in drawn]

    def places(self, step: int) -> list[tuple[Place, Place]]:
        """The centres of the crops of one step's pairs."""
        pairs = self.pairs(step)
        found = []
        for index, pair in enumerate(pairs):
            moving, fixed = (self.store.cases[name] for name in pair)
            places = MIDDLE, MIDDLE
            if self.settings.pairing == "aligned":
                number = (step * self.world + self.rank) * len(pairs) + index
                draw = np.random.default_rng([self.seed, number, PLACE_STREAM])
                places = aligned_places((_sides(moving), _sides(fixed)), self.crop, self.settings.jitter, draw)
            found.append((foreground_place(moving, places[0]), foreground_place(fixed, places[1])))
        return found

    def batch(self, step: int) -> PairBatch:
        """The batch of one step."""
        pairs, places = self.pairs(step), self.places(step)
        images = [
            torch.stack(
                [
                    read_crop(self.store, pair[side], self.crop, place[side])
                    for pair, place in zip(pairs, places, strict=True)
                ]
            )
            for side in (0, 1)
        ]
        return PairBatch(images[0], images[1], [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _sides(case: StoredCase) -> Shape:
    """(D, H, W) of a case's foreground."""
    if case.foreground is None:
        return case.shape
    first, second, third = (side.stop - side.start for side in case.foreground)
    return first, second, third


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
