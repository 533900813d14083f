"""Communication between the processes of a distributed run; in a single process, all of it is the identity."""

from typing import TypeVar

import torch.distributed
import torch.distributed.nn
from torch import Tensor, nn

T = TypeVar("T")


def is_distributed() -> bool:
    """Return True if this is one of several processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_gather(rows: Tensor) -> Tensor:
    """Gather the rows of every process, in rank order and with their gradient: (N, ...) to (N * processes, ...).

    The gradient of a process's rows is summed over the losses of all processes. The average over processes that
    data-parallel training takes is then the gradient of the mean loss.
    """
    return torch.cat(torch.distributed.nn.all_gather(rows)) if is_distributed() else rows


def local_offset(count: int) -> int:
    """Return the index of this process's first row among the gathered ones, for `count` rows a process."""
    return torch.distributed.get_rank() * count if is_distributed() else 0


def gather_objects(value: T) -> list[T]:
    """Gather a small object of every process, in rank order; it is copied by the CPU."""
    if not is_distributed():
        return [value]
    gathered: list[T | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return [item for item in gathered if item is not None]


def broadcast_parameters(module: nn.Module) -> None:
    """Copy the first process's parameters to all processes."""
    if is_distributed():
        for parameter in module.parameters():
            torch.distributed.broadcast(parameter.data, src=0)
