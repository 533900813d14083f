"""The page of a registered pair: figures, the viewer, slices, and how to apply the transform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.records import utc_now
from gvsl.records.volumes import FIELD_STEPS
from gvsl.report.figures.chart import MUTED, SERIES
from gvsl.report.figures.slices import grid_layer
from gvsl.report.numbers import MINUS, duration, number, percent
from gvsl.report.page import Html, element, page, section, table
from gvsl.report.run_arrays import AXES, Spacing, Volume
from gvsl.report.sections.overview import stat
from gvsl.report.sections.pictures import Stage, stage_row
from gvsl.report.sections.viewer import Shown, view

GREY = 255.0
FILES = (
    ("warped.nii.gz", "the moving image on the fixed image's grid"),
    ("field.h5", "the transform, for SimpleITK, ANTs and Slicer"),
    ("field.nii.gz", "the same as NIfTI vectors, in mm along LPS"),
    ("affine.tfm", "its affine part alone"),
    ("jacobian.nii.gz", "how much a voxel grows on its way into the moving image"),
    ("labels.nii.gz", "the carried labels, if there are any"),
    ("registered.json", "all figures of this page, inputs and settings"),
)
SIMPLEITK = """import SimpleITK as sitk
moving, fixed = sitk.ReadImage("MOVING", sitk.sitkFloat32), sitk.ReadImage("FIXED")
warped = sitk.Resample(moving, fixed, sitk.ReadTransform("field.h5"), sitk.sitkLinear, {outside:g})"""
ANTS = "antsApplyTransforms -d 3 -i MOVING -r FIXED -t field.nii.gz -f {outside:g} -o warped_by_ants.nii.gz -v"


def registration_page(record: Mapping[str, Any], volumes: Mapping[str, NDArray[Any]], spacing: Spacing) -> str:
    """Return the page of a registered pair as one HTML file that opens without a network.

    Args:
        record: the content of registered.json.
        volumes: from `gvsl.records.volumes.matched_volumes`.
        spacing: of their voxels, in mm.
    """
    names = {name: Path(path).name for name, path in record["inputs"].items()}
    title = f"{names['moving']} onto {names['fixed']}"
    arrays = {name: array for name, array in volumes.items() if array.ndim > 0}
    shown = Shown(title, Volume("pair", title, arrays, spacing))
    sections = [_slices(arrays, spacing), *_structures(record), _use(record, names)]
    scored = [("dice", "DSC")] if record["structures"] else []
    contents = [("summary", "Summary"), ("viewer", "Volumes"), ("slices", "Slices"), *scored, ("use", "Files")]
    return page(f"gvsl register: {title}", contents, _top(record, title), _summary(record), view([shown]), *sections)


def _top(record: Mapping[str, Any], title: str) -> Html:
    eyebrow = f"gvsl register {record['gvsl']} · {utc_now()[:10]} · {_settings(record)}"
    return element("header", element("p", eyebrow, css="eyebrow"), element("h1", title))


def _settings(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in record["identity"].items() if name != "weights")


def _summary(record: Mapping[str, Any]) -> Html:
    stats = [
        stat(number(record["ncc_after"]), "local NCC", [f"{number(record['ncc_before'])} before"], SERIES[0]),
        stat(percent(record["folded"]), "of voxels folded", ["at most 1 % is acceptable"], MUTED),
        stat(duration(sum(record["seconds"].values())), "in all", [_laps(record["seconds"])], MUTED),
    ]
    if record["dice"] is not None:
        before = [f"{number(record['dice_before'])} before"]
        stats.insert(0, stat(number(record["dice"]), "label overlap (DSC)", before, SERIES[2]))
    notes = [element("p", note, css="quiet") for note in record["notes"]]
    lead = (
        "DSC is the Dice overlap of carried and true labels, and NCC the mean local correlation of the two images: "
        "both from 0 to 1, higher is more alike. Before the match the images lie centre on centre."
    )
    return section("summary", "Summary", lead, element("div", element("div", *stats, css="stats"), *notes, css="card"))


def _laps(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())


def _slices(arrays: Mapping[str, NDArray[Any]], spacing: Spacing) -> Html:
    """Return slices through the middle of the fixed image, for print and browsers without scripts."""
    moving, fixed, warped = (arrays[name].astype(np.float64) for name in ("moving", "fixed", "warped"))
    centre = _centre(arrays)
    positions = arrays["field"] / FIELD_STEPS + np.indices(fixed.shape)
    looked = [round(float(positions[(axis, *centre)])) for axis in AXES]
    own = [min(max(place, 0), side - 1) for place, side in zip(looked, moving.shape, strict=True)]
    slices, moved = (_planes(fixed, centre), _planes(moving, own))
    grids = []
    for axis in AXES:
        in_plane = [other for other in AXES if other != axis]
        lines = np.stack([positions[other].take(centre[axis], axis) for other in in_plane])
        grids.append(grid_layer(lines, moved[axis].shape))
    stages = [
        Stage("moving", moved, (0.0, GREY), "where the field looks"),
        Stage("warped", _planes(warped, centre), (0.0, GREY), "after the match"),
        Stage("fixed", slices, (0.0, GREY), "the target"),
        Stage("grid", moved, (0.0, GREY), "on the moving image", grids),
        Stage(f"|warped {MINUS} fixed|", _planes(np.abs(warped - fixed), centre), (0.0, GREY), "", colours="magma"),
    ]
    row = element("div", stage_row(stages, "the pair", spacing), css="card")
    return section("slices", "Slices", "Through the labels, or through the middle of the fixed image.", row)


def _centre(arrays: Mapping[str, NDArray[Any]]) -> list[int]:
    labels = arrays.get("truth", arrays.get("carried"))
    if labels is None or not labels.any():
        return [side // 2 for side in arrays["fixed"].shape]
    return [round(float(places.mean())) for places in np.nonzero(labels)]


def _planes(array: NDArray[np.float64], at: Sequence[int]) -> list[NDArray[np.float64]]:
    return [np.asarray(array.take(at[axis], axis)) for axis in AXES]


def _structures(record: Mapping[str, Any]) -> list[Html]:
    """Return the DSC of each structure as a table; nothing without a truth."""
    found = record["structures"]
    if not found:
        return []
    rows = [[f"label {value}", number(before), number(after)] for value, (before, after) in found.items()]
    caption = "DSC of each label value. One that is in neither label map counts 1."
    return [section("dice", "DSC", "", table(["label", "before", "after"], rows, caption))]


def _use(record: Mapping[str, Any], names: Mapping[str, str]) -> Html:
    shown = [(name, what) for name, what in FILES if name != "labels.nii.gz" or "moving_labels" in names]
    listed = [element(tag, word) for row in shown for tag, word in zip(("dt", "dd"), row, strict=True)]
    lead = "The transform takes a point of the fixed image to the point of the moving image that shows the same."
    codes = [
        element("pre", SIMPLEITK.format(outside=record["outside"])),
        element("pre", ANTS.format(outside=record["outside"])),
    ]
    blocks = [element("dl", *listed, css="facts card"), *(element("div", code) for code in codes)]
    return section("use", "Files", lead, *blocks)
