from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from gvsl.io.itk import write_affine_transform, write_displacement_nifti, write_displacement_transform

AFFINE = np.array([[0, -1.5, 0, 3], [0.7, 0, 0, -4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
FIELD = np.random.default_rng(0).normal(0, 3, (4, 5, 6, 3)).astype(np.float32)


def test_a_field_has_its_vectors_at_its_points(tmp_path: Path) -> None:
    write_displacement_transform(tmp_path / "a.h5", FIELD, AFFINE)
    write_displacement_nifti(tmp_path / "a.nii.gz", FIELD, AFFINE)
    transform = sitk.ReadTransform(str(tmp_path / "a.h5"))
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetNumberOfComponentsPerPixel() == 3
    for voxel in ((0, 0, 0), (3, 4, 5), (1, 3, 2)):
        point = (AFFINE @ [*voxel, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(np.array(transform.TransformPoint(point)) - point, FIELD[voxel], atol=1e-5)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(voxel), point, atol=1e-5)
        np.testing.assert_array_equal(image.GetPixel(voxel), FIELD[voxel])
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (header["intent_code"], header["dim"][5]) == (1007, 3)
    assert (header.get_xyzt_units()[0], int(header["sform_code"])) == ("mm", 1)


def test_a_transform_is_small(tmp_path: Path) -> None:
    write_displacement_transform(tmp_path / "a.h5", np.zeros((40, 40, 40, 3), np.float32), AFFINE)
    with h5py.File(tmp_path / "a.h5") as file:
        group = file["TransformGroup/0"]
        assert group["TransformType"][0] == b"DisplacementFieldTransform_double_3_3"
        assert group["TransformFixedParameters"].shape == (18,)
        assert group["TransformParameters"].dtype == np.float32
    assert (tmp_path / "a.h5").stat().st_size < 30_000


def test_an_affine_map_moves_points_as_in_ras(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(1).normal(0, 0.3, (3, 4))
    write_affine_transform(tmp_path / "a.tfm", matrix)
    transform = sitk.ReadTransform(str(tmp_path / "a.tfm"))
    point = np.array([3.0, -7.0, 11.0])
    found = np.array(transform.TransformPoint(point * [-1, -1, 1])) * [-1, -1, 1]
    np.testing.assert_allclose(found, (matrix @ [*point, 1])[:3], atol=1e-9)
