"""Tensors of a checkpoint of nnU-Net or of nnssl; nothing in it is executed."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.errors import UserError
from gvsl.readers import check_kind
from gvsl.training.checkpoint_file import BROKEN, unpickled

SAFE = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
"""What nnU-Net's curves are made of, beside plain values; nothing else is unpickled."""
WEIGHTS = "network_weights"


def read_network_weights(path: Path) -> dict[str, Tensor]:
    """Return the network's tensors by name; only tensors and plain values are unpickled.

    Raises:
        UserError: it can't be read, or is no such checkpoint.
    """
    try:
        checkpoint = unpickled(path, SAFE)
        check_kind(checkpoint, dict[str, Any])
        weights = checkpoint[WEIGHTS]
        check_kind(weights, dict[str, Any], WEIGHTS)
        tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
        hollow = [name for name, value in tensors.items() if not _is_whole(value)]
        if hollow:
            raise ValueError(f"it lacks values of {hollow[0][:80]}")
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is no whole checkpoint of nnU-Net ({reason}): copy it again") from None
    return tensors


def _is_whole(tensor: Tensor) -> bool:
    """Return True for a dense tensor whose every value is in the file, so that no shape costs more memory than that."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
