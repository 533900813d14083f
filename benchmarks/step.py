"""A GVSL training step compared with the U-Net's forward and backward pass: python benchmarks/step.py [--size 64].

The step is the whole of it: augmentation, both images, heads, losses, backward pass, optimiser. The U-Net's part is the
forward and backward pass of the same two images. Both are measured alternately in one process, in fp32 and in bf16.
With --backbone, whole steps on that backbone are compared with those on the U-Net instead.
Without it, one step's time follows by its parts, as torch's profiler adds it up, and the rate of its convolutions
beside that of a matrix product (GEMM) in the same run.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gvsl.backbones import BACKBONES, BackboneSettings, UNet3D, build_backbone, levels_for
from gvsl.memory import keep_freed_memory
from gvsl.methods import GVSL, Method
from gvsl.records import environment, utc_now
from gvsl.settings.backbones import BackboneName
from gvsl.training.module import channels_last
from gvsl.types import PairBatch

Step = Callable[[], float]
PARTS = {
    "convolution": ("conv", "mkldnn", "cudnn", "gemm", "wgrad", "dgrad"),
    "group norm": ("group_norm",),
    "activation": ("leaky_relu",),
    "sampling": ("grid_sampler",),
    "interpolation": ("upsample",),
    "copies": ("copy_", "cat", "contiguous"),
    "optimiser": ("_fused_adam",),
}
"""Parts of a step, by words in the names of their operations."""
WHOLE = {"correlations": "_ShiftedProducts", "NCC": "_MeanSquaredCorrelation"}
"""Functions whose own operations, such as products and copies, are among the parts."""
GEMM_SIDE, GEMM_TURNS = 1024, 5


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
    method = GVSL(UNet3D(width=options.width, levels=options.levels))
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


def parts(precision: str, options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Return the seconds of a step in each of PARTS, in all other operations, and within the functions of WHOLE."""
    step = prepared(precision, options, device)
    step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiled:
        step()
    found = dict.fromkeys([*PARTS, "other", *WHOLE], 0.0)
    for event in profiled.key_averages():
        part = next((name for name, words in PARTS.items() if any(word in event.key for word in words)), "other")
        microseconds = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        found[part] += microseconds / 1e6
        for name, function in WHOLE.items():
            if event.key.startswith(function):
                found[name] += (event.device_time_total if device.type == "cuda" else event.cpu_time_total) / 1e6
    return found


def rates(precision: str, options: argparse.Namespace, device: torch.device) -> tuple[float, float]:
    """Return the arithmetic of a step's convolutions in FLOP, and the rate of a GEMM in FLOP/s."""
    step = prepared(precision, options, device)
    with FlopCounterMode(display=False) as counter:
        step()
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    factors = torch.rand(2, GEMM_SIDE, GEMM_SIDE, device=device).to(kind)
    taken = []
    for _ in range(GEMM_TURNS):
        began = time.perf_counter()
        torch.mm(*factors)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return counter.get_total_flops(), 2 * GEMM_SIDE**3 / min(taken)


def prepared(precision: str, options: argparse.Namespace, device: torch.device) -> Callable[[], Tensor]:
    """Return a whole step, ready to be taken."""
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=options.width, levels=options.levels))
    method.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-4, fused=True)
    return whole_step(method, optimiser, pair(options.size, options.batch_size, device), precision)


def whole_step(
    method: Method, optimiser: torch.optim.Optimizer, batch: PairBatch, precision: str
) -> Callable[[], Tensor]:
    """Return a function that takes a step of a method on a batch, and returns its loss."""
    device = batch.moving.device
    generator = torch.Generator(device).manual_seed(0)

    def step() -> Tensor:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Tensor = method.training_step(batch, generator)["loss"]
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def show_parts(precision: str, options: argparse.Namespace, device: torch.device) -> None:
    """Print the parts of a step, and its convolutions' rate."""
    found = parts(precision, options, device)
    whole = sum(seconds for name, seconds in found.items() if name not in WHOLE)
    shares = {name: f"{name} {100 * seconds / whole:.1f} %" for name, seconds in found.items()}
    work, peak = rates(precision, options, device)
    reached = work / max(found["convolution"], 1e-9)
    print(f"  {precision}: {', '.join(text for name, text in shares.items() if name not in WHOLE)}")
    print(f"  {precision}: within them, {', '.join(shares[name] for name in WHOLE)}")
    print(
        f"  {precision}: convolutions {reached / 1e9:.0f} GFLOP/s, a GEMM {peak / 1e9:.0f} GFLOP/s, "
        f"ratio {reached / peak:.2f}; at the GEMM's rate they alone would take {100 * work / peak / whole:.0f} % of "
        "the step"
    )


def main() -> None:
    """Measure fp32 and bf16, or another backbone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="voxels along each side")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1, help="pairs per step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--levels", type=int, default=5, help="of the U-Net")
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
    for precision in options.precision:
        steps, passes = measure(precision, options, device)
        medians[precision] = statistics.median(steps)
        ratio = medians[precision] / statistics.median(passes)
        print(
            f"  {precision}: step {medians[precision]:.2f} s ({min(steps):.2f} to {max(steps):.2f}), "
            f"U-Net {statistics.median(passes):.2f} s ({min(passes):.2f} to {max(passes):.2f}), "
            f"ratio {ratio:.2f} (target: at most 1.35)"
        )
    for precision in options.precision:
        show_parts(precision, options, device)
    if len(medians) > 1:
        print(f"  fp32 / bf16: {medians['fp32'] / medians['bf16']:.2f} (target: at least 1.5 with bf16 units)")


if __name__ == "__main__":
    sys.exit(main())
