from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.datasets import folder
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize("cohort", ["hippocampus", "left-atrium"])
def test_real_volumes_keep_their_labels_and_fill_the_range(tmp_path: Path, cohort: str) -> None:
    # The cohorts must not be redistributed, so they are optional beside a checkout.
    if not (DATA / cohort).is_dir():
        pytest.skip(f"the {cohort} cohort is not here")
    cases = folder(DATA / cohort).cases
    store = prepare(cases[:: len(cases) // 4], tmp_path / "store", PRESETS["mr"], source=cohort)
    assert not store.refused
    for case in cases[:: len(cases) // 4]:
        assert case.label is not None
        label = np.asanyarray(nibabel.load(case.label).dataobj)
        stored = store.cases[case.id]
        start = np.rint((np.linalg.inv(stored.source_affine) @ stored.affine)[:3, 3]).astype(int)
        box = tuple(slice(first, first + size) for first, size in zip(start, stored.shape, strict=True))
        np.testing.assert_array_equal(store.label(case.id), label[box])
        assert stored.labels_cropped == 0
        assert 0.1 < np.median(store.image(case.id)) < 0.7
