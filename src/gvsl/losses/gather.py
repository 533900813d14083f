"""One tensor out of every process's, with gradients back to each."""

from typing import Any

import torch
from torch import Tensor, distributed


def gather(values: Tensor) -> Tensor:
    """The values of all processes, in order of rank: (B, ...) to (processes * B, ...).

    The gradient that comes back to a process is the sum over what every process made of its values. In one process,
    or where no process group was started, these are the values themselves.
    """
    if not _several():
        return values
    gathered: Tensor = _Gather.apply(values)
    return gathered


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return distributed.get_rank() if _several() else 0


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Collect."""
        ctx.count = len(values)
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Sum over the processes, and keep what is this one's."""
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        first = distributed.get_rank() * ctx.count
        return total[first : first + ctx.count]
