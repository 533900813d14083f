"""Fixtures of several folders.

The process that only hands tests out to others reads this file too, before they start: what is slow to import, torch
above all, is imported where it is used.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from gvsl.cases import Case
from gvsl.datasets import Dataset
from gvsl.datasets.folder import folder
from gvsl.io import Volume
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.store import Store

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that train in bfloat16 as slow where the processor emulates it, a hundred times slower."""
    import torch

    from gvsl.hardware import computes_bf16

    if not computes_bf16(torch.device("cpu")):
        for item in items:
            if item.get_closest_marker("bf16"):
                item.add_marker(pytest.mark.slow)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the Hub's client know that it is offline; below version 1 its sessions, which it keeps, know the mode."""
    from huggingface_hub import utils  # the package loads its parts when they are asked for

    forget_sessions = getattr(utils, "reset_sessions", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forget_sessions()
    yield
    forget_sessions()


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four labelled phantoms for pre-training and three for validation, 24 x 20 x 18 voxels."""
    from gvsl.phantom.cohort import write_phantom

    root = tmp_path_factory.mktemp("phantoms") / "volumes"
    write_phantom(root, 7, shape=(24, 20, 18), train=2, val=3, test=0)
    return folder(root)


@pytest.fixture(scope="session")
def phantom_store(phantom_cohort: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cohort as a store of uncropped volumes."""
    out = tmp_path_factory.mktemp("stores") / "phantoms"
    spec = replace(PRESETS["ct"], crop="none")
    return prepare(phantom_cohort.cases, out, spec, label_names=phantom_cohort.label_names, source="phantom")


@pytest.fixture(scope="session")
def write_volume() -> Callable[[Path, Volume], Path]:
    """Write a volume in the format of its name's suffix, or as a DICOM series without one, and return the path.

    Other libraries write than read, where possible.
    """
    return write


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., list[Path]]:
    """Write a DICOM series, one file per slice, and return the files in slice order."""
    return write_series


def write(path: Path, volume: Volume, compress: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.Nifti1Image(volume.array, volume.affine, dtype=volume.array.dtype).to_filename(path)
    elif path.name.endswith(".hdr"):
        nib.Nifti1Pair(volume.array, volume.affine, dtype=volume.array.dtype).to_filename(path)
    elif path.suffix:
        write_itk(path, volume, compress)
    else:
        write_series(path, volume)
    return path


def write_itk(path: Path, volume: Volume, compress: bool) -> None:
    import SimpleITK as sitk  # noqa: N813 - its usual name

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    affine = LPS @ volume.affine
    image.SetSpacing(volume.spacing)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / volume.spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), compress)


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
    paths = []  # sorted by slice, not by name
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


SPLITS = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
NAMES = {1: "ball", 7: "box"}
LabelArray = NDArray[Any]
Change = Callable[[int, LabelArray], LabelArray | None]
"""From a case's number and label map to the map that replaces it, or None."""


def subject(number: int) -> tuple[NDArray[np.float32], LabelArray]:
    """Return an image of a bright ball and a dark box in noise, at random positions, and its label map."""
    generator = np.random.default_rng(number)
    shape = (20, 16, 16)
    points = np.indices(shape)
    ball, corner = generator.integers(5, 8, size=3), generator.integers(9, 11, size=3)
    label = np.zeros(shape, np.uint8)
    label[sum((points[axis] - ball[axis]) ** 2 for axis in range(3)) <= 16] = 1
    label[tuple(slice(start, start + 5) for start in corner)] = 7
    image = 0.5 + 0.4 * (label == 1) - 0.4 * (label == 7) + generator.normal(0, 0.05, shape)
    return image.astype(np.float32), label


def build_labelled_store(
    folder: Path, change: Change = lambda _, label: label, spacing: float = 1.0, names: dict[int, str] = NAMES
) -> Store:
    """Prepare a store of five training, two validation and three test cases."""
    folder.mkdir()
    cases = []
    for number, split in enumerate(SPLITS):
        image, label = subject(number)
        files = {"image": image, "label": change(number, label)}
        for name, array in files.items():
            if array is not None:
                header = nib.Nifti1Image(array, np.diag([spacing] * 3 + [1.0]))
                nib.save(header, folder / f"{name}{number}.nii")
        truth = None if files["label"] is None else folder / f"label{number}.nii"
        cases.append(Case(f"s{number}", folder / f"image{number}.nii", truth, (split,)))
    spec = Preprocessing(crop="none", spacing=spacing)
    return prepare(cases, folder / "store", spec, label_names=names, source="made")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_labelled_store(tmp_path_factory.mktemp("labelled") / "made")


@pytest.fixture
def build_store(tmp_path: Path) -> Callable[..., Store]:
    def build(change: Change = lambda _, label: label, spacing: float = 1.0, names: dict[int, str] = NAMES) -> Store:
        return build_labelled_store(tmp_path / "made", change, spacing, names)

    return build


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Raise KeyboardInterrupt right after this step of a transfer; never for None."""
    from gvsl.transfer.checkpoint import Checkpoint

    save = Checkpoint.save

    def stop(last: int | None) -> None:
        def save_and_stop(self: Checkpoint, step: int, *rest: Any) -> None:
            save(self, step, *rest)
            if step == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save_and_stop)

    return stop


MakeCase = Callable[..., Case]
MakeStore = Callable[..., Store]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Write an image of a bright block in noise and its label map, and return the case."""

    def make(
        name: str,
        splits: tuple[str, ...] = ("pretrain",),
        shape: tuple[int, ...] = (12, 14, 16),
        labelled: bool = True,
        spacing: tuple[float, float, float] = (1, 1, 1),
    ) -> Case:
        draw = np.random.default_rng(sum(name.encode()))
        image = draw.normal(100, 10, shape).astype(np.float32)
        image[3:8, 4:9, 5:10] += 200
        label = np.zeros(shape, np.uint8)
        label[3:8, 4:9, 5:10] = 1
        label[3:5, 4:9, 5:10] = 2
        affine = np.diag([*spacing, 1.0])
        paths = tmp_path / "source" / "images" / f"{name}.nii.gz", tmp_path / "source" / "labels" / f"{name}.nii.gz"
        for path, array in zip(paths, (image, label), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(array, affine).to_filename(path)
        return Case(name, paths[0], paths[1] if labelled else None, splits)

    return make


@pytest.fixture
def make_store(tmp_path: Path, make_case: MakeCase) -> MakeStore:
    """Prepare three cases: a and b for training, and c, without labels, for testing."""

    def make(name: str = "store", preprocessing: Preprocessing = PRESETS["mr"], source: str = "source") -> Store:
        cases = [
            make_case("a", ("pretrain", "train")),
            make_case("b", ("pretrain",), shape=(13, 15, 17)),
            make_case("c", ("test",), labelled=False),
        ]
        return prepare(cases, tmp_path / name, preprocessing, label_names={1: "block", 2: "rim"}, source=source)

    return make
