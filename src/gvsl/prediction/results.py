"""Result files of predictions: label maps or probability maps, or a table of scores."""

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.prediction.targets import Targets
from gvsl.prediction.volumes import Tell, classify_prepared, prepared_probabilities, segment_prepared
from gvsl.preprocessing.images import Channels
from gvsl.readers import check_regular, read_bytes
from gvsl.text import plain_cell, table_cell
from gvsl.transfer import Classifier, Segmenter

LABELS_NAME = "labels.json"
SCORES_NAME = "scores.csv"
SCORES_COLUMNS = ("id", "score")


class Maps:
    """Label maps or probability maps as files in a folder, with labels.json beside them."""

    def __init__(self, model: Segmenter, targets: Targets, folder: Path, *, probabilities: bool, mirror: bool) -> None:
        """Check the labels.json that is there, if any; the first result brings one.

        Raises:
            UserError: it names other structures.
        """
        self.model, self.targets, self.folder = model, targets, folder
        self.probabilities, self.mirror = probabilities, mirror
        check_label_names(folder, model.labels)

    def names(self, image: Case) -> list[str]:
        """Return the names of an image's results."""
        suffixes = [f"_{value}" for value in self.model.labels] if self.probabilities else [""]
        return [f"{image.id}{suffix}.nii.gz" for suffix in suffixes]

    def has(self, name: str) -> bool:
        """Return True if a result exists."""
        return (self.folder / name).exists()

    def write(self, channels: Channels, image: Case, tell: Tell) -> None:
        """Predict an image, and write those of its results that do not exist yet; `tell` what is odd about it first."""
        names, grid = self.names(image), self.targets.grid(image, channels)
        write_label_names(self.folder, self.model.labels)
        ready = self.targets.prepare(channels, tell)
        if not self.probabilities:
            labels = segment_prepared(self.model, ready, grid, mirror=self.mirror, scratch=self.folder)
            self.targets.save(self.folder / names[0], labels, image, grid)
            return
        found = prepared_probabilities(self.model, ready, grid, mirror=self.mirror, scratch=self.folder)
        with closing(found) as maps:
            for name, (_, probability) in zip(names, maps, strict=True):
                if not self.has(name):  # a stopped call may have written some
                    self.targets.save(self.folder / name, probability, image, grid)


class Scores:
    """The scores of images as rows of one table, written whole after each image."""

    def __init__(self, model: Classifier, targets: Targets, folder: Path, *, mirror: bool, listed: bool) -> None:
        """Read the table of an earlier call.

        Args:
            model: predicts the scores.
            targets: the images.
            folder: of scores.csv.
            mirror: average over mirror images.
            listed: the folder's ledger lists results, so that its table is a run's own.

        Raises:
            UserError: the table can't be read or is not a run's own.
        """
        self.model, self.targets, self.path, self.mirror = model, targets, folder / SCORES_NAME, mirror
        if self.path.exists() and not listed:
            raise UserError(f"{self.path} exists already; name another folder")
        self.rows = _read_scores(self.path) if self.path.exists() else {}

    def names(self, image: Case) -> list[str]:
        """Return the name of an image's row."""
        return [image.id]

    def has(self, name: str) -> bool:
        """Return True if a row exists."""
        return name in self.rows

    def write(self, channels: Channels, image: Case, tell: Tell) -> None:
        """Score an image, and write the table with its row; `tell` what is odd about it first."""
        ready = self.targets.prepare(channels, tell)
        rows = self.rows | {image.id: str(classify_prepared(self.model, ready, mirror=self.mirror))}
        with whole_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(SCORES_COLUMNS)
            writer.writerows((table_cell(case), score) for case, score in rows.items())
        self.rows = rows


def write_label_names(folder: Path, labels: Mapping[int, str]) -> None:
    """Write labels.json unless it is there."""
    if not (folder / LABELS_NAME).exists():
        write_text(folder / LABELS_NAME, _names_text(labels))


def check_label_names(folder: Path, labels: Mapping[int, str]) -> None:
    """Check labels.json, if there is one; UserError if it names other structures."""
    path = folder / LABELS_NAME
    if path.exists() and not _holds(path, _names_text(labels)):
        raise UserError(f"{path} names other structures, of another run; name another folder")


def _names_text(labels: Mapping[int, str]) -> str:
    return json.dumps({str(value): name for value, name in labels.items()}, indent=1) + "\n"


def _holds(path: Path, text: str) -> bool:
    """Return True if a file has this text and no other."""
    try:
        return check_regular(path) == len(text.encode()) and path.read_bytes() == text.encode()
    except (OSError, ValueError):
        return False


def read_table(path: Path, columns: Sequence[str], numbers: Collection[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a table of ours.

    Args:
        path: of a CSV file.
        columns: its names.
        numbers: columns of finite numbers.

    Raises:
        UserError: it can't be read, has other columns, or a number is none.
    """
    try:
        found, *cells = csv.reader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""))
        if found != list(columns):
            raise ValueError(f"its columns are {', '.join(found)}")
        rows = [dict(zip(columns, map(plain_cell, row), strict=True)) for row in cells]
        if not all(math.isfinite(float(row[name])) for row in rows for name in numbers):
            raise ValueError("a number is not finite")
        return rows
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} can't be read ({error}); name another folder") from None


def _read_scores(path: Path) -> dict[str, str]:
    """Return the score of each id in a table."""
    return {row["id"]: row["score"] for row in read_table(path, SCORES_COLUMNS, ("score",))}
