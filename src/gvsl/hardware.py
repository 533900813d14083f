"""The device that a run computes on, and the number format that it computes in."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gvsl.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


def device_facts(device: torch.device | str, count: int = 1) -> dict[str, str]:
    """Describe the compute device for a run record; for a GPU with its name, memory and CUDA version.

    Args:
        device: on which the run computes.
        count: number of such devices.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return {"device": str(device)}
    found = torch.cuda.get_device_properties(device)
    return {
        "device": str(device),
        "gpu": found.name if count == 1 else f"{count} x {found.name}",
        "gpu_memory": f"{found.total_memory / 2**30:.1f} GiB",
        "cuda": torch.version.cuda or torch.version.hip or "unknown",
    }


def find_device(name: str) -> torch.device:
    """Return the device named `cpu` or `cuda`, or for `auto` a GPU if there is one.

    Raises:
        UserError: `cuda` was requested, but there is no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no CUDA device here: choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def computes_bf16(device: torch.device) -> bool:
    """Return True if a device has instructions for bfloat16; a CPU without them emulates it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # before torch 2.10


def resolve_precision(settings: Settings) -> Settings:
    """Return settings with `precision` auto replaced by bf16 or fp32, whichever suits their `device`.

    bf16 that was given is kept, with a note on standard error where it is slow.

    Raises:
        UserError: there is no such device.
    """
    chosen: Any = settings
    fast = chosen.precision != "fp32" and computes_bf16(find_device(chosen.device))
    if chosen.precision == "bf16" and not fast:
        text = "precision bf16 is slow on this hardware, which has no instructions for it: give fp32 or auto"
        print(f"gvsl: note: {text}", file=sys.stderr)
    return replace(settings, precision="bf16" if fast else "fp32") if chosen.precision == "auto" else settings
