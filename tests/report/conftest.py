"""Run folders as training and transfer write them, made of smooth synthetic anatomy."""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.records import RunRecord, write_record

Array = NDArray[np.float64]

SHAPE = (38, 52, 34)
LABELS = {"1": "anterior", "2": "posterior"}
CASES = [f"case_{number:02d}" for number in range(12)]
PARTS = ("backbone", "affine", "deformable", "restoration")


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float) -> Array:
    """Gaussian noise, blurred in the Fourier domain to `scale` voxels, of unit deviation."""
    frequencies = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    kernel = np.exp(-2 * (np.pi * scale) ** 2 * sum(frequency**2 for frequency in frequencies))
    noise = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * kernel).real
    result: Array = noise / noise.std()
    return result


def sample(volume: Array, positions: Array, nearest: bool = False) -> Array:
    """Read a volume at positions (3, ...) in voxels, trilinearly or nearest, clamped to its border."""
    limits = np.array(volume.shape).reshape(3, *([1] * (positions.ndim - 1))) - 1
    clamped = np.clip(positions, 0, limits)
    if nearest:
        return volume[tuple(np.round(clamped).astype(int))]
    low = np.minimum(np.floor(clamped).astype(int), np.maximum(limits - 1, 0))
    part = clamped - low
    total = np.zeros(positions.shape[1:])
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([part[axis] if corner[axis] else 1 - part[axis] for axis in range(3)], axis=0)
        total += weight * volume[tuple(low[axis] + corner[axis] for axis in range(3))]
    return total


def anatomy(shape: Sequence[int]) -> tuple[Array, Array]:
    """An atlas: a curved two-part structure in mottled tissue, and its labels."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    bend = 0.35 * y**2 - 0.1
    tube = np.exp(-((((x - bend) / 0.34) ** 2 + ((z + 0.3 * bend) / 0.4) ** 2) ** 2) - (y / 0.8) ** 6)
    label = np.where(tube > 0.4, np.where(y > 0.1, 1.0, 2.0), 0.0)
    tissue = 0.32 + 0.06 * smooth_noise(np.random.default_rng(5), shape, 3.0)
    image = (
        tissue + 0.34 * tube + 0.16 * np.exp(-(((x + 0.7) / 0.16) ** 2)) - 0.25 * np.exp(-(((z - 0.75) / 0.15) ** 2))
    )
    return np.clip(image, 0, 1), label


def grid(shape: Sequence[int]) -> Array:
    """Every voxel's own position, (3, D, H, W)."""
    return np.stack(np.meshgrid(*(np.arange(size, dtype=np.float64) for size in shape), indexing="ij"))


def field(rng: np.random.Generator, shape: Sequence[int], size: float) -> Array:
    """A smooth displacement field of about `size` voxels."""
    return np.stack([size * smooth_noise(rng, shape, 6.0) for _ in range(3)])


def turned(shape: Sequence[int], angle: float, shift: float) -> Array:
    """Positions after a rotation in the first two axes about the centre and a shift."""
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    x, y, z = grid(shape) - centre
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z]) + centre + shift


def middle(volume: Array) -> list[Array]:
    """The middle slice perpendicular to each axis."""
    return [np.take(volume, size // 2, axis=axis) for axis, size in enumerate(volume.shape)]


def write_picture(
    path: Path, volumes: Mapping[str, Array], scalars: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """Write the middle slices of volumes, and scalars, as the run-folder contract has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        f"{name}_{k}": plane for name, volume in volumes.items() for k, plane in enumerate(middle(volume))
    }
    np.savez_compressed(path, **arrays, **scalars, **extra)


def once(write: Callable[..., None]) -> Callable[..., None]:
    """Make a picture's file once, and write the same bytes wherever the same arguments come again."""
    made: dict[Any, bytes] = {}

    @wraps(write)
    def write_again(path: Path, *arguments: Any, **named: Any) -> None:
        key = arguments, tuple(named.items())
        if key not in made:
            write(path, *arguments, **named)
            made[key] = path.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[key])

    return write_again


@once
def write_pair(path: Path, seed: int, labels: bool = True) -> None:
    """A pair picture: the atlas deformed twice, and one carried to the other by a nearly right field."""
    rng = np.random.default_rng(seed)
    atlas, atlas_label = anatomy(SHAPE)
    affine = turned(SHAPE, rng.uniform(-0.25, 0.25), rng.uniform(-2, 2))
    local = field(rng, SHAPE, 1.6)
    moving = np.clip(sample(atlas, grid(SHAPE) + field(rng, SHAPE, 0.6)) + 0.02 * rng.standard_normal(SHAPE), 0, 1)
    moving_label = sample(atlas_label, grid(SHAPE), nearest=True)
    whole = affine + local
    fixed = np.clip(sample(moving, whole) * 0.95 + 0.02 * rng.standard_normal(SHAPE), 0, 1)
    fixed_label = sample(moving_label, whole, nearest=True)
    found = whole + field(rng, SHAPE, 0.5)
    volumes = {
        "moving": moving,
        "fixed": fixed,
        "affine": sample(moving, affine),
        "warped": sample(moving, found),
    }
    if labels:
        volumes |= {
            "moving_label": moving_label,
            "fixed_label": fixed_label,
            "warped_label": sample(moving_label, found, True),
        }
    grids = {}
    for axis in range(3):
        inside = [other for other in range(3) if other != axis]
        grids[f"grid_{axis}"] = np.stack([np.take(found[other], SHAPE[axis] // 2, axis=axis) for other in inside])
    scalars = {"ncc": 0.27, "ncc_affine": 0.44, "ncc_identity": 0.57, "dice_before": 0.53, "dice_after": 0.72}
    write_picture(path, volumes, scalars, grids)


@once
def write_restoration(path: Path, seed: int) -> None:
    """A restoration picture: boxes of noise and shuffled voxels, then most of it mended."""
    rng = np.random.default_rng(seed)
    original = sample(anatomy(SHAPE)[0], grid(SHAPE) + field(rng, SHAPE, 1.5))
    damaged = np.clip(original, 0, 1) ** 1.6 + 0.04 * rng.standard_normal(SHAPE)
    for _ in range(14):
        corner = [rng.integers(0, size - 9) for size in SHAPE]
        box = tuple(slice(start, start + rng.integers(5, 9)) for start in corner)
        damaged[box] = rng.uniform(size=damaged[box].shape)
    restored = original + 0.08 * (damaged - original) + 0.015 * smooth_noise(rng, SHAPE, 2.0)
    write_picture(path, {"original": original, "damaged": damaged, "restored": restored}, {}, {})


@once
def write_segmentation(path: Path, case_seed: int, error: float, seed: int) -> None:
    """A segmentation picture: a prediction off by a smooth field of `error` voxels."""
    rng = np.random.default_rng(case_seed)
    atlas, label = anatomy(SHAPE)
    positions = grid(SHAPE) + field(rng, SHAPE, 1.5)
    image, truth = sample(atlas, positions), sample(label, positions, nearest=True)
    wrong = grid(SHAPE) + field(np.random.default_rng(1000 + seed), SHAPE, error)
    volumes = {"image": image + 0.02 * rng.standard_normal(SHAPE)}
    prediction = {
        f"prediction_{k}": plane.astype(np.uint8) for k, plane in enumerate(middle(sample(truth, wrong, nearest=True)))
    }
    truths = {f"truth_{k}": plane.astype(np.uint8) for k, plane in enumerate(middle(truth))}
    write_picture(path, volumes, {}, truths | prediction)


def write_curves(path: Path, columns: Mapping[str, Array], every: Mapping[str, int] | None = None) -> None:
    """Write curves.csv, a row a step of 10; a column in `every` is blank but for each so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = every or {}
    count = len(next(iter(columns.values())))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *columns])
        for row in range(count):
            cells = [f"{values[row]:.6g}" if row % every.get(name, 1) == 0 else "" for name, values in columns.items()]
            writer.writerow([10 * (row + 1), *cells])


def falling(rng: np.random.Generator, count: int, start: float, end: float, noise: float) -> Array:
    """A training curve that falls and flattens."""
    base = end + (start - end) * np.exp(-5 * np.arange(count) / count)
    return np.abs(base * (1 + noise * rng.standard_normal(count)))


def pretrain_curves(seed: int, count: int = 200) -> dict[str, Array]:
    """The curves of a pre-training run that goes well."""
    rng = np.random.default_rng(seed)
    curves = {
        "ncc": falling(rng, count, 0.58, 0.29, 0.08),
        "ncc_affine": falling(rng, count, 0.58, 0.45, 0.07),
        "ncc_identity": falling(rng, count, 0.58, 0.575, 0.06),
        "smoothness": 0.04 - falling(rng, count, 0.035, 0.005, 0.1),
        "restoration": falling(rng, count, 0.09, 0.004, 0.15),
        "folded": 0.004 - falling(rng, count, 0.0035, 0.0008, 0.2),
    }
    loss = {"loss": curves["ncc"] + curves["smoothness"] + curves["restoration"]}
    sizes = (1.2, 0.2, 0.6, 0.4)
    norms = {
        f"gradient_norm_{part}": falling(rng, count, 6 * size, size, 0.4)
        for part, size in zip(PARTS, sizes, strict=True)
    }
    return loss | curves | norms


ENVIRONMENT = {
    "python": "3.12.4",
    "system": "Linux",
    "processor": "AMD EPYC 9354 32-Core Processor",
    "cores": "2",
    "gvsl": "0.1.0",
    "torch": "2.13.0",
    "numpy": "2.4.6",
}
STORE = {"name": "hippocampus", "hash": "9f2c4be1d07a55c3"}


def controls(identity: float, gain: float, before: float) -> dict[str, float]:
    """The controls of a pair that is matched: other fields are worse than none, and blur helps a little."""
    smooth = identity - 0.1
    return {
        "smooth_ncc": smooth - gain,
        "smooth_ncc_affine": smooth - 0.45 * gain,
        "smooth_ncc_identity": smooth,
        "smooth_ncc_swapped": smooth + 0.1 * gain,
        "smooth_ncc_affine_swapped": smooth + 0.05 * gain,
        "smooth_ncc_mean_field": smooth + 0.02 * gain,
        "smooth_ncc_blurred": smooth - 0.01 * gain,
        "smooth_ncc_affine_blurred": smooth - 0.01 * gain,
        "affine_displacement": 2.5,
        "affine_difference": 2.0,
        "affine_rotation": 3.0,
        "affine_translation": 1.25,
        "affine_scale": 0.05,
        "affine_shear": 0.02,
        "dice_affine": before + 0.1,
        "dice_swapped": before - 0.1,
        "dice_affine_swapped": before - 0.05,
        "dice_mean_field": before,
    }


def write_rows() -> list[dict[str, Any]]:
    """Held-out pairs of a run that matches."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(16):
        identity, gain = rng.normal(0.57, 0.04), rng.normal(0.28, 0.03)
        before = rng.normal(0.52, 0.07)
        rows.append(
            {
                "id": f"case_{number:02d}->case_{(number + 1) % 16:02d}",
                "ncc": identity - gain,
                "ncc_affine": identity - 0.45 * gain,
                "ncc_identity": identity,
                "folded": abs(rng.normal(0.002, 0.001)),
                "dice_before": before,
                "dice_after": min(before + rng.normal(0.2, 0.04), 0.9),
                **controls(identity, gain, before),
            }
        )
    return rows


def write_pretrain(folder: Path, **changes: Any) -> Path:
    """A pre-training run's folder; `changes` replace fields of its record, `curves_data` its curves."""
    rows = write_rows()
    curves = changes.pop("curves_data", None) or pretrain_curves(1)
    write_curves(folder / "curves.csv", curves)
    pictures: list[dict[str, str]] = []
    for number in range(0 if "pictures" in changes else 3):
        write_pair(folder / f"pictures/pair_{number}.npz", seed=number)
        pictures.append({"file": f"pictures/pair_{number}.npz", "kind": "pair", "title": rows[number]["id"]})
    for number in range(0 if "pictures" in changes else 2):
        write_restoration(folder / f"pictures/restoration_{number}.npz", seed=number)
        pictures.append({"file": f"pictures/restoration_{number}.npz", "kind": "restoration", "title": CASES[number]})
    names = ("ncc", "ncc_affine", "ncc_identity", "folded", "dice_before", "dice_after")
    record: dict[str, Any] = {
        "kind": "pretrain",
        "name": "gvsl pre-training",
        "seed": 0,
        "config": {
            "method": "gvsl",
            "max_steps": 2000,
            "batch_size": 2,
            "crop": [32, 48, 32],
            "optimiser": {"lr": 1e-4},
        },
        "store": STORE,
        "status": "finished",
        "created": "2026-03-01T08:30:00+00:00",
        "seconds": 1543.2,
        "environment": ENVIRONMENT,
        "metrics": {f"val/{name}": float(np.mean([row[name] for row in rows])) for name in names},
        "cases": rows,
        "labels": LABELS,
        "curves": "curves.csv",
        "pictures": pictures,
    }
    write_record(RunRecord(**(record | changes)), folder)
    return folder


def transfer_rows(seed: int, pretrained: bool) -> list[dict[str, Any]]:
    """Scores of the test cases: the same cases are hard for everyone."""
    hard = np.random.default_rng(11).normal(0, 0.05, (len(CASES), 2))
    noise = np.random.default_rng(100 + seed + 50 * pretrained).normal(0, 0.012, (len(CASES), 2))
    dice = (0.69 if pretrained else 0.51) + np.array([0.02, -0.02]) + hard + noise
    return [
        {
            "id": case,
            "dice": float(row.mean()),
            "dice/anterior": float(row[0]),
            "dice/posterior": float(row[1]),
        }
        for case, row in zip(CASES, dice, strict=True)
    ]


def write_transfer(folder: Path, seed: int, pretrained: bool, **changes: Any) -> Path:
    """A transfer run's folder: the linear probe on pre-trained or on random features."""
    rng = np.random.default_rng(seed + 7 * pretrained)
    rows = changes.pop("cases", None) or transfer_rows(seed, pretrained)
    end = 0.31 if pretrained else 0.47
    val = 1 - falling(rng, 120, 0.75, end, 0.03)
    write_curves(folder / "curves.csv", {"loss": falling(rng, 120, 0.8, end, 0.08), "val_dice": val}, {"val_dice": 6})
    pictures: list[dict[str, str]] = []
    for number in range(0 if "pictures" in changes else 2):
        file = f"pictures/{CASES[number]}.npz"
        write_segmentation(folder / file, number, 0.9 if pretrained else 2.4, seed)
        pictures.append({"file": file, "kind": "segmentation", "title": CASES[number]})
    weights, name = ("../pretrain/weights", "gvsl") if pretrained else ("scratch", "scratch")
    record: dict[str, Any] = {
        "kind": "transfer",
        "name": f"linear on {'gvsl' if pretrained else 'random'}, seed {seed}",
        "seed": seed,
        "config": {
            "mode": "linear",
            "weights": weights,
            "method": name,
            "max_steps": 1200,
            "labelled": 20,
            "lr": 1e-4,
        },
        "store": STORE,
        "status": "finished",
        "created": f"2026-03-01T1{seed}:05:00+00:00",
        "seconds": 214.0 + seed,
        "environment": ENVIRONMENT,
        "metrics": {
            "test/dice": float(np.mean([row["dice"] for row in rows])),
            "val/dice": float(val.max()),
            "best_step": 1140.0,
        },
        "cases": rows,
        "labels": LABELS,
        "curves": "curves.csv",
        "pictures": pictures,
    }
    write_record(RunRecord(**(record | changes)), folder)
    return folder


def write_study(root: Path, seeds: Sequence[int] = (0, 1, 2)) -> list[Path]:
    """A whole study: one pre-training run and, for every seed, the probe on its and on random features."""
    folders = [write_pretrain(root / "pretrain")]
    folders += [write_transfer(root / f"linear-gvsl-{seed}", seed, True) for seed in seeds]
    folders += [write_transfer(root / f"linear-random-{seed}", seed, False) for seed in seeds]
    return folders


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of a whole study that went well; read only."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def pair_rows() -> list[dict[str, Any]]:
    """The held-out pairs of a run that matches."""
    return write_rows()


@pytest.fixture
def pretrain_folder() -> Callable[..., Path]:
    """Make a pre-training run's folder, with changes."""
    return write_pretrain


@pytest.fixture
def transfer_folder() -> Callable[..., Path]:
    """Make a transfer run's folder, with changes."""
    return write_transfer
