"""Random augmentation of a training example, its image and its classes together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment import (
    AcquisitionSettings,
    SpatialSettings,
    change_acquisition,
    draw_acquisition,
    draw_mirror,
    draw_spatial,
    flip,
)
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.geometry import inside, spatial_shape, warp
from gvsl.settings import check_settings

DRAW_AUGMENT = 2
"""Random stream of a run's seed, distinct from those of `gvsl.transfer.cases`."""
SPATIAL = SpatialSettings(rate=0.8)
INTENSITY = AcquisitionSettings()
AXES = 3


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of the training examples; without effect on validation, testing and prediction.

    Raises:
        UserError: a value is out of its range.
    """

    rate: float | None = None
    """Fraction of the examples that are augmented; if not given 1, but 0 for mode `linear`, whose features are computed
    once. 0 or `none` switches augmentation off."""
    spatial: SpatialSettings = SPATIAL
    """Rotation, scaling, translation, shear and elastic deformation of image and label map together."""
    intensity: AcquisitionSettings = INTENSITY
    """Changes of the image alone, as between scanners."""
    mirror: tuple[int, ...] = ()
    """Axes of the store's volumes, of 0, 1 and 2, along each of which half of the examples are mirrored: where the task
    tells no sides apart, such as 0 (left and right) for a whole brain."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_settings(self, "augment.", rate=0)
        check_settings(self.spatial, "augment.spatial.", knots=2, **dict.fromkeys(_RANGES, 0))
        ranges = (name for name in vars(self.intensity) if name not in ("rate", "curve_rate"))
        check_settings(self.intensity, "augment.intensity.", **dict.fromkeys(ranges, 0))
        for name, limit, value in (
            ("rate", 1, self.rate or 0),
            *((f"spatial.{name}", limit, getattr(self.spatial, name)) for name, limit in _RANGES.items()),
            *((f"intensity.{name}", 1, getattr(self.intensity, name)) for name in ("rate", "curve_rate", *_FACTORS)),
        ):
            if not 0 <= value <= limit:
                raise UserError(f"augment.{name} is {value}: give 0 to {limit}")
        if not set(self.mirror) <= set(range(AXES)):
            raise UserError(f"augment.mirror is {list(self.mirror)}: give axes, such as [0] or [0, 1, 2]")


_RANGES = {"rate": 1, "rotation": 180, "scale": 0.9, "translation": 0.5, "shear": 45, "elastic": 0.2}
_FACTORS = ("brightness", "contrast")


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
    changes = draw_acquisition(1, shape, settings.intensity, generator)
    if dvf.any():
        image = warp(image, dvf, padding="border")
        classes = None if classes is None else warp_classes(classes, dvf)
    if mirrored.any():
        image = flip(image, mirrored)
        classes = None if classes is None else flip(classes, mirrored)
    return change_acquisition(image, changes), classes


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
