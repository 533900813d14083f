"""Frozen features, computed once for each window and kept."""

from collections.abc import Callable, Iterable
from math import prod

import torch
from torch import Tensor

from gvsl.store.arrays import Box
from gvsl.transfer.networks import SegmentationNetwork

FLOAT16_BYTES = 2
Represent = Callable[[str, Box], Tensor]
"""A case's id and a box of it to its local features, (1, width, D, H, W), float32."""


class FrozenFeatures:
    """Local features of a frozen backbone, kept as float16 on the CPU up to a limit, past it computed anew.

    What is computed anew is rounded to float16 too, so that the limit changes the time and not one result.
    First come, first kept: cases come round in turn, and dropping the oldest would drop each just before its
    next use.
    """

    def __init__(self, network: SegmentationNetwork, image: Callable[[str, Box], Tensor], limit_bytes: float) -> None:
        """Keep nothing yet.

        Args:
            network: its backbone is frozen.
            image: a case's id and a box to the image, (1, C, D, H, W), on the network's device.
            limit_bytes: memory for what is kept; 0 keeps nothing.
        """
        self.network = network
        self.image = image
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.computed = 0
        """How often the backbone was run."""
        self._kept: dict[tuple[str, tuple[tuple[int, int], ...]], Tensor] = {}

    def __call__(self, case: str, box: Box) -> Tensor:
        """The local features of a box of a case: (1, width, D, H, W), float32, on the network's device."""
        key = (case, tuple((side.start, side.stop) for side in box))
        kept = self._kept.get(key)
        if kept is not None:
            return kept.to(self.network.head.weight.device).float()
        with torch.no_grad():
            features = self.network.features(self.image(case, box)).half()
        self.computed += 1
        if self.held_bytes + self._size(box) <= self.limit_bytes:
            self._kept[key] = features.cpu()
            self.held_bytes += self._size(box)
        return features.float()

    def fitting(self, boxes: Iterable[tuple[str, Box]]) -> list[tuple[str, Box]]:
        """Those of the boxes whose features will be kept if they are asked for in this order."""
        held, chosen = self.held_bytes, []
        for case, box in boxes:
            if held + self._size(box) <= self.limit_bytes:
                held += self._size(box)
                chosen.append((case, box))
        return chosen

    def _size(self, box: Box) -> int:
        """Bytes of a box's features."""
        voxels = prod(side.stop - side.start for side in box)
        return FLOAT16_BYTES * self.network.backbone.width * voxels
