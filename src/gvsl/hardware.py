"""The compute device of a run."""

import torch

from gvsl.errors import UserError


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
