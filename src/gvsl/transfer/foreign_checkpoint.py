"""Tensors of a checkpoint of nnU-Net, of nnssl or of Models Genesis; nothing in it is executed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.backbones.checkpoint_file import BROKEN, unpickled
from gvsl.errors import UserError
from gvsl.readers import check_kind

SAFE = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
"""What nnU-Net's curves are made of, beside plain values; nothing else is unpickled."""
WEIGHTS = "network_weights"
"""The entry that holds the network in checkpoints of nnU-Net and nnssl."""


def read_network_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name of the network in a checkpoint of nnU-Net; see `read_weights`."""
    return read_weights(path, [WEIGHTS])[1]


def read_weights(path: Path, entries: Sequence[str]) -> tuple[str, dict[str, Tensor]]:
    """Return the first of these entries that a checkpoint has, and its tensors by name.

    Only tensors and plain values are unpickled.

    Raises:
        UserError: it can't be read, or is no such checkpoint.
    """
    try:
        checkpoint = unpickled(path, SAFE, old=True)
        check_kind(checkpoint, dict[str, Any])
        entry = next((name for name in entries if name in checkpoint), None)
        if entry is None:
            raise ValueError(f"it has no {' or '.join(entries)}")
        weights = checkpoint[entry]
        check_kind(weights, dict[str, Any], entry)
        tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
        hollow = [name for name, value in tensors.items() if not _is_whole(value)]
        if hollow:
            raise ValueError(f"it lacks values of {hollow[0][:80]}")
        if _stored_bytes(tensors) > path.stat().st_size:
            raise ValueError("its tensors are larger than the file")
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} is no whole checkpoint of nnU-Net, nnssl or Models Genesis ({reason}): copy it again"
        ) from None
    return entry, tensors


def _is_whole(tensor: Tensor) -> bool:
    """Return True for a dense tensor whose every value is in the file, so that no shape costs more memory than that."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of what the tensors lie in, each counted once."""
    storages = [value.untyped_storage() for value in tensors.values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
