"""The manifest of a store: what is in it, where it came from, and what was refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gvsl.errors import UserError

FORMAT = 1
MANIFEST_NAME = "manifest.json"
HASHED = ("format", "preprocessing", "label_names", "cases")
"""What a run on the store depends on; not where the files lay or which were refused."""
KEYS = {*HASHED, "source", "refused", "written_by", "hash"}


def manifest_hash(manifest: dict[str, Any]) -> str:
    """SHA-256, in hex, over what a run on the store depends on."""
    text = json.dumps({key: manifest[key] for key in HASHED}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json with its hash."""
    text = json.dumps({**manifest, "hash": manifest_hash(manifest)}, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json.

    Raises:
        UserError: there is none, it is of another format, or it was changed after it was written.
    """
    path = folder / MANIFEST_NAME
    if not folder.exists():
        raise UserError(f"{folder} does not exist; make a store with `gvsl prepare SOURCE {folder}`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a store: it has no {MANIFEST_NAME}; make one with `gvsl prepare`") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} can't be read ({error}); prepare the store again") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise UserError(f"{path} is not the manifest of a store")
    if manifest["format"] != FORMAT:
        raise UserError(f"{folder} has store format {manifest['format']}, this gvsl reads {FORMAT}; prepare it again")
    if manifest.keys() != KEYS or manifest["hash"] != manifest_hash(manifest):
        raise UserError(f"{path} is broken or was changed by hand; prepare the store again")
    return manifest
