"""Miniatures of public data sets whose images have several channels."""

import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

SHAPE = (24, 22, 20)
SPACING = (1.0, 1.0, 1.0)


def make_channels(
    seed: int, count: int, shape: tuple[int, int, int] = SHAPE
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a ball with a core, of another contrast in each channel, (D, H, W, C), and the core's label map."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    distance = np.linalg.norm(grid - generator.uniform(-0.1, 0.1, (3, 1, 1, 1)), axis=0)
    core = distance < 0.45
    channels = [100 * (number + 2) * (distance < 0.8) + 60 * (-1) ** number * core for number in range(count)]
    noise = generator.normal(0, 12, (*shape, count))
    return (np.stack(channels, axis=-1) + noise).astype(np.float32), core.astype(np.uint8)


def save(path: Path, array: NDArray[np.generic], spacing: tuple[float, float, float] = SPACING) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


def make_task(
    root: Path,
    modalities: list[str],
    count: int = 6,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
) -> Path:
    """Write a task of the Decathlon: channels on a fourth axis, label maps, and one test image."""
    names = [f"case_{number}.nii.gz" for number in range(count)]
    for number, name in enumerate([*names, "test_0.nii.gz"]):
        image, label = make_channels(number, len(modalities), shape)
        save(root / ("imagesTr" if name in names else "imagesTs") / name, image, spacing)
        if name in names:
            save(root / "labelsTr" / name, label, spacing)
    listing = {
        "modality": {str(number): name for number, name in enumerate(modalities)},
        "labels": {"0": "background", "1": "core"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": ["./imagesTs/test_0.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    return root


def make_files(folder: Path, name: str, endings: list[str], seed: int = 0) -> list[Path]:
    """Write an image with each channel in a file of its own, NAME_ENDING.nii.gz."""
    image, _ = make_channels(seed, len(endings))
    return [save(folder / f"{name}_{end}.nii.gz", image[..., number]) for number, end in enumerate(endings)]
