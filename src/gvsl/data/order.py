"""Which volumes make the pairs of a step: pure functions of seed, step, process and number of processes.

Volumes are numbers from 0 here. A step's pairs are drawn for all processes together, and each takes its part, so that
two processes of one pair each see what one process of two pairs sees.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Pairs = list[tuple[int, int]]
"""Moving and fixed."""

EPOCH_STREAM = 0x65706F6368
"""Keeps the draws of epochs apart from those of steps."""


def independent_pairs(count: int, batch_size: int, seed: int, step: int, rank: int = 0, world: int = 1) -> Pairs:
    """One step's pairs for one of `world` processes, each of two different volumes, uniformly at random.

    In several processes no volume is in two pairs of a step, as far as there are volumes enough.

    Args:
        count: volumes, at least two.
        batch_size: pairs a step and process.
        seed: the run's seed.
        step: the step's number from 0.
        rank: the process, from 0.
        world: how many processes there are.
    """
    generator = np.random.default_rng([seed, step])
    pairs = batch_size * world
    if world > 1 and 2 * pairs <= count:
        drawn = generator.choice(count, size=(pairs, 2), replace=False)
    else:
        drawn = np.stack([generator.choice(count, size=2, replace=False) for _ in range(pairs)])
    return [(int(moving), int(fixed)) for moving, fixed in drawn[rank * batch_size : (rank + 1) * batch_size]]


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Every volume once, in the order of one epoch.

    With an odd number of volumes every second epoch begins with the second half of a pair; that is then never the
    volume that the epoch before ended with.
    """
    order = _shuffled(count, seed, epoch)
    if count % 2 and epoch % 2 and _shuffled(count, seed, epoch - 1)[-1] == order[0]:
        order[:2] = order[1::-1]
    return order


@dataclass
class EpochPairs:
    """Pairs from which every volume is seen once before any is seen twice; it holds the order of one epoch or two."""

    count: int
    """Volumes, at least two."""
    seed: int
    orders: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def pairs(self, batch_size: int, step: int, rank: int = 0, world: int = 1) -> Pairs:
        """One step's pairs for one of `world` processes."""
        first = 2 * batch_size * (step * world + rank)
        drawn = [self._volume(sample) for sample in range(first, first + 2 * batch_size)]
        return list(zip(drawn[::2], drawn[1::2], strict=True))

    def _volume(self, sample: int) -> int:
        """The volume that is seen as the n-th of the whole run."""
        epoch, place = divmod(sample, self.count)
        if epoch not in self.orders:
            self.orders = {epoch - 1: self.orders[epoch - 1]} if epoch - 1 in self.orders else {}
            self.orders[epoch] = epoch_order(self.count, self.seed, epoch)
        return int(self.orders[epoch][place])


def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, EPOCH_STREAM]).permutation(count)
