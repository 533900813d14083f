"""Cases as they lie on disk, and datasets of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gvsl.splits import HELD_OUT as HELD_OUT
from gvsl.splits import SPLITS as SPLITS

IGNORE = "ignore"
"""Name of a label value whose voxels training and scores leave out; it is no structure."""
IGNORED = -1
"""Class index of such voxels."""


def is_ignored(name: str) -> bool:
    """Return True if a label value of this name is no structure."""
    return name.strip().casefold() == IGNORE


@dataclass(frozen=True)
class SourceChannel:
    """A channel that is taken of a data set's images."""

    name: str
    number: int
    """Its place among the channels of the source, from 0: the frame of a fourth axis, or nnU-Net's _0000."""
    count: int
    """Number of channels that the source has."""


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
    doubt: str = ""
    """Why its name may be that of a label map and not of an image; it is refused with this if its voxels agree."""
    subject: str = ""
    """Subject, if the layout or the PatientID tells; cases of one subject belong on one side of a split."""
    former: str = ""
    """Id that an earlier version may have given it; a store that knows it by that keeps it."""
    channels: tuple["Case", ...] = ()
    """The image of each channel in order, if they are files of their own; `image` is then that of the first. Without
    them, an image of several channels has them on its fourth axis."""

    @property
    def images(self) -> tuple["Case", ...]:
        """The case of each file of the image: those of its channels, or itself."""
        return self.channels or (self,)


@dataclass(frozen=True)
class Dataset:
    """The cases of one dataset."""

    cases: list[Case]
    label_names: dict[int, str]
    """Structure's name, or IGNORE, by label value in the store; may be empty. If not, a label map with another value
    is refused."""
    name: str
    """Name in manifests and reports."""
    label_values: Mapping[int, int] = field(default_factory=dict)
    """Label value in the store by label value in the files, 0 for background; empty if they stay the same. A label
    map with a value that isn't listed is refused."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Number of files that are neither volumes nor refused, by their ending."""
    channels: tuple[SourceChannel, ...] = ()
    """The channels that are taken, if the source has several; empty if its images have one."""
    notes: tuple[str, ...] = ()
    """What a user should know of the files that were found."""
