"""Draw slices of volumes as SVG: the pixels as an inlined PNG, outlines and grids as lines over it.

The layers have both array axes growing right and up; `slice_svg` mirrors them to radiological view.
"""

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
"""Colour of a pixel that is not finite: vermillion, to stand out from black."""
GRID_LINES = 16
"""Approximate number of grid lines along the longer side."""


def window(images: Sequence[Array], lower: float = 0.5, upper: float = 99.5) -> tuple[float, float]:
    """Return one range of grey values for several images, from percentiles of their finite pixels."""
    values = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, [lower, upper]))
    return (low, high) if high > low else (low, low + 1.0)


def image_layer(image: Array, limits: tuple[float, float], colours: Literal["gray", "magma"] = "gray") -> str:
    """Embed the pixels of a slice (h, w), with the first axis growing right and the second up."""
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
    """Outline every structure of a label slice (h, w) by one path; empty if there is none."""
    path = "".join(_outline(labels == value) for value in _values(labels))
    return f'<path class="outline {css_class}" d="{path}"/>' if path else ""


def fill_layer(labels: Array, colours: dict[int, str]) -> str:
    """Fill every structure of a label slice (h, w) with its colour."""
    parts = []
    for value in _values(labels):
        path = _outline(labels == value)
        parts.append(f'<path class="fill" style="--fill:{colours[int(value)]}" d="{path}"/>')
    return "".join(parts)


def grid_layer(positions: Array, moving_shape: tuple[int, ...]) -> str:
    """Draw lines of the fixed grid where they sample the moving image; positions (2, h, w) in its voxels."""
    _, width, height = positions.shape
    top = moving_shape[1] - 0.5
    every = max(2, round(max(width, height) / GRID_LINES))
    lines: list[Array] = [positions[:, place] for place in _evenly(width, every).tolist()]
    lines += [positions[:, :, place] for place in _evenly(height, every).tolist()]
    path = "".join(_polyline(line[0] + 0.5, top - line[1]) for line in lines)
    return f'<path class="grid" d="{path}"/>'


def slice_svg(
    layers: Sequence[str],
    shape: tuple[int, ...],
    frame: tuple[float, float],
    alt: str,
    pixel: tuple[float, float] = (1.0, 1.0),
) -> str:
    """Lay layers of a slice (h, w) over each other, centred in a frame.

    The slice is mirrored, so that the patient's right, or the front in a sagittal slice, is on the left.

    Args:
        layers: in pixels.
        shape: of the slice.
        frame: width and height, in the unit of `pixel`.
        alt: description for screen readers.
        pixel: width and height of a pixel.
    """
    across, up = pixel
    width, height = shape[0] * across, shape[1] * up
    left, top = (width - frame[0]) / 2, (height - frame[1]) / 2
    mirror = f"matrix({-across:g} 0 0 {up:g} {width:g} 0)"
    return (
        f'<svg class="slice" viewBox="{left:g} {top:g} {frame[0]:g} {frame[1]:g}" role="img" '
        f'aria-label="{escape(alt)}"><g transform="{mirror}">{"".join(layers)}</g></svg>'
    )


def _values(labels: Array) -> list[float]:
    """Return the labels in a slice, without the background 0."""
    return [float(value) for value in np.unique(labels[np.isfinite(labels)]) if value != 0]


def _outline(mask: NDArray[np.bool_]) -> str:
    """Return the closed outlines of a mask as an SVG path, halfway between its pixels and the others."""
    height = mask.shape[1]
    padded = np.pad(mask, 1).astype(np.float64)  # an outline that meets the border closes along it
    lines = [np.asarray(line, dtype=np.float64) for line in contourpy.contour_generator(z=padded.T).lines(0.5)]
    return "".join(_polyline(line[:, 0] - 0.5, height + 0.5 - line[:, 1]) + "Z" for line in lines)


def _polyline(x: Array, y: Array) -> str:
    """Return points as an SVG path, broken where a point is not finite."""
    path, pen = [], "M"
    for across, down in zip(x, y, strict=True):
        if np.isfinite(across) and np.isfinite(down):
            path.append(f"{pen}{across:.4g} {down:.4g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)


def _evenly(length: int, every: int) -> NDArray[np.int64]:
    """Return indices `every` apart, with equal margins at both ends."""
    return np.arange((length - 1) % every // 2, length, every)
