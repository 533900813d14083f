from pathlib import Path

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
    """A store of miniature hearts."""
    root = tmp_path_factory.mktemp("benchmark")
    assert main(["phantom", str(root / "source"), "--count", "8", "--size", "16"]) == 0
    assert main(["prepare", str(root / "source"), str(root / "hearts"), "--preset", "ct"]) == 0
    return root / "hearts"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of everything."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path
