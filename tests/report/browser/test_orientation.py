"""Radiological and neurological view: where the patient's right, front and top are on the screen."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gvsl.records.volumes import segmented_volume, write_arrays
from gvsl.report import write_report

from ..conftest import write_pretrain, write_transfer
from .opened import Opened, made

SHAPE = (38, 52, 34)
BRIGHT = (slice(26, None), slice(36, None), slice(24, None))
"""A block at the patient's right, front and top."""
PLANES = {"sagittal": "AP", "coronal": "RL", "axial": "RL"}
"""The letters at the left and right border in radiological view."""
SECTIONS = ("pairs", "restorations", "segmentations")


def seen_through(volume: np.ndarray, axis: int) -> np.ndarray:
    """A plane through the bright block."""
    return np.take(volume, BRIGHT[axis].start + 2, axis)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every picture and volume shows the block."""
    root = tmp_path_factory.mktemp("orientation")
    volume = np.zeros(SHAPE)
    volume[BRIGHT] = 1
    truth = np.zeros(SHAPE, np.uint8)
    truth[28:30, 38:40, 26:28] = 1
    folder = made(root / "transfer")
    entry = write_arrays(folder, "volumes/best.npz", segmented_volume(volume, truth, truth), "segmentation", "best")
    write_transfer(folder, 0, True, volumes=[entry])
    write_pretrain(root / "pretrain")
    for path in root.glob("*/pictures/*.npz"):
        arrays = dict(np.load(path))
        for name in ("image", "original", "restored", "damaged", "moving", "fixed", "warped", "affine"):
            if f"{name}_0" in arrays:
                arrays |= {f"{name}_{axis}": seen_through(volume, axis) for axis in range(3)}
        for name in [name for name in arrays if "label" in name or "truth" in name or "prediction" in name]:
            arrays[name] = np.zeros_like(arrays[name])
        np.savez(path, **arrays)
    return write_report([root], root / "report.html")


def brighter_side(part: Any) -> tuple[str, str]:
    """The half of an element, across and down, that is brighter on the screen."""
    grey = np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("L"), dtype=float)
    height, width = grey.shape
    left, right = grey[:, : width // 2].mean(), grey[:, width // 2 :].mean()
    top, bottom = grey[: height // 2].mean(), grey[height // 2 :].mean()
    return "left" if left > right else "right", "top" if top > bottom else "bottom"


def letters(cell: Any) -> str:
    """The letters at the left, right, top and bottom of a slice, by their place on the screen."""
    boxes = [(end.bounding_box(), end.inner_text()) for end in cell.locator(".end").all()]
    across, down = (sorted((box[side], text) for box, text in boxes) for side in ("x", "y"))
    return across[0][1] + across[-1][1] + down[0][1] + down[-1][1]


def cells(page: Any, name: str) -> list[tuple[str, Any, Any]]:
    """The planes of the first picture of a section or of the viewer: name, frame, and what is drawn."""
    if name == "viewer":
        frames = {plane: page.locator(f".viewer-frame:has(canvas[data-plane={plane}])") for plane in PLANES}
        return [(plane, frame, frame.locator("canvas")) for plane, frame in frames.items()]
    first = page.locator(f"#{name} .stage").first.locator(".cell")
    return [(plane, first.nth(place), first.nth(place).locator("svg")) for place, plane in enumerate(PLANES)]


def test_radiological_first_and_neurological_at_a_switch(show: Callable[..., Opened], page_file: Path) -> None:
    opened = show(page_file)
    page = opened.page
    page.wait_for_selector(".viewer canvas")
    for section, neurological in (("viewer", True), ("pairs", False), ("segmentations", True)):
        for name in ("viewer", *SECTIONS):
            assert page.locator(f"#{name} input.neurological").is_checked() is not neurological
        page.locator(f"#{section} input.neurological").click()
        for name in ("viewer", *SECTIONS):
            assert page.locator(f"#{name} input.neurological").is_checked() is neurological
            for plane, frame, drawn in cells(page, name):
                assert brighter_side(drawn) == ("right" if neurological else "left", "top"), (name, plane)
                across = PLANES[plane][::-1] if neurological else PLANES[plane]
                assert letters(frame) == across + ("AP" if plane == "axial" else "SI"), (name, plane)
    assert opened.complaints == []


def test_keys_and_clicks_go_where_they_are_seen_to_go(show: Callable[..., Opened], page_file: Path) -> None:
    page = show(page_file).page
    canvas = page.locator('canvas[data-plane="axial"]')
    canvas.wait_for()
    for neurological in (False, True):
        page.locator("#viewer input.neurological").set_checked(neurological)
        box = canvas.bounding_box()
        canvas.click(position={"x": 2.5 / SHAPE[0] * box["width"], "y": box["height"] / 2})
        x = 2 if neurological else SHAPE[0] - 3
        assert page.get_attribute(".viewer", "data-at").startswith(f"{x},")
        canvas.press("ArrowRight")
        assert page.get_attribute(".viewer", "data-at").startswith(f"{x + (1 if neurological else -1)},")
