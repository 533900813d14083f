"""Use a transfer run on images: label maps, probabilities or scores, in each image's own geometry."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.datasets import find_volumes, stem
from gvsl.errors import UserError
from gvsl.evaluation.checks import find_device
from gvsl.evaluation.sliding import likeliest, sliding_window
from gvsl.files import make_writable, whole_file, write_text
from gvsl.io import UnusableFile, Volume, read_volume, resample_onto, write_like
from gvsl.progress import progress
from gvsl.store import Preprocessing, preprocess, require_lungmask
from gvsl.store.arrays import Box
from gvsl.transfer import AdaptedNetwork, Classifier, Segmenter, load_adapted, windows
from gvsl.types import Case

LABELS_NAME = "labels.json"
SCORES_NAME = "scores.csv"
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
    classification writes `out`/scores.csv. An image that can't be used, or whose result is there already, is listed
    with the reason, and the rest is done.

    Args:
        run: the folder of a run of `gvsl transfer`.
        images: as `find_images` gives them.
        out: a folder, made if need be.
        settings: the defaults if not given.

    Raises:
        UserError: `run` is no such folder, `out` can't be written to or holds the results of another run,
            scores.csv is there already, or the run's contract asks for lungmask and that isn't there.
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
    table = out / SCORES_NAME
    if isinstance(model, Classifier) and table.exists():
        raise UserError(f"{table} exists already; name another folder, or remove it first")
    if isinstance(model, Segmenter):
        _write_names(model, out / LABELS_NAME)
    outcome = Predicted()
    rows: list[dict[str, object]] = []
    owners: dict[str, Case] = {}
    with progress(len(images), "predicting", "images") as advance:
        for image in images:
            try:
                other = owners.setdefault(image.id, image)
                if other != image:
                    raise UnusableFile(f"its result would have the name of that of {other.image}; rename one of them")
                if image.unusable:
                    raise UnusableFile(image.unusable)
                volume = read_volume(image.image, image.parts)
                if isinstance(model, Classifier):
                    rows.append({"id": image.id, "score": classify_volume(model, volume, mirror=settings.mirror)})
                else:
                    _write_maps(model, volume, image, out, settings)
                outcome.done.append(image)
            except UserError as error:
                outcome.failed.append((image, str(error)))
            except torch.OutOfMemoryError:
                outcome.failed.append((image, "does not fit the GPU's memory; give --device cpu"))
            advance()
    if isinstance(model, Classifier) and rows:
        with whole_file(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "score"])
            writer.writeheader()
            writer.writerows(rows)
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
) -> Iterator[tuple[int, NDArray[np.float32]]]:
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
        shares = [
            np.memmap(Path(folder) / str(value), dtype=np.float16, mode="w+", shape=shape) for value in model.labels
        ]

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


def _write_maps(model: Segmenter, volume: Volume, image: Case, out: Path, settings: PredictSettings) -> None:
    """Write an image's label map, or its structures' probabilities."""
    suffixes = [""] if settings.output == "labels" else [f"_{value}" for value in model.labels]
    targets = [out / f"{image.id}{suffix}.nii.gz" for suffix in suffixes]
    for target in targets:
        if target.exists():
            raise UnusableFile(f"its result {target} exists already; name another folder, or remove it first")
    if settings.output == "labels":
        found = segment_volume(model, volume, mirror=settings.mirror, scratch=out)
        write_like(targets[0], found, image.image, volume.affine)
        return
    shares = segment_probabilities(model, volume, mirror=settings.mirror, scratch=out)
    for target, (_, share) in zip(targets, shares, strict=True):
        write_like(target, share, image.image, volume.affine)


def _write_names(model: Segmenter, path: Path) -> None:
    """Write the structures' names, or find them there from an earlier call."""
    text = json.dumps({str(value): name for value, name in model.labels.items()}, indent=1) + "\n"
    if not path.exists():
        write_text(path, text)
    elif path.read_bytes() != text.encode():
        raise UserError(f"{path} names other structures, of another run; name another folder, or remove it first")
