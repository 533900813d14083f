from dataclasses import replace

import pytest

from gvsl.datasets.dataset import Dataset
from gvsl.datasets.folder import folder
from gvsl.datasets.phantom import write_phantom
from gvsl.store import PRESETS, Store, prepare


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four phantoms to pre-train on and three to validate with, all labelled, 24 x 20 x 18 voxels."""
    root = tmp_path_factory.mktemp("phantoms") / "volumes"
    write_phantom(root, 7, shape=(24, 20, 18), train=2, val=3, test=0)
    return folder(root)


@pytest.fixture(scope="session")
def phantom_store(phantom_cohort: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cohort as a store, its volumes uncropped."""
    out = tmp_path_factory.mktemp("stores") / "phantoms"
    contract = replace(PRESETS["ct"], crop="none")
    return prepare(phantom_cohort.cases, out, contract, label_names=phantom_cohort.label_names, source="phantom")
