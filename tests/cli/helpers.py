"""A small cohort on the disk."""

import json
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (24, 20, 22)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def make_image(seed: int) -> np.ndarray:
    """A bright ball with its own grain in a dark box."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    ball = 800.0 * (np.linalg.norm(grid + generator.uniform(-0.2, 0.2, (3, 1, 1, 1)), axis=0) < 0.6)
    return (ball + generator.normal(100, 20, SHAPE)).astype(np.float32)


def make_folder(root: Path, count: int = 4) -> Path:
    """Images with labels, the first half to train on, the next to validate, the last to test."""
    ids = [f"case_{index}" for index in range(count)]
    for seed, name in enumerate(ids):
        image = make_image(seed)
        write_volume(root / "images" / f"{name}.nii.gz", image)
        write_volume(root / "labels" / f"{name}.nii.gz", (image > 500).astype(np.uint8))
    splits = {"pretrain": ids[:-2], "train": ids[:-2], "val": [ids[-2]], "test": [ids[-1]]}
    (root / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    (root / "labels.json").write_text(json.dumps({"1": "ball"}), encoding="utf-8")
    return root
