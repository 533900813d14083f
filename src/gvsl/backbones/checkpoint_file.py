"""The reader of pre-training checkpoints, which are untrusted: nothing is executed, and all is checked before use."""

import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import compare_keys
from gvsl.errors import UserError
from gvsl.readers import check_kind, foreign, read_head

ADAM = ("exp_avg", "exp_avg_sq")
"""Adam's tensors of a parameter, of its shape."""
WEIGHTS, STEP, OPTIMISERS = "state_dict", "global_step", "optimizer_states"
OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin, which are no archives."""
BROKEN = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, AttributeError, IndexError, OverflowError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError, MemoryError, AssertionError, ImportError),
    struct.error,
)
"""What torch raises for a file that is no whole checkpoint."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as tensors and plain values only.

    Raises:
        UserError: it can't be read, is larger unpacked than on the disk, or is no checkpoint of a pre-training.
    """
    try:
        checkpoint: dict[str, Any] = unpickled(path)
        check_kind(checkpoint, dict[str, Any])
        if type(checkpoint[STEP]) is not int or checkpoint[STEP] < 0:
            raise ValueError(f"its step is {checkpoint[STEP]!r}")
        check_kind(checkpoint[WEIGHTS], dict[str, Any], WEIGHTS)
        check_kind(checkpoint[OPTIMISERS], list[dict[str, Any]], OPTIMISERS)
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is no whole checkpoint ({reason}): start another run") from None
    return checkpoint


def unpickled(path: Path, safe: Sequence[Any] = (), *, old: bool = False) -> Any:
    """Load what torch has saved onto the CPU: tensors, plain values and objects of the types `safe`, nothing else.

    Args:
        path: of the file.
        safe: further types.
        old: also take what torch has saved before 1.6, which has no checksums.

    Raises:
        UserError: it is a file of another kind.
        Exception: one of BROKEN, also if it is larger unpacked than on the disk.
    """
    head = read_head(path)
    found = foreign(head)
    if found:
        raise UserError(f"{path} {found}")
    if not (old and head.startswith(OLD)):
        _check_archive(path)
    with torch.serialization.safe_globals(list(safe)):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Check that a zip archive is whole, and no larger unpacked than on the disk."""
    with zipfile.ZipFile(path) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise ValueError("it is compressed, which no checkpoint is")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} in it is damaged")


def check_checkpoint(path: Path, module: nn.Module, max_steps: int) -> None:
    """Check that a checkpoint is one of this method and these settings, before Lightning takes it.

    Raises:
        UserError: as `load_checkpoint`; or names, shapes or types of its tensors are others, a value is not finite, or
            the run's steps were taken already.
    """
    checkpoint = load_checkpoint(path)
    weights = {name: value for name, value in checkpoint[WEIGHTS].items() if isinstance(value, Tensor)}
    report = compare_keys(module.state_dict(), weights)
    if not report.complete or len(weights) < len(checkpoint[WEIGHTS]):
        raise UserError(f"{path} does not fit the run ({report}): start another run")
    refuse_not_finite(weights, path)
    if checkpoint[STEP] > max_steps:
        raise UserError(f"{path} is of step {checkpoint[STEP]}, and the run has {max_steps}: start another run")
    trained = [value for value in module.parameters() if value.requires_grad]
    for state in checkpoint[OPTIMISERS]:
        known = state.get("state")
        if not isinstance(known, dict) or any(not _fits(index, values, trained) for index, values in known.items()):
            raise UserError(f"{path} has a state of the optimiser that does not fit the run: start another run")
        for values in known.values():
            refuse_not_finite({name: value for name, value in values.items() if isinstance(value, Tensor)}, path)


def _fits(index: Any, values: Any, trained: list[nn.Parameter]) -> bool:
    """Return True if a state of Adam is that of the parameter of this number."""
    return type(index) is int and 0 <= index < len(trained) and fits_adam(values, trained[index])


def fits_adam(state: Any, parameter: Tensor) -> bool:
    """Return True if Adam's next step of a parameter can read a state, which is untrusted."""
    if not isinstance(state, dict) or state.keys() != {"step", *ADAM}:
        return False
    if not all(isinstance(value, Tensor) and value.is_floating_point() for value in state.values()):
        return False
    shaped = all(state[name].shape == parameter.shape for name in ADAM) and state["step"].numel() == 1
    return shaped and float(state["step"]) >= 0 and bool((state["exp_avg_sq"] >= 0).all())
