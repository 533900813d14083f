"""Slices: pixels, outlines and grids lie where they should; the layers grow right and up, the slice is mirrored."""

import base64
import io
import re

import numpy as np
from PIL import Image

from gvsl.report.figures.slices import (
    NOT_FINITE,
    fill_layer,
    grid_layer,
    image_layer,
    outline_layer,
    slice_svg,
    window,
)


def pixels(layer: str) -> np.ndarray:
    """The PNG of an image layer."""
    found = re.search(r"base64,([^\"]+)", layer)
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def points(layer: str) -> np.ndarray:
    """All points of a layer's path, (N, 2), in SVG coordinates: y grows down."""
    found = re.search(r' d="([^"]+)"', layer)
    assert found
    return np.array([[float(value) for value in pair.split()] for pair in re.findall(r"[-\d.e]+ [-\d.e]+", found[1])])


def test_pixels_are_turned_upright() -> None:
    image = np.zeros((5, 3))
    image[4, 0] = 1.0  # far right, bottom
    shown = pixels(image_layer(image, (0.0, 1.0)))
    assert shown.shape == (3, 5)
    assert shown[2, 4] == 255
    assert shown.sum() == 255


def test_values_beyond_the_window_are_clipped() -> None:
    shown = pixels(image_layer(np.array([[-1.0, 0.5], [2.0, 1.0]]), (0.0, 1.0)))
    np.testing.assert_array_equal(shown, [[128, 255], [0, 255]])


def test_a_pixel_that_is_no_number_stands_out() -> None:
    image = np.zeros((4, 4))
    image[0, 3] = np.nan  # far left, top
    assert tuple(pixels(image_layer(image, (0.0, 1.0)))[0, 0]) == NOT_FINITE


def test_an_outline_surrounds_its_pixels_and_closes_at_the_border() -> None:
    labels = np.zeros((7, 5))
    labels[2, 1] = 3  # its centre is at x 2.5, y 5 - 1.5 in SVG coordinates
    found = points(outline_layer(labels, "truth"))
    np.testing.assert_allclose(found.mean(axis=0)[0], 2.5, atol=0.3)
    np.testing.assert_allclose([found.min(axis=0), found.max(axis=0)], [[2.0, 3.0], [3.0, 4.0]])
    border = points(outline_layer(np.ones((7, 5)), "truth"))
    np.testing.assert_allclose([border.min(axis=0), border.max(axis=0)], [[0, 0], [7, 5]])


def test_structures_are_outlined_and_filled_one_by_one() -> None:
    labels = np.zeros((8, 4))
    labels[1:3, 1:3], labels[5:7, 1:3] = 1, 2
    assert outline_layer(labels, "truth").count("Z") == 2
    assert re.findall(r"--fill:(\w+)", fill_layer(labels, {1: "red", 2: "blue"})) == ["red", "blue"]
    assert outline_layer(np.zeros((3, 3)), "truth") == "" == fill_layer(np.zeros((3, 3)), {})


def test_an_identity_grid_is_straight_and_through_voxel_centres() -> None:
    positions = np.stack(np.meshgrid(np.arange(9.0), np.arange(6.0), indexing="ij"))
    layer = grid_layer(positions, (9, 6))
    found = points(layer)
    np.testing.assert_array_equal(np.unique(found[:, 0]), np.arange(9) + 0.5)
    np.testing.assert_array_equal(np.unique(found[:, 1]), np.arange(6) + 0.5)
    assert layer.count("M") == 5 + 3
    moved = points(grid_layer(positions + np.array([2.0, 1.0]).reshape(2, 1, 1), (9, 6)))
    np.testing.assert_allclose(moved - found, np.tile([2.0, -1.0], (len(found), 1)))  # right and up


def test_a_grid_with_a_gap_is_broken_there() -> None:
    positions = np.stack(np.meshgrid(np.arange(9.0), np.arange(6.0), indexing="ij"))
    positions[0, 2, 2] = np.nan
    layer = grid_layer(positions, (9, 6))
    assert "nan" not in layer
    assert layer.count("M") > 5 + 3


def test_one_window_serves_several_images() -> None:
    assert window([np.zeros((3, 3)), np.ones((3, 3))]) == (0.0, 1.0)
    assert window([np.full((3, 3), 2.0)]) == (2.0, 3.0)
    assert window([np.full((3, 3), np.nan)]) == (0.0, 1.0)


def test_a_slice_sits_in_the_middle_of_its_frame() -> None:
    assert 'viewBox="-2 -0.5 8 4"' in slice_svg(["<g/>"], (4, 3), (8, 4), "<alt>")
    assert "matrix(-1 0 0 1 4 0)" in slice_svg([], (4, 3), (8, 4), "")
    assert "&lt;alt&gt;" in slice_svg([], (4, 3), (8, 4), "<alt>")


def test_pixels_are_as_long_as_voxels() -> None:
    """Four pixels of 1 mm and three of 2 mm lie in the middle of a frame of 8 x 8 mm."""
    svg = slice_svg(["<g/>"], (4, 3), (8, 8), "", (1.0, 2.0))
    assert 'viewBox="-2 -1 8 8"' in svg
    assert "matrix(-1 0 0 2 4 0)" in svg
