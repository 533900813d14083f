"""A volume gives the same store in every format and orientation, and predictions map back to each."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from gvsl.datasets import folder
from gvsl.io import Volume, read_label, read_volume, resample_onto, same_grid, to_canonical, write_like
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.store import Store, duplicates

WriteVolume = Callable[[Path, Volume], Path]

FORMATS = ("nii.nii", "gz.nii.gz", "pair.hdr", "nrrd.nrrd", "nhdr.nhdr", "mha.mha", "mhd.mhd", "dicom")
SERIES_UID = "1.2.3"
"""That of the series that tests write; with its folder, the id of a case."""
ORDERS = [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0), (1, 0, 2), (0, 1, 2), (1, 2, 0)]
ORIENTATIONS = [
    np.stack([order, flips], axis=1) for order, flips in zip(ORDERS, product((1, -1), repeat=3), strict=True)
]
"""All combinations of flips, left- and right-handed, each with another axis order."""
SPEC = Preprocessing(intensity="window", lower=-1000.0, upper=1000.0, crop="none")


def original(spacing: tuple[float, float, float], oblique: float = 0.0) -> Volume:
    """Return smooth whole numbers in RAS order, rotated around the long axis."""
    shape = (14, 16, 12)
    index = np.stack(np.meshgrid(*(np.linspace(0, 3, size) for size in shape), indexing="ij"))
    array = np.rint(900 * np.sin(index[0] + 2 * index[1]) * np.cos(1.5 * index[2])).astype(np.int16)
    array[2, 3, 4] = 950  # so that no flip leaves it unchanged
    angle = np.deg2rad(oblique)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= spacing
    affine[:3, 3] = (-30, 12.5, 44)
    return Volume(array, affine)


def turned(volume: Volume, turns: np.ndarray) -> Volume:
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(turns, volume.array.shape)
    return Volume(np.ascontiguousarray(nibabel.apply_orientation(volume.array, turns)), affine)


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param(turns, id=str(number), marks=[] if number in (3, 4, 7) else pytest.mark.slow)
        for number, turns in enumerate(ORIENTATIONS)  # of the three, two are left-handed; each axis is flipped in two
    ],
)
def test_format_and_orientation_make_no_difference(
    tmp_path: Path, write_volume: WriteVolume, turns: np.ndarray
) -> None:
    for spacing, oblique in (((1.0, 1.0, 1.0), 0.0), ((0.8, 0.8, 2.5), 12.0)):
        upright = original(spacing, oblique)
        root = tmp_path / f"{oblique:g}"
        for name in FORMATS:
            write_volume(root / "images" / name, turned(upright, turns))
        store = prepare(folder(root).cases, root / "store", SPEC, source="made")
        assert not store.refused
        ids = [f"{name}_{SERIES_UID}" if name == "dicom" else name.partition(".")[0] for name in FORMATS]
        assert sorted(store.cases) == sorted(ids)
        expected = store.image("nii")
        if oblique == 0:
            np.testing.assert_allclose(expected, (upright.array + 1000) / 2000, atol=1e-3)
        for case_id, case in store.cases.items():
            np.testing.assert_allclose(store.image(case_id), expected, atol=1e-3)  # float16, and rounded positions
            np.testing.assert_allclose(case.affine, store.cases["nii"].affine, atol=1e-3)
        assert len(duplicates((case.id, (), case.content) for case in store.cases.values())[0]) == len(FORMATS)
        check_the_way_back(root, store, upright)


def check_the_way_back(root: Path, store: Store, upright: Volume) -> None:
    """Check that a segmentation of the stored image is right on the source's grid, as NIfTI."""
    for case_id, case in store.cases.items():
        stored = Volume(store.image(case_id), case.affine)
        back = resample_onto(stored, case.source_shape, case.source_affine)
        source = root / "images" / case.source
        write_like(root / "out.nii.gz", (back > 0.55).astype(np.uint8), source, case.source_affine)
        label = read_label(root / "out.nii.gz")
        original = read_volume(source)
        assert same_grid(label, original, tolerance=1e-3)
        truth = to_canonical(original).array > 100
        np.testing.assert_array_equal(truth, upright.array > 100)
        found = to_canonical(label).array > 0
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        exact = stored.array.shape == upright.array.shape
        assert dice == 1 if exact else dice > 0.97


def test_label_maps_may_differ_in_format_and_axis_order(tmp_path: Path, write_volume: WriteVolume) -> None:
    upright = original((1.0, 1.0, 1.0))
    write_volume(tmp_path / "images" / "case", turned(upright, ORIENTATIONS[3]))
    label = Volume((upright.array > 100).astype(np.uint8), upright.affine)
    write_volume(tmp_path / "labels" / "case.nrrd", turned(label, ORIENTATIONS[6]))
    store = prepare(folder(tmp_path).cases, tmp_path / "store", SPEC, source="made")
    np.testing.assert_array_equal(store.label(f"case_{SERIES_UID}"), label.array)


@pytest.mark.parametrize(("slope", "intercept"), [(0.37, -1000.3), (2.44140625e-4, 0.1), (1.7, 0.0)])
def test_a_series_and_its_conversions_are_duplicates(
    tmp_path: Path, write_dicom: Callable[..., list[Path]], slope: float, intercept: float
) -> None:
    stored = np.random.default_rng(0).integers(0, 4000, (9, 8, 10))
    images = tmp_path / "images"
    write_dicom(images / "series", Volume(slope * stored + intercept, np.eye(4)), slope=slope, intercept=intercept)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(images / "series"))
    converted = sitk.ReadImage(names)  # in float64, by another reader
    assert converted.GetPixelID() == sitk.sitkFloat64
    for name in ("nrrd.nrrd", "mha.mha", "gz.nii.gz"):
        sitk.WriteImage(converted, str(images / name))
    sitk.WriteImage(sitk.Cast(converted, sitk.sitkFloat32), str(images / "single.nii.gz"))
    store = prepare(folder(tmp_path).cases, tmp_path / "store", PRESETS["none"], source="made")
    assert not store.refused
    (group,) = duplicates((case.id, (), case.content) for case in store.cases.values())
    assert [case_id for case_id, _, _ in group] == ["gz", "mha", "nrrd", f"series_{SERIES_UID}", "single"]
