from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from gvsl.datasets.dataset import Dataset
from gvsl.datasets.folder import folder
from gvsl.datasets.phantom import write_phantom
from gvsl.io import Volume
from gvsl.store import PRESETS, Store, prepare

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four phantoms to pre-train on and three to validate with, all labelled, 24 x 20 x 18 voxels."""
    root = tmp_path_factory.mktemp("phantoms") / "volumes"
    write_phantom(root, 7, shape=(24, 20, 18), train=2, val=3, test=0)
    return folder(root)


@pytest.fixture(scope="session")
def phantom_store(phantom_cohort: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cohort as a store, its volumes uncropped."""
    out = tmp_path_factory.mktemp("stores") / "phantoms"
    contract = replace(PRESETS["ct"], crop="none")
    return prepare(phantom_cohort.cases, out, contract, label_names=phantom_cohort.label_names, source="phantom")


@pytest.fixture(scope="session")
def write_volume() -> Callable[[Path, Volume], Path]:
    """Writes a volume in the format that a name says, a DICOM series if it says none, and returns the path.

    It is written by other libraries than those that read it, where there are such.
    """
    return write


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., list[Path]]:
    """Writes a DICOM series, a slice a file, and returns the files in the order of the slices."""
    return write_series


def write(path: Path, volume: Volume, compress: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.Nifti1Image(volume.array, volume.affine, dtype=volume.array.dtype).to_filename(path)
    elif path.name.endswith(".hdr"):
        nibabel.Nifti1Pair(volume.array, volume.affine, dtype=volume.array.dtype).to_filename(path)
    elif path.suffix:
        sitk.WriteImage(as_itk(volume), str(path), compress)
    else:
        write_series(path, volume)
    return path


def as_itk(volume: Volume) -> Any:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    affine = LPS @ volume.affine
    image.SetSpacing(volume.spacing)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / volume.spacing).ravel().tolist())
    return image


def write_series(
    folder: Path,
    volume: Volume,
    uid: str = "1.2.3",
    slope: float = 1.0,
    intercept: float = -1024.0,
    **elements: Any,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    affine = LPS @ volume.affine
    paths = []  # whose names are in another order
    for index in range(volume.array.shape[2]):
        stored: NDArray[np.uint16] = np.rint((volume.array[:, :, index].T - intercept) / slope).astype(np.uint16)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"{uid}.{index + 1}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{(7 * index) % 97:03d}-{uid}.dcm"
        item = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.SeriesNumber, item.SeriesDescription = uid, 4, "thorax"
        item.Modality, item.ImageType, item.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1
        item.Rows, item.Columns = stored.shape
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.RescaleSlope, item.RescaleIntercept = slope, intercept
        item.PixelSpacing = [float(volume.spacing[1]), float(volume.spacing[0])]
        axes = affine[:3, :3] / volume.spacing
        item.ImageOrientationPatient = [*axes[:, 0].tolist(), *axes[:, 1].tolist()]
        item.ImagePositionPatient = (affine @ [0, 0, index, 1])[:3].tolist()
        item.PixelData = stored.tobytes()
        for name, value in elements.items():
            setattr(item, name, value)
        item.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
