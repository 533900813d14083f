"""The reader of all safetensors: names, types and shapes are known before a tensor is read, and values are finite."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from gvsl.errors import UserError
from gvsl.readers import foreign, read_head

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types that gvsl writes or can load, by their names in the format."""

VARIANCE = "running_var"
"""How the name of a batch normalisation's variances ends."""


def tensor_shapes(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file without their values, on the meta device, from its header alone.

    Raises:
        UserError: it can't be read, is no such file, or has a tensor of a type that no network has.
    """
    try:
        found = foreign(read_head(path))
        if found:
            raise UserError(f"{path} {found}")
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            kinds = {name: part.get_dtype() for name, part in slices.items()}
            odd = next((name for name, kind in kinds.items() if kind not in TYPES), None)
            if odd is not None:
                raise UserError(f"{path} has {odd[:80]} of type {kinds[odd]}, which no network here has")
            return {
                name: torch.empty(part.get_shape(), dtype=TYPES[kinds[name]], device="meta")
                for name, part in slices.items()
            }
    except (OSError, SafetensorError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        raise UserError(f"{path} can't be read: {error}; copy it from the run again") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU; compare `tensor_shapes` with what is wanted first.

    Raises:
        UserError: it can't be read, or a value in it is not finite.
    """
    tensors = _load(path)
    refuse_not_finite(tensors, path)
    return tensors


def count_not_finite(path: Path) -> dict[str, int]:
    """Return how many values of each tensor of a safetensors file are NaN or infinite, of those that have some.

    Raises:
        UserError: it can't be read.
    """
    counts = {name: int((~torch.isfinite(tensor)).sum()) for name, tensor in _load(path).items()}
    return {name: count for name, count in counts.items() if count}


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return True if no tensor of floating-point numbers holds NaN or infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


def refuse_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors with a value that is not finite, and variances below 0; UserError if there is one."""
    for name, tensor in tensors.items():
        if name.endswith(VARIANCE) and (tensor < 0).any():
            raise UserError(f"{path} has a variance below 0 in {name[:80]}: the file is damaged; copy it again")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"{path} has NaN or infinite values in {name[:80]}: the training diverged, or the file is damaged; "
                "train again, or copy it again"
            )


def _load(path: Path) -> dict[str, Tensor]:
    tensor_shapes(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} can't be read: {error}; copy it from the run again") from None
