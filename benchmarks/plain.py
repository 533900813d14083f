"""Time and peak memory of the paper's step, in gvsl and written plainly: python benchmarks/plain.py [--size 64].

The published code is not run here. The plain step is what the paper's text describes, in stock modules: a U-Net of
`Conv3d`, `GroupNorm` and `LeakyReLU`, a forward pass for each volume, the heads of Fig. 12 and MONAI's local NCC, in
fp32 and torch's own memory layout. gvsl takes the step of `--recipe paper` on one pair, as `gvsl pretrain` runs it, in
each precision, with and without recomputed activations. Each is measured in a process of its own, since a process's
peak memory never falls; neither step augments in space, and the plain one gets its damaged volume for free.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.backbones import UNet3D
from gvsl.geometry import affine_dvf, spatial_shape
from gvsl.heads.affine import PooledAffineHead
from gvsl.memory import keep_freed_memory
from gvsl.methods import GVSL
from gvsl.records import environment, utc_now
from gvsl.settings.augment import SpatialSettings
from gvsl.settings.methods import GVSLSettings
from gvsl.training.module import channels_last
from gvsl.types import PairBatch

PAPER = GVSLSettings(
    affine_head="pooled",
    deformable_head="direct",
    affine_ncc_weight=0.0,
    symmetric=False,
    independent_poses=False,
    smoothness_weight=9.0,
    restoration_weight=1.0,
    fusion="paper",
    variance_floor=1e-9,
    ncc_sigma=0.0,
    mask_outside=False,
    damage="appearance",
    spatial=SpatialSettings(rate=0.0),
)
"""The pretext of `--recipe paper`."""
STEPS = {
    "plain, fp32": ("fp32", False),
    "gvsl, fp32": ("fp32", False),
    "gvsl, fp32, recomputed activations": ("fp32", True),
    "gvsl, bf16": ("bf16", False),
    "gvsl, bf16, recomputed activations": ("bf16", True),
}
"""What is measured: precision, and whether activations are recomputed (`--backbone.checkpoint-activations`)."""


def group(below: int, above: int) -> nn.Sequential:
    """Return a convolution group of Appendix D.2."""
    return nn.Sequential(nn.Conv3d(below, above, 3, padding=1), nn.GroupNorm(above // 8, above), nn.LeakyReLU(0.2))


class PlainUNet(nn.Module):
    """The U-Net of Fig. 12 a, without anything to save time or memory."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            nn.Sequential(group(below, above), group(above, above)) for below, above in pairwise([1, *sizes])
        )
        self.up = nn.ModuleList(
            nn.Sequential(group(deep + skip, skip), group(skip, skip)) for skip, deep in reversed([*pairwise(sizes)])
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the global and the local features."""
        kept = [self.down[0](image)]
        for level in self.down[1:]:
            kept.append(level(functional.max_pool3d(kept[-1], 2)))
        local = deepest = kept.pop()
        for level in self.up:
            local = functional.interpolate(local, scale_factor=2, mode="trilinear", align_corners=True)
            local = level(torch.cat([local, kept.pop()], dim=1))
        return deepest, local


class PlainStep(nn.Module):
    """One step of Algorithm 1 on one pair."""

    def __init__(self, width: int, levels: int = 5) -> None:
        from monai.losses import LocalNormalizedCrossCorrelationLoss

        super().__init__()
        self.network = PlainUNet(width, levels)
        self.affine = PooledAffineHead(width * 2 ** (levels - 1))
        self.deformable = nn.Sequential(group(2 * width, width), group(width, width), nn.Conv3d(width, 3, 3, padding=1))
        self.restoration = nn.Sequential(group(width, width), nn.Conv3d(width, 1, 1))
        self.ncc = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=9)

    def forward(self, damaged: Tensor, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return the loss of a damaged and a whole moving volume, and a fixed one."""
        (global_a, local_a), (global_b, local_b) = self.network(damaged), self.network(fixed)
        shape = spatial_shape(moving)
        affine = affine_dvf(self.affine(global_a, global_b, shape), shape)
        field = affine + self.deformable(torch.cat([resample(local_a, affine), local_b], dim=1))
        smoothness = sum(field.diff(dim=axis).square().mean() for axis in (2, 3, 4))
        restoration = functional.mse_loss(self.restoration(local_a), moving)
        loss: Tensor = self.ncc(resample(moving, field), fixed) + smoothness + restoration
        return loss


def resample(image: Tensor, field: Tensor) -> Tensor:
    """Warp an image by a displacement field in voxels."""
    sides = field.shape[2:]
    index = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in sides), indexing="ij"))
    scaled = [2 * (index[axis] + field[:, axis]) / (sides[axis] - 1) - 1 for axis in (2, 1, 0)]
    return functional.grid_sample(image, torch.stack(scaled, dim=-1), align_corners=True)


def pair(size: int) -> Tensor:
    """Return two smooth random volumes."""
    coarse = torch.rand((2, 1, 9, 9, 9), generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, size=(size, size, size), mode="trilinear")


def prepared(name: str, options: argparse.Namespace) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a network and a function that computes the loss of a step."""
    torch.manual_seed(0)
    moving, fixed = pair(options.size).chunk(2)
    precision, recomputed = STEPS[name]
    if name.startswith("plain"):
        plain = PlainStep(options.width)
        return plain, lambda: plain(moving, moving, fixed)
    keep_freed_memory()
    method = GVSL(UNet3D(width=options.width, checkpoint_activations=recomputed), PAPER)
    method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    batch = PairBatch(channels_last(moving), channels_last(fixed), ["a"], ["b"])
    generator = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return method.training_step(batch, generator)["loss"]

    return method, loss


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the CPU seconds of a step, and the peak memory of the process in MiB, in all and beyond its start."""
    network, loss = prepared(name, options)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    before, seconds = peak(), []
    for _ in range(options.repeats + 1):
        began = time.process_time()
        optimiser.zero_grad()
        torch.autograd.backward(loss())
        optimiser.step()
        seconds.append(time.process_time() - began)
    taken = seconds[1:] or seconds  # the first is a warm-up
    found = {"median": statistics.median(taken), "least": min(taken), "most": max(taken)}
    return found | {"peak": peak(), "steps": peak() - before}


def peak() -> float:
    """Return the peak memory of this process so far, in MiB, as Linux counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Measure each step in a process of its own, the plain one first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="voxels along each side, a multiple of 16")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="steps after the first; 0 takes the first alone")
    parser.add_argument("--only", choices=STEPS, nargs="+", default=[*STEPS], help="leave out the others")
    parser.add_argument("--step", choices=STEPS, help="measure this one in this process, and print JSON")
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options)))
        return
    found = environment()
    print(f"{utc_now()}, {found['processor']}, {found['cores']} cores, torch {found['torch']}")
    print(f"one pair of {options.size} cubed, width {options.width}; CPU seconds, MiB; shares of the first row")
    rows: list[dict[str, float]] = []
    for name in options.only:
        command = [sys.executable, __file__, *sys.argv[1:], "--step", name]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        row, first = rows[-1], rows[0]
        shares = {key: row[key] / first[key] for key in ("median", "peak", "steps")}
        print(
            f"{name:<36} {row['median']:.2f} s ({row['least']:.2f} to {row['most']:.2f}), {shares['median']:.2f}; "
            f"peak {row['peak']:.0f}, {shares['peak']:.2f}; by steps {row['steps']:.0f}, {shares['steps']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
