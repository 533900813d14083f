"""The phantom cohort: synthetic subjects, each with its own shape, contrast, noise and field of view.

A subject is a canonical anatomy, evaluated at points transformed by a diffeomorphism and an affine map. So edges are
sharp at any shape, and the correspondence of any two subjects is known exactly.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gvsl.datasets.candi import STRUCTURES
from gvsl.errors import UserError
from gvsl.files import whole_folder, write_text
from gvsl.io import Volume, format_sizes, write_nifti
from gvsl.phantom.brain import brain_appearance, brain_layers
from gvsl.phantom.coronaries import CORONARY_LABELS, coronary_layers
from gvsl.phantom.fields import Shape, displacement, sample
from gvsl.phantom.heart import CLEAR, HEART_LABELS, Array, Layer, Vector, as_column, layers
from gvsl.phantom.lungs import BLOOD, LESION_LABELS, LESION_TISSUES, lung_layers
from gvsl.phantom.scanner import ct, mr
from gvsl.progress import Advance
from gvsl.text import one_of

MIN_SIDE = 16
"""Minimum number of voxels; below, structures are thinner than a voxel."""

ROTATION_DEGREES = 10.0
LOG_ZOOM = (0.10, 0.07)
"""Range of the logarithm of the zoom, common to all axes and of each in addition."""
SHEAR = 0.08
SHIFT_MM = 7.0

MAX_VARIATION = 0.3
"""Maximum variation of the field of view; beyond, structures are cut off in most subjects."""
VIEW_LOG_EXTENT = 2.0
"""Maximum logarithm of the extent, relative to the anatomy's own, per unit of variation; it is never smaller."""
VIEW_DEGREES = 100.0
"""Maximum rotation about each axis per unit of variation."""

TISSUES: dict[str, tuple[float, float]] = {
    "air": (-1000, 5),
    "lung": (-840, 30),
    "lung vessel": (20, 50),
    "fat": (-95, 12),
    "muscle": (55, 10),
    "thin wall": (85, 12),
    "cartilage": (130, 25),
    "cortex": (620, 90),
    "marrow": (210, 50),
    "disc": (85, 12),
    "canal": (25, 10),
    "liver": (95, 20),
    "spleen": (115, 20),
    "myocardium": (105, 14),
    "papillary": (120, 14),
}
"""Mean and standard deviation over subjects in Hounsfield units, except for contrast-filled blood."""


@dataclass(frozen=True)
class Anatomy:
    """The parts that differ between tasks."""

    layers: Callable[[Array, Generator, bool], Iterator[Layer]]
    """Paints points of the canonical anatomy, with a random generator, and True for a subject of class 1."""
    labels: dict[int, str]
    """Structure's name by label value."""
    appearance: Callable[[Generator], Mapping[str, float]]
    """Draws the intensity of every tissue in `layers`, and of air."""
    centre: Vector
    """Mean centre of the field of view."""
    field_of_view: float
    """Mean extent of the shortest side, in millimetres of the adult body."""
    scan: Callable[[Array, Generator, Generator], Array] = ct
    """Simulates the scan of an image of intensities, with the generators of look and grain."""
    preset: str = "ct"
    """Preset for `gvsl prepare`."""
    classes: bool = False
    """True for classification."""


def subject(
    seed: int, index: int, shape: Shape = (64, 64, 64), task: str = "shc", view_variation: float = 0.0
) -> tuple[Array, NDArray[np.uint8]]:
    """Return one subject as a pure function of the arguments; another shape shows the same body at another scale.

    Args:
        seed: of the cohort, 0 or more.
        index: of the subject, 0 or more.
        shape: (D, H, W), 16 voxels or more each.
        task: a name in ANATOMIES.
        view_variation: maximum offset of the anatomy along each axis, from 0 to 0.3 of the shortest side; the extent
            of the field of view and the pose vary in proportion.

    Returns:
        The image (D, H, W), float32 in RAS+ axes, CT in Hounsfield units from -1024 to 3071 or MR in arbitrary units
        from 0, and its label map (D, H, W). The noise differs between shapes.

    Raises:
        UserError: an argument is out of its range, or there is no such task.
    """
    check(seed, index, shape, view_variation)
    anatomy = ANATOMIES[one_of(ANATOMIES, "phantom for task", task)]
    _, look, grain, findings, _ = streams(seed, index)
    points, voxel_mm = anatomical_points(seed, index, shape, task, view_variation)
    values = anatomy.appearance(look)
    image = np.full(shape, np.float32(values["air"]))
    label = np.zeros(shape, np.uint8)
    for layer in anatomy.layers(points, findings, bool(target_of(seed, index))):
        cover = np.clip(0.5 - layer.distance / np.float32(voxel_mm), 0, 1)  # partial volume of an edge
        image += cover * (np.float32(values[layer.tissue]) - image)
        if layer.label:
            label[layer.distance < 0] = 0 if layer.label == CLEAR else layer.label
    return anatomy.scan(image, look, grain), label


def target_of(seed: int, index: int) -> int:
    """Return the class of a subject, alternating between 0 and 1; for classification tasks."""
    return (seed + index) % 2


def write_phantom(
    out: Path,
    count: int = 60,
    seed: int = 0,
    shape: Shape = (64, 64, 64),
    *,
    task: str = "shc",
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    view_variation: float = 0.0,
    progress: Advance | None = None,
) -> None:
    """Write a cohort in the layout of the dataset `folder`: images/, labels/, splits.json, labels.json, classes.json.

    The volumes are NIfTI of 1 mm, images rounded to whole numbers. The last `test` subjects (by default a quarter) are
    the test split, the `val` before them (an eighth) the validation split, all others pretrain; the first `train` of
    these (a quarter of all) are the training split too. Only classification tasks have classes.json. `progress` is
    called after each subject.

    Raises:
        UserError: `out` exists, the splits don't fit into `count`, or the arguments are invalid for `subject`.
    """
    check(seed, 0, shape, view_variation)
    anatomy = ANATOMIES[one_of(ANATOMIES, "phantom for task", task)]
    train = max(count // 4, 1) if train is None else train
    val = max(count // 8, 1) if val is None else val
    test = max(count // 4, 1) if test is None else test
    pretrain = count - val - test
    if min(train, val, test) < 0 or pretrain < max(train, 1):
        raise UserError(
            f"{count} phantoms are too few for {train} train, {val} val and {test} test ones;"
            f" give {max(train, 1) + max(val, 0) + max(test, 0)} or more, or for smaller splits"
        )
    ids = [f"phantom_{index:03d}" for index in range(count)]
    splits = {
        "pretrain": ids[:pretrain],
        "train": ids[:train],
        "val": ids[pretrain : pretrain + val],
        "test": ids[pretrain + val :],
    }
    affine = np.eye(4)
    affine[:3, 3] = [-(size - 1) / 2 for size in shape]
    with whole_folder(out) as folder:
        for index, name in enumerate(ids):
            image, label = subject(seed, index, shape, task, view_variation)
            write_nifti(folder / "images" / f"{name}.nii.gz", Volume(np.rint(image).astype(np.int16), affine))
            write_nifti(folder / "labels" / f"{name}.nii.gz", Volume(label, affine))
            if progress is not None:
                progress()
        write_text(folder / "splits.json", json.dumps(splits, indent=1) + "\n")
        names = {str(value): structure for value, structure in anatomy.labels.items()}
        write_text(folder / "labels.json", json.dumps(names, indent=1) + "\n")
        if anatomy.classes:
            classes = {name: target_of(seed, index) for index, name in enumerate(ids)}
            write_text(folder / "classes.json", json.dumps(classes, indent=1) + "\n")


def anatomical_points(
    seed: int, index: int, shape: Shape = (64, 64, 64), task: str = "shc", view_variation: float = 0.0
) -> tuple[Array, float]:
    """Return the point of the canonical anatomy at each voxel of a subject: the true map between subjects.

    Returns:
        Points (3, D, H, W) in mm of the canonical anatomy, a diffeomorphism, and the mean size of a voxel there in mm.
    """
    anatomy = ANATOMIES[task]
    generator, *_, view = streams(seed, index)
    side = min(shape)
    axes = [((np.arange(size) - (size - 1) / 2) / side).astype(np.float32) for size in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij")) + sample(displacement(generator), shape)
    rotation = rotation_matrix(generator, ROTATION_DEGREES)
    shear = np.eye(3) + np.triu(generator.uniform(-SHEAR, SHEAR, (3, 3)), 1)
    common, own = LOG_ZOOM
    zoom = np.exp(generator.uniform(-common, common) + generator.uniform(-own, own, 3)) * anatomy.field_of_view
    shift = as_column(anatomy.centre) + generator.uniform(-SHIFT_MM, SHIFT_MM, (3, 1, 1, 1))
    offset, extent, pose = field_of_view(view, view_variation)
    matrix = rotation @ shear @ np.diag(zoom) @ pose * extent
    warped = np.tensordot(matrix.astype(np.float32), points - offset, axes=1) + shift.astype(np.float32)
    return warped, float(zoom.mean() * extent / side)


def field_of_view(generator: Generator, variation: float) -> tuple[Array, float, NDArray[np.float64]]:
    """Draw a field of view.

    Returns:
        Position of the anatomy's centre relative to the volume's (3, 1, 1, 1) in shortest sides, extent relative to the
        anatomy's own, and pose, a rotation matrix (3, 3).
    """
    offset = generator.uniform(-variation, variation, (3, 1, 1, 1)).astype(np.float32)
    extent = float(np.exp(generator.uniform(0, VIEW_LOG_EXTENT * variation)))
    return offset, extent, rotation_matrix(generator, VIEW_DEGREES * variation)


def rotation_matrix(generator: Generator, degrees: float) -> NDArray[np.float64]:
    """Draw a rotation matrix (3, 3) of at most `degrees` about each axis."""
    angles = np.deg2rad(generator.uniform(-degrees, degrees, 3))
    matrix: NDArray[np.float64] = Rotation.from_euler("xyz", angles).as_matrix()
    return matrix


def check(seed: int, index: int, shape: Sequence[int], view_variation: float = 0.0) -> None:
    """Check the arguments of `subject`."""
    if seed < 0 or index < 0:
        raise UserError(f"a phantom's seed and index are 0 or more, not {seed} and {index}")
    if len(shape) != 3 or min(shape) < MIN_SIDE:
        raise UserError(f"a phantom has three sides of {MIN_SIDE} voxels or more, not {format_sizes(shape)}")
    if not 0 <= view_variation <= MAX_VARIATION:
        raise UserError(f"a phantom's field of view varies by 0 to {MAX_VARIATION:g} of its side, not {view_variation}")


def streams(seed: int, index: int) -> tuple[Generator, Generator, Generator, Generator, Generator]:
    """Return a subject's independent random generators, for body, look, grain, findings and field of view."""
    body, look, grain, findings, view = (default_rng(child) for child in SeedSequence([seed, index]).spawn(5))
    return body, look, grain, findings, view


def appearance(generator: Generator) -> dict[str, float]:
    """Draw Hounsfield units for every tissue; contrast differs between the two sides of the heart."""
    values = {name: float(generator.normal(mean, spread)) for name, (mean, spread) in TISSUES.items()}
    values["left blood"] = float(generator.uniform(300, 480))
    values["right blood"] = float(generator.uniform(190, 420))
    values["left atrial blood"] = values["left blood"] + float(generator.uniform(-20, 45))
    values["right atrial blood"] = values["right blood"] + float(generator.uniform(-45, 45))
    values["coronary"] = values["left blood"] - 30
    return values


def appearance_without_contrast(generator: Generator) -> dict[str, float]:
    """Draw Hounsfield units for every tissue and lesion, with the same value for all blood."""
    values = appearance(generator)
    blood = float(generator.normal(*BLOOD))
    values |= {name: blood for name in values if "blood" in name or name == "coronary"}
    return values | {name: float(generator.normal(mean, spread)) for name, (mean, spread) in LESION_TISSUES.items()}


ANATOMIES: dict[str, Anatomy] = {
    "shc": Anatomy(
        lambda points, _, __: layers(points),
        HEART_LABELS,
        appearance,
        centre=(-4.0, -8.0, 10.0),
        field_of_view=205.0,
        preset="cardiac-ct",
    ),
    "sac": Anatomy(
        coronary_layers,
        CORONARY_LABELS,
        appearance,
        centre=(-10.0, 0.0, -4.0),
        field_of_view=165.0,
        preset="cardiac-ct",
    ),
    "sbm": Anatomy(
        lambda points, _, __: brain_layers(points),
        STRUCTURES,
        brain_appearance,
        centre=(0.0, -15.0, 2.0),
        field_of_view=232.0,
        scan=mr,
        preset="brain-mr",
    ),
    "ccc": Anatomy(
        lung_layers,
        LESION_LABELS,
        appearance_without_contrast,
        centre=(0.0, -14.0, 5.0),
        field_of_view=290.0,
        classes=True,
    ),
}
"""The anatomies by task."""
