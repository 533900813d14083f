"""Sampling of the pairs of a step, as pure functions of seed, step, rank and number of processes.

Volumes are numbered from 0. A step's pairs are sampled for all processes together and then sharded, so that two
processes with one pair each see the same pairs as one process with two.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Pairs = list[tuple[int, int]]
"""Moving and fixed."""

EPOCH_STREAM = 0x65706F6368
"""Separates the random numbers of epochs from those of steps."""


def independent_pairs(count: int, batch_size: int, seed: int, step: int, rank: int = 0, world: int = 1) -> Pairs:
    """Sample one step's pairs of different volumes for one of `world` processes, uniformly (Section 3.1.1).

    N processes with one pair each draw the pairs of one process with N.

    Args:
        count: number of volumes, at least two.
        batch_size: pairs per step and process.
        seed: the run's seed.
        step: index of the step, from 0.
        rank: index of the process, from 0.
        world: number of processes.
    """
    generator = np.random.default_rng([seed, step])
    drawn = [generator.choice(count, size=2, replace=False) for _ in range(batch_size * world)]
    return [(int(moving), int(fixed)) for moving, fixed in drawn[rank * batch_size : (rank + 1) * batch_size]]


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of all volumes in one epoch.

    With an odd number of volumes, a pair spans the end of every even epoch and the start of the next one; its two
    volumes always differ.
    """
    order = _shuffled(count, seed, epoch)
    if count % 2 and epoch % 2 and _shuffled(count, seed, epoch - 1)[-1] == order[0]:
        order[:2] = order[1::-1]
    return order


@dataclass
class EpochPairs:
    """Pairs in which every volume is seen once before any is seen twice. Keeps the orders of at most two epochs."""

    count: int
    """Number of volumes, at least two."""
    seed: int
    orders: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def pairs(self, batch_size: int, step: int, rank: int = 0, world: int = 1) -> Pairs:
        """Return one step's pairs for one of `world` processes."""
        first = 2 * batch_size * (step * world + rank)
        drawn = [self._volume(sample) for sample in range(first, first + 2 * batch_size)]
        return list(zip(drawn[::2], drawn[1::2], strict=True))

    def _volume(self, sample: int) -> int:
        """Return the n-th volume of the whole run."""
        epoch, index = divmod(sample, self.count)
        if epoch not in self.orders:
            self.orders = {epoch - 1: self.orders[epoch - 1]} if epoch - 1 in self.orders else {}
            self.orders[epoch] = epoch_order(self.count, self.seed, epoch)
        return int(self.orders[epoch][index])


def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, EPOCH_STREAM]).permutation(count)
