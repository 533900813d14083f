"""The check of an exported network against gvsl's own, before its file is put in place."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gvsl.errors import UserError
from gvsl.export.source import Source, expected_outputs

TOLERANCE = 1e-5
"""Largest difference that is accepted, as a fraction of an output's largest value."""
SHAPES = ((1, 32, 32, 32), (1, 37, 29, 21), (2, 16, 24, 20))
"""Batch and voxels of the images that are compared: the sizes of an exported network are free, odd ones too."""
UNITS = ((1, 2, 2, 2), (2, 1, 3, 2))
"""Those of networks that need sides which the levels divide, in units of what they divide."""
SEED = 0


def example(channels: int, shape: Sequence[int]) -> Tensor:
    """Return a random image in [0, 1]: `shape` is batch and voxels, (B, D, H, W)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(shape[0], channels, *shape[1:], generator=generator)


def check(
    source: Source, run: Callable[[Tensor], Sequence[Tensor]], shapes: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Compare the outputs of an exported network with gvsl's, for images of several sizes.

    Args:
        source: the run.
        run: computes the outputs of the exported network.
        shapes: batch and voxels of the images; `shapes_for` the network if not given.

    Returns:
        The largest difference as a fraction of the output's largest value, the tolerance and the sizes, as JSON values.

    Raises:
        UserError: they differ by more than TOLERANCE.
    """
    largest = 0.0
    shapes = shapes_for(source) if shapes is None else shapes
    for shape in shapes:
        image = example(source.backbone.in_channels, shape)
        for wanted, found in zip(expected_outputs(source, image), run(image), strict=True):
            largest = max(largest, difference(wanted, found))
    if not largest <= TOLERANCE:  # also if it is NaN
        raise UserError(
            f"the exported network differs from {source.run} by {largest:.1e} of the largest value, {TOLERANCE:g} is "
            "the limit: nothing was written; report it with the versions of torch and the other program"
        )
    return {"largest_difference": largest, "tolerance": TOLERANCE, "shapes": [list(shape) for shape in shapes]}


def shapes_for(source: Source) -> list[Sequence[int]]:
    """Return SHAPES, each doubled until the network takes it: one of nnU-Net needs more than a voxel at the last level.

    Such are networks of six levels and more.
    """

    def fitting(shape: Sequence[int]) -> Sequence[int]:
        try:
            source.backbone.check(shape[1:])
        except ValueError:
            return fitting([shape[0], *(2 * side for side in shape[1:])])
        return shape

    return [fitting(shape) for shape in SHAPES]


def divided_shapes(levels: int) -> list[Sequence[int]]:
    """Return UNITS in voxels for a network of this many levels."""
    return [(batch, *(units * 2 ** (levels - 1) for units in sides)) for batch, *sides in UNITS]


def difference(wanted: Tensor, found: Tensor) -> float:
    """Return the largest difference of two tensors as a fraction of the largest value; infinity if shapes differ."""
    if wanted.shape != found.shape:
        return float("inf")
    return float((wanted - found).abs().max() / wanted.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
