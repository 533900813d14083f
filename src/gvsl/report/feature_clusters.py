"""Reader of a run's feature clusters: voxels of validation cases in t-SNE's plane, by structure."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.readers import read_json

FORMAT = 1
LISTS = ("names", "cases", "points", "groups", "of_cases", "notes")


@dataclass(frozen=True)
class FeatureClusters:
    """Voxels of a run's validation cases in t-SNE's plane."""

    names: list[str]
    """The structures; a single one is joined by its surroundings."""
    cases: list[str]
    points: NDArray[np.float64]
    """(N, 2); empty if the run has no plane."""
    groups: NDArray[np.int64]
    """(N,), the index in `names` of each sampled voxel; as long as `points` unless these are empty."""
    of_cases: NDArray[np.int64]
    """(N,), the index in `cases`."""
    notes: list[str]
    """Remarks of the run, such as on missing parts."""

    @property
    def largest_fraction(self) -> float:
        """The fraction of voxels in the largest group: the accuracy of always guessing it."""
        return float(np.bincount(self.groups).max() / self.groups.size) if self.groups.size else math.nan


def read_feature_clusters(path: Path) -> FeatureClusters:
    """Read the file that a linear segmentation run writes.

    Raises:
        UserError: it is missing, or is not such a file.
    """
    try:
        values = read_json(path)
    except OSError as error:
        raise UserError(f"{path} is named by its run's record but can't be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} can't be read as clusters: {error}") from None
    problem = _problem(values)
    if problem:
        raise UserError(f"{path} is a broken file of clusters: {problem}")
    return FeatureClusters(
        names=values["names"],
        cases=values["cases"],
        points=np.asarray(values["points"], np.float64).reshape(-1, 2),
        groups=np.asarray(values["groups"], np.int64),
        of_cases=np.asarray(values["of_cases"], np.int64),
        notes=values["notes"],
    )


def _problem(values: Any) -> str | None:
    """Return the first problem of the file, or None."""
    if not isinstance(values, dict) or not all(isinstance(values.get(name), list) for name in LISTS):
        return f"it must have the lists {', '.join(LISTS)}"
    if values.get("format") != FORMAT:
        return f"it has format {values.get('format')}; this gvsl reads format {FORMAT}"
    if not all(isinstance(word, str) for name in ("names", "cases", "notes") for word in values[name]):
        return "a name or a note is not a text"
    for indices, things in (("groups", "names"), ("of_cases", "cases")):
        count = len(values[things])
        if not all(type(index) is int and 0 <= index < count for index in values[indices]):
            return f"{indices} has a value that is no index of {things}"
    if len(values["groups"]) != len(values["of_cases"]):
        return "groups and of_cases differ in length"
    if values["points"] and len(values["points"]) != len(values["groups"]):
        return "points and groups differ in length"
    if not all(isinstance(point, list) and len(point) == 2 and all(map(_finite, point)) for point in values["points"]):
        return "a point is not two numbers"
    return None


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
