import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gvsl.cli import main

RECIPE = """
pretrain:
  backbone: {width: 8, levels: 3}
  data: {batch_size: 1, workers: 0}
  trainer: {max_steps: 4, checkpoint_every: 2}
transfer:
  width: 8
  levels: 3
  loss: dice_ce
  linear: {optimiser: lbfgs, max_steps: 3, validate_every: 1, weight_penalty: 1e-4, clusters: {points: 200}}
  finetune: &all_trained {learning_rate: 1e-3, max_steps: 4, validate_every: 2, checkpoint_every: 2}
  scratch: *all_trained
"""


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of miniature hearts with two structures: the report has a chart of each."""
    root = tmp_path_factory.mktemp("benchmark")
    assert main(["phantom", str(root / "source"), "--count", "8", "--size", "16"]) == 0
    names = root / "source" / "labels.json"
    kept = dict(list(json.loads(names.read_text(encoding="utf-8")).items())[:2])
    names.write_text(json.dumps(kept), encoding="utf-8")
    for path in (root / "source" / "labels").iterdir():
        label = nib.load(path)
        values = np.asarray(label.dataobj)
        nib.Nifti1Image(np.where(np.isin(values, [*map(int, kept)]), values, 0), label.affine).to_filename(path)
    assert main(["prepare", str(root / "source"), str(root / "hearts"), "--preset", "ct"]) == 0
    return root / "hearts"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of everything."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path
