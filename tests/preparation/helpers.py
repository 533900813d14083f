"""Preparation of a small store, and what lies in a folder."""

from pathlib import Path

from gvsl.cases import Case
from gvsl.preparation import PrepareSummary, prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

MR = PRESETS["mr"]


def run(cases: list[Case], out: Path, **options: object) -> tuple[Store, PrepareSummary]:
    """Prepare cases by the preset `mr`; return the store and the summary."""
    done: list[PrepareSummary] = []
    store = prepare(cases, out, MR, source="here", on_done=done.append, **options)  # type: ignore[arg-type]
    return store, done[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
