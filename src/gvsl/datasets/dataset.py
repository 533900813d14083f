"""What a source of volumes is to the rest of the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gvsl.cases import Case


@dataclass(frozen=True)
class Dataset:
    """The cases of one source."""

    cases: list[Case]
    label_names: dict[int, str]
    """Label value in the store to the structure's name; may be empty."""
    name: str
    """Of the source, for manifests and reports."""
    label_values: Mapping[int, int] = field(default_factory=dict)
    """Label value in the files to that in the store, 0 for background; all of them, or none if they stay as they
    are. A label map with a value that isn't listed is refused."""
