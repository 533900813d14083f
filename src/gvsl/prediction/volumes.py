"""Predictions for one volume in any orientation and spacing, on its own grid."""

import math
import os
import tempfile
from collections.abc import Callable, Generator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.inferers import windows
from gvsl.inferers.sliding_window import likeliest, sliding_window
from gvsl.io import Box, UnusableFile, Volume, resample_onto
from gvsl.preprocessing import Preprocessing, preprocess
from gvsl.preprocessing.checks import check_prepared, unlike_hounsfield
from gvsl.transfer import AdaptedNetwork, Classifier, Segmenter

BLOCK_BYTES = 2**20
Tell = Callable[[str], object]
"""Takes a line about a volume."""
AXES = (2, 3, 4)
"""The spatial axes of (B, C, D, H, W)."""


def segment_volume(
    model: Segmenter,
    volume: Volume,
    *,
    mirror: bool = False,
    scratch: Path | None = None,
    tell: Tell | None = None,
) -> NDArray[np.integer[Any]]:
    """Return the label value of each voxel of a volume, on the volume's own grid, (D, H, W).

    The volume is preprocessed as the run's training data, segmented, and its label map resampled onto the volume's
    grid: each voxel gets the label with the largest weight in linear interpolation. Voxels outside the
    preprocessing's crop are background.

    Args:
        model: of a transfer run.
        volume: in any orientation and spacing.
        mirror: average over mirror images.
        scratch: the folder for intermediate sums that exceed the memory bound; the system's if not given.
        tell: takes a line for all that is odd about the volume, before it is segmented.

    Raises:
        UnusableFile: the volume can't be preprocessed.
    """
    ready = prepared(volume, model.preprocessing, tell)
    logits = windowed_logits(model.network, ready.array, mirror)
    classes = likeliest(logits, ready.array.shape, model.crop, model.overlap, scratch)
    values = np.array([0, *model.labels])
    kind = np.uint8 if values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max else np.int16
    labelled = Volume(values.astype(kind)[classes], ready.affine)
    return resample_onto(labelled, volume.array.shape, volume.affine, label=True).astype(kind)


def segment_probabilities(
    model: Segmenter,
    volume: Volume,
    *,
    mirror: bool = False,
    scratch: Path | None = None,
    tell: Tell | None = None,
) -> Generator[tuple[int, NDArray[np.float32]]]:
    """Yield label value and probability map of each structure, on the volume's own grid, (D, H, W).

    A map is the softmax of the mean logits, resampled linearly; the maps of all structures are kept on disk, in
    `scratch`. The arguments and errors are those of `segment_volume`.
    """
    ready = prepared(volume, model.preprocessing, tell)
    logits = windowed_logits(model.network, ready.array, mirror)
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=scratch) as folder:
        shape = ready.array.shape
        size = math.prod(shape) * np.dtype(np.float16).itemsize
        files = [_allocate(Path(folder) / str(value), size) for value in model.labels]
        maps = [np.memmap(file, dtype=np.float16, mode="r+", shape=shape) for file in files]

        def finish(box: Box, mean: Tensor) -> None:
            for whole, part in zip(maps, mean.softmax(0)[1:].numpy(), strict=True):
                whole[box] = part

        sliding_window(logits, shape, model.crop, model.overlap, finish, scratch)
        for value, found in zip(model.labels, maps, strict=True):
            whole = Volume(found.astype(np.float32), ready.affine)
            yield value, resample_onto(whole, volume.array.shape, volume.affine).astype(np.float32)


@torch.no_grad()
def classify_volume(model: Classifier, volume: Volume, *, mirror: bool = False, tell: Tell | None = None) -> float:
    """Return the predicted probability of the positive class, from the pooled features averaged over windows.

    The arguments are those of `segment_volume`.

    Raises:
        UnusableFile: the volume can't be preprocessed.
    """
    ready = prepared(volume, model.preprocessing, tell)
    logits = windowed_logits(model.network, ready.array, mirror)
    boxes = windows(ready.array.shape, model.crop, model.overlap)
    mean = torch.stack([logits(box) for box in boxes]).mean()  # equals the logit of the mean: the head is linear
    return float(torch.sigmoid(mean.double()))


def prepared(volume: Volume, preprocessing: Preprocessing, tell: Tell | None = None) -> Volume:
    """Return a volume as a store holds it: preprocessed, float32 rounded to float16.

    It is checked as `gvsl prepare` does, and `tell` is given what that would note.

    Raises:
        UnusableFile: the volume can't be preprocessed, or nothing useful is left of it.
    """
    ready, _, _ = preprocess(volume, None, preprocessing)
    unlike = unlike_hounsfield(volume, preprocessing)
    for note in [*([] if unlike is None else [unlike]), *check_prepared(volume, ready, preprocessing)]:
        if tell is not None:
            tell(note)
    return Volume(ready.array.astype(np.float16).astype(np.float32), ready.affine)


def windowed_logits(network: AdaptedNetwork, array: NDArray[np.float32], mirror: bool) -> Callable[[Box], Tensor]:
    """Return the map from a box of a prepared volume to its logits, averaged over the eight mirror images if asked."""
    device = next(network.parameters()).device
    flips = [[axis for axis, flipped in zip(AXES, way, strict=True) if flipped] for way in product((0, 1), repeat=3)]

    @torch.no_grad()
    def logits(box: Box) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(array[box]))[None, None].to(device)
        total: Tensor = network(image)
        if mirror:
            for axes in flips[1:]:
                flipped = network(image.flip(axes))
                total = total + (flipped.flip(axes) if flipped.ndim == image.ndim else flipped)
            total = total / len(flips)
        if not bool(torch.isfinite(total).all()):
            raise UnusableFile("the network's output for it is not finite: are the weights damaged?")
        return total

    return logits


def _allocate(path: Path, size: int) -> Path:
    """Create a file of `size` bytes with its disk space: on a full disk, writing to a sparse map kills the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            for start in range(0, size, BLOCK_BYTES):
                file.write(bytes(min(BLOCK_BYTES, size - start)))
    return path
