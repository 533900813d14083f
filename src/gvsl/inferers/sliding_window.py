"""A sliding window whose memory does not grow with the volume times the classes."""

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from numpy.typing import NDArray
from torch import Tensor

from gvsl.inferers.windows import window_size, windows
from gvsl.store.arrays import Box

LEAST_WEIGHT = 1e-3
"""As MONAI has it: a voxel in the corner of its only window still has a mean."""
LEAST_HELD_BYTES = 2**28
"""Sums up to this size never go to disk."""

Cell = tuple[int, int, int]
"""Index of a part of the volume between neighbouring ends of windows, along each axis."""
Finish = Callable[[Box, Tensor], None]
"""A box of the volume and its mean logits, (classes, d, h, w), float32, on the CPU; called once for every voxel."""


def sliding_window(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    finish: Finish,
    scratch: Path | None = None,
) -> None:
    """Average the logits of overlapping windows with Gaussian weights, and hand each part on once it is done.

    The weights and the windows are those of MONAI's sliding window, and so is the mean, up to rounding. But no array
    of classes times volume is made: the ends of the windows cut the volume into cells, a cell's sums are kept from
    its first window to its last, and what is kept beyond one window's logits (or 256 MiB) waits on disk, the cells
    first that are needed last.

    Args:
        logits: a box of the volume to its logits, (1, classes, D, H, W), float32.
        shape: the volume's sides in voxels.
        crop: the window's largest sides in voxels; a volume that fits is one window.
        overlap: share of a window that the next one covers too.
        finish: takes each part's mean.
        scratch: the folder in which sums may wait; the system's own for temporary files if not given.
    """
    places = windows(shape, crop, overlap)
    if len(places) == 1:
        finish(places[0], logits(places[0])[0].cpu())
        return
    order = sorted(range(3), key=lambda axis: -shape[axis])  # across the longest axis the fewest cells are open
    places.sort(key=lambda box: [box[axis].start for axis in order])
    edges = [sorted({end for box in places for end in (box[axis].start, box[axis].stop)}) for axis in range(3)]
    covered = [_cells(box, edges) for box in places]
    uses: dict[Cell, list[int]] = {}
    for number, cells in enumerate(covered):
        for cell in cells:
            uses.setdefault(cell, []).append(number)
    weights = _weights(window_size(shape, crop))
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=scratch) as folder:
        sums = _Sums(Path(folder), uses)
        for number, (box, cells) in enumerate(zip(places, covered, strict=True)):
            found = logits(box)[0]
            on_device = weights.to(found.device)
            for cell in cells:
                whole = _box(cell, edges)
                inner = tuple(
                    slice(part.start - side.start, part.stop - side.start)
                    for part, side in zip(whole, box, strict=True)
                )
                weight = on_device[inner]
                share = torch.cat([found[:, *inner] * weight, weight[None]]).cpu()
                earlier = sums.take(cell)
                total = share if earlier is None else earlier.add_(share)
                if uses[cell][-1] == number:
                    finish(whole, total[:-1] / total[-1:])
                else:
                    sums.keep(cell, total, number)
            sums.limit(found.numel() * 4)


class _Sums:
    """The open cells' weighted sums, with the weights' own sum as the last channel."""

    def __init__(self, folder: Path, uses: dict[Cell, list[int]]) -> None:
        self.folder, self.uses = folder, uses
        self.held: dict[Cell, Tensor] = {}
        self.next_use: dict[Cell, int] = {}
        self.shapes: dict[Cell, tuple[int, ...]] = {}
        self.bytes = 0

    def take(self, cell: Cell) -> Tensor | None:
        """The sum so far, which is then the caller's; None at a cell's first window."""
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
        """Keep a sum after the window of this number."""
        self.held[cell] = total
        self.next_use[cell] = next(use for use in self.uses[cell] if use > number)
        self.bytes += 4 * total.numel()

    def limit(self, window_bytes: int) -> None:
        """Send sums to disk until what is held is no more than a window's logits."""
        allowed = max(window_bytes, LEAST_HELD_BYTES)
        while self.bytes > allowed:
            cell = max(self.held, key=lambda each: self.next_use[each])
            total = self.held.pop(cell)
            self._path(cell).write_bytes(total.numpy().data)  # unlike tofile it says so where the disk is full
            self.shapes[cell] = tuple(total.shape)
            self.bytes -= 4 * total.numel()

    def _path(self, cell: Cell) -> Path:
        return self.folder / "-".join(map(str, cell))


def _weights(size: tuple[int, int, int]) -> Tensor:
    """MONAI's Gaussian weights of a window: (D, H, W), float32."""
    weights: Tensor = compute_importance_map(size, mode="gaussian", sigma_scale=0.125, device="cpu")
    return weights.float().clamp(min=max(float(weights[weights > 0].min()), LEAST_WEIGHT))


def _cells(box: Box, edges: Sequence[Sequence[int]]) -> list[Cell]:
    """The cells that a window covers."""
    first, second, third = (
        range(bisect_left(ends, side.start), bisect_left(ends, side.stop))
        for side, ends in zip(box, edges, strict=True)
    )
    return list(product(first, second, third))


def _box(cell: Cell, edges: Sequence[Sequence[int]]) -> Box:
    """The voxels of a cell."""
    first, second, third = (slice(ends[index], ends[index + 1]) for index, ends in zip(cell, edges, strict=True))
    return first, second, third


def likeliest(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    scratch: Path | None = None,
) -> NDArray[np.int16]:
    """The most likely class of each voxel, (D, H, W), by `sliding_window`, whose arguments these are."""
    classes = np.empty(tuple(shape), np.int16)

    def finish(box: Box, mean: Tensor) -> None:
        classes[box] = mean.argmax(0).numpy()

    sliding_window(logits, shape, crop, overlap, finish, scratch)
    return classes
