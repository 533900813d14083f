"""An existing store, for a run that adds to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.preparation.sources import Origin
from gvsl.preparation.staging import PARTS, SOURCES_NAME, finish_moving
from gvsl.preprocessing.parse import parse_preprocessing
from gvsl.preprocessing.spec import Preprocessing, setting_text
from gvsl.readers import parse_json, read_bytes
from gvsl.store.manifest import LABEL_VALUES, MANIFEST_NAME, MAX_TABLE_BYTES, read_manifest
from gvsl.store.store import CaseRow
from gvsl.store.table import CaseTable


@dataclass(frozen=True)
class ExistingStore:
    """The store that `prepare` adds to; empty if there is none yet."""

    path: Path
    table: CaseTable = field(default_factory=lambda: CaseTable.parse(b""))
    origins: Mapping[str, Origin] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """Ids of the cases."""
        return set(self.table.numbers)

    def row(self, case_id: str) -> dict[str, Any]:
        """Return a case's manifest row; UserError if it is malformed."""
        try:
            row: dict[str, Any] = parse_json(self.table.line(case_id), CaseRow)
        except ValueError as error:
            raise UserError(f"{self.path} has a broken manifest ({error}); prepare it again elsewhere") from None
        return row

    @property
    def subjects(self) -> dict[str, str]:
        """The first case of the same subject by id, of those that are not the only one of theirs."""
        if not self.table.names_subjects:
            return {}
        found = {case_id: str(self.row(case_id).get("subject", "")) for case_id in self.ids}
        return {case_id: first for case_id, first in found.items() if first}

    def origin(self, case_id: str) -> Origin | None:
        """Return a case's origin if the store has the case, with arrays of the recorded size."""
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
        """Return True if its text files have exactly this content."""
        try:
            return all((self.path / name).read_bytes() == text for name, text in texts.items())
        except FileNotFoundError:
            return False


def open_existing(
    out: Path, preprocessing: Preprocessing, source: str, label_values: Sequence[Sequence[int]] = ()
) -> ExistingStore:
    """Open the store at `out`, or an empty one; first complete an update that was interrupted.

    Raises:
        UserError: `out` isn't a store, or one with another source, preprocessing or label values.
    """
    finish_moving(out)
    if not out.exists() and not out.is_symlink():
        return ExistingStore(out)
    if not (out / MANIFEST_NAME).is_file():
        refuse_existing(out)
    manifest, table = read_manifest(out)
    found = parse_preprocessing(manifest["preprocessing"])
    if found != preprocessing:
        both = ((name, setting_text(found, name), setting_text(preprocessing, name)) for name in vars(found))
        changed = "; ".join(f"{name} {earlier}, now {now}" for name, earlier, now in both if earlier != now)
        raise UserError(f"{out} exists already and was prepared with {changed}; give the same, or another output")
    if manifest["source"] != source:
        raise UserError(
            f"{out} exists already and was prepared from {manifest['source']}, not {source}; name another output"
        )
    if [list(pair) for pair in label_values] != manifest.get(LABEL_VALUES, []):
        raise UserError(f"{out} exists already and has other label values; name another output")
    names = {int(value): str(name) for value, name in manifest["label_names"].items()}
    return ExistingStore(out, table, _read_origins(out, table), names)


def _read_origins(out: Path, table: CaseTable) -> dict[str, Origin]:
    path = out / SOURCES_NAME
    try:
        found = [Origin.parse(line) for line in read_bytes(path, MAX_TABLE_BYTES).splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}); prepare the store again elsewhere") from None
    origins = {origin.id: origin for origin in found}
    if origins.keys() != table.numbers.keys():
        raise UserError(f"{path} and the manifest list different cases; prepare the store again elsewhere")
    return origins
