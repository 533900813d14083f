"""The prepared volumes of a store as a dataset of nnU-Net v2, for preprocessing that nnU-Net's plans can't express."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.io import Volume, write_nifti
from gvsl.progress import progress
from gvsl.store import Store

CHANNEL = "_0000"
ENDING = ".nii.gz"


def label_order(store: Store) -> list[int]:
    """Return the store's label values in the order of nnU-Net's, which are 1, 2, ...

    The first of the ignored ones comes last, and stands for all of them, since nnU-Net has one.
    """
    return [*sorted(store.label_names), *store.ignored[:1]]


def write_cases(store: Store, folder: Path, order: Sequence[int]) -> dict[str, list[str]]:
    """Write the labelled cases of train and val, and the images of test, and return the ids of train and val.

    Args:
        store: prepared, with label maps.
        folder: of the dataset, new.
        order: see `label_order`.

    Raises:
        UserError: a split is empty, or has no labelled case.
    """
    labelled = {name: [case for case in store.split(name) if store.has_label(case)] for name in ("train", "val")}
    for name, ids in labelled.items():
        if not ids:
            raise UserError(f"{store.place} has no label map in the split {name}, from which nnU-Net learns")
    test = [case for case in store.cases if "test" in store.cases[case].splits]
    values = {0: 0, **{value: place for place, value in enumerate(order, start=1)}}
    values |= dict.fromkeys(store.ignored, len(order))
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    everything = [(case, "Tr") for ids in labelled.values() for case in ids] + [(case, "Ts") for case in test]
    with progress(len(everything), "exporting", "cases") as advance:
        for case, part in everything:
            affine = store.cases[case].affine
            write_nifti(folder / f"images{part}" / f"{case}{CHANNEL}{ENDING}", Volume(store.image(case), affine))
            if store.has_label(case):
                label = Volume(_mapped(store.label(case), values), affine)
                write_nifti(folder / f"labels{part}" / f"{case}{ENDING}", label)
            advance()
    return labelled


def median_shape(store: Store) -> list[int]:
    """Return the median voxels along each axis of the training volumes."""
    return [int(side) for side in np.median(store.shapes("train"), axis=0)]


def _mapped(label: NDArray[Any], values: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return a label map with nnU-Net's values; a value without a name becomes background."""
    found = np.zeros(label.shape, np.uint8)
    for value, new in values.items():
        found[label == value] = new
    return found
