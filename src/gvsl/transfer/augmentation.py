"""Random augmentation of a training example, its image and its classes together."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gvsl.augment import SpatialSettings, change_intensity, draw_intensity, draw_spatial
from gvsl.geometry import warp

DRAW_AUGMENT = 2
"""Random stream of a run's seed, distinct from those of `gvsl.transfer.cases`."""
SPATIAL = SpatialSettings(rate=0.8)
INTENSITY_RATE = 0.5

Augmentation = Literal["none", "spatial", "intensity", "both"]


def augment(
    image: Tensor, classes: Tensor | None, kind: Augmentation, seed: int, number: int
) -> tuple[Tensor, Tensor | None]:
    """Augment the `number`-th example of a run, as a function of seed and number alone.

    Args:
        image: (1, C, D, H, W), in [0, 1].
        classes: class indices, (1, 1, D, H, W), warped with the image; None if there are none.
        kind: `spatial` is the transform of pre-training (rotation to 20 degrees, scale 0.75 to 1.25, translation to
            a tenth of the side, shear to 10 degrees, elastic) at a rate of 0.8, with the border repeated;
            `intensity` is the monotone curve of Appendix C at a rate of 0.5; `both` applies one after the other.
        seed: of the run.
        number: of the example, from 0.
    """
    state = int(np.random.SeedSequence([seed, DRAW_AUGMENT, number]).generate_state(1)[0])
    generator = torch.Generator(image.device).manual_seed(state)
    if kind in ("spatial", "both"):
        dvf = draw_spatial(1, (image.shape[2], image.shape[3], image.shape[4]), SPATIAL, generator)
        image = warp(image, dvf, padding="border")
        if classes is not None:
            classes = warp(classes.float(), dvf, mode="nearest", padding="border").to(classes.dtype)
    if kind in ("intensity", "both"):
        image = change_intensity(image, draw_intensity(1, INTENSITY_RATE, generator))
    return image, classes
