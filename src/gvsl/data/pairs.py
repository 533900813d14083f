"""Pairs of volumes of different subjects, as a pure function of seed and step, so that a run resumes exactly."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from multiprocessing import get_start_method

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gvsl.data.crop import MIDDLE, Centre, Shape, aligned_centres, centre_crop, fit_crop, foreground_centre
from gvsl.data.labelled import check_labelled, labelled_pair
from gvsl.data.order import EpochPairs, independent_pairs
from gvsl.data.resident import ResidentVolumes
from gvsl.data.subjects import subjects_to_pair
from gvsl.errors import UserError
from gvsl.memory import SHARED, shared_memory
from gvsl.processes import end_with_parent
from gvsl.settings.data import DataSettings as DataSettings
from gvsl.store import Store, StoredCase
from gvsl.text import note
from gvsl.types import PairBatch

READ_SECONDS = 300
"""Seconds to wait for a batch from a reading process before it is given up."""
BATCHES_AHEAD = 2
"""Batches that each reading process holds ready (torch's own default)."""
CENTRE_STREAM = 0x706C616365
"""Separates the random numbers of crop centres from those of pairs."""


def crop_for(store: Store, settings: DataSettings) -> Shape:
    """Return the crop of a run on this store.

    Raises:
        UserError: no crop is given, and the split is empty.
    """
    if settings.crop is not None:
        return settings.crop
    store.split(settings.split)  # refuses an empty one, which fits no crop
    return fit_crop(store.shapes(settings.split), settings.most_voxels)


def read_crop(store: Store, case: str, crop: Shape, centre: Centre | None = None) -> torch.Tensor:
    """Read a crop of a case's image, by default about its foreground's centre: (C, D, H, W), float32, in [0, 1]."""
    stored = store.cases[case]
    centre = foreground_centre(stored) if centre is None else centre
    return torch.from_numpy(centre_crop(partial(store.channels, case), stored.shape, crop, centre))


class PairStream(IterableDataset[PairBatch]):
    """Endless stream of a run's batches, one per step, from any step on."""

    def __init__(
        self, store: Store, settings: DataSettings, seed: int, first_step: int = 0, labelled: Sequence[str] = ()
    ) -> None:
        """Check the settings against the store.

        Args:
            store: of the volumes.
            settings: which pairs, and how.
            seed: of the run.
            first_step: the step to begin at.
            labelled: ids of the training cases that labelled pairs are drawn from; no other labels are read.

        Raises:
            UserError: the split holds fewer than two volumes, or too many of one subject for epochs; a setting is out
                of range; or a labelled case can't be learnt from.
        """
        self.store, self.settings, self.seed, self.first_step = store, settings, seed, first_step
        self.labelled = tuple(labelled)
        if self.labelled:
            check_labelled(store, self.labelled, "pretext.labels")
        self.ids = store.split(settings.split)
        if len(self.ids) < 2:
            raise UserError(
                f"{store.place} has one volume in the split {settings.split!r}; a pair needs two: choose another split"
            )
        self.subjects = subjects_to_pair(store, self.ids)
        if self.subjects == self.ids != store.subjects(self.ids):
            note(f"all volumes of {store.place} in the split {settings.split!r} are of one subject, and so are pairs")
        most = max(Counter(self.subjects).values())
        if settings.order == "epoch" and 2 * most > len(self.ids):
            raise UserError(
                f"a subject has {most} of the {len(self.ids)} volumes of {store.place} in the split "
                f"{settings.split!r}, and data.order epoch pairs each with one of another subject: set data.order to "
                "independent"
            )
        self.crop = crop_for(store, settings)
        self.rank, self.world = 0, 1
        self.resident: ResidentVolumes | None = None
        self.subject_of = dict(zip(self.ids, self.subjects, strict=True))
        self.epochs = EpochPairs(self.subjects, seed)

    def shard(self, rank: int, world: int) -> "PairStream":
        """Return the stream of one of `world` processes, which see different pairs of each step."""
        stream = copy(self)
        stream.rank, stream.world = rank, world
        return stream

    def kept_on(self, device: torch.device) -> "PairStream":
        """Return the stream of a process that trains on a device, which keeps the volumes if the settings say so.

        Raises:
            UserError: the volumes don't fit there.
        """
        stream = copy(self)
        if self.settings.on_device:
            stream.resident = ResidentVolumes(self.store, self.settings.split, device)
        return stream

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches; each of n workers yields every n-th one, and the loader restores the order."""
        worker = get_worker_info()
        step, stride = (self.first_step, 1) if worker is None else (self.first_step + worker.id, worker.num_workers)
        while True:
            yield self.batch(step)
            step += stride

    def pairs(self, step: int) -> list[tuple[str, str]]:
        """Return the ids of one step's pairs: moving and fixed."""
        size = self.settings.batch_size
        if self.settings.order == "epoch":
            drawn = self.epochs.pairs(size, step, self.rank, self.world)
        else:
            drawn = independent_pairs(self.subjects, size, self.seed, step, self.rank, self.world)
        return [(self.ids[moving], self.ids[fixed]) for moving, fixed in drawn]

    def centres(self, step: int) -> list[tuple[Centre, Centre]]:
        """Return the centres of the crops of one step's pairs."""
        pairs = self.pairs(step)
        centres = []
        for index, pair in enumerate(pairs):
            moving, fixed = (self.store.cases[name] for name in pair)
            pair_centres = MIDDLE, MIDDLE
            if self.settings.pairing == "aligned":
                number = (step * self.world + self.rank) * len(pairs) + index  # of the run, whoever reads it
                generator = np.random.default_rng([self.seed, number, CENTRE_STREAM])
                shapes = _foreground_shape(moving), _foreground_shape(fixed)
                pair_centres = aligned_centres(shapes, self.crop, self.settings.jitter, generator)
            centres.append((foreground_centre(moving, pair_centres[0]), foreground_centre(fixed, pair_centres[1])))
        return centres

    def batch(self, step: int) -> PairBatch:
        """Read the batch of one step."""
        moving_ids, fixed_ids = zip(*self.pairs(step), strict=True)
        moving_centres, fixed_centres = zip(*self.centres(step), strict=True)
        read = partial(read_crop, self.store) if self.resident is None else self.resident.crop
        moving, fixed = (
            torch.stack([read(case, self.crop, centre) for case, centre in zip(*side, strict=True)])
            for side in ((moving_ids, moving_centres), (fixed_ids, fixed_centres))
        )
        subjects = [self.subject_of[case] for case in (*moving_ids, *fixed_ids)]
        batch = PairBatch(moving, fixed, list(moving_ids), list(fixed_ids), subjects=subjects)
        if not self.labelled:
            return batch
        number = step * self.world + self.rank
        return batch._replace(labelled=labelled_pair(self.store, self.labelled, self.crop, self.seed, number))

    def learnt_from(self) -> list[str]:
        """Return the ids of all cases that are shown."""
        return sorted({*self.ids, *self.labelled})


def _foreground_shape(case: StoredCase) -> Shape:
    """Return (D, H, W) of a case's foreground."""
    if case.foreground is None:
        return case.shape
    first, second, third = (side.stop - side.start for side in case.foreground)
    return first, second, third


def pair_loader(stream: PairStream) -> DataLoader[PairBatch]:
    """Return a loader of the stream's batches, which raises RuntimeError after READ_SECONDS without one."""
    workers = affordable_workers(stream)
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        timeout=READ_SECONDS if workers else 0,
        # In a process of joblib's, as of `gvsl benchmark --processes`, the start method is joblib's own, for its own.
        multiprocessing_context="fork" if workers and get_start_method(allow_none=True) == "loky" else None,
        worker_init_fn=partial(_end_with, os.getpid()) if workers else None,
        pin_memory=torch.cuda.is_available() and stream.resident is None,  # of volumes on the host alone
    )


def affordable_workers(stream: PairStream) -> int:
    """Return the settings' number of reading processes, or 0, which is told, if their batches don't fit /dev/shm.

    torch hands batches over in shared memory, and waits for ever for one that didn't fit.
    """
    workers = stream.settings.workers if stream.resident is None else 0  # the volumes are in this process
    free = shared_memory()
    if not workers or free is None:
        return workers
    values = stream.store.channel_count * math.prod(stream.crop)
    batch = 2 * stream.settings.batch_size * values * np.dtype(np.float32).itemsize
    if stream.labelled:
        classes = math.prod(stream.crop) * np.dtype(np.int64).itemsize
        batch += 2 * (values * np.dtype(np.float32).itemsize + classes)
    needed = batch * (workers * BATCHES_AHEAD + 2) * stream.world
    if needed <= free:
        return workers
    note(
        f"{SHARED} has {free / 2**20:.0f} MiB free and reading in {workers * stream.world} processes needs "
        f"{needed / 2**20:.0f}: reading in the training process instead (in Docker, --shm-size gives more)"
    )
    return 0


def _end_with(parent: int, _: int) -> None:
    """Let a reading process end with the one that trains; a module-level function, since it is pickled."""
    end_with_parent(parent)
