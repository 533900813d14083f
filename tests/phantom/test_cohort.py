from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from gvsl.datasets import folder
from gvsl.errors import UserError
from gvsl.io import read_label, read_volume
from gvsl.phantom.cohort import ANATOMIES, anatomical_points, appearance, streams, subject, target_of, write_phantom
from gvsl.phantom.heart import HEART_LABELS, layers

LEFT_VENTRICLE, RIGHT_VENTRICLE, LEFT_ATRIUM, RIGHT_ATRIUM, MYOCARDIUM, AORTA, PULMONARY_ARTERY = HEART_LABELS
SMALL = (32, 32, 32)
Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def cohort() -> list[Pair]:
    return [subject(5, index) for index in range(6)]


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=pytest.mark.slow) if task == "sac" else task for task in ANATOMIES]
)
def test_a_subject_is_a_pure_function_of_seed_and_index(task: str) -> None:
    first = subject(3, 7, SMALL, task)
    before = np.random.get_state(legacy=False)  # noqa: NPY002 - the global state is what must stay as it is
    subject(3, 8, SMALL)  # another in between
    again = subject(3, 7, SMALL, task)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_equal(before, after)


def test_another_seed_or_index_is_another_subject() -> None:
    subjects = [subject(*which, SMALL) for which in ((0, 0), (0, 1), (1, 0))]
    for one, other in combinations(subjects, 2):
        assert np.abs(one[0] - other[0]).mean() > 20
        assert (one[1] != other[1]).mean() > 0.01


def test_image_and_label_have_a_scanner_s_types_and_range(cohort: list[Pair]) -> None:
    for image, label in cohort:
        assert image.shape == label.shape == (64, 64, 64)
        assert image.dtype == np.float32
        assert label.dtype == np.uint8
        assert np.isfinite(image).all()
        assert image.min() >= -1024
        assert image.max() <= 3071
        assert set(np.unique(label)) == {0, *HEART_LABELS}


def test_every_structure_is_whole_within_the_field_of_view(cohort: list[Pair]) -> None:
    inner = np.zeros((64, 64, 64), bool)
    inner[1:-1, 1:-1, 1:-1] = True
    for _, label in cohort:
        assert not label[~inner].any()
        for value in HEART_LABELS:
            pieces, _ = ndimage.label(label == value)
            sizes = np.bincount(pieces.ravel())[1:]
            assert sizes.sum() > 500
            assert sizes.max() > 0.995 * sizes.sum()


def test_the_same_structures_touch_in_every_subject(cohort: list[Pair]) -> None:
    must_touch = {
        (LEFT_VENTRICLE, MYOCARDIUM),
        (LEFT_VENTRICLE, LEFT_ATRIUM),
        (LEFT_VENTRICLE, AORTA),
        (RIGHT_VENTRICLE, MYOCARDIUM),
        (RIGHT_VENTRICLE, RIGHT_ATRIUM),
        (RIGHT_VENTRICLE, PULMONARY_ARTERY),
    }
    must_not_touch = {
        (LEFT_VENTRICLE, RIGHT_VENTRICLE),
        (LEFT_VENTRICLE, RIGHT_ATRIUM),
        (LEFT_VENTRICLE, PULMONARY_ARTERY),
        (RIGHT_VENTRICLE, AORTA),
        (RIGHT_ATRIUM, AORTA),
        (AORTA, PULMONARY_ARTERY),
    }
    for _, label in cohort:
        touching = contacts(label)
        assert all(touching[pair] >= 10 for pair in must_touch)
        assert not any(touching[pair] >= 10 for pair in must_not_touch)


def contacts(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the voxel faces between each pair of label values."""
    found = np.zeros((8, 8), np.int64)
    for axis in range(3):
        rows = np.moveaxis(label, axis, 0)
        np.add.at(found, (rows[:-1], rows[1:]), 1)
    return found + found.T


def test_the_body_lies_in_ras_axes(cohort: list[Pair]) -> None:
    for _, label in cohort:
        middle = {value: ndimage.center_of_mass(label == value) for value in HEART_LABELS}
        assert middle[RIGHT_ATRIUM][0] > middle[LEFT_VENTRICLE][0] + 8
        assert middle[RIGHT_VENTRICLE][1] > middle[LEFT_ATRIUM][1] + 8
        assert middle[AORTA][2] > middle[LEFT_VENTRICLE][2] + 8


def test_tissues_differ_as_in_contrast_enhanced_ct(cohort: list[Pair]) -> None:
    for image, label in cohort:
        mean = {value: float(image[label == value].mean()) for value in HEART_LABELS}
        assert 40 < mean[MYOCARDIUM] < 200
        assert mean[LEFT_VENTRICLE] > mean[MYOCARDIUM] + 100
        assert mean[RIGHT_VENTRICLE] > mean[MYOCARDIUM] + 40
        assert (image < -700).mean() > 0.1  # lungs
        assert (image > 450).mean() > 0.002  # bone


def test_no_flat_region_is_free_of_noise(cohort: list[Pair]) -> None:
    for image, label in cohort:
        pool = ndimage.binary_erosion(label == RIGHT_ATRIUM, iterations=3)
        assert 5 < image[pool].std() < 60


def test_contrast_differs_between_subjects() -> None:
    values = [appearance(streams(0, index)[1]) for index in range(50)]
    for tissue, spread in (("left blood", 30), ("right blood", 40), ("myocardium", 8), ("lung", 15)):
        assert np.std([look[tissue] for look in values]) > spread
    assert np.std([look["left blood"] - look["right blood"] for look in values]) > 40


@pytest.mark.parametrize(("shape", "variation"), [((64, 64, 64), 0), ((24, 32, 40), 0), ((48, 48, 48), 0.3)])
def test_the_deformation_never_folds(shape: tuple[int, int, int], variation: float) -> None:
    for index in range(6):
        points, _ = anatomical_points(11, index, shape, view_variation=variation)
        jacobian = np.stack([np.stack(np.gradient(part)) for part in points])
        volume = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
        average = (ANATOMIES["shc"].field_of_view / min(shape)) ** 3
        assert volume.min() > 0.15 * average
        assert volume.max() < 5 * average * np.exp(6 * variation)  # the largest extent, cubed


def test_unmatched_subjects_overlap_by_about_half(cohort: list[Pair]) -> None:
    assert 0.4 < unmatched_overlap(cohort) < 0.6


def unmatched_overlap(subjects: list[Pair]) -> float:
    """Return the mean Dice of all structures over all pairs of subjects."""
    overlaps = [
        2 * ((one == value) & (other == value)).sum() / ((one == value).sum() + (other == value).sum())
        for (_, one), (_, other) in combinations(subjects, 2)
        for value in HEART_LABELS
    ]
    return float(np.mean(overlaps))


@pytest.fixture(scope="module")
def varied() -> list[Pair]:
    return [subject(5, index, SMALL, view_variation=0.2) for index in range(10)]


def test_the_anatomy_s_position_varies_by_as_much_as_asked_for(varied: list[Pair]) -> None:
    centres = np.array([ndimage.center_of_mass(label > 0) for _, label in varied]) / 32
    spread = np.sqrt(np.var(centres, axis=0).mean())
    uniform = 0.2 / np.sqrt(3)  # the standard deviation of offsets of at most 0.2
    assert 0.8 * uniform < spread < 1.25 * uniform


def test_a_varied_field_of_view_varies_in_extent_and_keeps_most_of_the_heart() -> None:
    whole, shown = [], []
    for index in range(10):
        # The same field of view, continued by half of it beyond either end of two axes.
        _, label = subject(5, index, (16, 32, 32), view_variation=0.2)
        whole.append((label > 0).sum())
        shown.append((label[:, 8:24, 8:24] > 0).sum())
    fractions = np.divide(shown, whole)
    assert fractions.mean() > 0.97
    assert fractions.min() > 0.8
    assert max(whole) > 2 * min(whole)  # an extent of up to e^0.4, cubed, on top of the bodies' own sizes


def test_places_tell_nothing_in_varied_fields_of_view(varied: list[Pair]) -> None:
    assert unmatched_overlap(varied) < 0.12  # 0.4 to 0.6 in fixed ones, as tested above


def test_points_map_each_structure_to_the_same_anatomy(cohort: list[Pair]) -> None:
    """A structure has the same canonical position in all subjects, so the true correspondence is known."""
    points = [anatomical_points(5, index)[0] for index in range(len(cohort))]
    for value in HEART_LABELS:
        middles = []
        for place, (_, label) in zip(points, cohort, strict=True):
            shown = place[:, label == value]
            # Voxel sizes differ in canonical space, so the centre of the extent replaces the mean.
            middles.append((np.quantile(shown, 0.02, axis=1) + np.quantile(shown, 0.98, axis=1)) / 2)
        assert np.std(middles, axis=0).max() < 2.0  # mm, with voxels of 3.2 mm


def test_another_shape_shows_the_same_body() -> None:
    coarse_image, coarse = subject(2, 0, (16, 20, 24))
    fine_image, fine = subject(2, 0, (48, 60, 72))  # every third voxel has the centre of a coarse one
    assert coarse.shape == (16, 20, 24)
    assert (fine[1::3, 1::3, 1::3] != coarse).mean() < 0.001
    blocks = fine_image.reshape(16, 3, 20, 3, 24, 3).mean(axis=(1, 3, 5))
    assert np.corrcoef(blocks.ravel(), coarse_image.ravel())[0, 1] > 0.97


def test_a_cohort_is_readable_as_a_folder(tmp_path: Path) -> None:
    done: list[int] = []
    write_phantom(tmp_path / "out", 6, 4, SMALL, train=2, val=1, test=2, progress=lambda: done.append(1))
    source = folder(tmp_path / "out")
    assert source.label_names == HEART_LABELS
    splits = {case.id: case.splits for case in source.cases}
    assert splits == {
        "phantom_000": ("pretrain", "train"),
        "phantom_001": ("pretrain", "train"),
        "phantom_002": ("pretrain",),
        "phantom_003": ("val",),
        "phantom_004": ("test",),
        "phantom_005": ("test",),
    }
    assert len(done) == 6
    case = source.cases[2]
    image, label = subject(4, 2, SMALL)
    read = read_volume(case.image)
    np.testing.assert_allclose(read.array, image, atol=0.5001)
    assert read.spacing == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(read.affine[:3, :3], np.eye(3))
    np.testing.assert_array_equal(read.affine[:3, 3], [-15.5, -15.5, -15.5])
    assert case.label is not None
    np.testing.assert_array_equal(read_label(case.label).array, label)


def test_only_class_1_has_lesions_and_they_lie_in_the_lungs() -> None:
    for index in range(4):
        image, lesions = subject(2, index, (48, 48, 48), "ccc")
        assert bool(lesions.any()) == bool(target_of(2, index))
        if not lesions.any():
            continue
        assert 0.001 < (lesions > 0).mean() < 0.05
        inner = ndimage.binary_erosion(lesions > 0)
        assert image[inner].mean() > -700  # denser than lung
        # Without lesions the subject has lung or vessels there, chest wall at the rim only.
        points, _ = anatomical_points(2, index, (48, 48, 48), "ccc")
        healthy = np.full(image.shape, -1000.0)
        names: dict[str, int] = {}
        for layer in layers(points):
            healthy[layer.distance < 0] = names.setdefault(layer.tissue, len(names))
        assert set(np.unique(healthy[lesions > 0])) <= {names["lung"], names["lung vessel"]}


def test_only_contrast_medium_makes_blood_bright() -> None:
    generators = (np.random.default_rng(0) for _ in range(2))
    with_medium, without = (ANATOMIES[task].appearance(next(generators)) for task in ("shc", "ccc"))
    assert with_medium["left blood"] > 250 > 100 > without["left blood"] == without["right atrial blood"]


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects of nothing, for what is written beside them."""

    def nothing(seed: int, index: int, shape: tuple[int, ...], *rest: object) -> Pair:
        return np.zeros(shape, np.float32), np.zeros(shape, np.uint8)

    monkeypatch.setattr("gvsl.phantom.cohort.subject", nothing)


@pytest.mark.usefixtures("blank")
def test_classes_are_written(tmp_path: Path) -> None:
    write_phantom(tmp_path / "out", 8, 3, (16, 16, 16), task="ccc")
    assert [case.target for case in folder(tmp_path / "out").cases] == [1, 0] * 4
    write_phantom(tmp_path / "other", 8, 3, (16, 16, 16))
    assert {case.target for case in folder(tmp_path / "other").cases} == {None}
    with pytest.raises(UserError, match="no phantom for task"):
        write_phantom(tmp_path / "third", 8, task="heart")


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("count", [4, 16])
def test_default_splits_are_fractions_of_the_count(tmp_path: Path, count: int) -> None:
    write_phantom(tmp_path / "out", count, shape=(16, 16, 16))
    cases = folder(tmp_path / "out").cases
    sizes = {name: sum(name in case.splits for case in cases) for name in ("pretrain", "train", "val", "test")}
    expected = {4: (2, 1, 1, 1), 16: (10, 4, 2, 4)}
    assert tuple(sizes.values()) == expected[count]


def test_writing_is_deterministic(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        write_phantom(tmp_path / name, 3, 1, (16, 16, 16))
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert len(contents[0]) == 8
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 5, "train": 3, "val": 1, "test": 2},
        {"count": 5, "train": 1, "val": -1, "test": 1},
        {"seed": -1},
        {"shape": (64, 64)},
        {"shape": (64, 64, 15)},
        {"view_variation": 0.31},
        {"view_variation": -0.1},
    ],
)
def test_impossible_cohorts_are_refused_and_leave_nothing(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError) as refusal:
        write_phantom(tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        write_phantom(tmp_path, 4, shape=(16, 16, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(UserError, match="-1"):
        subject(0, -1)
