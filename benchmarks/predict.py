"""Time and peak memory to segment one large volume: python benchmarks/predict.py.

`window` and `monai` are the sliding window alone, gvsl's and MONAI's inferer with default use: both slide the same
half-overlapping windows with Gaussian weights and the same randomly initialised U-Net over the same array, and end with
the most probable class of each voxel. `command` is the whole of `gvsl predict`: it starts, loads a run of the same
network, reads a NIfTI file of 1 mm, preprocesses it, slides, maps the label map back and writes it compressed. Each
runs in a process of its own, one after the other. `--passes false` replaces the U-Net by noise in the sliding window,
since its passes take the same time in both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.inferers.sliding_window import likeliest
from gvsl.io import Volume, write_nifti
from gvsl.memory import keep_freed_memory
from gvsl.preprocessing import PRESETS
from gvsl.records import environment, utc_now
from gvsl.store.arrays import Box
from gvsl.transfer import SegmentationNetwork, TransferSettings, save_adapted
from gvsl.transfer.weights import segmenter_config

CROP = (128, 128, 128)
OVERLAP = 0.5
SLIDING = {"window": "the sliding window of `gvsl predict`", "monai": "MONAI's inferer"}
COMMAND = "command"
COARSE = 16
"""Side in voxels of the blobs in the image that the command reads."""


def kibibytes(what: str) -> int:
    """Return the resident memory of this process: VmRSS for now, VmHWM for the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1])


def measure(name: str, classes: int, shape: tuple[int, int, int], width: int, passes: bool) -> tuple[float, float]:
    """Return the seconds, and the peak memory in GiB beyond the volume and the network."""
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
        if name == "window":

            def window(box: Box) -> Tensor:
                return logits(volume[:, :, *box])

            found = torch.from_numpy(likeliest(window, shape, CROP, OVERLAP))
        else:
            from monai.inferers.inferer import SlidingWindowInferer

            inferer = SlidingWindowInferer(CROP, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
            found = inferer(volume, logits).argmax(dim=1)[0].to(torch.int16)
    assert found.shape == shape
    return time.perf_counter() - began, (kibibytes("VmHWM") - before) / 2**20


def make_run(folder: Path, classes: int, width: int) -> Path:
    """Write the folder of a run with the network that `measure` uses."""
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=width), classes, precision="bf16")
    folder.mkdir()
    save_adapted(
        folder,
        network,
        segmenter_config({value: f"structure {value}" for value in range(1, classes)}, kernel=3),
        settings=TransferSettings(crop=CROP, overlap=OVERLAP, precision="bf16"),
        method="scratch",
        preprocessing=PRESETS["ct"],
        provenance={},
    )
    return folder


def make_image(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write blobs and noise in Hounsfield units, int16, 1 mm, compressed; without air, so that nothing is cropped."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(40, 200, [-(-side // COARSE) for side in shape]).astype(np.float32)
    array = zoom(coarse, COARSE, order=1)[tuple(slice(side) for side in shape)]
    for plane in array:  # one at a time, to keep this process small
        plane += generator.normal(0, 20, plane.shape).astype(np.float32)
    write_nifti(path, Volume(array.clip(-900, 900).astype(np.int16), np.eye(4)))
    return path


def measure_command(run: Path, image: Path, out: Path) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and peak GiB of `gvsl predict` on one image."""
    argv = [sys.executable, "-m", "gvsl"]
    argv += ["predict", str(run), str(image), "--out", str(out), "--device", "cpu"]
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def slide(options: argparse.Namespace, classes: int, name: str) -> None:
    """Measure the sliding window in a process of its own, and print its row."""
    argv = [sys.executable, __file__, "--only", name, "--classes", str(classes), "--width", str(options.width)]
    argv += ["--passes", options.passes, "--shape", *map(str, options.shape)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print(
            f"| {classes} | {SLIDING[name]} | failed (exit code {done.returncode}, -9: out of memory) | |", flush=True
        )
        return
    seconds, memory = (float(word) for word in done.stdout.split()[-2:])
    print(f"| {classes} | {SLIDING[name]} | {seconds:.0f} | {memory:.2f} |", flush=True)


def main() -> None:
    """Measure the chosen rows, and print a table of the sliding window and one of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300), help="voxels, at 1 mm")
    parser.add_argument("--width", type=int, default=16, help="first-level channels of the U-Net")
    parser.add_argument("--classes", type=int, nargs="+", default=[8, 29], help="with background")
    parser.add_argument("--rows", nargs="+", choices=(*SLIDING, COMMAND), default=[*SLIDING, COMMAND])
    parser.add_argument(
        "--passes", choices=("true", "false"), default="true", help="use the U-Net in the sliding window"
    )
    parser.add_argument("--only", choices=SLIDING, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = tuple(options.shape)
    if options.only:
        print(*measure(options.only, options.classes[0], shape, options.width, options.passes == "true"))
        return
    found = environment()
    print(f"{utc_now()}, {found['processor']}, {found['cores']} cores, torch {found['torch']}, monai {found['monai']}")
    print(f"{'x'.join(map(str, shape))} voxels, windows of 128 cubed, U-Net of width {options.width} in bf16")
    sliding = [name for name in SLIDING if name in options.rows]
    if sliding:
        print("| classes | sliding step | seconds | GiB at the peak, above volume and network |\n|---|---|---|---|")
        for classes in options.classes:
            for name in sliding:
                slide(options, classes, name)
    if COMMAND in options.rows:
        print(
            "| classes | `gvsl predict`, from file to file | GiB at the peak of the process |\n|---|---|---|",
            flush=True,
        )
        with tempfile.TemporaryDirectory() as folder:
            image = make_image(Path(folder) / "image.nii.gz", shape)
            for classes in options.classes:
                run = make_run(Path(folder) / f"run-{classes}", classes, options.width)
                seconds, busy, memory = measure_command(run, image, Path(folder) / f"out-{classes}")
                print(f"| {classes} | {seconds:.0f} | {busy:.0f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
