"""The common result of all datasets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gvsl.cases import Case


@dataclass(frozen=True)
class Dataset:
    """The cases of one dataset."""

    cases: list[Case]
    label_names: dict[int, str]
    """Structure's name by label value in the store; may be empty."""
    name: str
    """For manifests and reports."""
    label_values: Mapping[int, int] = field(default_factory=dict)
    """Label value in the store by label value in the files, 0 for background; empty if they stay the same. A label
    map with a value that isn't listed is refused."""
