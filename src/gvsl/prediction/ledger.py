"""The ledger of a folder of predictions: the run and the images of its results, so that a call can be resumed."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

from gvsl.errors import UserError
from gvsl.files import url_of, write_text
from gvsl.io import UnusableFile
from gvsl.readers import read_json

LEDGER_NAME = "predicted.json"
FORMAT = 1


class LedgerFile(TypedDict):
    """Content of the file."""

    format: int
    identity: dict[str, str]
    images: dict[str, str]
    contents: NotRequired[dict[str, str]]


@dataclass
class Ledger:
    """The results in a folder that are a run's own, so that no other file is taken for one."""

    path: Path
    identity: dict[str, str]
    """The run and the settings that a result depends on besides its image."""
    images: dict[str, str] = field(default_factory=dict)
    """A result's name to its image's path; listed before it is written, so that no result is unlisted."""
    contents: dict[str, str] = field(default_factory=dict)
    """A result's name to the SHA-256 of its image; results of an earlier gvsl have none, and are known by path."""

    def check(self, present: Iterable[str], image: Path, content: str) -> None:
        """Check that existing results of these names are this run's and of this image.

        Args:
            present: names of results.
            image: a path, whose last part is compared where the content is known.
            content: hash of what the image holds.

        Raises:
            UnusableFile: one of them is not.
        """
        for name in present:
            other = self.images.get(name)
            if other is None and image.exists() and self.path.with_name(name).samefile(image):
                raise UnusableFile(
                    f"its result would take its own place, as {self.path.with_name(name)}; name another folder than "
                    "that of the images"
                )
            if other is None:
                raise UnusableFile(
                    f"its result {self.path.with_name(name)} exists already, and {self.path.name} doesn't list it; "
                    "name another folder"
                )
            known, same_path = self.contents.get(name), other == _place(image)
            if same_path and known not in (None, content):
                raise UnusableFile(
                    f"its result {self.path.with_name(name)} is of what the image held before: remove it to have it "
                    "anew, or name another folder"
                )
            if not same_path and (known != content or Path(other).name != image.name):
                raise UnusableFile(
                    f"its result would have the name of that of {other}, {name}; name another folder, or rename one"
                )

    def begin(self, names: Collection[str], image: Path, content: str) -> None:
        """List results before they are written."""
        self.images |= dict.fromkeys(names, _place(image))
        self.contents |= dict.fromkeys(names, content)
        whole = {
            "format": FORMAT,
            "identity": self.identity,
            "images": self.images,
            "contents": self.contents,
        }
        write_text(self.path, json.dumps(whole, indent=1) + "\n")


def _place(image: Path) -> str:
    return url_of(image) or str(image.absolute())


def open_ledger(folder: Path, identity: dict[str, str]) -> Ledger:
    """Return the ledger of a folder, an empty one if there is none; write nothing.

    Raises:
        UserError: it can't be read, or belongs to another run or another use of it.
    """
    path = folder / LEDGER_NAME
    if not path.exists():
        return Ledger(path, identity)
    try:
        found = read_json(path, LedgerFile)
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']}, not {FORMAT}")
        before, images, contents = found["identity"], found["images"], found.get("contents", {})
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}): name another folder") from None
    changed = [key for key in before.keys() | identity.keys() if before.get(key) != identity.get(key)]
    if "weights" in changed:
        raise UserError(f"{folder} holds the predictions of another run: name another folder")
    if changed:
        was, now = (each.get(changed[0], "none") for each in (before, identity))
        raise UserError(f"{folder} holds predictions with {changed[0]} {was}, not {now}: name another folder")
    return Ledger(path, identity, images, contents)
