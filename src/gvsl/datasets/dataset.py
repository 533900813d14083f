"""What a source of volumes is to the rest of the package."""

from dataclasses import dataclass

from gvsl.types import Case


@dataclass(frozen=True)
class Dataset:
    """The cases of one source."""

    cases: list[Case]
    label_names: dict[int, str]
    """Label value to the structure's name; may be empty."""
    name: str
    """Of the source, for manifests and reports."""
