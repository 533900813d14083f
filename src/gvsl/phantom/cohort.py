"""The embedded cohort: made-up subjects, each with its own shape, contrast, noise and field of view.

A subject is the canonical anatomy of `phantom_anatomy`, read at points that a diffeomorphism and an affine
map have moved. So edges stay sharp at any shape, and any two subjects can be matched exactly.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gvsl.errors import UserError
from gvsl.files import whole_folder, write_text
from gvsl.io import Volume, write_nifti
from gvsl.phantom.brain import (
    BRAIN_CENTRE,
    BRAIN_FIELD_OF_VIEW,
    BRAIN_LABELS,
    brain_appearance,
    brain_layers,
)
from gvsl.phantom.coronaries import (
    CORONARY_CENTRE,
    CORONARY_FIELD_OF_VIEW,
    CORONARY_LABELS,
    coronary_layers,
)
from gvsl.phantom.fields import Shape, displacement, sample
from gvsl.phantom.heart import CENTRE, CLEAR, HEART_LABELS, Array, Layer, Vector, as_column, layers
from gvsl.phantom.lungs import (
    BLOOD,
    LESION_LABELS,
    LESION_TISSUES,
    LUNGS_CENTRE,
    LUNGS_FIELD_OF_VIEW,
    lung_layers,
)
from gvsl.phantom.scanner import ct, mr
from gvsl.progress import Advance
from gvsl.text import one_of

__all__ = ["ANATOMIES", "HEART_LABELS", "anatomical_points", "subject", "target_of", "write_phantom"]

SMALLEST_SIDE = 16
"""Voxels; below this the structures are thinner than a voxel."""
FIELD_OF_VIEW = 205.0
"""Millimetres of the adult body that the shortest side shows on average; 64 mm make a miniature."""

ROTATION_DEGREES = 10.0
LOG_ZOOM = (0.10, 0.07)
"""Bounds of the logarithm of the zoom, common to the axes and of each on top."""
SHEAR = 0.08
SHIFT_MM = 7.0

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
"""Mean and standard deviation over subjects in Hounsfield units, of all but the contrast medium."""


@dataclass(frozen=True)
class Anatomy:
    """What a task's subjects are made of, beside what all have in common."""

    layers: Callable[[Array, Generator, bool], Iterator[Layer]]
    """Of the points of the canonical anatomy, a stream of chance, and whether the subject is of class 1."""
    labels: dict[int, str]
    """Label value to the structure's name."""
    appearance: Callable[[Generator], Mapping[str, float]]
    """Draws the value of every tissue that `layers` names, and of air."""
    centre: Vector
    """What an average subject's field of view is centred on."""
    field_of_view: float
    """Millimetres of the adult body that the shortest side shows on average."""
    scan: Callable[[Array, Generator, Generator], Array] = ct
    """Makes an image of the tissues' values, with the streams of the look and of the grain."""
    preset: str = "ct"
    """What `gvsl prepare` takes for it."""
    classes: bool = False
    """Whether subjects are of two classes, and that is what the task asks."""


def subject(seed: int, index: int, shape: Shape = (64, 64, 64), task: str = "shc") -> tuple[Array, NDArray[np.uint8]]:
    """Make one subject, a pure function of the arguments; another shape shows the same body at another scale.

    Returns:
        The image (D, H, W), float32 in RAS+ axes, CT in Hounsfield units from -1024 to 3071 or MR in a unit of its
        own from 0, and its label map (D, H, W), 0 or a label of the task's anatomy. The noise belongs to the voxels,
        so it differs between shapes.

    Raises:
        UserError: a negative seed or index, a shape that is not three sides of 16 voxels or more, or no such task.
    """
    check(seed, index, shape)
    anatomy = ANATOMIES[one_of(ANATOMIES, "phantom for task", task)]
    _, look, grain, findings = streams(seed, index)
    points, voxel_mm = anatomical_points(seed, index, shape, task)
    values = anatomy.appearance(look)
    image = np.full(shape, np.float32(values["air"]))
    label = np.zeros(shape, np.uint8)
    for layer in anatomy.layers(points, findings, bool(target_of(seed, index))):
        cover = np.clip(0.5 - layer.distance / np.float32(voxel_mm), 0, 1)  # the partial volume of an edge
        image += cover * (np.float32(values[layer.tissue]) - image)
        if layer.label:
            label[layer.distance < 0] = 0 if layer.label == CLEAR else layer.label
    return anatomy.scan(image, look, grain), label


def target_of(seed: int, index: int) -> int:
    """The class of a subject, 0 or 1, where its task has any: every other one is of class 1."""
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
    progress: Advance | None = None,
) -> None:
    """Write a cohort in the layout that `folder` reads: images/, labels/, splits.json, labels.json, classes.json.

    The volumes are NIfTI of 1 mm, images rounded to whole numbers. The last `test` subjects are the
    test split (a quarter unless told), the `val` before them the validation split (an eighth), and all others
    pretrain; the first `train` of those are the training split too (a quarter of all). Only tasks with classes
    have classes.json. `progress` is called when a subject is written.

    Raises:
        UserError: `out` exists, the splits don't fit into `count`, or `subject` refuses its arguments.
    """
    check(seed, 0, shape)
    anatomy = ANATOMIES[one_of(ANATOMIES, "phantom for task", task)]
    train = max(count // 4, 1) if train is None else train
    val = max(count // 8, 1) if val is None else val
    test = max(count // 4, 1) if test is None else test
    pretrain = count - val - test
    if min(train, val, test) < 0 or pretrain < max(train, 1):
        raise UserError(
            f"{count} phantoms can't hold {train} train, {val} val and {test} test ones;"
            f" ask for {max(train, 1) + max(val, 0) + max(test, 0)} or more, or for smaller splits"
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
            image, label = subject(seed, index, shape, task)
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


def anatomical_points(seed: int, index: int, shape: Shape = (64, 64, 64), task: str = "shc") -> tuple[Array, float]:
    """Say which point of the canonical anatomy each voxel of a subject shows: the true map between subjects.

    Returns:
        Points (3, D, H, W) in mm of the canonical anatomy, one to one and without folds, and the mean of
        the mm that a voxel is wide there.
    """
    anatomy = ANATOMIES[task]
    generator = streams(seed, index)[0]
    side = min(shape)
    axes = [((np.arange(size) - (size - 1) / 2) / side).astype(np.float32) for size in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij")) + sample(displacement(generator), shape)
    angles = np.deg2rad(generator.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, 3))
    rotation = Rotation.from_euler("xyz", angles).as_matrix()
    shear = np.eye(3) + np.triu(generator.uniform(-SHEAR, SHEAR, (3, 3)), 1)
    common, own = LOG_ZOOM
    zoom = np.exp(generator.uniform(-common, common) + generator.uniform(-own, own, 3)) * anatomy.field_of_view
    shift = as_column(anatomy.centre) + generator.uniform(-SHIFT_MM, SHIFT_MM, (3, 1, 1, 1))
    matrix = rotation @ shear @ np.diag(zoom)
    moved = np.tensordot(matrix.astype(np.float32), points, axes=1) + shift.astype(np.float32)
    return moved, float(zoom.mean() / side)


def check(seed: int, index: int, shape: Sequence[int]) -> None:
    """Refuse arguments that make no subject."""
    if seed < 0 or index < 0:
        raise UserError(f"a phantom's seed and index are 0 or more, not {seed} and {index}")
    if len(shape) != 3 or min(shape) < SMALLEST_SIDE:
        sides = " x ".join(map(str, shape))
        raise UserError(f"a phantom has three sides of {SMALLEST_SIDE} voxels or more, not {sides}")


def streams(seed: int, index: int) -> tuple[Generator, Generator, Generator, Generator]:
    """Open a subject's streams of chance, of its body, look, noise and findings: none disturbs another."""
    body, look, grain, findings = (default_rng(child) for child in SeedSequence([seed, index]).spawn(4))
    return body, look, grain, findings


def appearance(generator: Generator) -> dict[str, float]:
    """Draw a value in Hounsfield units for every tissue; the heart's two sides fill with contrast apart."""
    values = {name: float(generator.normal(mean, spread)) for name, (mean, spread) in TISSUES.items()}
    values["left blood"] = float(generator.uniform(300, 480))
    values["right blood"] = float(generator.uniform(190, 420))
    values["left atrial blood"] = values["left blood"] + float(generator.uniform(-20, 45))
    values["right atrial blood"] = values["right blood"] + float(generator.uniform(-45, 45))
    values["coronary"] = values["left blood"] - 30
    return values


def appearance_without_contrast(generator: Generator) -> dict[str, float]:
    """Draw a value in Hounsfield units for every tissue and lesion; all blood is alike."""
    values = appearance(generator)
    blood = float(generator.normal(*BLOOD))
    values |= {name: blood for name in values if "blood" in name or name == "coronary"}
    return values | {name: float(generator.normal(mean, spread)) for name, (mean, spread) in LESION_TISSUES.items()}


ANATOMIES: dict[str, Anatomy] = {
    "shc": Anatomy(
        lambda points, _, __: layers(points), HEART_LABELS, appearance, CENTRE, FIELD_OF_VIEW, preset="cardiac-ct"
    ),
    "sac": Anatomy(
        coronary_layers,
        CORONARY_LABELS,
        appearance,
        CORONARY_CENTRE,
        CORONARY_FIELD_OF_VIEW,
        preset="cardiac-ct",
    ),
    "sbm": Anatomy(
        lambda points, _, __: brain_layers(points),
        BRAIN_LABELS,
        brain_appearance,
        BRAIN_CENTRE,
        BRAIN_FIELD_OF_VIEW,
        scan=mr,
        preset="brain-mr",
    ),
    "ccc": Anatomy(
        lung_layers, LESION_LABELS, appearance_without_contrast, LUNGS_CENTRE, LUNGS_FIELD_OF_VIEW, classes=True
    ),
}
"""The phantoms by task."""
