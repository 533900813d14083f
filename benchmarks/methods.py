"""Time and peak memory of a training step of every method, next to GVSL: python benchmarks/methods.py [--size 64].

Every method gets the same pairs; a step is augmentation, passes, losses and optimiser. Each runs in a process of its
own, since a process's peak memory never falls. `by steps` is the memory of steps beyond weights and libraries; on a GPU
both are the allocator's. DeepCluster's pass over the split, once per epoch, is timed separately.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from gvsl.backbones import UNet3D
from gvsl.memory import keep_freed_memory
from gvsl.methods import METHODS
from gvsl.records import environment, utc_now
from gvsl.training.module import channels_last
from gvsl.types import PairBatch


def pairs(size: int, batch: int, device: torch.device) -> PairBatch:
    """Return a batch of smooth random volumes, each of another subject."""
    coarse = torch.rand((2 * batch, 1, 9, 9, 9), generator=torch.Generator().manual_seed(0))
    volumes = torch.nn.functional.interpolate(coarse, size=(size, size, size), mode="trilinear").to(device)
    names = [str(index) for index in range(2 * batch)]
    return PairBatch(channels_last(volumes[:batch]), channels_last(volumes[batch:]), names[:batch], names[batch:])


def memory(device: torch.device) -> float:
    """Return the peak memory so far, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a step, and the peak memory before and after the steps."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    method = METHODS[name](UNet3D(width=options.width)).to(device)
    method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-4, fused=True)
    batch = pairs(options.size, options.batch_size, device)
    generator = torch.Generator(device).manual_seed(0)
    found = {}
    if method.min_epoch_steps is not None:
        ids, volumes = [*batch.moving_ids, *batch.fixed_ids], [*batch.moving, *batch.fixed]
        began = time.perf_counter()
        method.start_epoch(zip(ids, volumes, strict=True), generator)
        found["look"] = (time.perf_counter() - began) / len(ids)
    before = memory(device)
    seconds = []
    for step in range(options.repeats + 1):
        began = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            loss = method.training_step(batch, generator)["loss"]
        loss.backward()
        optimiser.step()
        method.after_step(step, options.repeats + 1)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    taken = seconds[1:]  # the first is a warm-up
    found |= {"median": statistics.median(taken), "least": min(taken), "most": max(taken)}
    return found | {"peak": memory(device), "before": before}


def main() -> None:
    """Measure every method in a process of its own, GVSL first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="voxels along each side")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1, help="pairs per step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--method", help="measure only this one, in this process, and print JSON")
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options)))
        return
    found = environment()
    where = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{found['processor']}, {found['cores']} cores"
    )
    print(f"{utc_now()}, {where}, torch {found['torch']}")
    print(f"width {options.width}, {options.batch_size} pair(s) of {options.size} cubed, {options.precision}")
    print(
        f"{'method':<20} {'s per step (min to max)':<28} {'of GVSL':>8} {'peak MiB':>9} {'by steps':>9} {'of GVSL':>8}"
    )
    first: dict[str, float] = {}
    for name in METHODS:
        command = [sys.executable, __file__, *sys.argv[1:], "--method", name]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        first = first or row
        times = f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
        steps = row["peak"] - row["before"]
        shares = row["median"] / first["median"], steps / (first["peak"] - first["before"])
        look = f"   and {row['look']:.2f} s per volume, once per epoch" if "look" in row else ""
        print(
            f"{name:<20} {times:<28} {shares[0]:>8.2f} {row['peak']:>9.0f} {steps:>9.0f} {shares[1]:>8.2f}{look}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
