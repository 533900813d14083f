"""Random augmentation of a training example, its image and its classes together."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment import (
    change_acquisition,
    draw_acquisition,
    draw_mirror,
    draw_spatial,
    flip,
)
from gvsl.cases import IGNORED
from gvsl.geometry import inside, spatial_shape, warp
from gvsl.settings.transfer import SPATIAL as SPATIAL
from gvsl.settings.transfer import AugmentSettings as AugmentSettings

DRAW_AUGMENT = 2
"""Random stream of a run's seed, distinct from those of `gvsl.transfer.cases`."""


def augment(
    image: Tensor, classes: Tensor | None, settings: AugmentSettings, seed: int, number: int
) -> tuple[Tensor, Tensor | None]:
    """Augment the `number`-th example of a run, as a function of seed and number alone.

    Args:
        image: (1, C, D, H, W), in [0, 1].
        classes: class indices, (1, 1, D, H, W), or weighted votes of the classes, (1, classes, D, H, W), of a floating
            type, moved with the image; None if there are none.
        settings: rates and ranges.
        seed: of the run.
        number: of the example, from 0.

    Returns:
        The image, its border repeated where it was sampled outside, and the classes, `IGNORED` there; votes are 0.
    """
    state = int(np.random.SeedSequence([seed, DRAW_AUGMENT, number]).generate_state(1)[0])
    generator = torch.Generator(image.device).manual_seed(state)
    rate = 1.0 if settings.rate is None else settings.rate
    if float(torch.rand(1, generator=generator, device=generator.device)) >= rate:
        return image, classes
    shape = spatial_shape(image)
    dvf = draw_spatial(1, shape, settings.spatial, generator)
    mirrored = draw_mirror(1, settings.mirror, generator)
    changes = draw_acquisition(image.shape[1], shape, settings.intensity, generator)
    if dvf.any():
        image = warp(image, dvf, padding="border")
        classes = None if classes is None else warp_classes(classes, dvf)
    if mirrored.any():
        image = flip(image, mirrored)
        classes = None if classes is None else flip(classes, mirrored)
    # Each channel is changed by itself, as by scans of their own.
    return change_acquisition(image.transpose(0, 1), changes).transpose(0, 1), classes


def warp_classes(classes: Tensor, dvf: Tensor) -> Tensor:
    """Warp class indices, (1, 1, D, H, W): the class with the largest share at each point, `IGNORED` outside.

    Each class is interpolated by itself, which keeps surfaces smoother than the nearest voxel would. Weighted votes,
    (1, classes, D, H, W), are interpolated, and 0 outside.
    """
    if classes.is_floating_point():
        return warp(classes, dvf, exact=False) * inside(dvf)
    shares = functional.one_hot(classes[:, 0] - IGNORED).movedim(-1, 1).float()
    moved = warp(shares, dvf, padding="border", exact=False).argmax(1, keepdim=True) + IGNORED
    return moved.where(inside(dvf), IGNORED)
