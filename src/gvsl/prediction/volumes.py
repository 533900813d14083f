"""Predictions for one volume in any orientation and spacing, on its own grid."""

import math
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.inferers import windows
from gvsl.inferers.sliding_window import likeliest, sliding_window
from gvsl.io import Box, UnusableFile, Volume, resample_onto
from gvsl.preprocessing import Preprocessing
from gvsl.preprocessing.apply import preprocess_channels
from gvsl.preprocessing.checks import channels_unlike_hounsfield, check_channels
from gvsl.preprocessing.images import names_of, notes_on
from gvsl.transfer import AdaptedNetwork, Classifier, Segmenter

BLOCK_BYTES = 2**20
Tell = Callable[[str], object]
"""Takes a line about a volume."""
AXES = (2, 3, 4)
"""The spatial axes of (B, C, D, H, W)."""


class Prepared(NamedTuple):
    """An image as a store holds it."""

    array: NDArray[np.float32]
    """(C, D, H, W), in [0, 1]."""
    affine: NDArray[np.float64]


Image = Volume | Sequence[Volume]
"""A volume, or the channels of an image on one grid, in the order of the preprocessing."""


def segment_volume(
    model: Segmenter,
    volume: Image,
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
        volume: in any orientation and spacing; of several channels, all of them.
        mirror: average over mirror images.
        scratch: the folder for intermediate sums that exceed the memory bound; the system's if not given.
        tell: takes a line for all that is odd about the volume, before it is segmented.

    Raises:
        UnusableFile: the volume can't be preprocessed.
    """
    ready = prepared(volume, model.preprocessing, tell)
    return segment_prepared(model, ready, channels_of(volume)[0], mirror=mirror, scratch=scratch)


def segment_prepared(
    model: Segmenter, ready: Prepared, grid: Volume, *, mirror: bool = False, scratch: Path | None = None
) -> NDArray[np.integer[Any]]:
    """Return the same of a prepared image, on the grid of another volume, whose voxels are not used."""
    logits = windowed_logits(model.network, ready.array, mirror)
    classes = likeliest(logits, ready.array.shape[1:], model.crop, model.overlap, scratch)
    values = np.array([0, *model.labels])
    kind = np.uint8 if values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max else np.int16
    labelled = Volume(values.astype(kind)[classes], ready.affine)
    return resample_onto(labelled, grid.array.shape, grid.affine, label=True).astype(kind)


def segment_probabilities(
    model: Segmenter,
    volume: Image,
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
    yield from prepared_probabilities(model, ready, channels_of(volume)[0], mirror=mirror, scratch=scratch)


def prepared_probabilities(
    model: Segmenter, ready: Prepared, grid: Volume, *, mirror: bool = False, scratch: Path | None = None
) -> Generator[tuple[int, NDArray[np.float32]]]:
    """Yield the same of a prepared image, on the grid of another volume, whose voxels are not used."""
    logits = windowed_logits(model.network, ready.array, mirror)
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=scratch) as folder:
        shape = ready.array.shape[1:]
        size = math.prod(shape) * np.dtype(np.float16).itemsize
        files = [_allocate(Path(folder) / str(value), size) for value in model.labels]
        maps = [np.memmap(file, dtype=np.float16, mode="r+", shape=shape) for file in files]

        def finish(box: Box, mean: Tensor) -> None:
            for whole, part in zip(maps, mean.softmax(0)[1:].numpy(), strict=True):
                whole[box] = part

        sliding_window(logits, shape, model.crop, model.overlap, finish, scratch)
        for value, found in zip(model.labels, maps, strict=True):
            whole = Volume(found.astype(np.float32), ready.affine)
            yield value, resample_onto(whole, grid.array.shape, grid.affine).astype(np.float32)


def classify_volume(model: Classifier, volume: Image, *, mirror: bool = False, tell: Tell | None = None) -> float:
    """Return the predicted probability of the positive class, from the pooled features averaged over windows.

    The arguments are those of `segment_volume`.

    Raises:
        UnusableFile: the volume can't be preprocessed.
    """
    return classify_prepared(model, prepared(volume, model.preprocessing, tell), mirror=mirror)


@torch.no_grad()
def classify_prepared(model: Classifier, ready: Prepared, *, mirror: bool = False) -> float:
    """Return the same of a prepared image."""
    logits = windowed_logits(model.network, ready.array, mirror)
    boxes = windows(ready.array.shape[1:], model.crop, model.overlap)
    mean = torch.stack([logits(box) for box in boxes]).mean()  # equals the logit of the mean: the head is linear
    return float(torch.sigmoid(mean.double()))


def channels_of(volume: Image) -> Sequence[Volume]:
    """Return the channels of an image, which may be one volume."""
    return (volume,) if isinstance(volume, Volume) else volume


def prepared(volume: Image, preprocessing: Preprocessing, tell: Tell | None = None) -> Prepared:
    """Return an image as a store holds it: preprocessed, float32 rounded to float16.

    It is checked as `gvsl prepare` does, and `tell` is given what that would note.

    Raises:
        UnusableFile: it has other channels, it can't be preprocessed, or nothing useful is left of it.
    """
    channels = channels_of(volume)
    if len(channels) != preprocessing.channel_count:
        wanted = f" ({names_of(preprocessing)})" if preprocessing.channels else ""
        raise UnusableFile(f"has {len(channels)} channels, not {preprocessing.channel_count}{wanted}")
    ready, _, _ = preprocess_channels(channels, None, preprocessing)
    notes = channels_unlike_hounsfield(channels, preprocessing) + notes_on(channels, preprocessing)
    for note in [*notes, *check_channels(channels, ready, preprocessing)]:
        if tell is not None:
            tell(note)
    arrays = [channel.array.astype(np.float16).astype(np.float32) for channel in ready]
    return Prepared(arrays[0][None] if len(arrays) == 1 else np.stack(arrays), ready[0].affine)


def windowed_logits(network: AdaptedNetwork, array: NDArray[np.float32], mirror: bool) -> Callable[[Box], Tensor]:
    """Return the map from a box of a prepared image to its logits, averaged over the eight mirror images if asked.

    The array is (C, D, H, W), or (D, H, W) of one channel.
    """
    device = next(network.parameters()).device
    flips = [[axis for axis, flipped in zip(AXES, way, strict=True) if flipped] for way in product((0, 1), repeat=3)]

    @torch.no_grad()
    def logits(box: Box) -> Tensor:
        part = np.ascontiguousarray(array[..., *box])
        image = torch.from_numpy(part.reshape(1, -1, *part.shape[-3:])).to(device)
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
