"""What a store that is there already holds, for a run that adds to it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.preparation.sources import Origin
from gvsl.preparation.staging import PARTS, SOURCES_NAME, finish_moving
from gvsl.preprocessing.spec import Preprocessing, parse_preprocessing
from gvsl.store.manifest import LABEL_VALUES, MANIFEST_NAME, read_manifest
from gvsl.store.table import CaseTable


@dataclass(frozen=True)
class Existing:
    """A store as its next run of `prepare` sees it; an empty one where there is none yet."""

    path: Path
    table: CaseTable = field(default_factory=lambda: CaseTable.parse(b""))
    origins: Mapping[str, Origin] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """Of its cases."""
        return set(self.table.numbers)

    def row(self, case_id: str) -> dict[str, Any]:
        """A case of its manifest."""
        row: dict[str, Any] = json.loads(self.table.line(case_id))
        return row

    def origin(self, case_id: str) -> Origin | None:
        """What a case was made of, if the store has it and its arrays are there as they were written."""
        origin = self.origins.get(case_id)
        if origin is None:
            return None
        for part, size in zip(PARTS, origin.stored, strict=False):
            try:
                if (self.path / part / f"{case_id}.b2nd").stat().st_size != size:
                    return None
            except FileNotFoundError:
                return None
        return origin

    def holds(self, texts: Mapping[str, bytes]) -> bool:
        """Whether these are its manifest and what belongs to it, to the byte."""
        try:
            return all((self.path / name).read_bytes() == text for name, text in texts.items())
        except FileNotFoundError:
            return False


def open_existing(
    out: Path, preprocessing: Preprocessing, source: str, label_values: Sequence[Sequence[int]] = ()
) -> Existing:
    """The store at `out`, or an empty one if there is nothing; what an earlier run left to do is done first.

    Raises:
        UserError: what is there isn't a store, or one of another source, contract or label values, or of an earlier
            gvsl.
    """
    finish_moving(out)
    if not out.exists() and not out.is_symlink():
        return Existing(out)
    if not (out / MANIFEST_NAME).is_file():
        refuse_existing(out)
    manifest, table = read_manifest(out)
    if manifest["format"] == 1:
        raise UserError(
            f"{out} is of an earlier gvsl, which didn't note what its cases were made of; name another output"
        )
    found = parse_preprocessing(manifest["preprocessing"])
    if found != preprocessing:
        odd = ", ".join(name for name in vars(found) if getattr(found, name) != getattr(preprocessing, name))
        raise UserError(f"{out} exists already and was prepared with another {odd}; give the same, or another output")
    if manifest["source"] != source:
        raise UserError(
            f"{out} exists already and was prepared from {manifest['source']}, not {source}; name another output"
        )
    if [list(pair) for pair in label_values] != manifest.get(LABEL_VALUES, []):
        raise UserError(f"{out} exists already and has other label values; name another output")
    names = {int(value): str(name) for value, name in manifest["label_names"].items()}
    return Existing(out, table, _read_origins(out, table), names)


def _read_origins(out: Path, table: CaseTable) -> dict[str, Origin]:
    path = out / SOURCES_NAME
    try:
        found = [Origin.parse(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} can't be read ({error}); prepare the store again elsewhere") from None
    origins = {origin.id: origin for origin in found}
    if origins.keys() != table.numbers.keys():
        raise UserError(f"{path} and the manifest don't name the same cases; prepare the store again elsewhere")
    return origins
