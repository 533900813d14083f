"""Lung segmentation of chest CT for the crop: by threshold, or by the network of the optional package lungmask.

lungmask imports torch, so it is imported where it is used only. It downloads missing weights by itself, so it is given
the file here.
"""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.preprocessing.spec import Preprocessing

AIR_HU = -400.0
"""Upper limit for air and lung: half way from lung to soft tissue."""
MIN_FRACTION = 0.1
"""Minimum size of a cavity as a fraction of the largest; smaller ones are bowel gas, or the trachea."""
WEIGHTS_NAME = "unet_r231-d5d2fc3d.pth"
"""Weights of lungmask's default model, R231, as torch.hub names them."""
OTHERWISE = "or give --lungs threshold"


def lungs_by_threshold(coarse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Segment the large cavities of a CT in HU, RAS+, that don't touch the left, right, front or back of the image.

    The field of view may cut the lungs at the top and bottom; the air around the body reaches its sides.
    """
    from scipy import ndimage

    air = ndimage.binary_opening(coarse < AIR_HU)
    parts, count = ndimage.label(air)
    if not count:
        return air
    sides = (parts[0], parts[-1], parts[:, 0], parts[:, -1])
    outside = np.unique(np.concatenate([side.ravel() for side in sides]))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    sizes[outside] = 0
    inside = (sizes > 0) & (sizes >= MIN_FRACTION * sizes.max())
    found: NDArray[np.bool_] = inside[parts]
    return found


def lungs_by_network(image: Volume) -> NDArray[np.bool_]:
    """Segment the lungs of a CT in HU, RAS+, on its own grid; loading the network each time is a small part of it.

    Raises:
        UserError: the package or its weights are missing, or don't match.
    """
    weights = find_weights()
    from lungmask import LMInferer

    logging.getLogger("lungmask").setLevel(logging.WARNING)  # it logs its device
    try:
        network = LMInferer(modelpath=str(weights), tqdm_disable=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise UserError(f"lungmask can't use {weights} ({error}); remove it and fetch it again, {OTHERWISE}") from None
    # It expects slices from feet to head, rows from front to back and columns from right to left.
    slices = np.ascontiguousarray(image.array[::-1, ::-1].transpose(2, 1, 0))
    found: NDArray[np.bool_] = np.asarray(network.apply(slices)).transpose(2, 1, 0)[::-1, ::-1] > 0
    return found


def require_lungmask(spec: Preprocessing) -> None:
    """Check that lungmask and its weights are there if the preprocessing needs them.

    Raises:
        UserError: one of them is missing.
    """
    if spec.crop == "lungs" and spec.lungs == "lungmask":
        find_weights()


def find_weights() -> Path:
    """Find lungmask's weights in torch.hub's cache, without importing torch.

    Raises:
        UserError: the package or its weights are missing.
    """
    if find_spec("lungmask") is None:
        raise UserError(f"the crop needs lungmask, which isn't installed: pip install lungmask, {OTHERWISE}")
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    path = home / "hub" / "checkpoints" / WEIGHTS_NAME
    if not path.is_file():
        fetch = 'python -c "import lungmask; lungmask.LMInferer()"'
        raise UserError(
            f"lungmask has no weights at {path}, and gvsl downloads nothing: fetch them with `{fetch}`, {OTHERWISE}"
        )
    return path
