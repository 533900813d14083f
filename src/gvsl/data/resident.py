"""Volumes of a small store that stay on the device, where they are cropped."""

import math

import torch
from torch import Tensor

from gvsl.data.crop import Centre, Shape, crop_boxes
from gvsl.errors import UserError
from gvsl.memory import available_memory
from gvsl.store import Store

SHARE = 0.5
"""Of the device's free memory, what volumes may take; the step needs the rest."""


class ResidentVolumes:
    """The whole volumes of a split on one device, each read when it is first needed."""

    def __init__(self, store: Store, split: str, device: torch.device) -> None:
        """Check that the volumes leave the device enough memory.

        Raises:
            UserError: they don't.
        """
        self.store, self.device = store, device
        self.held: dict[str, Tensor] = {}
        needed = 4 * store.channel_count * sum(math.prod(shape) for shape in store.shapes(split))
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
        if free is not None and needed > SHARE * free:
            raise UserError(
                f"data.on_device would keep {needed / 2**30:.1f} GiB of volumes on {device}, which has "
                f"{free / 2**30:.1f} GiB free and needs half of them to train: leave it out"
            )

    def crop(self, case: str, crop: Shape, centre: Centre) -> Tensor:
        """Return what `gvsl.data.read_crop` reads: (C, D, H, W), float32, in [0, 1], on the device."""
        if case not in self.held:
            self.held[case] = torch.from_numpy(self.store.channels(case)).to(self.device)
        volume = self.held[case]
        inside, placed = crop_boxes(self.store.cases[case].shape, crop, centre)
        fitted = volume.new_zeros((len(volume), *crop))
        fitted[:, *placed] = volume[:, *inside]
        return fitted
