"""Use a transfer run on images: label maps, probabilities or scores, in each image's own geometry."""

import csv
import errno
import json
import math
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.cases import Case
from gvsl.datasets import find_volumes, stem
from gvsl.errors import UserError
from gvsl.files import make_writable, whole_file, write_text
from gvsl.hardware import find_device
from gvsl.inferers import windows
from gvsl.inferers.sliding_window import likeliest, sliding_window
from gvsl.io import UnusableFile, Volume, read_volume, resample_onto, write_like
from gvsl.prediction.ledger import Ledger, open_ledger
from gvsl.preprocessing import Preprocessing, preprocess, require_lungmask
from gvsl.progress import progress
from gvsl.store.arrays import Box
from gvsl.transfer import AdaptedNetwork, Classifier, Segmenter, fingerprint, load_adapted

LABELS_NAME = "labels.json"
SCORES_NAME = "scores.csv"
SCORES_COLUMNS = ("id", "score")
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What torch says, as a plain RuntimeError, where the system has no memory left."""
BLOCK_BYTES = 2**20
AXES = (2, 3, 4)
"""The spatial axes of (B, C, D, H, W)."""


@dataclass(frozen=True)
class PredictSettings:
    """How a run is used on images.

    Raises:
        UserError: a value is out of its range.
    """

    output: Literal["labels", "probabilities"] = "labels"
    """`labels`: one label map an image; `probabilities`: one map of 0 to 1 for each structure. A classification writes
    a table of scores either way."""
    mirror: bool = False
    """Average over the eight mirror images of each window: eight times the time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU if there is one."""

    def __post_init__(self) -> None:
        if self.output not in ("labels", "probabilities"):
            raise UserError(f"output {self.output!r} does not exist: choose of labels, probabilities")


@dataclass
class Predicted:
    """What became of a list of images."""

    done: list[Case] = field(default_factory=list)
    present: list[Case] = field(default_factory=list)
    """Whose results were there already, of an earlier call with the same run."""
    failed: list[tuple[Case, str]] = field(default_factory=list)
    """Each with the reason."""


def find_images(paths: Sequence[Path]) -> list[Case]:
    """The images that `paths` name: files, and what `find_volumes` finds in folders, a DICOM series among it.

    Raises:
        UserError: one of them is not there, or is a folder without volumes.
    """
    images: list[Case] = []
    for path in paths:
        if path.is_dir():
            found, unreadable = find_volumes(path, path / "labels")
            images += [*found, *unreadable]
        elif path.exists():
            images.append(Case(stem(path), path))
        else:
            raise UserError(f"{path} does not exist; name images, or a folder of them")
    return list(dict.fromkeys(images))


def predict(run: Path, images: Sequence[Case], out: Path, settings: PredictSettings | None = None) -> Predicted:
    """Predict each image by the network of a transfer run, and write the results into `out`.

    A label map goes to `out`/NAME.nii.gz, the probability of the structure of label 3 to `out`/NAME_3.nii.gz, each
    with its image's grid and affine, and its header if that is NIfTI; labels.json beside them names the structures. A
    classification writes `out`/scores.csv, whole after each image. An image that can't be used, does not fit memory
    or whose result does not fit the disk is listed with the reason, and the rest is done. What an earlier call has
    done with the same run, as predicted.json says, stays as it is; nothing is overwritten.

    Args:
        run: the folder of a run of `gvsl transfer`.
        images: as `find_images` gives them.
        out: a folder, made if need be.
        settings: the defaults if not given.

    Raises:
        UserError: `run` is no such folder, or `out` can't be written to, or holds the results of another run or a
            scores.csv that isn't a run's, or the run's contract asks for lungmask and that isn't there.
    """
    settings = PredictSettings() if settings is None else settings
    device = find_device(settings.device)
    model = load_adapted(run)
    channels = model.network.backbone.in_channels
    if channels != 1:
        raise UserError(f"{run} takes images of {channels} channels, gvsl predict reads images of 1: name another run")
    require_lungmask(model.preprocessing)
    model.network.to(device)
    make_writable(out)
    ledger = open_ledger(out, {"weights": fingerprint(run), "mirror": str(settings.mirror).lower()})
    results: _Maps | _Scores
    if isinstance(model, Classifier):
        results = _Scores(model, out / SCORES_NAME, settings, listed=bool(ledger.images))
    else:
        results = _Maps(model, out, settings)
    outcome = Predicted()
    owners: dict[str, Case] = {}
    with progress(len(images), "predicting", "images") as advance:
        for image in images:
            try:
                other = owners.setdefault(image.id, image)
                if other != image:
                    raise UnusableFile(f"its result would have the name of that of {other.image}; rename one of them")
                if image.unusable:
                    raise UnusableFile(image.unusable)
                written = _predict_one(results, ledger, image)
                (outcome.done if written else outcome.present).append(image)
            except UserError as error:
                outcome.failed.append((image, str(error)))
            except (MemoryError, RuntimeError, OSError) as error:
                reason = _lack(error, out)
                if reason is None:
                    raise
                outcome.failed.append((image, reason))
            advance()
    return outcome


def segment_volume(
    model: Segmenter, volume: Volume, *, mirror: bool = False, scratch: Path | None = None
) -> NDArray[np.integer[Any]]:
    """The label value of each voxel of a volume, on the volume's own grid, (D, H, W).

    The volume is prepared by the run's contract, segmented, and the label map taken back: each voxel gets the label
    with the largest share by linear interpolation. What the contract's crop cut away is background.

    Args:
        model: of a transfer run.
        volume: in any orientation and spacing.
        mirror: average over mirror images.
        scratch: where sums may wait that memory should not hold.

    Raises:
        UnusableFile: the contract can't be applied to the volume.
    """
    ready = prepared(volume, model.preprocessing)
    logits = windowed_logits(model.network, ready.array, mirror)
    classes = likeliest(logits, ready.array.shape, model.crop, model.overlap, scratch)
    values = np.array([0, *model.labels])
    kind = np.uint8 if values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max else np.int16
    labelled = Volume(values.astype(kind)[classes], ready.affine)
    return resample_onto(labelled, volume.array.shape, volume.affine, label=True).astype(kind)


def segment_probabilities(
    model: Segmenter, volume: Volume, *, mirror: bool = False, scratch: Path | None = None
) -> Generator[tuple[int, NDArray[np.float32]]]:
    """The probability of each structure on the volume's own grid, one structure at a time: value, (D, H, W).

    The softmax of the mean logits, interpolated linearly; those of all structures wait on disk.

    Args:
        model: of a transfer run.
        volume: in any orientation and spacing.
        mirror: average over mirror images.
        scratch: where what memory should not hold may wait.

    Raises:
        UnusableFile: the contract can't be applied to the volume.
    """
    ready = prepared(volume, model.preprocessing)
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=scratch) as folder:
        shape = ready.array.shape
        size = math.prod(shape) * np.dtype(np.float16).itemsize
        files = [_reserved(Path(folder) / str(value), size) for value in model.labels]
        shares = [np.memmap(file, dtype=np.float16, mode="r+", shape=shape) for file in files]

        def finish(box: Box, mean: Tensor) -> None:
            for share, one in zip(shares, mean.softmax(0)[1:].numpy(), strict=True):
                share[box] = one

        sliding_window(
            windowed_logits(model.network, ready.array, mirror), shape, model.crop, model.overlap, finish, scratch
        )
        for value, share in zip(model.labels, shares, strict=True):
            whole = Volume(share.astype(np.float32), ready.affine)
            yield value, resample_onto(whole, volume.array.shape, volume.affine).astype(np.float32)


@torch.no_grad()
def classify_volume(model: Classifier, volume: Volume, *, mirror: bool = False) -> float:
    """How far a volume belongs to class 1, from 0 to 1: the pooled features of its windows are averaged.

    Raises:
        UnusableFile: the contract can't be applied to the volume.
    """
    ready = prepared(volume, model.preprocessing)
    logits = windowed_logits(model.network, ready.array, mirror)
    boxes = windows(ready.array.shape, model.crop, model.overlap)
    mean = torch.stack([logits(box) for box in boxes]).mean()  # the head is linear: as good as the features' mean
    return float(torch.sigmoid(mean.double()))


def prepared(volume: Volume, contract: Preprocessing) -> Volume:
    """What a store would hold of a volume: float32 that float16 can say.

    Raises:
        UnusableFile: the contract can't be applied to the volume.
    """
    ready, _, _ = preprocess(volume, None, contract)
    return Volume(ready.array.astype(np.float16).astype(np.float32), ready.affine)


def windowed_logits(network: AdaptedNetwork, array: NDArray[np.float32], mirror: bool) -> Callable[[Box], Tensor]:
    """A box of a prepared volume to the network's logits there, averaged over its mirror images if asked."""
    device = next(network.parameters()).device
    flips = [[axis for axis, flipped in zip(AXES, way, strict=True) if flipped] for way in product((0, 1), repeat=3)]

    @torch.no_grad()
    def logits(box: Box) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(array[box]))[None, None].to(device)
        total: Tensor = network(image)
        if mirror:
            for axes in flips[1:]:
                flipped = network(image.flip(axes))
                total = total + (flipped.flip(axes) if flipped.ndim == image.ndim else flipped)
            total = total / len(flips)
        return total

    return logits


class _Maps:
    """Label maps or probabilities as files of a folder."""

    def __init__(self, model: Segmenter, folder: Path, settings: PredictSettings) -> None:
        self.model, self.folder, self.settings = model, folder, settings
        _write_names(model, folder / LABELS_NAME)

    def names(self, image: Case) -> list[str]:
        """Of an image's results."""
        suffixes = [""] if self.settings.output == "labels" else [f"_{value}" for value in self.model.labels]
        return [f"{image.id}{suffix}.nii.gz" for suffix in suffixes]

    def has(self, name: str) -> bool:
        """Whether a result is there."""
        return (self.folder / name).exists()

    def write(self, volume: Volume, image: Case) -> None:
        """Predict an image, and write what is not there of its results."""
        model, mirror, names = self.model, self.settings.mirror, self.names(image)
        if self.settings.output == "labels":
            found = segment_volume(model, volume, mirror=mirror, scratch=self.folder)
            write_like(self.folder / names[0], found, image.image, volume.affine)
            return
        with closing(segment_probabilities(model, volume, mirror=mirror, scratch=self.folder)) as shares:
            for name, (_, share) in zip(names, shares, strict=True):
                if not self.has(name):  # of an image that was stopped at, some are
                    write_like(self.folder / name, share, image.image, volume.affine)


class _Scores:
    """The scores of images as rows of one table, which is whole after each."""

    def __init__(self, model: Classifier, path: Path, settings: PredictSettings, *, listed: bool) -> None:
        self.model, self.path, self.settings = model, path, settings
        if path.exists() and not listed:
            raise UserError(f"{path} exists already; name another folder, or remove it first")
        self.rows = _read_scores(path) if path.exists() else {}

    def names(self, image: Case) -> list[str]:
        """Of an image's row."""
        return [image.id]

    def has(self, name: str) -> bool:
        """Whether a row is there."""
        return name in self.rows

    def write(self, volume: Volume, image: Case) -> None:
        """Score an image, and write the table with its row."""
        rows = self.rows | {image.id: str(classify_volume(self.model, volume, mirror=self.settings.mirror))}
        with whole_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(SCORES_COLUMNS)
            writer.writerows(rows.items())
        self.rows = rows


def _predict_one(results: _Maps | _Scores, ledger: Ledger, image: Case) -> bool:
    """Write what is missing of an image's results; False if nothing is."""
    names = results.names(image)
    present = [name for name in names if results.has(name)]
    ledger.check(present, image.image)
    if len(present) == len(names):
        return False
    volume = read_volume(image.image, image.parts)
    ledger.begin(names, image.image)
    results.write(volume, image)
    return True


def _lack(error: Exception, out: Path) -> str | None:
    """What there was too little of for an image, and the mend; None if the error says something else."""
    if isinstance(error, torch.OutOfMemoryError):
        return "does not fit the GPU's memory; give --device cpu"
    if isinstance(error, MemoryError) or NO_MEMORY in str(error):
        return "does not fit the memory there is; end other programs, or predict it on a machine with more"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"its result does not fit the disk of {out}; make room and give the same command again"
    return None


def _reserved(path: Path, size: int) -> Path:
    """A new file of this many bytes that the disk has room for: writing to a map of a sparse one kills the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            for start in range(0, size, BLOCK_BYTES):
                file.write(bytes(min(BLOCK_BYTES, size - start)))
    return path


def _read_scores(path: Path) -> dict[str, str]:
    """The score of each id of a table that is there."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
        if tuple(columns) != SCORES_COLUMNS:
            raise ValueError(f"its columns are {', '.join(columns)}")
        return {case: score for case, score in rows}  # noqa: C416 - a row of another length is an error here
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} can't be read ({error}); name another folder, or remove it first") from None


def _write_names(model: Segmenter, path: Path) -> None:
    """Write the structures' names, or find them there from an earlier call."""
    text = json.dumps({str(value): name for value, name in model.labels.items()}, indent=1) + "\n"
    if not path.exists():
        write_text(path, text)
    elif path.read_bytes() != text.encode():
        raise UserError(f"{path} names other structures, of another run; name another folder, or remove it first")
