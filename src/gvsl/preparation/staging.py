"""The staging area: a folder beside the store in which it is made, and from which an interrupted run continues.

    STORE.partial/contract.json     source and preprocessing
    STORE.partial/journal.jsonl     one line per finished case
    STORE.partial/store/            arrays, and in the end the manifest
    STORE.partial/writing/          arrays being written

A new store appears by renaming `store`. New arrays are moved into an existing store one by one, the manifest last.
Until then a marker file makes the store unreadable, and the next run completes the move.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypedDict
from uuid import uuid4

from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.files import is_temporary, lock, real_path, refuse_long_name, write_text
from gvsl.preparation.sources import Origin, OriginRow
from gvsl.readers import check_regular, parse_json, read_json
from gvsl.store.arrays import write_array
from gvsl.store.manifest import CASES_NAME, MANIFEST_NAME, UPDATING_NAME
from gvsl.store.store import CaseRow

SPEC_NAME = "contract.json"
JOURNAL_NAME = "journal.jsonl"
MAX_LINE = 2**20
"""Bytes of a line of the journal; a longer one is no case."""
SOURCES_NAME = "sources.jsonl"
TEXTS = (CASES_NAME, SOURCES_NAME, MANIFEST_NAME)
"""Files of a store beside its arrays; the manifest is moved last."""
PARTS = ("images", "labels")


class JournalRow(TypedDict):
    """A line of journal.jsonl."""

    row: CaseRow
    origin: OriginRow


Done = tuple[dict[str, Any], Origin]
"""A manifest row and its origin."""


def partial_path(out: Path) -> Path:
    """Return the staging area of the store `out`: beside the folder itself, not beside a link to it."""
    real = real_path(out)
    return real.with_name(f"{real.name}.partial")


@dataclass
class StagingArea:
    """The folder in which a store is made, in the process that writes its journal."""

    out: Path
    path: Path
    done: dict[str, Done] = field(default_factory=dict)
    """Cases finished by this run and interrupted ones, by id."""
    journal: BinaryIO | None = None

    def record(self, row: dict[str, Any], origin: Origin) -> None:
        """Record a finished case in the journal; its arrays must be on the disk."""
        assert self.journal is not None
        self.done[origin.id] = row, origin
        line = {"row": row, "origin": json.loads(origin.line())}
        self.journal.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        self.journal.flush()

    def publish(self, texts: dict[str, bytes], ids: dict[str, set[str]]) -> None:
        """Rename the result to a new store, or add it to the existing one.

        Args:
            texts: content of the files in TEXTS.
            ids: of all finished cases, for each of PARTS.
        """
        made = self.path / "store"
        shutil.rmtree(self.path / "writing")
        for part in PARTS:  # left by an interrupted run for a case that is gone
            for file in (made / part).iterdir():
                if file.stem not in ids[part]:
                    file.unlink()
        for name in TEXTS:
            (made / name).write_bytes(texts[name])
        if self.out.exists():
            write_text(self.out / UPDATING_NAME, "gvsl prepare adds to this store\n")
            move(made, self.out)
            for case_id in ids["images"] - ids["labels"]:  # their label maps are gone
                (self.out / "labels" / f"{case_id}.b2nd").unlink(missing_ok=True)
        else:
            made.rename(self.out)
        self.remove()

    def remove(self) -> None:
        """Delete the folder."""
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.path)


def _refuse_other_disk(made: Path, out: Path) -> None:
    """Refuse a store that nothing can be moved into at once; UserError if it is one."""
    if made.stat().st_dev != (out / "images").stat().st_dev:
        raise UserError(
            f"{out} is a disk of its own, into which nothing beside it can be moved; prepare into a folder on that disk"
        )


def move(made: Path, out: Path) -> None:
    """Move the arrays and then the text files into a store; can be repeated after an interruption."""
    for part in PARTS:
        for file in sorted((made / part).iterdir()):
            os.replace(file, out / part / file.name)
    for name in TEXTS:
        with suppress(FileNotFoundError):  # moved before the interruption
            os.replace(made / name, out / name)
    (out / UPDATING_NAME).unlink()


def finish_moving(out: Path) -> None:
    """Complete the move into an existing store, or the clean-up after it, that was interrupted."""
    path = partial_path(out)
    made = path / "store"
    if (out / UPDATING_NAME).exists() and not made.is_dir():
        earlier = out.with_name(path.name)
        if earlier != path and (earlier / "store").is_dir():
            raise UserError(
                f"{out} was being written by an earlier gvsl, from {earlier}: move that to {path}, and repeat"
            )
        raise UserError(f"{out} was being written when {path.name} was removed; prepare it elsewhere")
    if not (path / JOURNAL_NAME).is_file() or not (out / MANIFEST_NAME).is_file():
        return
    with (path / JOURNAL_NAME).open("a+b") as journal:
        lock(journal, _busy(out))
        if (out / UPDATING_NAME).exists():
            move(made, out)
            shutil.rmtree(path)
        elif not made.exists():
            shutil.rmtree(path)


@contextmanager
def staging_area(out: Path, spec: dict[str, Any]) -> Iterator[StagingArea]:
    """Open the staging area of `out`, new or left by an interrupted run; an exception leaves it if any case is done.

    Raises:
        UserError: the folder has another source or preprocessing, is no staging area, or is in use.
    """
    refuse_long_name(out)
    path = partial_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.mkdir()
    if not (path / SPEC_NAME).exists():
        if any(not is_temporary(file.name) for file in path.iterdir()):
            raise UserError(f"{path} is in the way, and is not what an earlier run left; move it away")
        write_text(path / SPEC_NAME, json.dumps(spec))
    if (out / "images").is_dir():
        _refuse_other_disk(path, out)
    _check_spec(path, spec)
    _check_journal(path)
    with (path / JOURNAL_NAME).open("a+b") as journal:
        lock(journal, _busy(out))
        staging = StagingArea(real_path(out), path, _read_journal(journal), journal)
        with suppress(FileNotFoundError):
            shutil.rmtree(path / "writing")
        for folder in (path / "writing", *(path / "store" / part for part in PARTS)):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield staging
        except BaseException:
            if not staging.done and path.exists():
                staging.remove()
            raise


def put_array(folder: Path, part: str, case_id: str, array: NDArray[Any]) -> int:
    """Write an array into a staging area, whole or not at all, and return its size in bytes.

    Raises:
        UserError: the disk is full, or the folder can't be written.
    """
    temporary = folder / "writing" / f"{uuid4().hex[:12]}.b2nd"
    try:
        size = write_array(temporary, array)
        os.replace(temporary, folder / "store" / part / f"{case_id}.b2nd")
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{part}/{case_id} can't be written to {folder} ({why}); is the disk full?") from None
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _check_spec(path: Path, spec: dict[str, Any]) -> None:
    try:
        found = read_json(path / SPEC_NAME)
    except (OSError, ValueError) as error:
        raise UserError(f"{path / SPEC_NAME} can't be read ({error}); remove {path}") from None
    if found != json.loads(json.dumps(spec)):
        raise UserError(
            f"{path} is what an earlier run left, with another source or other settings; give the same, or remove it"
        )


def _check_journal(path: Path) -> None:
    """Refuse a pipe or a device in the journal's place, which opening would wait for; UserError if it is one."""
    try:
        check_regular(path / JOURNAL_NAME)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"{path / JOURNAL_NAME} can't be read ({error}); remove {path}") from None


def _busy(out: Path) -> str:
    return f"another gvsl prepare is writing {out}; wait until it has ended"


def _read_journal(journal: BinaryIO) -> dict[str, Done]:
    """Read the finished cases; an incomplete last line is removed."""
    journal.seek(0)
    done, whole = {}, 0
    for line in iter(lambda: journal.readline(MAX_LINE), b""):
        try:
            found = parse_json(line, JournalRow)
            origin = Origin.parse(found["origin"])
            done[origin.id] = found["row"], origin
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    journal.truncate(whole)
    journal.seek(0, os.SEEK_END)
    return done
