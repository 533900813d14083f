"""Where the lungs are in a chest CT, for the crop about them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR_HU = -400.0
"""What is darker is air or lung: half way from lung to soft tissue."""
SMALLEST_SHARE = 0.1
"""Of the largest hollow; what is smaller is gas in the bowel, or the windpipe."""


def lungs(coarse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The large hollows of a CT in HU, RAS+, that don't open to the left, right, front or back of the image.

    Lungs may be cut by the top and the bottom of the field of view; the air around the body reaches its sides.
    """
    air = ndimage.binary_opening(coarse < AIR_HU)
    parts, count = ndimage.label(air)
    if not count:
        return air
    sides = (parts[0], parts[-1], parts[:, 0], parts[:, -1])
    outside = np.unique(np.concatenate([side.ravel() for side in sides]))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    sizes[outside] = 0
    inside = (sizes > 0) & (sizes >= SMALLEST_SHARE * sizes.max())
    found: NDArray[np.bool_] = inside[parts]
    return found
