"""What the writers of all targets take and return."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportSettings:
    """Settings of the target nnunet; the others have none."""

    store: Path | None = None
    """A prepared store, whose volumes are exported as a dataset of nnU-Net."""
    dataset: str = ""
    """Name of the dataset of nnU-Net, such as Dataset004_Hippocampus."""


@dataclass(frozen=True)
class Exported:
    """What a writer tells about the files that it has written."""

    entries: dict[str, Any]
    """For export.json: JSON values."""
    lines: list[str] = field(default_factory=list)
    """For the user: what was checked, and what is not carried over."""


def agreement_line(checked: dict[str, Any]) -> str:
    """Return the line about a check of `gvsl.export.agreement`."""
    shapes = ", ".join(" x ".join(map(str, shape[1:])) for shape in checked["shapes"])
    return (
        f"checked against gvsl on images of {shapes}: largest difference {checked['largest_difference']:.1e} of the "
        f"largest value, {checked['tolerance']:g} is the limit"
    )
