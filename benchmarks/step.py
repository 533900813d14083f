"""A GVSL training step compared with the U-Net's forward and backward pass: python benchmarks/step.py [--size 64].

The step is the whole of it: augmentation, both images, heads, losses, backward pass, optimiser. The U-Net's part is the
forward and backward pass of the same two images. Both are measured alternately in one process, in fp32 and in bf16.
With --backbone, whole steps on that backbone are compared with those on the U-Net instead.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gvsl.backbones import BACKBONES, BackboneSettings, UNet3D, build_backbone, levels_for
from gvsl.memory import keep_freed_memory
from gvsl.methods import GVSL
from gvsl.records import environment, utc_now
from gvsl.settings.backbones import BackboneName
from gvsl.training.module import channels_last
from gvsl.types import PairBatch

Step = Callable[[], float]


def pair(size: int, batch: int, device: torch.device) -> PairBatch:
    """Return a batch of smooth random volumes."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2 * batch, 1, 9, 9, 9), generator=generator)
    volumes = torch.nn.functional.interpolate(coarse, size=(size, size, size), mode="trilinear").to(device)
    names = [str(index) for index in range(batch)]
    return PairBatch(channels_last(volumes[:batch]), channels_last(volumes[batch:]), names, names)


def timed(
    work: Callable[[], Tensor],
    device: torch.device,
    after: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds of a forward pass, its backward pass, and `after`."""
    began = clock()
    work().backward()
    after()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def measure(precision: str, options: argparse.Namespace, device: torch.device) -> tuple[list[float], list[float]]:
    """Return the seconds of whole steps and of the U-Net alone."""
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=options.width))
    method.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-4, fused=True)
    batch = pair(options.size, options.batch_size, device)
    both = channels_last(torch.cat([batch.moving, batch.fixed]))
    generator = torch.Generator(device).manual_seed(0)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def whole() -> Tensor:
        optimiser.zero_grad()
        with autocast:
            return method.training_step(batch, generator)["loss"]

    def bare() -> Tensor:
        method.zero_grad()
        with autocast:
            features = method.backbone(both)
        return features.local.float().mean() + features.global_.float().mean()

    steps, passes = [], []
    for turn in range(options.repeats + 1):
        taken = timed(whole, device, optimiser.step), timed(bare, device, lambda: None)
        if turn:  # the first turn is a warm-up
            steps.append(taken[0])
            passes.append(taken[1])
    return steps, passes


def stepper(name: BackboneName, options: argparse.Namespace, device: torch.device) -> tuple[Step, int]:
    """Return a function that takes one fp32 step and returns its seconds, and the backbone's number of parameters."""
    torch.manual_seed(0)
    levels = levels_for((options.size,) * 3)
    method = GVSL(build_backbone(BackboneSettings(name=name, width=options.width, levels=levels)))
    method.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-4, fused=True)
    batch = pair(options.size, options.batch_size, device)
    generator = torch.Generator(device).manual_seed(0)

    def work() -> Tensor:
        optimiser.zero_grad()
        return method.training_step(batch, generator)["loss"]

    parameters = sum(parameter.numel() for parameter in method.backbone.parameters())
    clock = time.process_time if device.type == "cpu" else time.perf_counter  # other programs may share the CPU
    return lambda: timed(work, device, optimiser.step, clock), parameters


def compare(options: argparse.Namespace, device: torch.device) -> None:
    """Print parameters and seconds (on a CPU, its own) of a step on a backbone beside the U-Net's, taken in turn."""
    made = {name: stepper(name, options, device) for name in ("unet", options.backbone)}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(options.repeats + 1):
        for name, (step, _) in made.items():
            taken = step()
            if turn:  # the first turn is a warm-up
                seconds[name].append(taken)
    for name, (_, parameters) in made.items():
        values = seconds[name]
        spread = f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
        print(f"  {name}: {parameters / 1e6:.1f} M parameters, step {spread}")
    ratios = [one / other for one, other in zip(seconds[options.backbone], seconds["unet"], strict=True)]
    print(f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Measure fp32 and bf16, or another backbone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="voxels along each side")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1, help="pairs per step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbone", choices=[name for name in BACKBONES if name != "unet"], help="to compare")
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = environment()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{found['processor']}, {found['cores']} cores"
    print(f"{utc_now()}, {where}, torch {found['torch']}")
    print(f"width {options.width}, {options.batch_size} pair(s) of {options.size} cubed")
    if options.backbone is not None:
        compare(options, device)
        return
    medians = {}
    for precision in ("fp32", "bf16"):
        steps, passes = measure(precision, options, device)
        medians[precision] = statistics.median(steps)
        ratio = medians[precision] / statistics.median(passes)
        print(
            f"  {precision}: step {medians[precision]:.2f} s ({min(steps):.2f} to {max(steps):.2f}), "
            f"U-Net {statistics.median(passes):.2f} s ({min(passes):.2f} to {max(passes):.2f}), "
            f"ratio {ratio:.2f} (target: at most 1.35)"
        )
    print(f"  fp32 / bf16: {medians['fp32'] / medians['bf16']:.2f} (target: at least 1.5 with bf16 units)")


if __name__ == "__main__":
    sys.exit(main())
