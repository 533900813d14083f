from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.geometry import affine_dvf, affine_matrix, fuse, gaussian_smooth, spatial_shape, warp
from gvsl.io import Volume, read_volume
from gvsl.io.itk import write_affine_transform, write_displacement_nifti, write_displacement_transform
from gvsl.prediction.patient_field import (
    PatientField,
    jacobian_of,
    patient_affine,
    patient_field,
    warp_image,
    warp_labels,
)
from gvsl.prediction.volumes import prepared
from gvsl.preprocessing import Preprocessing
from gvsl.propagation.match import Matched, centred, common_shape

from .grids import GRIDS

OUTSIDE = -1000.0
SPEC = Preprocessing(intensity="window", lower=-100, upper=500, crop="foreground", margin=1)


def scan(grid: str, seed: int, shape: tuple[int, int, int] = (26, 22, 19)) -> nib.Nifti1Image:
    """Smooth noise on dark ground; the finest axes get more voxels, so that all of them show 20 mm or more."""
    affine = GRIDS[grid].copy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sides = [round(side / edge) for side, edge in zip(shape, spacing, strict=True)]
    affine[:3, 3] = [-40 + 11 * seed, 15 - 3 * seed, 100 + seed]
    noise = torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(seed))
    values = 400 * gaussian_smooth(noise, 1.0)[0, 0].numpy()
    values[:2] = values[:, -2:] = -50  # something to crop
    return nib.Nifti1Image(values.astype(np.float32), affine)


def bend(shape: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth field of some voxels and its affine part."""
    draw = torch.Generator().manual_seed(seed)
    local = gaussian_smooth(torch.randn(1, 3, *shape, generator=draw), 3.0)
    local = 1.5 * local / local.std()
    values = (0.1 * torch.randn(1, count, generator=draw) for count in (3, 3, 3, 6))
    rotation, translation, scale, shear = values
    matrix = affine_matrix(rotation, 10 * translation, 1 + scale, shear)
    return fuse(matrix, local), affine_dvf(matrix, shape)


def matched(moving: Volume, fixed: Volume) -> Matched:
    images = [torch.from_numpy(volume.array)[None, None] for volume in (moving, fixed)]
    shape = common_shape([spatial_shape(image) for image in images], 4)
    return Matched(centred(images[0], shape), centred(images[1], shape), *bend(shape))


def image_of(path: Path) -> Any:
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


@pytest.mark.parametrize(
    ("moving", "fixed"),
    [
        ("plain", "oblique"),
        ("oblique", "anisotropic"),
        ("anisotropic", "left-handed"),
        ("left-handed", "all of it"),
        ("all of it", "left-handed oblique"),
        ("left-handed oblique", "plain"),
    ],
)
def test_itk_computes_the_same_from_the_files(moving: str, fixed: str, tmp_path: Path) -> None:
    paths = [tmp_path / "moving.nii.gz", tmp_path / "fixed.nii.gz"]
    for seed, (path, grid) in enumerate(zip(paths, (moving, fixed), strict=True)):
        nib.save(scan(grid, seed, (26, 22, 19) if seed else (24, 25, 21)), path)
    images = [read_volume(path) for path in paths]
    ready = _ready(images[0]), _ready(images[1])
    match = matched(*ready)
    field = patient_field(match, *ready, images[1])
    ours = warp_image(images[0], field, OUTSIDE).T
    write_displacement_transform(tmp_path / "field.h5", field.displacement, field.affine)
    write_displacement_nifti(tmp_path / "field.nii.gz", field.displacement, field.affine)
    from_nifti = sitk.DisplacementFieldTransform(
        sitk.Cast(sitk.ReadImage(str(tmp_path / "field.nii.gz")), sitk.sitkVectorFloat64)
    )
    for transform in (sitk.ReadTransform(str(tmp_path / "field.h5")), from_nifti):
        warped = sitk.Resample(image_of(paths[0]), image_of(paths[1]), transform, sitk.sitkLinear, OUTSIDE)
        theirs = sitk.GetArrayFromImage(warped)
        inside = (ours != OUTSIDE) & (theirs != OUTSIDE)
        assert inside.mean() > 0.3
        assert np.abs(theirs - ours)[inside].max() <= 1e-3 * np.ptp(images[0].array)
        assert ((ours == OUTSIDE) != (theirs == OUTSIDE)).mean() < 1e-3  # at the very border rounding decides

    labels = (images[0].array > np.median(images[0].array)).astype(np.uint8) * 3
    labels[:, : labels.shape[1] // 2] += 2
    nib.save(nib.Nifti1Image(labels, nib.load(paths[0]).affine), tmp_path / "labels.nii.gz")
    voted = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "labels.nii.gz")), image_of(paths[1]), from_nifti, sitk.sitkLabelLinear
    )
    carried = warp_labels(Volume(labels, images[0].affine), field).T
    assert (sitk.GetArrayFromImage(voted) != carried).mean() < 1e-3

    write_affine_transform(tmp_path / "affine.tfm", patient_affine(match, *ready))
    affine = sitk.ReadTransform(str(tmp_path / "affine.tfm"))
    alone = patient_field(Matched(match.moving, match.fixed, match.affine, match.affine), *ready, images[1])
    reference = image_of(paths[1])
    for voxel in ((0, 0, 0), (3, 5, 2), tuple(side - 1 for side in images[1].array.shape)):
        point = reference.TransformIndexToPhysicalPoint(voxel)
        moved = np.array(affine.TransformPoint(point)) - point
        np.testing.assert_allclose(alone.displacement[voxel], moved, atol=1e-3)


def test_on_the_prepared_grid_the_field_is_the_networks() -> None:
    shapes = ((20, 17, 22), (18, 20, 21))
    draw = np.random.default_rng(0)
    moving, fixed = (Volume(draw.random(shape, np.float32), np.diag([1.5, 1.5, 1.5, 1])) for shape in shapes)
    match = matched(moving, fixed)
    field = patient_field(match, moving, fixed, fixed)
    expected = warp(match.moving, match.dvf, padding="border")[0, 0].numpy()
    start = [(side - own) // 2 for side, own in zip(expected.shape, shapes[1], strict=True)]
    expected = expected[tuple(slice(begin, begin + own) for begin, own in zip(start, shapes[1], strict=True))]
    found = warp_image(moving, field, np.nan)
    inside = np.isfinite(found)
    assert 0.5 < inside.mean() < 1
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_beyond_the_matched_region_the_affine_part_goes_on() -> None:
    fixed = Volume(np.random.default_rng(0).random((16, 16, 16), np.float32), np.eye(4))
    match = matched(fixed, fixed)
    far = np.eye(4)
    far[:3, 3] = (-30, 60, 5)  # a grid of which no voxel is in it
    grid = Volume(np.zeros((3, 3, 3)), far)
    alone = Matched(match.moving, match.fixed, match.affine, match.affine)
    rest = [patient_field(each, fixed, fixed, grid).displacement for each in (match, alone)]
    corner = (match.dvf - match.affine)[0, :, 0, -1].numpy()  # the edge that is nearest to all of it
    apart = (rest[0] - rest[1]) @ np.diag([-1, -1, 1])
    np.testing.assert_allclose(apart[0, 0], corner[:, 5:8].T, atol=1e-4)


def linear_field(affine: NDArray[Any], linear: NDArray[Any]) -> PatientField:
    """The field of a linear map of points in LPS."""
    voxels = np.moveaxis(np.indices((5, 6, 4)), 0, -1)
    points = (voxels @ affine[:3, :3].T + affine[:3, 3]) * [-1, -1, 1]
    return PatientField((points @ (linear - np.eye(3)).T).astype(np.float32), affine)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("mirror", [1, -1])
def test_the_jacobian_is_the_determinant_of_the_map(grid: str, mirror: int) -> None:
    linear = np.eye(3) + np.random.default_rng(1).normal(0, 0.2, (3, 3))
    linear[0] *= mirror
    found = jacobian_of(linear_field(GRIDS[grid], linear))
    np.testing.assert_allclose(found, np.linalg.det(linear), rtol=1e-3)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    moving, fixed = (Volume(draw.random((14, 12, 13), np.float32), np.eye(4)) for _ in range(2))
    labels = Volume(draw.integers(-2, 3, (14, 12, 13)).astype(np.int16), np.eye(4))

    def results() -> list[NDArray[Any]]:
        field = patient_field(matched(moving, fixed), moving, fixed, fixed)
        return [field.displacement, warp_image(moving, field, 0), warp_labels(labels, field), jacobian_of(field)]

    whole = results()
    monkeypatch.setattr("gvsl.prediction.patient_field.BLOCK", 3 * 12 * 13)
    for one, other in zip(whole, results(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_tie_goes_to_the_background_and_then_to_the_smallest() -> None:
    half = np.zeros((1, 3, 3, 3), np.float32)
    half[..., 0] = -0.5  # along L, so half a voxel to the right
    rows = np.array([[-1, 0, 2, 5]], np.int16).T[:, :, None]
    labels = Volume(np.broadcast_to(rows, (4, 3, 3)).copy(), np.eye(4))
    grid = np.eye(4)
    for first, expected in ((0, 0), (1, 0), (2, 2)):
        grid[0, 3] = first
        found = warp_labels(labels, PatientField(half, grid.copy()))
        assert (found == expected).all(), first


def _ready(image: Volume) -> Volume:
    array, affine = prepared(image, SPEC)
    return Volume(array[0], affine)
