"""Time of the U-Net's passes with gvsl's convolutions and with PyTorch's own: python benchmarks/convolution.py.

Forward and backward passes in fp32 on the CPU, one thread, in turns in one process; the least CPU time of each counts.
"""

import time
from unittest.mock import patch

import torch
from torch import nn

from gvsl.backbones import UNet3D
from gvsl.backbones.convolution import SoundConv3d
from gvsl.records import environment, utc_now

CASES = [(2, (36, 51, 35)), (1, (36, 51, 35)), (1, (72, 64, 48)), (1, (32, 32, 32))]
"""Volumes and their sides."""
REPEATS = 4


def seconds(network: nn.Module, image: torch.Tensor) -> float:
    """Return the CPU seconds of one step without an optimiser."""
    network.zero_grad()
    began = time.process_time()
    network(image).local.square().mean().backward()
    return time.process_time() - began


def main() -> None:
    """Print a row per case."""
    torch.set_num_threads(1)
    facts = environment()
    print(f"{utc_now()}, {facts['processor']}, torch {facts['torch']}; CPU seconds: PyTorch's, gvsl's, their ratio")
    network = UNet3D(width=16, levels=4)
    for volumes, sides in CASES:
        image = torch.rand(volumes, 1, *sides)
        theirs, ours = [], []
        for _ in range(REPEATS):
            with patch.object(SoundConv3d, "_convolve", nn.Conv3d._conv_forward):
                theirs.append(seconds(network, image))
            ours.append(seconds(network, image))
        print(f"{volumes} x {sides}: {min(theirs):.2f} {min(ours):.2f} {min(theirs) / min(ours):.2f}", flush=True)


if __name__ == "__main__":
    main()
