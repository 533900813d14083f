"""Settings of augmentation."""

from dataclasses import dataclass

from gvsl.settings import check_ranges, check_settings

FRACTION = (0, 1)
"""The range of probabilities and fractions."""


@dataclass(frozen=True)
class SpatialSettings:
    """Ranges of the random spatial transform."""

    rate: float = 1.0
    """Probability that an example, such as a pair, is transformed; 0 disables spatial augmentation."""
    rotation: float = 20.0
    """Maximum rotation about each axis, in degrees."""
    scale: float = 0.25
    """Maximum change of scale along each axis: 0.25 means 0.75 to 1.25."""
    translation: float = 0.1
    """Maximum translation along each axis, as a fraction of the volume's side."""
    shear: float = 10.0
    """Maximum shear, in degrees."""
    elastic: float = 0.02
    """Standard deviation of the elastic field at its knots, as a fraction of the volume's side."""
    knots: int = 5
    """Knots of the elastic field along each axis."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        check_ranges(self, prefix, rate=FRACTION, rotation=(0, 180), scale=(0, 0.9), translation=(0, 0.5))
        check_ranges(self, prefix, shear=(0, 45), elastic=(0, 0.2))
        check_settings(self, prefix, knots=2)


@dataclass(frozen=True)
class AppearanceSettings:
    """Rates of the appearance transforms, as publicly known of GVSL's code; the paper does not state them."""

    shuffle_rate: float = 0.8
    """Probability of local shuffling."""
    intensity_rate: float = 0.9
    """Probability of the non-linear intensity curve."""
    inpaint_rate: float = 1.0
    """Probability of in-painting."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        check_ranges(self, prefix, **dict.fromkeys(vars(self), FRACTION))


@dataclass(frozen=True)
class AcquisitionSettings:
    """Rates and ranges of the changes of intensity; a range of 0 disables its change."""

    rate: float = 0.25
    """Probability of each change except the curve, drawn independently; 0 disables them all."""
    noise: float = 0.3
    """Maximum standard deviation of Gaussian noise, as a fraction of the image's own."""
    blur: float = 1.0
    """Maximum standard deviation of a Gaussian blur, in voxels."""
    brightness: float = 0.25
    """Maximum change of the factor that intensities are multiplied by: 0.25 means 0.75 to 1.25."""
    contrast: float = 0.25
    """Maximum change of the factor that differences from the mean are multiplied by, within the image's range."""
    resolution: float = 1.0
    """Maximum factor, minus 1, by which voxels become larger: 1 means down to half of the resolution."""
    gamma: float = 0.5
    """Maximum exponent of the gamma curve, minus 1: 0.5 means 1 / 1.5 to 1.5."""
    curve_rate: float = 0.5
    """Probability of a random monotone curve (Appendix C)."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        check_ranges(self, prefix, rate=FRACTION, curve_rate=FRACTION, brightness=FRACTION, contrast=FRACTION)
        check_settings(self, prefix, noise=0, blur=0, resolution=0, gamma=0)


VIEW_APPEARANCE = AppearanceSettings(shuffle_rate=0.2, intensity_rate=0.5, inpaint_rate=0.2)
VIEW_SPATIAL = SpatialSettings(rotation=10.0, scale=0.0, translation=0.0, shear=0.0, elastic=0.01)


@dataclass(frozen=True)
class ViewSettings:
    """Crops and augmentation of two views of a volume."""

    least_overlap: float = 0.5
    """Minimum overlap of the two boxes, as a fraction of the larger box's volume."""
    smallest: float = 0.8
    """Minimum side of a view's box, as a fraction of the volume's side; also the size of a view along each axis, as a
    fraction of the volume's voxels."""
    largest: float = 1.0
    """Maximum side of a view's box, as a fraction of the volume's side."""
    spatial: SpatialSettings = VIEW_SPATIAL
    """Spatial augmentation of each view about its centre; scale and position come from the box."""
    appearance: AppearanceSettings = VIEW_APPEARANCE
    """The transformation set T of GVSL (Appendix C), at our own rates."""

    def check(self, prefix: str) -> None:
        """Check the ranges of the augmentation; messages name the settings with a prefix."""
        self.spatial.check(f"{prefix}spatial.")
        self.appearance.check(f"{prefix}appearance.")
