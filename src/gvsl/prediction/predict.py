"""Predict images by a transfer run: label maps, probabilities or scores, in each image's own geometry."""

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.cases import Case
from gvsl.datasets import find_volumes, label_folder, stem
from gvsl.errors import UserError
from gvsl.files import MAX_NAME, claimed, url_of
from gvsl.hardware import find_device
from gvsl.io import UnusableFile
from gvsl.memory import is_out_of_memory
from gvsl.prediction.ledger import Ledger, open_ledger
from gvsl.prediction.outcome import Predicted
from gvsl.prediction.results import Maps, Scores
from gvsl.prediction.targets import Targets, files_targets, store_targets
from gvsl.prediction.volumes import Tell
from gvsl.prediction.volumes import segment_volume as segment_volume  # also importable from here
from gvsl.preprocessing.images import Channels
from gvsl.progress import progress
from gvsl.settings.predict import PredictSettings as PredictSettings
from gvsl.store import Store
from gvsl.transfer import Classifier, Segmenter, load_adapted
from gvsl.transfer.weights import fingerprint


def find_images(paths: Sequence[Path]) -> list[Case]:
    """Return the images at `paths`: files, and those that `find_volumes` finds in folders, including DICOM series.

    Raises:
        UserError: a path does not exist, or is a folder without volumes.
    """
    images: list[Case] = []
    for path in paths:
        if path.is_dir():
            found = find_volumes(path, label_folder(path))
            images += [*found.cases, *found.refused]
        elif path.exists():
            images.append(Case(stem(path), path))
        elif url := url_of(path):
            raise UserError(f"{url} is a URL, by which a store alone is read: name one store, or files and folders")
        else:
            raise UserError(f"{path} does not exist; name images, or a folder of them")
    return list(dict.fromkeys(images))


TellCase = Callable[[Case, str], object]
"""Takes an image and a line about it."""


def say_nothing(image: Case, note: str) -> None:
    """Keep a note on an image to oneself."""


class Results(Protocol):
    """The result files of a list of images."""

    def names(self, image: Case) -> list[str]:
        """Return the names of an image's results."""

    def has(self, name: str) -> bool:
        """Return True if a result exists."""

    def write(self, channels: Channels, image: Case, tell: Tell) -> None:
        """Compute and write those of an image's results that do not exist yet; `tell` is given notes on the image."""


def predict(
    run: Path,
    images: Sequence[Case] | Store,
    out: Path,
    settings: PredictSettings | None = None,
    tell: TellCase = say_nothing,
    *,
    split: str | None = None,
) -> Predicted:
    """Predict each image by the network of a transfer run, and write the results into `out`.

    A label map is written to `out`/NAME.nii.gz, the probability of label 3 to `out`/NAME_3.nii.gz, each with its
    image's grid and affine, and its header if that is NIfTI; labels.json beside them names the structures. A
    classification writes `out`/scores.csv, whole after each image. An image that can't be used, or for which memory or
    disk space runs out, is listed with the reason, and the others are still predicted. Results of an earlier call with
    the same run, listed in predicted.json, are kept if their images hold the same; nothing is overwritten.
    A store's cases are predicted as they are stored; the results have the grids of their sources, or of the store.

    Args:
        run: the folder of a run of `gvsl transfer`.
        images: see `find_images`; of a run on several channels, files named after them are put together. Or a store.
        out: a folder, created if need be.
        settings: the defaults if not given.
        tell: takes an image and a line for all that `gvsl prepare` would note about it, before its result is written.
        split: of the store whose cases are predicted; all of it if not given.

    Raises:
        UserError: `run` is not such a folder, the store was prepared unlike its training data or has no such split,
            `out` is not writable, is being written or holds the results of another run or a scores.csv that isn't a
            run's, or the run's preprocessing requires lungmask, which is not there.
    """
    settings = PredictSettings() if settings is None else settings
    device = find_device(settings.device)
    model = load_adapted(run)
    channels, named = model.network.backbone.in_channels, model.preprocessing.channel_count
    if channels != named:
        raise UserError(f"{run} takes images of {channels} channels, but names {named}: name another run")
    if isinstance(images, Store):
        backbone = model.network.backbone
        assert isinstance(backbone, PretrainedBackbone)
        check_preprocessing(backbone, run, images, settings.allow_preprocessing_mismatch)
        targets = store_targets(images, list(images.cases) if split is None else images.split(split), settings.grid)
    else:
        targets = files_targets(images, model.preprocessing)
    model.network.to(device)
    with claimed(out, "gvsl predict", inside=True):
        return _predict(run, model, targets, out, settings, tell)


def _predict(
    run: Path,
    model: Segmenter | Classifier,
    targets: Targets,
    out: Path,
    settings: PredictSettings,
    tell: TellCase,
) -> Predicted:
    identity = {"weights": fingerprint(run), "mirror": str(settings.mirror).lower()}
    ledger = open_ledger(out, identity if targets.from_files else identity | {"grid": settings.grid})
    results: Results
    if isinstance(model, Classifier):
        results = Scores(model, targets, out, mirror=settings.mirror, listed=bool(ledger.images))
    else:
        results = Maps(model, targets, out, probabilities=settings.output == "probabilities", mirror=settings.mirror)
    return write_results(results, ledger, targets, out, tell)


def write_results(
    results: Results,
    ledger: Ledger,
    targets: Targets,
    out: Path,
    tell: TellCase = say_nothing,
) -> Predicted:
    """Write the missing results of each image; list those that can't be used, or for which resources run out.

    Args:
        results: computes and writes an image's results.
        ledger: of `out`.
        targets: the images.
        out: the folder, to name it in messages.
        tell: see `predict`.
    """
    outcome = Predicted()
    owners: dict[str, Case] = {}
    with progress(len(targets.images), "predicting", "images") as advance:
        for image in targets.images:
            try:
                other = owners.setdefault(image.id, image)
                if other != image:
                    raise UnusableFile(f"its result would have the name of that of {other.image}; rename one of them")
                if image.unusable:
                    raise UnusableFile(image.unusable)
                written = _write_one(results, ledger, image, targets, tell)
                (outcome.done if written else outcome.present).append(image)
            except Exception as error:  # whatever it is, the other images are predicted
                outcome.failed.append((image, reason_of(error, out)))
            advance()
    return outcome


def _write_one(results: Results, ledger: Ledger, image: Case, targets: Targets, tell: TellCase) -> bool:
    """Write the missing results of an image; return False if none is missing."""
    names = results.names(image)
    refuse_names(names)
    present = [name for name in names if results.has(name)]
    content = targets.content(image)
    ledger.check(present, image.image, content)
    if len(present) == len(names):
        return False
    channels = targets.read(image)
    ledger.begin([name for name in names if name not in present], image.image, content)
    results.write(channels, image, partial(tell, image))
    return True


def refuse_names(names: Sequence[str]) -> None:
    """Refuse results whose names no file system takes.

    Raises:
        UnusableFile: a name is too long.
    """
    longest = max(len(os.fsencode(name)) for name in names)
    if longest > MAX_NAME:
        raise UnusableFile(f"its result would have a name of {longest} bytes, {MAX_NAME} are the most; rename it")


def reason_of(error: Exception, out: Path) -> str:
    """Return why an item of a list failed, for the user, whatever the error is.

    Args:
        error: what ended it.
        out: the folder of the results, to name it.
    """
    if isinstance(error, UserError):
        return str(error)
    return _resource_error(error, out) or f"fails with {type(error).__name__}: {error}"


def _resource_error(error: Exception, out: Path) -> str | None:
    """Return the message for an out-of-memory or disk-full error, else None."""
    if isinstance(error, torch.OutOfMemoryError):
        return "does not fit the GPU's memory; give --device cpu"
    if is_out_of_memory(error):
        return "does not fit the memory there is; end other programs, or predict it on a machine with more"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"its result does not fit the disk of {out}; make room and give the same command again"
    return None
