"""Result files of propagated labels: a label map and a confidence map per image, and one table."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.files import whole_file
from gvsl.io import UnusableFile, Volume, resample_onto
from gvsl.methods import GVSL
from gvsl.metrics.dice import dice_per_structure
from gvsl.prediction.results import check_label_names, read_table, write_label_names
from gvsl.prediction.targets import Targets
from gvsl.prediction.volumes import Tell
from gvsl.preprocessing.images import Channels
from gvsl.propagation import Atlas, PropagationSettings
from gvsl.propagation.attempt import Attempt, attempt
from gvsl.propagation.match import Memory
from gvsl.propagation.templates import other_than
from gvsl.text import table_cell

TABLE_NAME = "propagated.csv"
COLUMNS = ("id", "status", "reverse_dice", "checked_on", "similarity", "dice")

Truth = Callable[[str], NDArray[Any] | None]
"""Returns the class indices of an image's id on the prepared grid, (D, H, W), if there is a label map."""


class CarriedMaps:
    """Carried labels as files in a folder: NAME.nii.gz, NAME_confidence.nii.gz, labels.json and propagated.csv."""

    def __init__(
        self,
        method: GVSL,
        atlases: Sequence[Atlas],
        labels: dict[int, str],
        targets: Targets,
        folder: Path,
        settings: PropagationSettings,
        *,
        truth: Truth | None = None,
        listed: bool = False,
    ) -> None:
        """Check labels.json, if there is one.

        Args:
            method: matches atlases and images.
            atlases: on the method's device.
            labels: label value to name, in the order of the atlases' classes, without the background.
            targets: the images.
            folder: to write into.
            settings: of `carry`.
            truth: returns the true labels of an id, to score the carried ones; None if there are none.
            listed: the folder's ledger lists results, so that its table is an earlier call's.

        Raises:
            UserError: labels.json names other structures, or propagated.csv is no earlier call's.
        """
        self.method, self.atlases, self.labels, self.folder, self.settings = method, atlases, labels, folder, settings
        self.targets, self.truth = targets, truth
        self.templates: Sequence[Atlas] = ()
        """Further voters, of which none votes on itself."""
        self._memory = Memory()
        check_label_names(folder, labels)
        table = folder / TABLE_NAME
        if table.exists() and not listed:
            raise UserError(f"{table} exists already; name another folder, or remove it first")
        self.rows = {row["id"]: row for row in read_table(table, COLUMNS)} if table.exists() else {}

    def names(self, image: Case) -> list[str]:
        """Return the names of an image's two maps."""
        return [f"{image.id}.nii.gz", f"{image.id}_confidence.nii.gz"]

    def has(self, name: str) -> bool:
        """Return True if a map exists."""
        return (self.folder / name).exists()

    def write(self, channels: Channels, image: Case, tell: Tell) -> None:
        """Carry the labels onto an image, and write its maps and its row.

        Raises:
            UnusableFile: the match failed; the row says so, and there are no maps.
        """
        ready, grid = self.targets.prepare(channels, tell), self.targets.grid(image, channels)
        templates = other_than(torch.from_numpy(ready.array)[None].to(self.atlases[0].image.device), self.templates)
        found = attempt(self.method, self.atlases, ready.array, self.settings, templates, memory=self._memory)
        carried = found.carried
        self._write_row(image.id, found)
        if carried.turned:
            raise UnusableFile(
                f"no match: it looks {carried.turned} against {carried.checked_on}; correct its orientation (a part of "
                "the other side of the body needs an atlas of that side), or switch the check off by least_dice 0"
            )
        if found.failed:
            raise UnusableFile(
                f"no match: the labels, carried back onto {carried.checked_on}, have a DSC of "
                f"{carried.reverse_dice:.2f}, less than least_dice {self.settings.least_dice:g}; check that it shows "
                "the atlas's organ whole and in the same orientation"
            )
        write_label_names(self.folder, self.labels)
        classes = carried.shown[0, 0].cpu().numpy()
        for name, array, label in (
            (self.names(image)[0], self._values()[classes], True),
            (self.names(image)[1], carried.confidence[0, 0].cpu().numpy(), False),
        ):
            shown = resample_onto(Volume(array, ready.affine), grid.array.shape, grid.affine, label=label)
            self.targets.save(self.folder / name, shown.astype(array.dtype), image, grid)

    def _values(self) -> NDArray[Any]:
        values = np.array([0, *self.labels])
        small = values.min() >= 0 and values.max() <= np.iinfo(np.uint8).max
        return values.astype(np.uint8 if small else np.int16)

    def _write_row(self, name: str, found: Attempt) -> None:
        carried = found.carried
        status = carried.turned.split()[0] if carried.turned else "failed" if found.failed else "carried"
        row = {"id": name, "status": status, "checked_on": carried.checked_on}
        row["similarity"] = f"{found.similarity:.4f}"
        row["reverse_dice"] = "" if carried.reverse_dice is None else f"{carried.reverse_dice:.4f}"
        truth = None if self.truth is None else self.truth(name)
        if truth is not None:
            true = torch.from_numpy(truth)[None, None].to(carried.votes.device)
            scores = dice_per_structure(carried.shown, true, 1 + len(self.labels))
            row["dice"] = f"{np.mean(scores):.4f}"
        self.rows[name] = row
        with (
            whole_file(self.folder / TABLE_NAME) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, COLUMNS, restval="")
            table.writeheader()
            table.writerows({key: table_cell(value) for key, value in each.items()} for each in self.rows.values())
