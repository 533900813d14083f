"""Random numbers and boxes for the augmentations, from a generator that is passed in and on its device."""

from hashlib import blake2b

import torch
from torch import Tensor

from gvsl.geometry import constants


class ShareGenerator(torch.Generator):
    """Draws the numbers of all volumes of a step, of which a process keeps those of its own.

    Seeded alike in every process, so that a step's numbers don't depend on how its volumes are shared out, and are
    those of one process that has all of them.
    """

    def __new__(cls, device: torch.device, rank: int, world: int, volumes: int) -> "ShareGenerator":
        """Return a generator on a device; see `__init__`."""
        return super().__new__(cls, device)  # type: ignore[call-arg]  # torch declares none

    def __init__(self, device: torch.device, rank: int, world: int, volumes: int) -> None:
        """Take the share of one of `world` processes, each of which has `volumes` volumes of each kind."""
        self.rank, self.world, self.volumes = rank, world, volumes


def on_host(generator: torch.Generator) -> torch.Generator:
    """Return a generator for numbers that the host must know, for which a GPU's queue would else be emptied.

    On a CPU it is the same one; else one whose seed is drawn from the state, alike in all processes.
    """
    if generator.device.type == "cpu":
        return generator
    state = generator.get_state().numpy().tobytes()  # in the host's memory
    torch.rand(1, generator=generator, device=generator.device)  # so that the next state is another
    return seeded_by(state, generator)


def seeded_by(state: bytes, like: torch.Generator) -> torch.Generator:
    """Return a generator on the CPU that is seeded by some bytes, and shared out like another."""
    host = torch.Generator()
    if isinstance(like, ShareGenerator):
        host = ShareGenerator(host.device, like.rank, like.world, like.volumes)
    return host.manual_seed(int.from_bytes(blake2b(state, digest_size=8).digest(), "big") >> 1)


def share_of(generator: torch.Generator, volumes: int) -> torch.Generator:
    """Return the generator for another number of volumes in each process; one that is not shared is returned as is."""
    if not isinstance(generator, ShareGenerator):
        return generator
    other = ShareGenerator(generator.device, generator.rank, generator.world, volumes)
    other.set_state(generator.get_state())
    return other


def rand(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Sample uniform numbers in [0, 1) for volumes, the first axis of `shape`; float32."""
    return _own(torch.rand(_everyone(shape, generator), generator=generator, device=generator.device), generator)


def randn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Sample normal numbers for volumes, the first axis of `shape`; float32."""
    return _own(torch.randn(_everyone(shape, generator), generator=generator, device=generator.device), generator)


def randint(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Sample integers in [low, high) for volumes, the first axis of `shape`; int64."""
    drawn = torch.randint(low, high, _everyone(shape, generator), generator=generator, device=generator.device)
    return _own(drawn, generator)


def _everyone(shape: tuple[int, ...], generator: torch.Generator) -> tuple[int, ...]:
    """Return the shape for the volumes of all processes."""
    return (shape[0] * generator.world, *shape[1:]) if isinstance(generator, ShareGenerator) else shape


def _own(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Return this process's part of what was drawn for all: of the moving volumes, then of the fixed ones."""
    if not isinstance(generator, ShareGenerator):
        return drawn
    by_process = drawn.unflatten(0, (-1, generator.world, generator.volumes))
    return by_process[:, generator.rank].flatten(0, 1)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Sample uniform numbers in [low, high), float32."""
    return rand(shape, generator) * (high - low) + low


def bernoulli(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Sample, for each volume of a batch, True with probability `rate`: (B, 1, 1, 1, 1), bool."""
    return rand((batch, 1, 1, 1, 1), generator) < rate


def boxes(
    batch: int, count: int, shape: tuple[int, int, int], sides: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample `count` random boxes inside each volume of `shape` (D, H, W).

    Each side is uniform between two fractions, `sides`, of the volume's side, and at least one voxel.

    Returns:
        The first voxel and the one past the last, (B, count, 3), int64, each.
    """
    limits = constants(shape, torch.float32, generator.device)
    size = (uniform((batch, count, 3), *sides, generator) * limits).round().clamp(min=1)
    start = (rand((batch, count, 3), generator) * (limits - size + 1)).floor()
    return start.long(), (start + size).long()


def box_mask(start: Tensor, stop: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the union of boxes, (B, K, 3) each, as a mask (B, 1, D, H, W); a box with stop = start is empty."""
    along = []
    for axis, side in enumerate(shape):
        position = torch.arange(side, device=start.device)
        along.append(((position >= start[..., axis, None]) & (position < stop[..., axis, None])).float())
    return (torch.einsum("bkx,bky,bkz->bxyz", *along) > 0)[:, None]
