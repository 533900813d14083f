"""Register pairs of images: transforms, warped images and labels in the fixed image's own grid."""

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from gvsl.backbones.weights import PretrainedBackbone
from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.files import claimed, refuse_existing, refuse_long_name, whole_file, whole_folder, write_text
from gvsl.hardware import find_device
from gvsl.io import UnusableFile, Volume, declared_modality, read_label, refuse_other_grid
from gvsl.methods import GVSL
from gvsl.prediction.content import file_content, image_content
from gvsl.prediction.pairs import REQUIRED, ImagePair, find_image
from gvsl.prediction.predict import TellCase, reason_of, say_nothing
from gvsl.prediction.registered import (
    PAGE_NAME,
    RECORD_NAME,
    Record,
    Render,
    Side,
    folded,
    ncc,
    viewed,
    write_files,
)
from gvsl.prediction.results import read_table
from gvsl.prediction.volumes import prepared
from gvsl.preprocessing import Preprocessing, require_lungmask
from gvsl.preprocessing.checks import seems_hounsfield, unlike_hounsfield
from gvsl.preprocessing.images import names_of, read_image
from gvsl.progress import progress
from gvsl.propagation.atlases import load_matcher, matcher_fingerprint
from gvsl.propagation.match import match_volumes
from gvsl.readers import read_json
from gvsl.settings.propagation import RegisterSettings as RegisterSettings
from gvsl.text import table_cell

FORMAT = 1
TABLE_NAME = "registered.csv"
COLUMNS = ("id", "status", "moving", "fixed", "ncc_before", "ncc_after", "folded", "dice_before", "dice", "seconds")
ROLES = {
    "moving": "moving image",
    "fixed": "fixed image",
    "moving_labels": "moving label map",
    "fixed_labels": "fixed label map",
}
"""What the files of a pair are, in words."""
NO_EFFECT = ("device", "any_modality")
"""Settings that change no result."""


@dataclass
class Registered:
    """The outcome of a table of pairs."""

    done: list[ImagePair] = field(default_factory=list)
    present: list[ImagePair] = field(default_factory=list)
    """Pairs whose results existed, from an earlier call with the same weights and settings."""
    failed: list[tuple[ImagePair, str]] = field(default_factory=list)
    """Pairs that failed, each with the reason."""


def register(
    pair: ImagePair,
    weights: Path,
    out: Path,
    settings: RegisterSettings | None = None,
    *,
    render: Render | None = None,
    tell: TellCase = say_nothing,
) -> Record:
    """Match a moving image with a fixed one, and write transforms, warped image and labels into the new folder `out`.

    Args:
        pair: the two images.
        weights: the folder of a pre-training run that learnt to match.
        out: written whole or not at all.
        settings: the defaults if not given.
        render: makes the page register.html; without it there is none.
        tell: takes an image and a line for all that `gvsl prepare` would note about it.

    Raises:
        UserError: `out` exists, the run can't match, or an image or label map can't be used.
    """
    refuse_existing(out)
    registration = _Registration(weights, settings or RegisterSettings(), render, tell)
    with claimed(out, "gvsl register"):
        try:
            return registration.write(pair, out)
        except Exception as error:
            raise UserError(reason_of(error, out)) from error


def register_table(
    pairs: Sequence[ImagePair],
    weights: Path,
    out: Path,
    settings: RegisterSettings | None = None,
    *,
    render: Render | None = None,
    tell: TellCase = say_nothing,
) -> Registered:
    """Register each pair as `register` does, into `out`/MOVING_to_FIXED, with a row each in `out`/registered.csv.

    A pair that can't be used is listed with the reason, and the others are still done. Results of an earlier call with
    the same images, label maps, weights and settings are kept, wherever these files lie now; of others they are
    refused.

    Raises:
        UserError: the run can't match, or `out` can't be written or holds another registered.csv.
    """
    registration = _Registration(weights, settings or RegisterSettings(), render, tell)
    with claimed(out, "gvsl register", inside=True):
        path, outcome = out / TABLE_NAME, Registered()
        rows = {row["id"]: row for row in read_table(path, COLUMNS)} if path.exists() else {}
        owners: dict[str, ImagePair] = {}
        with progress(len(pairs), "registering", "pairs") as advance:
            for pair in pairs:
                try:
                    other = owners.setdefault(pair.id, pair)
                    if other is not pair:
                        raise UnusableFile(f"its results would have the name of those of {other.moving}; rename one")
                    before = _earlier(pair, out / pair.id, registration.identity)
                    record = before or registration.write(pair, out / pair.id)
                    rows[pair.id] = _row(pair, record)
                    (outcome.present if before else outcome.done).append(pair)
                except Exception as error:  # whatever it is, the other pairs are registered
                    outcome.failed.append((pair, reason_of(error, out)))
                    kept = pair.id in rows and (out / pair.id).exists()  # results of an earlier call, and their row
                    if owners[pair.id] is pair and not kept:
                        rows[pair.id] = dict(zip(COLUMNS, (pair.id, "failed", *_paths(pair)), strict=False))
                _write_table(path, list(rows.values()))
                advance()
    return outcome


class _Registration:
    """What is the same for all pairs of a call."""

    def __init__(self, weights: Path, settings: RegisterSettings, render: Render | None, tell: TellCase) -> None:
        self.weights, self.settings, self.render, self.tell = weights, settings, render, tell
        self.device = find_device(settings.device)
        self.method: GVSL = load_matcher(weights, settings.start)
        assert isinstance(self.method.backbone, PretrainedBackbone)
        self.preprocessing: Preprocessing = self.method.backbone.preprocessing
        if self.preprocessing.channel_count > 1:
            names = names_of(self.preprocessing)
            raise UserError(f"{weights} matches images of several channels ({names}); gvsl register takes one channel")
        require_lungmask(self.preprocessing)
        self.method.to(self.device)
        deciding = {name: str(value) for name, value in vars(settings).items() if name not in NO_EFFECT}
        self.identity = {"weights": matcher_fingerprint(weights), **deciding}

    def write(self, pair: ImagePair, out: Path) -> Record:
        """Register a pair into the new folder `out`."""
        refuse_long_name(out)
        clock, notes = _Clock(), list[str]()
        images = [_read(path, self.preprocessing) for path in (pair.moving, pair.fixed)]
        if not self.settings.any_modality:
            _refuse_two_modalities(images[0], images[1], self.preprocessing)
        moving = self._side(*images[0], pair.moving_labels, notes)
        fixed = self._side(*images[1], pair.fixed_labels, notes)
        contents = _contents(pair)
        clock.lap("preparing")
        matched = match_volumes(self.method, self._tensor(moving), self._tensor(fixed), self.settings)
        clock.lap("matching")
        with whole_folder(out) as folder:
            written = write_files(folder, matched, moving, fixed)
            before, after = ncc(self.method.ncc, matched, fixed)
            clock.lap("writing")
            record: Record = {
                "format": FORMAT,
                "gvsl": version("gvsl"),
                "inputs": _inputs(pair),
                "contents": contents,
                "weights": str(self.weights.absolute()),
                "identity": self.identity,
                "ncc_before": before,
                "ncc_after": after,
                "folded": folded(matched, fixed),
                "jacobian": written.jacobian,
                "outside": written.outside,
                "dice_before": written.scores.mean("before"),
                "dice": written.scores.mean("after"),
                "structures": written.scores.structures,
                "seconds": clock.laps,
                "notes": notes,
            }
            if self.render is not None:
                page = self.render(record, viewed(matched, moving, fixed, written.carried), self.preprocessing.voxel)
                write_text(folder / PAGE_NAME, page)
            write_text(folder / RECORD_NAME, json.dumps(record, indent=1) + "\n")
        return record

    def _side(self, case: Case, image: Volume, labels: Path | None, notes: list[str]) -> Side:
        """Prepare an image, and read its label map."""

        def tell(image: Case, note: str) -> None:
            notes.append(f"{image.image}: {note}")
            self.tell(image, note)

        with _naming(case.image):
            array, affine = prepared(image, self.preprocessing, partial(tell, case))
            ready = Volume(array[0], affine)
        if labels is None:
            return Side(case, image, ready)
        if not labels.exists():
            raise UserError(f"{labels} does not exist; name the label map of {case.image}")
        with _naming(labels):
            found = read_label(labels, (), image)
            refuse_other_grid(found, image)
        for note in found.notes:
            tell(Case(case.id, labels), note)
        return Side(case, image, ready, Volume(found.array, image.affine))

    def _tensor(self, side: Side) -> torch.Tensor:
        return torch.from_numpy(side.ready.array)[None, None].to(self.device)


@dataclass
class _Clock:
    """Seconds that parts of the work take."""

    started: float = field(default_factory=time.perf_counter)
    laps: dict[str, float] = field(default_factory=dict)

    def lap(self, name: str) -> None:
        """Note the time since the last lap."""
        now = time.perf_counter()
        self.laps[name], self.started = round(now - self.started, 3), now


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let the message on an unusable file name it."""
    try:
        yield
    except UnusableFile as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path, preprocessing: Preprocessing) -> tuple[Case, Volume]:
    case = find_image(path)
    with _naming(case.image):
        if case.unusable:
            raise UnusableFile(case.unusable)
        return case, read_image(case, preprocessing)[0]


def _refuse_two_modalities(
    moving: tuple[Case, Volume], fixed: tuple[Case, Volume], preprocessing: Preprocessing
) -> None:
    """Refuse a pair that seems to be of two modalities, by what DICOM files declare, or else by the values.

    Raises:
        UserError: it does.
    """
    pair = (moving, fixed)
    kinds = [declared_modality(case.image, case.parts) for case, _ in pair]
    if not all(kinds):
        kinds = [{True: "CT in HU", False: "no CT in HU", None: ""}[seems_hounsfield(image)] for _, image in pair]
    if not all(kinds):
        unlike = [unlike_hounsfield(image, preprocessing) is not None for _, image in pair]
        kinds = ["no CT in HU" if one else "CT in HU" for one in unlike]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{moving[0].image} seems to be {kinds[0]}, and {fixed[0].image} {kinds[1]}: the images of a pair must "
            "be of one modality; correct one, or give --any-modality"
        )


def _earlier(pair: ImagePair, folder: Path, identity: dict[str, str]) -> Record | None:
    """Return the record of a pair that an earlier call registered; None if there is none.

    Raises:
        UserError: the folder is of other images, label maps, weights or settings, or is no such folder.
    """
    if not (folder.exists() or folder.is_symlink()):
        return None
    try:
        record: Record = read_json(folder / RECORD_NAME, Record)
    except (OSError, ValueError):
        raise UserError(f"{folder} exists already, and holds no {RECORD_NAME} of gvsl; name another folder") from None
    known = record.get("contents")
    before, now = (record["inputs"], _inputs(pair)) if known is None else (known, _contents(pair))
    words = _difference(record["identity"], identity) or _other_inputs(before, now)
    if words:
        raise UserError(f"{folder} exists already, {words}; name another folder, or remove it")
    return record


def _difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs in weights or settings; empty if nothing does."""
    if was.get("weights") != now.get("weights"):
        return "by other weights"
    changed = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    return f"with {changed[0]} {was.get(changed[0])}, not {now.get(changed[0])}" if changed else ""


def _other_inputs(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return which input is another, by path or by content; empty if none is."""
    for name, words in ROLES.items():
        if was.get(name) != now.get(name):
            both = name in was and name in now
            return f"of another {words}" if both else f"{'with' if name in was else 'without'} a {words}"
    return ""


def _inputs(pair: ImagePair) -> dict[str, str]:
    return {name: str(path.absolute()) for name, path in asdict(pair).items() if path is not None}


def _contents(pair: ImagePair) -> dict[str, str]:
    """Return the hash of what each file of a pair holds, by its role.

    Raises:
        UserError: one can't be read.
    """
    found: dict[str, str] = {}
    for name, path in asdict(pair).items():
        if path is not None:
            with _naming(path):
                found[name] = image_content(find_image(path)) if name in REQUIRED else file_content(path)
    return found


def _paths(pair: ImagePair) -> tuple[str, str]:
    return str(pair.moving), str(pair.fixed)


def _row(pair: ImagePair, record: Record) -> dict[str, str]:
    numbers = {name: record[name] for name in ("ncc_before", "ncc_after", "folded", "dice_before", "dice")}
    row = dict(zip(COLUMNS, (pair.id, "registered", *_paths(pair)), strict=False))
    row |= {name: "" if value is None else f"{value:.6f}" for name, value in numbers.items()}
    return row | {"seconds": f"{sum(record['seconds'].values()):.2f}"}


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        table.writerows({key: table_cell(value) for key, value in row.items()} for row in rows)
