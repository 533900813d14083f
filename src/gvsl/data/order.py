"""Sampling of the pairs of a step, as pure functions of seed, step, rank and number of processes.

Volumes are numbered from 0, and each has a subject. A step's pairs are sampled for all processes together and then
sharded, so that two processes with one pair each see the same pairs as one process with two.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

Pairs = list[tuple[int, int]]
"""Moving and fixed."""

EPOCH_STREAM = 0x65706F6368
"""Separates the random numbers of epochs from those of steps."""


def independent_pairs(
    subjects: Sequence[Hashable], batch_size: int, seed: int, step: int, rank: int = 0, world: int = 1
) -> Pairs:
    """Sample one step's pairs of different subjects for one of `world` processes, uniformly (Section 3.1.1).

    N processes with one pair each draw the pairs of one process with N.

    Args:
        subjects: subject of each volume, at least two different ones.
        batch_size: pairs per step and process.
        seed: the run's seed.
        step: index of the step, from 0.
        rank: index of the process, from 0.
        world: number of processes.
    """
    generator = np.random.default_rng([seed, step])
    drawn = [_independent_pair(subjects, generator) for _ in range(batch_size * world)]
    return drawn[rank * batch_size : (rank + 1) * batch_size]


def _independent_pair(subjects: Sequence[Hashable], generator: np.random.Generator) -> tuple[int, int]:
    while True:
        moving, fixed = generator.choice(len(subjects), size=2, replace=False).tolist()
        if subjects[moving] != subjects[fixed]:
            return moving, fixed


def epoch_order(subjects: Sequence[Hashable], seed: int, epoch: int) -> list[int]:
    """Return the order of all volumes in one epoch, in which the two of a pair are of different subjects.

    With an odd number of volumes, a pair spans the end of every even epoch and the start of the next one.

    Args:
        subjects: subject of each volume, none of more than half of them.
        seed: of the run.
        epoch: from 0.
    """
    count = len(subjects)
    order = _shuffled(count, seed, epoch)
    before = [_shuffled(count, seed, epoch - 1)[-1]] if count % 2 and epoch % 2 else []
    after = [order.pop()] if count % 2 and not epoch % 2 else []  # stays where the next epoch looks for it
    paired = [*before, *order]
    for place in range(1, len(paired), 2):
        if subjects[paired[place - 1]] == subjects[paired[place]]:
            other = _place_for(subjects, paired, place)
            paired[place], paired[other] = paired[other], paired[place]
    return paired[len(before) :] + after


def _place_for(subjects: Sequence[Hashable], paired: Sequence[int], place: int) -> int:
    """Return the place to exchange with, in the next pair without the subject; the very first place may be taken."""
    own = subjects[paired[place]]
    for first in (*range(place + 1, len(paired), 2), *range(0, place - 1, 2)):
        if own not in (subjects[paired[first]], subjects[paired[first + 1]]):
            return first if first else first + 1
    raise ValueError("a subject has more than half of the volumes")


@dataclass
class EpochPairs:
    """Pairs in which every volume is seen once before any is seen twice. Keeps the orders of at most two epochs."""

    subjects: Sequence[Hashable]
    """Subject of each volume, none of more than half of them."""
    seed: int
    orders: dict[int, list[int]] = field(default_factory=dict)

    def pairs(self, batch_size: int, step: int, rank: int = 0, world: int = 1) -> Pairs:
        """Return one step's pairs for one of `world` processes."""
        first = 2 * batch_size * (step * world + rank)
        drawn = [self._volume(sample) for sample in range(first, first + 2 * batch_size)]
        return list(zip(drawn[::2], drawn[1::2], strict=True))

    def _volume(self, sample: int) -> int:
        """Return the n-th volume of the whole run."""
        epoch, index = divmod(sample, len(self.subjects))
        if epoch not in self.orders:
            self.orders = {epoch - 1: self.orders[epoch - 1]} if epoch - 1 in self.orders else {}
            self.orders[epoch] = epoch_order(self.subjects, self.seed, epoch)
        return self.orders[epoch][index]


def _shuffled(count: int, seed: int, epoch: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, epoch, EPOCH_STREAM]).permutation(count).tolist()
    return order
