"""Where the lungs are in a chest CT, by the network of the package lungmask, which is optional.

The package brings torch, so it is imported where it is used and nowhere else. It downloads its weights by itself where
it doesn't find them; here it is given the file, so that it never does.
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

WEIGHTS_NAME = "unet_r231-d5d2fc3d.pth"
"""Of its usual model, R231, under the name by which torch.hub keeps them."""
OTHERWISE = "or give --lungs threshold"


def require_lungmask(contract: Preprocessing) -> None:
    """Refuse a contract that asks for lungmask where the package or its weights aren't there.

    Raises:
        UserError: one of them isn't.
    """
    if contract.crop == "lungs" and contract.lungs == "lungmask":
        find_weights()


def find_weights() -> Path:
    """The file of lungmask's weights.

    Raises:
        UserError: it isn't there, or the package isn't.
    """
    if find_spec("lungmask") is None:
        raise UserError(f"lungs are to be found by lungmask, which isn't installed: pip install lungmask, {OTHERWISE}")
    path = _downloaded() / WEIGHTS_NAME
    if not path.is_file():
        fetch = 'python -c "import lungmask; lungmask.LMInferer()"'
        raise UserError(f"lungmask has no weights at {path}, and gvsl downloads nothing: `{fetch}` does, {OTHERWISE}")
    return path


def lungs_by_network(image: Volume) -> NDArray[np.bool_]:
    """The lungs of a CT in HU, RAS+, on its own grid; each call loads the network anew, a small part of its work.

    Raises:
        UserError: the package or its weights aren't there, or don't fit each other.
    """
    weights = find_weights()
    from lungmask import LMInferer

    logging.getLogger("lungmask").setLevel(logging.WARNING)  # it prints which device it takes
    try:
        network = LMInferer(modelpath=str(weights), tqdm_disable=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise UserError(f"lungmask can't use {weights} ({error}); remove it and fetch it again, {OTHERWISE}") from None
    # It wants slices from below, each from the front to the back and from right to left.
    slices = np.ascontiguousarray(image.array[::-1, ::-1].transpose(2, 1, 0))
    found: NDArray[np.bool_] = np.asarray(network.apply(slices)).transpose(2, 1, 0)[::-1, ::-1] > 0
    return found


def _downloaded() -> Path:
    """Where torch.hub keeps what it downloaded, without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return home / "hub" / "checkpoints"
