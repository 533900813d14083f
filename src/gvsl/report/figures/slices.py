"""Slices of volumes as SVG: the pixels as an inlined PNG, outlines and grids as lines over it."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Literal

import contourpy
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]

NOT_FINITE = (213, 94, 0)
"""The colour of a pixel that is not a number, vermillion: it must not pass for black."""
GRID_LINES = 16
"""About how many lines a drawn grid has along its longer side."""


def window(images: Sequence[Array], lower: float = 0.5, upper: float = 99.5) -> tuple[float, float]:
    """One range of grey values for several images, by percentiles of all their finite pixels."""
    values = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, [lower, upper]))
    return (low, high) if high > low else (low, low + 1.0)


def image_layer(image: Array, limits: tuple[float, float], colours: Literal["gray", "magma"] = "gray") -> str:
    """The pixels of a slice (h, w) in array order, shown with both axes growing right and up."""
    low, high = limits
    turned = image.T[::-1]
    finite = np.isfinite(turned)
    scaled = np.clip((np.where(finite, turned, low) - low) / (high - low), 0.0, 1.0)
    if colours == "gray" and finite.all():
        pixels = Image.fromarray(np.round(255 * scaled).astype(np.uint8))
    else:
        rgb = np.round(255 * mpl.colormaps[colours](scaled)[..., :3]).astype(np.uint8)
        rgb[~finite] = NOT_FINITE
        pixels = Image.fromarray(rgb)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = image.shape
    size = f'width="{width}" height="{height}"'
    return f'<image {size} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'


def outline_layer(labels: Array, css_class: str) -> str:
    """The outlines of every structure of a label slice (h, w) as one path; nothing where there is none."""
    path = "".join(_outline(labels == value) for value in _values(labels))
    return f'<path class="outline {css_class}" d="{path}"/>' if path else ""


def fill_layer(labels: Array, colours: dict[int, str]) -> str:
    """The structures of a label slice (h, w), each filled with its colour."""
    parts = []
    for value in _values(labels):
        path = _outline(labels == value)
        parts.append(f'<path class="fill" style="--fill:{colours[int(value)]}" d="{path}"/>')
    return "".join(parts)


def grid_layer(positions: Array, moving_shape: tuple[int, ...]) -> str:
    """Lines of the fixed grid where they look in the moving image; positions (2, h, w) in its voxels."""
    _, width, height = positions.shape
    top = moving_shape[1] - 0.5
    every = max(2, round(max(width, height) / GRID_LINES))
    lines: list[Array] = [positions[:, place] for place in _evenly(width, every).tolist()]
    lines += [positions[:, :, place] for place in _evenly(height, every).tolist()]
    path = "".join(_polyline(line[0] + 0.5, top - line[1]) for line in lines)
    return f'<path class="grid" d="{path}"/>'


def slice_svg(layers: Sequence[str], shape: tuple[int, ...], frame: tuple[int, int], alt: str) -> str:
    """Lay layers of a slice (h, w) over each other, in the middle of a frame (width, height) in pixels."""
    width, height = shape
    left, top = (width - frame[0]) / 2, (height - frame[1]) / 2
    return (
        f'<svg class="slice" viewBox="{left:g} {top:g} {frame[0]} {frame[1]}" role="img" '
        f'aria-label="{escape(alt)}">{"".join(layers)}</svg>'
    )


def _values(labels: Array) -> list[float]:
    """The structures in a slice; 0 is the background."""
    return [float(value) for value in np.unique(labels[np.isfinite(labels)]) if value != 0]


def _outline(mask: NDArray[np.bool_]) -> str:
    """The closed outlines of a mask, halfway between its pixels and the others, as an SVG path."""
    height = mask.shape[1]
    padded = np.pad(mask, 1).astype(np.float64)  # an outline that meets the border closes along it
    lines = [np.asarray(line, dtype=np.float64) for line in contourpy.contour_generator(z=padded.T).lines(0.5)]
    return "".join(_polyline(line[:, 0] - 0.5, height + 0.5 - line[:, 1]) + "Z" for line in lines)


def _polyline(x: Array, y: Array) -> str:
    """Points as an SVG path; a point that is not finite breaks it."""
    path, pen = [], "M"
    for across, down in zip(x, y, strict=True):
        if np.isfinite(across) and np.isfinite(down):
            path.append(f"{pen}{across:.4g} {down:.4g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)


def _evenly(length: int, every: int) -> NDArray[np.int64]:
    """Places `every` apart, the two ends as far from the border as each other."""
    return np.arange((length - 1) % every // 2, length, every)
