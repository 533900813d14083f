"""Radiological and neurological view: where the patient's right, front and top are on the screen."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .opened import BLOCK_SHAPE, Opened

PLANES = {"sagittal": "AP", "coronal": "RL", "axial": "RL"}
"""The letters at the left and right border in radiological view."""
SECTIONS = ("pairs", "restorations", "segmentations")


def brighter_sides(row: Any, parts: list[Any]) -> list[tuple[str, str]]:
    """The half of each part of an element, across and down, that is brighter on the screen; of one screenshot."""
    shown = np.asarray(Image.open(io.BytesIO(row.screenshot())).convert("L"), dtype=float)
    around, sides = row.bounding_box(), []
    for box in (part.bounding_box() for part in parts):
        left, top = round(box["x"] - around["x"]), round(box["y"] - around["y"])
        grey = shown[top : top + round(box["height"]), left : left + round(box["width"])]
        height, width = grey.shape
        across = grey[:, : width // 2].mean() > grey[:, width // 2 :].mean()
        down = grey[: height // 2].mean() > grey[height // 2 :].mean()
        sides.append(("left" if across else "right", "top" if down else "bottom"))
    return sides


def letters(cell: Any) -> str:
    """The letters at the left, right, top and bottom of a slice, by their place on the screen."""
    boxes = [(end.bounding_box(), end.inner_text()) for end in cell.locator(".end").all()]
    across, down = (sorted((box[side], text) for box, text in boxes) for side in ("x", "y"))
    return across[0][1] + across[-1][1] + down[0][1] + down[-1][1]


def cells(page: Any, name: str) -> tuple[Any, list[Any], list[Any]]:
    """The planes of the first picture of a section or of the viewer, a row: it, their frames, and what is drawn."""
    if name == "viewer":
        row = page.locator("#viewer .viewer-row").first
        frames = [row.locator(f".viewer-frame:has(canvas[data-plane={plane}])") for plane in PLANES]
        return row, frames, [frame.locator("canvas") for frame in frames]
    row = page.locator(f"#{name} .stage").first
    frames = [row.locator(".cell").nth(place) for place in range(len(PLANES))]
    return row, frames, [frame.locator("svg") for frame in frames]


def test_radiological_first_and_neurological_at_a_switch(show: Callable[..., Opened], pictured: Path) -> None:
    opened = show(pictured)
    page = opened.page
    page.wait_for_selector(".viewer canvas")
    for section, neurological in (("viewer", True), ("pairs", False), ("segmentations", True)):
        for name in ("viewer", *SECTIONS):
            assert page.locator(f"#{name} input.neurological").is_checked() is not neurological
        page.locator(f"#{section} input.neurological").click()
        for name in ("viewer", *SECTIONS):
            assert page.locator(f"#{name} input.neurological").is_checked() is neurological
            row, frames, drawn = cells(page, name)
            assert brighter_sides(row, drawn) == [("right" if neurological else "left", "top")] * 3, name
            for plane, frame in zip(PLANES, frames, strict=True):
                across = PLANES[plane][::-1] if neurological else PLANES[plane]
                assert letters(frame) == across + ("AP" if plane == "axial" else "SI"), (name, plane)
    assert opened.complaints == []


def test_keys_and_clicks_go_where_they_are_seen_to_go(show: Callable[..., Opened], pictured: Path) -> None:
    page = show(pictured).page
    canvas = page.locator('canvas[data-plane="axial"]')
    canvas.wait_for()
    for neurological in (False, True):
        page.locator("#viewer input.neurological").set_checked(neurological)
        box = canvas.bounding_box()
        canvas.click(position={"x": 2.5 / BLOCK_SHAPE[0] * box["width"], "y": box["height"] / 2})
        x = 2 if neurological else BLOCK_SHAPE[0] - 3
        assert page.get_attribute(".viewer", "data-at").startswith(f"{x},")
        canvas.press("ArrowRight")
        assert page.get_attribute(".viewer", "data-at").startswith(f"{x + (1 if neurological else -1)},")
