"""The images that get results, of files or of a store: how they are read, prepared, laid out and known again."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import Case
from gvsl.datasets.channels import put_together
from gvsl.files import url_of
from gvsl.io import Volume, write_like, write_nifti
from gvsl.prediction.content import image_content
from gvsl.prediction.volumes import Prepared, Tell, prepared
from gvsl.preprocessing import Preprocessing, require_lungmask
from gvsl.preprocessing.images import Channels, read_image
from gvsl.store import Store
from gvsl.store.manifest import MANIFEST_NAME
from gvsl.store.store import image_path

Grid = Literal["source", "store"]


@dataclass(frozen=True)
class Targets:
    """Images that get results."""

    images: Sequence[Case]
    read: Callable[[Case], Channels]
    """Reads an image."""
    prepare: Callable[[Channels, Tell], Prepared]
    """Returns an image as the network's training data were prepared; given notes on it are told first."""
    content: Callable[[Case], str]
    """Returns the SHA-256, in hex, of what an image holds."""
    grid: Callable[[Case, Channels], Volume]
    """Returns a volume on whose grid the results of an image lie; its voxels are not used."""
    from_files: bool = True
    """The images are files, whose headers the results copy."""

    def save(self, path: Path, array: NDArray[Any], image: Case, grid: Volume) -> None:
        """Write a result, (D, H, W), of an image on its grid."""
        if self.from_files:
            write_like(path, array, image.image, grid.affine)
        else:
            write_nifti(path, Volume(array, grid.affine))


def is_store(path: Path) -> bool:
    """Return True for the folder of a prepared store, and for a URL, which nothing else is read by."""
    return url_of(path) is not None or (path / MANIFEST_NAME).is_file()


def files_targets(images: Sequence[Case], preprocessing: Preprocessing) -> Targets:
    """Return images in files; those of several channels are put together.

    Raises:
        UserError: the preprocessing requires lungmask, which is not there.
    """
    require_lungmask(preprocessing)
    return Targets(
        put_together(images, preprocessing.channels) if preprocessing.channels else images,
        read=partial(read_image, spec=preprocessing),
        prepare=lambda channels, tell: prepared(channels, preprocessing, tell),
        content=image_content,
        grid=lambda _, channels: channels[0],
    )


def store_targets(store: Store, ids: Sequence[str], grid: Grid) -> Targets:
    """Return cases of a store, whose results lie on the grid of the stored volumes or of their sources."""

    def laid_out(image: Case, channels: Channels) -> Volume:
        known = store.cases[image.id]
        if grid == "store":
            return channels[0]
        return Volume(np.broadcast_to(np.uint8(0), known.source_shape), known.source_affine)

    return Targets(
        [Case(each, Path(store.place_of(image_path(store.path, each)))) for each in ids],
        read=lambda image: tuple(Volume(each, store.cases[image.id].affine) for each in store.channels(image.id)),
        prepare=lambda channels, _: Prepared(np.stack([each.array for each in channels]), channels[0].affine),
        content=lambda image: _stored_content(store, image.id),
        grid=laid_out,
        from_files=False,
    )


def _stored_content(store: Store, case: str) -> str:
    """Return a hash of a case's stored voxels and of its two grids."""
    known = store.cases[case]
    digest = hashlib.sha256(known.hash.encode())
    for affine in (known.affine, known.source_affine):
        digest.update(np.ascontiguousarray(affine, "<f8").tobytes())
    digest.update(np.array(known.source_shape, "<i8").tobytes())
    return digest.hexdigest()
