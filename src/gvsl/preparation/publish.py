"""The last step of `prepare`: kept and new cases become one store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gvsl.cases import Case
from gvsl.preparation.case import update_row
from gvsl.preparation.existing import ExistingStore
from gvsl.preparation.sources import Origin
from gvsl.preparation.staging import SOURCES_NAME, StagingArea
from gvsl.store.audit import refuse_leakage
from gvsl.store.manifest import CASES_NAME, MANIFEST_NAME, manifest_text
from gvsl.store.table import row_line


def publish(
    staging: StagingArea,
    existing: ExistingStore,
    kept: Mapping[str, Origin],
    cases: Sequence[Case],
    root: Path,
    manifest: dict[str, Any],
    names: Mapping[int, str],
    allow_leakage: bool,
) -> None:
    """Combine kept and new cases and publish the store, unless nothing has changed."""
    by_id = {case.id: case for case in cases}
    values: set[int] = set()
    lines, origins, entries = [], [], []
    ids: dict[str, set[str]] = {"images": set(), "labels": set()}
    for case_id in sorted(existing.ids | kept.keys() | staging.done.keys()):
        if case_id in staging.done:
            row, origin = staging.done[case_id]
            ids["images"].add(case_id)
            if row["labels"] is not None:
                ids["labels"].add(case_id)
        else:
            row = existing.row(case_id)
            origin = kept.get(case_id) or existing.origins[case_id]
        if case_id in by_id:
            row = update_row(row, by_id[case_id], root)
        values.update(row["labels"] or ())
        lines.append(row_line(row))
        entries.append((case_id, tuple(row["splits"]), row.get("content", "")))
        origins.append(origin.line())
    if not allow_leakage:
        refuse_leakage(entries)
    manifest = {**manifest, "label_names": _complete_names(values, names, existing.label_names)}
    whole = b"".join(lines)
    texts = {
        CASES_NAME: whole,
        SOURCES_NAME: b"".join(origins),
        MANIFEST_NAME: manifest_text(manifest, whole).encode(),
    }
    if existing.holds(texts) and not staging.done:
        staging.remove()
    else:
        staging.publish(texts, ids)


def _complete_names(values: set[int], names: Mapping[int, str], earlier: Mapping[int, str]) -> dict[str, str]:
    """Return a name for every value that occurs or was given one."""
    given = {int(value) for value in names if int(value) != 0}
    known = {**earlier, **names}
    return {str(value): known.get(value, f"label {value}") for value in sorted(values | given)}
