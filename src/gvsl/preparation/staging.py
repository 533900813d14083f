"""Where a store is made: a folder beside it, from which a stopped run goes on and which in the end becomes the store.

    STORE.partial/contract.json     what the store is made of, and by which contract
    STORE.partial/journal.jsonl     a line for each case that is done
    STORE.partial/store/            the arrays; in the end the manifest too
    STORE.partial/writing/          arrays while they are written

A new store appears by renaming `store`. To a store that is there the new arrays are moved one by one, and the manifest
last; until then it has a file that has it refused, and the next run does what was left of the moving.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.files import lock, write_text
from gvsl.preparation.sources import Origin
from gvsl.store.arrays import write_array
from gvsl.store.manifest import CASES_NAME, MANIFEST_NAME, UPDATING_NAME

CONTRACT_NAME = "contract.json"
JOURNAL_NAME = "journal.jsonl"
SOURCES_NAME = "sources.jsonl"
TEXTS = (CASES_NAME, SOURCES_NAME, MANIFEST_NAME)
"""What a store has beside its arrays; the manifest is moved last."""
PARTS = ("images", "labels")

Done = tuple[dict[str, Any], Origin]
"""A case of the manifest, and what it was made of."""


def partial_path(out: Path) -> Path:
    """Where the store `out` is made."""
    return out.with_name(f"{out.name}.partial")


@dataclass
class Workplace:
    """A folder in which a store is made, for the process that keeps its journal."""

    out: Path
    path: Path
    done: dict[str, Done] = field(default_factory=dict)
    """By id, what earlier runs and this one did."""
    journal: BinaryIO | None = None

    def record(self, row: dict[str, Any], origin: Origin) -> None:
        """Write down that a case is done, once its arrays are on the disk."""
        assert self.journal is not None
        self.done[origin.id] = row, origin
        line = {"row": row, "origin": json.loads(origin.line())}
        self.journal.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        self.journal.flush()

    def publish(self, texts: dict[str, bytes], ids: dict[str, set[str]]) -> None:
        """Make a store of what was done: rename a new one, add to one that is there.

        Args:
            texts: of the files in TEXTS.
            ids: of all cases that were done, for each of PARTS.
        """
        made = self.path / "store"
        shutil.rmtree(self.path / "writing")
        for part in PARTS:  # what an earlier run made of a case that is no more
            for file in (made / part).iterdir():
                if file.stem not in ids[part]:
                    file.unlink()
        for name in TEXTS:
            (made / name).write_bytes(texts[name])
        if self.out.exists():
            write_text(self.out / UPDATING_NAME, "gvsl prepare adds to this store\n")
            move(made, self.out)
            for case_id in ids["images"] - ids["labels"]:  # its files have no label map any more
                (self.out / "labels" / f"{case_id}.b2nd").unlink(missing_ok=True)
        else:
            made.rename(self.out)
        self.remove()

    def remove(self) -> None:
        """Leave nothing of it."""
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.path)


def move(made: Path, out: Path) -> None:
    """Move what was made into a store, or what is left to move; the manifest comes last."""
    for part in PARTS:
        for file in sorted((made / part).iterdir()):
            os.replace(file, out / part / file.name)
    for name in TEXTS:
        with suppress(FileNotFoundError):  # moved by the run that was stopped
            os.replace(made / name, out / name)
    (out / UPDATING_NAME).unlink()


def finish_moving(out: Path) -> None:
    """Do what a run left to do that was stopped while it moved its arrays into the store, or just after."""
    path = partial_path(out)
    made = path / "store"
    if (out / UPDATING_NAME).exists() and not made.is_dir():
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
def workplace(out: Path, contract: dict[str, Any]) -> Iterator[Workplace]:
    """Open the folder in which `out` is made, anew or with what an earlier run did.

    It stays if the block fails, unless nothing was done yet.

    Raises:
        UserError: what is there was made of something else or isn't a workplace, or another process works there.
    """
    path = partial_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.mkdir()
    if not (path / CONTRACT_NAME).exists():
        if any(file.suffix != ".json" for file in path.iterdir()):
            raise UserError(f"{path} is in the way, and is not what an earlier run left; move it away")
        write_text(path / CONTRACT_NAME, json.dumps(contract))
    _check_contract(path, contract)
    with (path / JOURNAL_NAME).open("a+b") as journal:
        lock(journal, _busy(out))
        place = Workplace(out, path, _read_journal(journal), journal)
        with suppress(FileNotFoundError):
            shutil.rmtree(path / "writing")
        for folder in (path / "writing", *(path / "store" / part for part in PARTS)):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            yield place
        except BaseException:
            if not place.done and path.exists():  # nothing to go on with
                place.remove()
            raise


def put_array(place: Path, part: str, case_id: str, array: NDArray[Any]) -> int:
    """Write an array into a workplace, whole or not at all, and say how many bytes it takes.

    Raises:
        UserError: the disk is full, or nothing may be written there.
    """
    temporary = place / "writing" / f"{uuid4().hex[:12]}.b2nd"
    try:
        size = write_array(temporary, array)
        os.replace(temporary, place / "store" / part / f"{case_id}.b2nd")
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{part}/{case_id} can't be written to {place} ({why}); is the disk full?") from None
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _check_contract(path: Path, contract: dict[str, Any]) -> None:
    try:
        found = json.loads((path / CONTRACT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path / CONTRACT_NAME} can't be read ({error}); remove {path}") from None
    if found != json.loads(json.dumps(contract)):
        raise UserError(
            f"{path} is what an earlier run left, with another source or other settings; give the same, or remove it"
        )


def _busy(out: Path) -> str:
    return f"another gvsl prepare is writing {out}; wait until it has ended"


def _read_journal(journal: BinaryIO) -> dict[str, Done]:
    """What it says is done; a last line that was cut short is cut off."""
    journal.seek(0)
    done, whole = {}, 0
    for line in journal:
        try:
            found = json.loads(line)
            origin = Origin.parse(found["origin"])
            done[origin.id] = found["row"], origin
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    journal.truncate(whole)
    journal.seek(0, os.SEEK_END)
    return done
