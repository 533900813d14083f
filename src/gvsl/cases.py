"""A case as it lies on disk, and the names of the splits."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("pretrain", "train", "val", "test")
"""All splits. A `train` case is usually in `pretrain` too; a `val` or `test` case never is."""


@dataclass(frozen=True)
class Case:
    """One subject on disk: an image, its optional label map and class label, and its splits."""

    id: str
    image: Path
    label: Path | None = None
    splits: tuple[str, ...] = ()
    target: int | None = None
    """Image-level label for binary classification; 1 is the positive class."""
    parts: tuple[str, ...] = ()
    """File names of a DICOM series relative to the folder `image`, if the folder holds other files too."""
    mask: Path | None = None
    """Lung mask on the image's grid; a crop to the lungs uses it instead of segmenting them."""
    unusable: str = ""
    """Why the case can't be used, if that is known without reading it; such a case is refused with this message."""
