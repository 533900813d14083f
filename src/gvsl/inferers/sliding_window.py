"""Sliding-window prediction in bounded memory, however many classes there are."""

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.inferers.windows import window_size, windows
from gvsl.io import Box

MIN_WEIGHT = 1e-3
"""Lower bound of the Gaussian weights, MONAI's: a voxel in the corner of its only window still has a mean."""
MIN_HELD_BYTES = 2**28
"""Sums up to this size stay in memory."""

Cell = tuple[int, int, int]
"""Index along each axis of a cell: the ends of all windows cut the volume into cells."""
Finish = Callable[[Box, Tensor], None]
"""Takes a box of the volume and its mean logits, (classes, d, h, w), float32, on the CPU; the boxes tile the volume."""


def sliding_window(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    finish: Finish,
    scratch: Path | None = None,
) -> None:
    """Average the logits of overlapping windows with Gaussian weights, cell by cell.

    Windows, weights and, up to rounding, the mean are those of MONAI's sliding window, without an array of classes
    times volume: the ends of the windows cut the volume into cells, and a cell's sums are kept from its first window
    to its last. Sums beyond the size of one window's logits (or 256 MiB) are moved to disk, those first that are
    needed last.

    Args:
        logits: maps a box of the volume to its logits, (1, classes, D, H, W), float32.
        shape: the volume's sides in voxels.
        crop: the window's maximum sides in voxels; a volume that fits is one window.
        overlap: fraction of a window that the next one covers too.
        finish: receives the mean of each cell.
        scratch: the folder for sums on disk; the system's temporary folder if not given.
    """
    boxes = windows(shape, crop, overlap)
    if len(boxes) == 1:
        finish(boxes[0], logits(boxes[0])[0].cpu())
        return
    order = sorted(range(3), key=lambda axis: -shape[axis])  # moving along the longest axis keeps the fewest cells open
    boxes.sort(key=lambda box: [box[axis].start for axis in order])
    edges = [sorted({end for box in boxes for end in (box[axis].start, box[axis].stop)}) for axis in range(3)]
    covered = [_cells(box, edges) for box in boxes]
    uses: dict[Cell, list[int]] = {}
    for number, cells in enumerate(covered):
        for cell in cells:
            uses.setdefault(cell, []).append(number)
    weights = _weights(window_size(shape, crop))
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=scratch) as folder:
        sums = _Sums(Path(folder), uses)
        for number, (box, cells) in enumerate(zip(boxes, covered, strict=True)):
            found = logits(box)[0]
            on_device = weights.to(found.device)
            for cell in cells:
                whole = _box(cell, edges)
                inner = tuple(
                    slice(part.start - side.start, part.stop - side.start)
                    for part, side in zip(whole, box, strict=True)
                )
                weight = on_device[inner]
                weighted = torch.cat([found[:, *inner] * weight, weight[None]]).cpu()
                earlier = sums.take(cell)
                total = weighted if earlier is None else earlier.add_(weighted)
                if uses[cell][-1] == number:
                    finish(whole, total[:-1] / total[-1:])
                else:
                    sums.keep(cell, total, number)
            sums.limit(found.numel() * 4)


class _Sums:
    """Weighted sums of the open cells, with the sum of the weights as the last channel."""

    def __init__(self, folder: Path, uses: dict[Cell, list[int]]) -> None:
        self.folder, self.uses = folder, uses
        self.held: dict[Cell, Tensor] = {}
        self.next_use: dict[Cell, int] = {}
        self.shapes: dict[Cell, tuple[int, ...]] = {}
        self.bytes = 0

    def take(self, cell: Cell) -> Tensor | None:
        """Remove and return the sum of a cell; None at its first window."""
        total = self.held.pop(cell, None)
        if total is not None:
            self.bytes -= 4 * total.numel()
            return total
        if cell not in self.shapes:
            return None
        path = self._path(cell)
        array = np.fromfile(path, dtype=np.float32).reshape(self.shapes.pop(cell))
        path.unlink()
        return torch.from_numpy(array)

    def keep(self, cell: Cell, total: Tensor, number: int) -> None:
        """Store a sum after the window with this number."""
        self.held[cell] = total
        self.next_use[cell] = next(use for use in self.uses[cell] if use > number)
        self.bytes += 4 * total.numel()

    def limit(self, window_bytes: int) -> None:
        """Move sums to disk until those in memory are no larger than a window's logits."""
        allowed = max(window_bytes, MIN_HELD_BYTES)
        while self.bytes > allowed:
            cell = max(self.held, key=lambda each: self.next_use[each])
            total = self.held.pop(cell)
            self._path(cell).write_bytes(
                total.numpy().data
            )  # unlike tofile this raises an OSError with errno when the disk is full
            self.shapes[cell] = tuple(total.shape)
            self.bytes -= 4 * total.numel()

    def _path(self, cell: Cell) -> Path:
        return self.folder / "-".join(map(str, cell))


def _weights(size: tuple[int, int, int]) -> Tensor:
    """Return MONAI's Gaussian weights of a window: (D, H, W), float32."""
    from monai.data.utils import compute_importance_map  # takes seconds to import, and many volumes are one window

    weights: Tensor = compute_importance_map(size, mode="gaussian", sigma_scale=0.125, device="cpu")
    return weights.float().clamp(min=max(float(weights[weights > 0].min()), MIN_WEIGHT))


def _cells(box: Box, edges: Sequence[Sequence[int]]) -> list[Cell]:
    """Return the cells that a window covers."""
    first, second, third = (
        range(bisect_left(ends, side.start), bisect_left(ends, side.stop))
        for side, ends in zip(box, edges, strict=True)
    )
    return list(product(first, second, third))


def _box(cell: Cell, edges: Sequence[Sequence[int]]) -> Box:
    """Return the voxels of a cell."""
    first, second, third = (slice(ends[index], ends[index + 1]) for index, ends in zip(cell, edges, strict=True))
    return first, second, third


def likeliest(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    scratch: Path | None = None,
) -> NDArray[np.int16]:
    """Return the most likely class of each voxel, (D, H, W); the arguments are those of `sliding_window`."""
    classes = np.empty(tuple(shape), np.int16)

    def finish(box: Box, mean: Tensor) -> None:
        classes[box] = mean.argmax(0).numpy()

    sliding_window(logits, shape, crop, overlap, finish, scratch)
    return classes


def predict_classes(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    device: torch.device,
) -> Tensor:
    """Return `likeliest` as a tensor on `device`: (1, 1, D, H, W), int64."""
    return torch.from_numpy(likeliest(logits, shape, crop, overlap))[None, None].to(device).long()
