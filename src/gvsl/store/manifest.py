"""The manifest of a store: its contents, their source, and what was refused.

manifest.json is short: preprocessing, label names, refused files, and the hash of cases.jsonl, which has one line per
case.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from gvsl.errors import UserError
from gvsl.files import refuse_url
from gvsl.store.table import CaseTable

FORMAT = 2
MANIFEST_NAME = "manifest.json"
CASES_NAME = "cases.jsonl"
UPDATING_NAME = ".updating"
"""Marks a store while new cases are moved into it."""
HASHED = ("format", "preprocessing", "label_names", "cases")
"""Keys that a run on the store depends on; the source and refused files are not among them."""
KEYS = {*HASHED, "source", "refused", "written_by", "hash"}
LABEL_VALUES = "label_values"
"""Optional key with pairs of label values, in the files and in the store, if they were mapped."""


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
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a store: it has no {MANIFEST_NAME}; make one with `gvsl prepare`") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
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
        lines = cases.read_bytes()
    except OSError as error:
        raise UserError(f"{cases} can't be read ({error.strerror}); prepare the store again") from None
    expected = manifest["cases"]
    if not isinstance(expected, dict) or expected.get("sha256") != hashlib.sha256(lines).hexdigest():
        raise UserError(f"{cases} is broken or was changed by hand; prepare the store again")
    try:
        return manifest, CaseTable.parse(lines)
    except ValueError as error:
        raise UserError(f"{folder} has a broken manifest ({error}); prepare the store again") from None
