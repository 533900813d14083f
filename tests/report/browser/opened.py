"""A page in the browser, and what the tests of it have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE = (24, 20, 16)
MOVING_SHAPE = (26, 22, 18)
BLOCK_SHAPE = (38, 52, 34)
BRIGHT = (slice(26, None), slice(36, None), slice(24, None))
"""A block at the patient's right, front and top."""
EVIL = "case_<script>alert(1)</script>&\"'</script>"


@dataclass
class Opened:
    """A page, and what went wrong in it."""

    page: Any
    complaints: list[str]


def field() -> NDArray[np.float32]:
    """A displacement that differs at every voxel, and is exact in 256ths."""
    x, y, z = np.indices(SHAPE)
    return np.stack([(x - 10) / 8 + 0.5, (y - 8) / -16 + 1.25, z / 32 - 0.25]).astype(np.float32)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def pixel(page: Any, role: str, plane: str, share_x: float, share_y: float) -> list[int]:
    """The colour of a canvas at a share of its sides."""
    found: list[int] = page.evaluate(
        """([role, plane, x, y]) => {
            const canvas = document.querySelector(`canvas[data-role="${role}"][data-plane="${plane}"]`);
            const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
            return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
        }""",
        [role, plane, share_x, share_y],
    )
    return found


def pixel_while(page: Any, state: dict[str, str], role: str, plane: str, share_x: float, share_y: float) -> list[int]:
    """Wait until the viewer has these data attributes, and return that colour before anything else can change them."""
    found: list[int] = page.wait_for_function(
        """([state, role, plane, x, y]) => {
            const { dataset } = document.querySelector(".viewer");
            if (Object.entries(state).some(([name, value]) => dataset[name] !== value)) return null;
            const canvas = document.querySelector(`canvas[data-role="${role}"][data-plane="${plane}"]`);
            const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
            return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
        }""",
        arg=[state, role, plane, share_x, share_y],
    ).json_value()
    return found


def choose(page: Any, run: str) -> None:
    page.select_option(".viewer select", label=run)
    page.wait_for_function("run => document.querySelector('.viewer').dataset.run === run", arg=run)
    page.wait_for_function("run => document.querySelector('.viewer select').value === run", arg=run)
    page.wait_for_selector(".viewer canvas")
