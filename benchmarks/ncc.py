"""Forward and backward pass of the local NCC compared with MONAI's: python benchmarks/ncc.py [--size 96].

Prints the median and range of the time of both, their ratio, and the peak memory of each beyond the images.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from gvsl.losses import local_ncc_loss
from gvsl.records import environment, utc_now

WINDOW = 9


def losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return both losses by name, as functions of the fixed and the warped image."""
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    monai = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=WINDOW)
    return {
        "gvsl": lambda fixed, moved: local_ncc_loss(fixed, moved, window=WINDOW),
        "monai": lambda fixed, moved: monai(moved, fixed),
    }


def seconds(loss: Callable[[Tensor, Tensor], Tensor], fixed: Tensor, moved: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    moved.grad = None
    began = time.perf_counter()
    loss(fixed, moved).backward()
    return time.perf_counter() - began


def images(size: int) -> tuple[Tensor, Tensor]:
    """Return two random volumes; the second requires a gradient, as the warped image does."""
    generator = torch.Generator().manual_seed(0)
    fixed, moved = torch.rand((2, 1, 1, size, size, size), generator=generator)
    return fixed, moved.requires_grad_()


def peak_mebibytes(name: str, size: int) -> float:
    """Return the peak memory that one pass adds; call it in a process of its own."""
    loss = losses()[name]
    seconds(loss, *images(8))
    fixed, moved = images(size)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: reset the peak
    before = peak_kibibytes()
    seconds(loss, fixed, moved)
    return (peak_kibibytes() - before) / 1024


def peak_kibibytes() -> int:
    """Return the process's peak resident memory since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def main() -> None:
    """Measure both alternately, so that a busy machine slows both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96, help="voxels along each side")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    found = environment()
    print(f"{utc_now()}, {found['processor']}, {found['cores']} cores, torch {found['torch']}, monai {found['monai']}")
    fixed, moved = images(options.size)
    times: dict[str, list[float]] = {name: [] for name in losses()}
    for turn in range(options.repeats + 1):
        for name, loss in losses().items():
            taken = seconds(loss, fixed, moved)
            if turn:  # the first turn is a warm-up
                times[name].append(taken)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        memory = {name: pool.submit(peak_mebibytes, name, options.size).result() for name in times}
    print(f"local NCC, {options.size} cubed, window {WINDOW}, float32 images, forward and backward")
    for name, taken in times.items():
        spread = f"{min(taken):.3f} to {max(taken):.3f}"
        print(f"  {name:6} {statistics.median(taken):.3f} s ({spread}), {memory[name]:.0f} MiB")
    ratio = statistics.median(times["gvsl"]) / statistics.median(times["monai"])
    print(f"  gvsl / monai: {ratio:.2f} of the time (target: at most 0.5)")


if __name__ == "__main__":
    sys.exit(main())
