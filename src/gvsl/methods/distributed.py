"""Gathering across processes; in one process, what was given."""

from typing import TypeVar

import torch.distributed
import torch.distributed.nn
from torch import Tensor, nn

T = TypeVar("T")


def several() -> bool:
    """Whether this is one of several processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of every process, in the order of the processes: (N, ...) to (N * processes, ...), with their gradient.

    The gradient that reaches a process's rows is the sum of what every process's loss asks of them; the average over
    processes that data-parallel training takes is then the gradient of the mean loss.
    """
    return torch.cat(torch.distributed.nn.all_gather(rows)) if several() else rows


def own_rows(count: int) -> int:
    """Where this process's `count` rows begin among the gathered ones."""
    return torch.distributed.get_rank() * count if several() else 0


def gather_objects(value: T) -> list[T]:
    """The value of every process, in the order of the processes; few and small, since they are copied by the CPU."""
    if not several():
        return [value]
    found: list[T | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return [item for item in found if item is not None]


def share_parameters(module: nn.Module) -> None:
    """Give every process the first one's parameters."""
    if several():
        for parameter in module.parameters():
            torch.distributed.broadcast(parameter.data, src=0)
