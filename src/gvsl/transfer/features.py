"""Features of a frozen backbone, computed once and reused."""

from collections.abc import Callable, Iterable
from math import prod

import torch
from torch import Tensor

from gvsl.inferers.windows import windows
from gvsl.io import Box
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer.cases import Cases
from gvsl.transfer.networks import ClassificationNetwork, SegmentationNetwork

FLOAT16_BYTES = 2
Represent = Callable[[str, Box], Tensor]
"""Maps a case's id and a box of it to its local features, (1, width, D, H, W), float32."""


class FrozenFeatures:
    """Local features of a frozen backbone, cached as float16 on the CPU up to a limit and recomputed beyond it.

    Recomputed features are rounded to float16 too, so that the limit does not change any result. The cache is filled
    first come, first served: cases come in turn, and a least-recently-used cache would drop each one just before its
    next use.
    """

    def __init__(self, network: SegmentationNetwork, image: Callable[[str, Box], Tensor], limit_bytes: float) -> None:
        """Start with an empty cache.

        Args:
            network: its backbone is frozen.
            image: maps a case's id and a box to the image, (1, C, D, H, W), on the network's device.
            limit_bytes: size of the cache; 0 keeps nothing.
        """
        self.network = network
        self.image = image
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.computed = 0
        """Number of passes through the backbone."""
        self._kept: dict[tuple[str, tuple[tuple[int, int], ...]], Tensor] = {}

    def __call__(self, case: str, box: Box) -> Tensor:
        """Return the local features of a box of a case: (1, width, D, H, W), float32, on the network's device."""
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
        """Return the boxes whose features will be cached if requested in this order."""
        held, chosen = self.held_bytes, []
        for case, box in boxes:
            if held + self._size(box) <= self.limit_bytes:
                held += self._size(box)
                chosen.append((case, box))
        return chosen

    def _size(self, box: Box) -> int:
        """Return the bytes of a box's features."""
        voxels = prod(side.stop - side.start for side in box)
        return FLOAT16_BYTES * self.network.backbone.local_channels * voxels


class PooledFeatures:
    """Pooled global features of whole cases: the mean over a case's windows, (1, global_channels).

    Those of a frozen backbone are computed once, unless `cache_gigabytes` is 0.
    """

    def __init__(self, network: ClassificationNetwork, cases: Cases, settings: TransferSettings) -> None:
        """Start with an empty cache; `cases` lie on the network's device."""
        self.network, self.cases, self.settings = network, cases, settings
        self.cached = network.frozen and settings.cache_gigabytes > 0
        self._kept: dict[str, Tensor] = {}

    def __call__(self, case: str) -> Tensor:
        """Return the features of a case, on the network's device."""
        if case in self._kept:
            return self._kept[case]
        boxes = windows(self.cases.shape(case), self.settings.crop, self.settings.overlap)
        mean = torch.stack([self.network.features(self.cases.image(case, box)) for box in boxes]).mean(0)
        if self.cached:
            self._kept[case] = mean
        return mean

    @torch.no_grad()
    def logits(self, cases: Iterable[str]) -> Tensor:
        """Return the head's outputs for some cases, (cases,)."""
        return torch.cat([self.network.head(self(case)) for case in cases])[:, 0]
