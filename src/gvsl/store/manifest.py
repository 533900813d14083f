"""The manifest of a store: its contents, their source, and what was refused.

manifest.json is short: preprocessing, label names, refused files, and the hash of cases.jsonl, which has one line per
case.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from gvsl.errors import UserError
from gvsl.files import refuse_url
from gvsl.readers import check_kind, read_bytes, read_json
from gvsl.store.table import CaseTable

FORMAT = 2
MANIFEST_NAME = "manifest.json"
CASES_NAME = "cases.jsonl"
UPDATING_NAME = ".updating"
"""Marks a store while new cases are moved into it."""
HASHED = ("format", "preprocessing", "label_names", "cases")
"""Keys that a run on the store depends on; the source and refused files are not among them."""
KEYS = {*HASHED, "source", "refused", "written_by", "hash"}
MAX_TABLE_BYTES = 2**29
"""Limit for cases.jsonl: 100,000 cases take some 70 MB."""
LABEL_VALUES = "label_values"
"""Optional key with pairs of label values, in the files and in the store, if they were mapped."""


class Refused(TypedDict):
    """A file that couldn't be used."""

    file: str
    reason: str


class ManifestFile(TypedDict):
    """Content of manifest.json."""

    format: int
    preprocessing: dict[str, Any]
    label_names: dict[str, str]
    cases: dict[str, int | str]
    source: str
    refused: list[Refused]
    written_by: str
    hash: str
    label_values: NotRequired[list[list[int]]]


def manifest_hash(manifest: dict[str, Any]) -> str:
    """Return the SHA-256, in hex, of everything that a run on the store depends on."""
    text = json.dumps({key: manifest[key] for key in HASHED}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_text(manifest: dict[str, Any], lines: bytes) -> str:
    """Format manifest.json, with its hashes, for a cases.jsonl of these `lines`."""
    whole = {**manifest, "cases": {"count": lines.count(b"\n"), "sha256": hashlib.sha256(lines).hexdigest()}}
    return json.dumps({**whole, "hash": manifest_hash(whole)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> tuple[dict[str, Any], CaseTable]:
    """Read manifest.json and the table of cases.

    Raises:
        UserError: there is no manifest, it has another format, or it was changed after it was written.
    """
    path = folder / MANIFEST_NAME
    refuse_url(folder)
    if not folder.exists():
        raise UserError(f"{folder} does not exist; make a store with `gvsl prepare SOURCE {folder}`")
    if (folder / UPDATING_NAME).exists():
        raise UserError(
            f"{folder} is being written by `gvsl prepare`; if that was stopped, give the same command again"
        )
    try:
        manifest = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a store: it has no {MANIFEST_NAME}; make one with `gvsl prepare`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}); prepare the store again") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise UserError(f"{path} is not the manifest of a store")
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{folder} has store format {manifest['format']}, this gvsl reads {FORMAT}; prepare it again elsewhere"
        )
    if manifest.keys() - {LABEL_VALUES} != KEYS or manifest["hash"] != manifest_hash(manifest):
        raise UserError(f"{path} is broken or was changed by hand; prepare the store again")
    cases = folder / CASES_NAME
    try:
        check_kind(manifest, ManifestFile)
        _check_labels(manifest)
    except ValueError as error:
        raise UserError(f"{folder} has a broken manifest ({error}); prepare the store again") from None
    try:
        lines = read_bytes(cases, MAX_TABLE_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{cases} can't be read ({error}); prepare the store again") from None
    expected = manifest["cases"]
    if not lines or expected.get("sha256") != hashlib.sha256(lines).hexdigest():
        raise UserError(f"{cases} is broken or was changed by hand; prepare the store again")
    try:
        return manifest, CaseTable.parse(lines)
    except ValueError as error:
        raise UserError(f"{folder} has a broken manifest ({error}); prepare the store again") from None


def _check_labels(manifest: dict[str, Any]) -> None:
    """Check that label values are whole numbers, and that those that were mapped come in pairs; ValueError if not."""
    for value in manifest["label_names"]:
        if not re.fullmatch(r"-?\d{1,6}", value, re.ASCII):
            raise ValueError(f"it names the label value {value[:20]!r}")
    if not all(len(pair) == 2 for pair in manifest.get(LABEL_VALUES, [])):
        raise ValueError("its label values are no pairs")
