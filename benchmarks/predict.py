"""Time and peak memory to segment one large volume beside MONAI's inferer used plainly: python benchmarks/predict.py.

Both slide the same windows of the same U-Net with random weights over the same volume, half overlapping, with Gaussian
weights, and end with the likeliest class of each voxel. Each runs in a process of its own, in turn. `--passes false`
leaves the U-Net out, since its passes take the same time in both: the windows' logits are then noise.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.evaluation.sliding import likeliest
from gvsl.memory import keep_freed_memory
from gvsl.results import environment, utc_now
from gvsl.store.arrays import Box
from gvsl.transfer import SegmentationNetwork

CROP = (128, 128, 128)
OVERLAP = 0.5
NAMES = ("gvsl", "monai")


def kibibytes(what: str) -> int:
    """Resident memory of this process: VmRSS, now, or VmHWM, at its peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1])


def measure(name: str, classes: int, shape: tuple[int, int, int], width: int, passes: bool) -> tuple[float, float]:
    """Seconds, and GiB at the peak above the volume and the network."""
    keep_freed_memory()
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=width), classes, precision="bf16").eval()
    volume = torch.rand(1, 1, *shape)
    noise = torch.randn(1, classes, *CROP)

    def logits(image: Tensor) -> Tensor:
        found: Tensor = network(image) if passes else noise[..., : image.shape[2], : image.shape[3], : image.shape[4]]
        return found

    before, began = kibibytes("VmRSS"), time.perf_counter()
    with torch.no_grad():
        if name == "gvsl":

            def window(box: Box) -> Tensor:
                return logits(volume[:, :, *box])

            found = torch.from_numpy(likeliest(window, shape, CROP, OVERLAP))
        else:
            from monai.inferers.inferer import SlidingWindowInferer

            inferer = SlidingWindowInferer(CROP, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
            found = inferer(volume, logits).argmax(dim=1)[0].to(torch.int16)
    assert found.shape == shape
    return time.perf_counter() - began, (kibibytes("VmHWM") - before) / 2**20


def main() -> None:
    """Run each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300), help="voxels, at 1 mm")
    parser.add_argument("--width", type=int, default=16, help="first-level channels of the U-Net")
    parser.add_argument("--classes", type=int, nargs="+", default=[8, 29], help="background included")
    parser.add_argument("--passes", choices=("true", "false"), default="true")
    parser.add_argument("--only", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        taken = measure(options.only, options.classes[0], tuple(options.shape), options.width, options.passes == "true")
        print(*taken)
        return
    found = environment()
    print(f"{utc_now()}, {found['processor']}, {found['cores']} cores, torch {found['torch']}, monai {found['monai']}")
    print(f"{'x'.join(map(str, options.shape))} voxels, windows of 128 cubed, U-Net of width {options.width} in bf16")
    print("| classes | | seconds | GiB at the peak, above volume and network |\n|---|---|---|---|")
    for classes in options.classes:
        for name in NAMES:
            words = [sys.executable, __file__, "--only", name, "--classes", str(classes), "--width", str(options.width)]
            words += ["--passes", options.passes, "--shape", *map(str, options.shape)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"| {classes} | {name} | failed (exit code {done.returncode}, -9: out of memory) | |", flush=True)
                continue
            seconds, memory = (float(word) for word in done.stdout.split()[-2:])
            print(f"| {classes} | {name} | {seconds:.0f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
