import csv
import errno
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.cli import main
from gvsl.datasets.mmwhs import STRUCTURES
from gvsl.errors import UserError
from gvsl.io import Volume, read_nifti
from gvsl.prediction import PredictSettings, find_images, predict
from gvsl.prediction.predict import _lack, segment_probabilities, segment_volume, windowed_logits
from gvsl.preprocessing import Preprocessing
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer import (
    ClassificationNetwork,
    SegmentationNetwork,
    Segmenter,
    TransferSettings,
    save_classifier,
    save_segmenter,
    transfer,
)
from gvsl.types import Case, Features

RADII = np.array([17.0, 13.0, 15.0])
Array = NDArray[np.float64]


class Intensities(UNet3D):
    """A backbone whose local features are the grey values."""

    def __init__(self) -> None:
        super().__init__(width=8)

    def forward(self, image: Tensor) -> Features:
        return Features(image, image.repeat(1, 8, 1, 1, 1))


def thresholding(contract: Preprocessing, crop: tuple[int, int, int]) -> Segmenter:
    """A network that calls 9 what is brighter than the middle of the range, and 4 what is brighter still."""
    network = SegmentationNetwork(Intensities(), 3, kernel=1).eval()
    slopes, starts = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, -0.5, -1.6])
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[:, 0, 0, 0, 0] = 20 * slopes
        assert network.head.bias is not None
        network.head.bias.copy_(20 * starts)
    return Segmenter(network, {4: "core", 9: "rind"}, contract, crop, 0.5)


def swap(model: Segmenter) -> Segmenter:
    """Values need not rise with the classes in what is predicted; these are told apart by name."""
    return replace(model, labels={9: "rind", 4: "core"})


def affine_of(rotation: tuple[float, float, float], spacing: tuple[float, float, float], turn: list[int]) -> Array:
    """Oblique axes in another order and some the other way; an odd number of flips is left-handed."""
    matrix = np.eye(4)
    axes = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
    matrix[:3, :3] = axes[:, [abs(axis) - 1 for axis in turn]] * np.sign(turn) * np.array(spacing)
    return matrix


GRIDS = {
    "plain": affine_of((0, 0, 0), (1, 1, 1), [1, 2, 3]),
    "oblique": affine_of((12, -9, 20), (1, 1, 1), [1, 2, 3]),
    "anisotropic": affine_of((0, 0, 0), (0.7, 0.7, 3.0), [1, 2, 3]),
    "left-handed": affine_of((0, 0, 0), (1.2, 0.9, 1.1), [-1, 2, 3]),
    "all of it": affine_of((-15, 8, 11), (0.8, 2.5, 0.6), [-3, 1, -2]),
    "left-handed oblique": affine_of((7, 14, -10), (1.5, 0.75, 2.0), [2, 1, -3][::-1]),
}


def phantom(affine: Array) -> tuple[nib.Nifti1Image, Array]:
    """An ellipsoid whose grey value falls by 50 a millimetre, and each voxel's distance from its surface in mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.ceil(56 / spacing).astype(int)
    placed = affine.copy()
    placed[:3, 3] = np.array([11.0, -23.0, 5.0]) - affine[:3, :3] @ ((shape - 1) / 2)
    points = np.moveaxis(np.indices(shape), 0, -1) @ placed[:3, :3].T + placed[:3, 3] - np.array([11.0, -23.0, 5.0])
    length = np.linalg.norm(points / RADII, axis=-1)
    distance = length * (length - 1) / np.maximum(np.linalg.norm(points / RADII**2, axis=-1), 1e-9)
    distance[length < 1e-6] = -RADII.min()  # the quotient says nothing at the centre
    image = nib.Nifti1Image(np.clip(-50 * distance, -1000, 1000).astype(np.float32), placed)
    return image, distance


def allowed(distance: Array) -> Array:
    """Half a voxel along the surface's normal, in mm: of the image or of the prepared grid of 1 mm, the larger.

    How many mm the distance grows by a voxel, over the three axes, is how long a voxel is along the normal.
    """
    voxel: Array = np.sqrt(sum(slope**2 for slope in np.gradient(distance)))
    return 0.5 * np.maximum(1.0, voxel)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_a_threshold_comes_back_to_within_half_a_voxel(name: str, crop: Any, tmp_path: Path) -> None:
    image, distance = phantom(GRIDS[name])
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    volume = read_nifti(path)
    contract = Preprocessing(intensity="window", lower=-1000, upper=1000, crop=crop, margin=2)
    model = swap(thresholding(contract, (32, 32, 32)))
    found = segment_volume(model, volume)
    assert found.shape == volume.array.shape
    # The rind begins where the grey value is 0, at the surface; the core at 100, that is 2 mm further in.
    for values, surface in (((4, 9), 0.0), ((4,), -2.0)):
        wrong = np.isin(found, values) != (distance < surface)
        assert (np.abs(distance - surface) <= allowed(distance))[wrong].all()
        assert wrong.mean() < 0.02
    assert np.unique(found).tolist() == [0, 4, 9]


@pytest.mark.parametrize("name", GRIDS)
def test_probabilities_lie_where_the_structures_do(name: str, tmp_path: Path) -> None:
    image, distance = phantom(GRIDS[name])
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    volume = read_nifti(path)
    contract = Preprocessing(intensity="window", lower=-1000, upper=1000, crop="foreground", margin=2)
    model = swap(thresholding(contract, (32, 32, 32)))
    shares = dict(segment_probabilities(model, volume, scratch=tmp_path))
    total = shares[4] + shares[9]
    assert ((total >= 0) & (total <= 1.001)).all()
    wrong = (total > 0.5) != (distance < 0)
    assert (np.abs(distance) <= allowed(distance))[wrong].all()
    assert [item.name for item in tmp_path.iterdir()] == ["image.nii.gz"]


# --- a run and its files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    out = tmp_path_factory.mktemp("predict") / "run"
    settings = TransferSettings(
        mode="linear", width=8, max_steps=60, validate_every=20, learning_rate=3e-2, crop=(16, 16, 12)
    )
    transfer(store, None, out, settings)
    return out


def source(store: Store, case: str) -> Path:
    return store.path.parent / store.cases[case].source


def test_predictions_of_the_test_split_score_as_the_record_says(run: Path, store: Store, tmp_path: Path) -> None:
    rows = read_record(run).cases
    images = [source(store, str(row["id"])) for row in rows]
    outcome = predict(run, find_images(images), tmp_path / "out")
    assert ([case.image for case in outcome.done], outcome.failed) == (images, [])
    for row, image in zip(rows, images, strict=True):
        found = np.asarray(nib.load(tmp_path / "out" / f"{image.stem}.nii.gz").dataobj)
        truth = store.label(str(row["id"]))
        both = [2 * ((found == v) & (truth == v)).sum() / ((found == v).sum() + (truth == v).sum()) for v in (1, 7)]
        # The run rounds frozen features to float16; a voxel on the fence may fall on the other side.
        assert np.mean(both) == pytest.approx(row["dice"], abs=0.01)
    assert json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8")) == {"1": "ball", "7": "box"}


@pytest.mark.parametrize("kind", ["sform", "qform", "both", "nifti2"])
def test_the_header_stays_bit_for_bit(run: Path, store: Store, tmp_path: Path, kind: str) -> None:
    array = np.asarray(nib.load(source(store, "s7")).dataobj)
    affine = affine_of((12, -9, 20), (1.1, 0.9, 1.3), [-1, 3, 2])
    affine[:3, 3] = [1 / 3, -100.1, 7.7]
    image = (nib.Nifti2Image if kind == "nifti2" else nib.Nifti1Image)(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    image.set_sform(affine, code=2 if kind in ("sform", "both", "nifti2") else 0)
    image.set_qform(affine, code=1 if kind in ("qform", "both") else 0)
    nib.save(image, tmp_path / "odd.nii")
    predict(run, find_images([tmp_path / "odd.nii"]), tmp_path / "out")
    before, after = nib.load(tmp_path / "odd.nii"), nib.load(tmp_path / "out" / "odd.nii.gz")
    assert type(before) is type(after)
    assert np.array_equal(before.affine, after.affine)
    assert changed_fields(before, after) <= {
        "datatype",
        "bitpix",
        "scl_slope",
        "scl_inter",
        "cal_max",
        "cal_min",
        "magic",
    }
    assert after.get_data_dtype() == np.uint8
    assert after.shape == array.shape


def changed_fields(before: Any, after: Any) -> set[str]:
    return {name for name in before.header if before.header[name].tobytes() != after.header[name].tobytes()}


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_stays_bit_for_bit(run: Path, tmp_path: Path, name: str) -> None:
    nib.save(phantom(GRIDS[name])[0], tmp_path / "image.nii.gz")
    before = nib.load(tmp_path / "image.nii.gz")
    outputs: tuple[Literal["labels", "probabilities"], ...] = ("labels", "probabilities")
    for output in outputs:
        out = tmp_path / output
        settings = PredictSettings(output=output)
        assert not predict(run, find_images([tmp_path / "image.nii.gz"]), out, settings).failed
        for path in out.glob("*.nii.gz"):
            after = nib.load(path)
            assert np.array_equal(before.affine, after.affine)
            assert before.shape == after.shape
            assert changed_fields(before, after) <= {"datatype", "bitpix"}
    assert bool(np.linalg.det(before.affine) < 0) == ("left-handed" in name)


def test_a_run_predicts_where_nothing_else_of_it_is_left(tmp_path: Path, build_store: Callable[..., Store]) -> None:
    made = build_store()
    image = tmp_path / "image.nii"
    image.write_bytes(source(made, "s7").read_bytes())
    torch.manual_seed(1)
    provenance = {"store": {"name": "made", "hash": made.hash}}
    weights = tmp_path / "pretrained"
    save_weights(weights, UNet3D(width=8), method="gvsl", preprocessing=made.preprocessing, provenance=provenance)
    settings = TransferSettings(mode="linear", max_steps=2, learning_rate=3e-2, crop=(16, 16, 12))
    transfer(made, weights, tmp_path / "run", settings)
    predict(tmp_path / "run", find_images([image]), tmp_path / "here")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "elsewhere" / "renamed")
    for gone in (tmp_path / "made", weights):
        shutil.rmtree(gone)
    predict(tmp_path / "elsewhere" / "renamed", find_images([image]), tmp_path / "there")
    here, there = ((tmp_path / name / "image.nii.gz") for name in ("here", "there"))
    assert np.array_equal(np.asarray(nib.load(here).dataobj), np.asarray(nib.load(there).dataobj))
    assert set(np.unique(np.asarray(nib.load(there).dataobj))) > {0}


def test_every_format_gives_the_same_map(
    run: Path, store: Store, tmp_path: Path, write_volume: Callable[[Path, Volume], Path]
) -> None:
    affine = affine_of((0, 0, 0), (1.1, 0.9, 1.3), [-1, 3, 2])
    grey = np.asarray(nib.load(source(store, "s7")).dataobj)
    volume = Volume(np.rint(1000 * grey).astype(np.int16), affine)
    folder = tmp_path / "in"
    for name in ("a.nii.gz", "b.nrrd", "c.mha", "series"):
        write_volume(folder / name, volume)
    (folder / "d.mgz").write_bytes(b"of a format that is not read")
    outcome = predict(run, find_images([folder]), tmp_path / "out")
    assert [case.id for case in outcome.done] == ["a", "b", "c", "series"]
    assert [case.id for case, _ in outcome.failed] == ["d.mgz"]
    maps = {case.id: nib.load(tmp_path / "out" / f"{case.id}.nii.gz") for case in outcome.done}
    first = np.asarray(maps["a"].dataobj)
    assert set(np.unique(first)) == {0, 1, 7}
    for case_id, found in maps.items():
        # As the volume lies, voxel for voxel, whatever order a format has for the axes.
        upright, expected = (nib.as_closest_canonical(image) for image in (found, maps["a"]))
        np.testing.assert_allclose(upright.affine, expected.affine, atol=1e-4, err_msg=case_id)
        assert np.mean(np.asarray(upright.dataobj) != np.asarray(expected.dataobj)) < 1e-3, case_id


def test_a_volume_smaller_than_the_window_and_mirroring(run: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((7, 6, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "small.nii")
    for mirror in (False, True):
        out = tmp_path / str(mirror)
        assert not predict(run, find_images([tmp_path / "small.nii"]), out, PredictSettings(mirror=mirror)).failed
        assert nib.load(out / "small.nii.gz").shape == (7, 6, 9)


def test_mirroring_makes_a_network_blind_to_sides() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8), 2).eval()
    array = np.random.default_rng(0).random((16, 12, 14)).astype(np.float32)
    box = (slice(0, 16), slice(0, 12), slice(0, 14))
    for mirror in (False, True):
        here = windowed_logits(network, array, mirror)(box)
        there = windowed_logits(network, array[::-1, :, ::-1].copy(), mirror)(box).flip(2, 4)
        assert torch.allclose(here, there, atol=1e-4) is mirror


def test_probabilities_are_one_map_a_structure(run: Path, store: Store, tmp_path: Path) -> None:
    predict(run, find_images([source(store, "s7")]), tmp_path, PredictSettings(output="probabilities"))
    maps = {value: np.asarray(nib.load(tmp_path / f"image7_{value}.nii.gz").dataobj) for value in (1, 7)}
    predict(run, find_images([source(store, "s7")]), tmp_path)
    labels = np.asarray(nib.load(tmp_path / "image7.nii.gz").dataobj)
    for value, share in maps.items():
        assert share.dtype == np.float32
        assert share[labels == value].min() > 1 / 3 - 0.01
        assert share[labels == value].mean() > 0.5 > share[labels != value].mean()


def test_a_run_on_hearts_writes_the_values_of_the_official_evaluation(
    tmp_path: Path, write_volume: Callable[[Path, Volume], Path]
) -> None:
    values = [0, *STRUCTURES]
    affine = affine_of((4, -3, 6), (0.9, 1.0, 1.1), [-1, 2, 3])
    band = np.repeat(np.arange(len(values)), 3)[:, None, None] + np.zeros((24, 18, 16), int)
    places = [*(f"ct_train/ct_train_{number}" for number in range(1001, 1006)), "ct_test/ct_test_2001"]
    for seed, place in enumerate(places):
        noise = np.random.default_rng(seed).normal(0, 5, band.shape)
        image = np.roll(band, seed, axis=0) * 250 - 900 + noise
        write_volume(tmp_path / f"{place}_image.nii.gz", Volume(image.astype(np.int16), affine))
        label = np.array(values, np.int16)[np.roll(band, seed, axis=0)]
        if seed == 0:
            label[label == 420] = 421  # as one case of the release has it
        if "train" in place:
            write_volume(tmp_path / f"{place}_label.nii.gz", Volume(label, affine))
    store, run = str(tmp_path / "store"), str(tmp_path / "run")
    prepared = ["prepare", str(tmp_path), store, "--dataset", "mmwhs", "--preset", "cardiac-ct", "--crop", "none"]
    assert main([*prepared, "--processes", "1"]) == 0
    learnt = ["--mode", "linear", "--optimiser", "lbfgs", "--loss", "dice_ce", "--max-steps", "40", "--width", "8"]
    learnt += ["--validate-every", "10", "--crop", "[32, 32, 32]", "--clusters.points", "0", "--kernel", "1"]
    assert main(["transfer", store, "--task", "shc", "--weights", "scratch", "--out", run, *learnt]) == 0
    unseen = tmp_path / f"{places[-1]}_image.nii.gz"
    assert main(["predict", run, str(unseen), "--out", str(tmp_path / "maps")]) == 0
    found, given = nib.load(tmp_path / "maps" / unseen.name), nib.load(unseen)
    assert found.get_data_dtype() == np.int16
    assert found.header["scl_slope"] in (0, 1) or np.isnan(found.header["scl_slope"])
    assert found.shape == given.shape
    np.testing.assert_array_equal(found.affine, given.affine)
    array = np.asarray(found.dataobj)
    assert set(np.unique(array)) == {0, 205, 420, 500, 550, 600, 820, 850}
    assert (array == label).mean() > 0.3  # of random features; by chance an eighth
    names = json.loads((tmp_path / "maps" / "labels.json").read_text(encoding="utf-8"))
    assert names == {str(value): name for value, name in STRUCTURES.items()}


def test_what_fails_is_listed_and_the_rest_is_done(run: Path, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = source(store, "s7").read_bytes()
    (folder / "a.nii").write_bytes(good)
    (folder / "b.nii").write_bytes(good[:2000])
    (folder / "c.nii.gz").write_bytes(gzip.compress(good))
    array = np.random.default_rng(0).random((8, 8, 8, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "d.nii")
    (folder / "a.nii.gz").write_bytes(gzip.compress(good))
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    outcome = predict(run, find_images([folder]), tmp_path / "out")
    assert [case.image.name for case in outcome.done] == ["a.nii", "c.nii.gz"]
    reasons = {case.image.name: reason for case, reason in outcome.failed}
    assert "would have the name of that of" in reasons["a.nii.gz"]
    assert "truncated" in reasons["b.nii"]
    assert "is 4D (8 x 8 x 8 x 2)" in reasons["d.nii"]
    written = {"a.nii.gz", "c.nii.gz", "labels.json", "predicted.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    (tmp_path / "out" / "labels.json").write_text('{"1": "ball"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"labels.json names other structures"):
        predict(run, find_images([folder / "a.nii"]), tmp_path / "out")


def test_the_command_says_what_failed_and_ends_with_code_2(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.nii").write_bytes(source(store, "s7").read_bytes())
    words = ["predict", str(run), str(folder), "--out"]
    assert main([*words, str(tmp_path / "all")]) == 0
    (folder / "bad.nii").write_text("no image", encoding="utf-8")
    assert main([*words, str(tmp_path / "some")]) == 2
    said = capsys.readouterr()
    assert "some: 1 of 2 images done" in said.out
    assert f"bad ({folder / 'bad.nii'}): is neither NIfTI nor NRRD" in said.out
    assert "predicting 2/2 images" in said.err
    assert said.err.splitlines()[-1].startswith("gvsl: error: 1 of 2 images were not done; the first, ")
    one, other = (tmp_path / name / "good.nii.gz" for name in ("all", "some"))
    assert np.array_equal(np.asarray(nib.load(one).dataobj), np.asarray(nib.load(other).dataobj))


def test_a_classification_writes_a_table(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ClassificationNetwork(UNet3D(width=8))
    settings = TransferSettings(width=8, crop=(12, 16, 16))
    contract = store.preprocessing
    save_classifier(tmp_path / "run", network, settings=settings, method="x", preprocessing=contract, provenance={})
    images = [source(store, f"s{number}") for number in (7, 8)]
    predict(tmp_path / "run", find_images(images), tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["image7", "image8"]
    whole = torch.from_numpy(store.image("s7"))[None, None]
    with torch.no_grad():
        halves = [network.eval().features(whole[:, :, start : start + 12]) for start in (0, 6, 8)]
        expected = torch.sigmoid(network.head(torch.stack(halves).mean(0)))
    assert float(rows[0]["score"]) == pytest.approx(float(expected), abs=1e-5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "scores.csv").write_text("id,score\nimage7,1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"scores.csv exists already; name another folder"):
        predict(tmp_path / "run", find_images(images), tmp_path / "other")


# --- stopped, and given again -------------------------------------------------------------------------------


class Stopped(list[Case]):
    """Images of which Ctrl-C comes before the second."""

    def __iter__(self) -> Iterator[Case]:
        yield self[0]
        raise KeyboardInterrupt


@pytest.fixture
def classifier(store: Store, tmp_path: Path) -> Path:
    settings = TransferSettings(width=8, crop=(12, 16, 16))
    network = ClassificationNetwork(UNet3D(width=8))
    folder, contract = tmp_path / "classifier", store.preprocessing
    save_classifier(folder, network, settings=settings, method="x", preprocessing=contract, provenance={})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["labels", "probabilities", "scores"])
def test_what_was_done_before_a_stop_is_kept_and_passed_over(
    run: Path, classifier: Path, store: Store, tmp_path: Path, kind: str
) -> None:
    used = classifier if kind == "scores" else run
    settings = PredictSettings(output="probabilities" if kind == "probabilities" else "labels")
    images = find_images([source(store, f"s{number}") for number in (7, 8, 9)])
    predict(used, images, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        predict(used, Stopped(images), tmp_path / "out", settings)
    kept = contents(tmp_path / "out")
    if kind == "scores":
        assert [line.split(",")[0] for line in kept["scores.csv"].decode().split()] == ["id", "image7"]
    if kind == "probabilities":  # the second image was stopped at between two structures
        shutil.copy(tmp_path / "whole" / "image8_1.nii.gz", tmp_path / "out")
        ledger = json.loads((tmp_path / "whole" / "predicted.json").read_text(encoding="utf-8"))
        ledger["images"] = {name: image for name, image in ledger["images"].items() if not name.startswith("image9")}
        (tmp_path / "out" / "predicted.json").write_text(json.dumps(ledger), encoding="utf-8")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.nii.gz")}
    outcome = predict(used, images, tmp_path / "out", settings)
    assert (outcome.present, outcome.done, outcome.failed) == (images[:1], images[1:], [])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    whole, now = contents(tmp_path / "whole"), contents(tmp_path / "out")
    assert whole.keys() == now.keys()
    for name in whole:
        if name.endswith(".nii.gz"):
            first, second = (np.asarray(nib.load(tmp_path / each / name).dataobj) for each in ("whole", "out"))
            assert np.array_equal(first, second)
        elif name != "predicted.json":
            assert whole[name] == now[name]


def test_the_command_says_how_many_were_there_already(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(source(store, f"s{number}")) for number in (7, 8)]
    assert main(["predict", str(run), images[0], "--out", str(tmp_path / "out")]) == 0
    assert main(["predict", str(run), *images, "--out", str(tmp_path / "out")]) == 0
    assert "out: 1 of 2 images done, 1 were there already" in capsys.readouterr().out


def test_another_s_result_is_not_taken_for_the_run_s(run: Path, classifier: Path, store: Store, tmp_path: Path) -> None:
    images = find_images([source(store, "s7")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "image7.nii.gz").write_bytes(b"someone else's")
    for _ in range(2):  # nor at a second try
        (failed,) = predict(run, images, out).failed
        assert "image7.nii.gz exists already, and predicted.json doesn't list it; name another folder" in failed[1]
    assert (out / "image7.nii.gz").read_bytes() == b"someone else's"
    (out / "image7.nii.gz").unlink()
    assert predict(run, images, out).done == images
    (tmp_path / "day2").mkdir()
    namesake = tmp_path / "day2" / images[0].image.name
    namesake.write_bytes(source(store, "s8").read_bytes())
    (failed,) = predict(run, find_images([namesake]), out).failed
    assert f"would have the name of that of {images[0].image}" in failed[1]
    with pytest.raises(UserError, match="holds predictions with mirror false, not true: name another folder"):
        predict(run, images, out, PredictSettings(mirror=True))
    with pytest.raises(UserError, match="holds the predictions of another run: name another folder"):
        predict(classifier, images, out)
    (out / "predicted.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"predicted.json can't be read .*: name another folder"):
        predict(run, images, out)


# --- too little memory or disk ------------------------------------------------------------------------------


def test_only_a_lack_is_taken_for_one() -> None:
    with pytest.raises(RuntimeError) as torch_says:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpy_says:
        np.empty(2**60, dtype=np.uint8)
    for error in (torch_says.value, numpy_says.value):
        assert "does not fit the memory there is; end other programs" in str(_lack(error, Path("out")))
    assert "disk of out; make room" in str(_lack(OSError(errno.ENOSPC, "No space left on device"), Path("out")))
    for other in (RuntimeError("shapes don't match"), OSError(errno.EIO, "Input/output error")):
        assert _lack(other, Path("out")) is None


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from gvsl.prediction import find_images, predict

torch.set_num_threads(1)
run, folder, out = map(Path, sys.argv[1:])
predict(run, find_images([folder / "a.nii"]), out)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))
outcome = predict(run, find_images([folder]), out)
print(*(case.id for case in outcome.done), [reason for _, reason in outcome.failed], len(outcome.present))
"""


@pytest.mark.slow
def test_an_image_that_does_not_fit_memory_is_listed_and_the_rest_is_done(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a", 16), ("b", 128), ("c", 16)):
        image = np.random.default_rng(0).random((side,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii")
    (tmp_path / "run").mkdir()
    save_segmenter(
        tmp_path / "run",
        SegmentationNetwork(UNet3D(width=8), 3),
        labels={1: "ball", 7: "box"},
        settings=TransferSettings(width=8),
        method="x",
        preprocessing=store.preprocessing,
        provenance={},
    )
    words = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "run"), str(folder), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    reason = "does not fit the memory there is; end other programs, or predict it on a machine with more"
    assert done.stdout.split("\n")[0] == f"c ['{reason}'] 1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_a_full_disk_is_listed_and_leaves_nothing_half_written(
    run: Path, tmp_path: Path, small_disk: Path, output: str
) -> None:
    folder, settings = tmp_path / "in", PredictSettings(output=output)  # type: ignore[arg-type]
    folder.mkdir()
    for name, side in (("a", 12), ("b", 64), ("c", 12)):
        image = np.random.default_rng(0).random((side,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii")
    predict(run, find_images([folder / "a.nii"]), small_disk, settings)
    if output == "labels":  # whose map of b is small itself
        free = shutil.disk_usage(small_disk).free
        (small_disk / "others").write_bytes(bytes(free - 5 * 4096))
    outcome = predict(run, find_images([folder]), small_disk, settings)
    assert [case.id for case in outcome.done] == ["c"]
    ((case, reason),) = outcome.failed
    assert case.id == "b"
    assert reason == f"its result does not fit the disk of {small_disk}; make room and give the same command again"
    known = {"labels.json", "predicted.json", "others"}
    assert {path.name[0] for path in small_disk.iterdir() if path.name not in known} == {"a", "c"}
    if output == "labels":
        (small_disk / "others").unlink()
        assert [case.id for case in predict(run, find_images([folder]), small_disk, settings).done] == ["b"]


def test_mistakes_are_one_line(run: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    image = source(store, "s7")
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: find_images([tmp_path / "nowhere"]), "nowhere does not exist; name images"),
        (lambda: find_images([tmp_path / "empty"]), r"empty holds no volume \(NIfTI, NRRD, MetaImage or DICOM\)"),
        (
            lambda: predict(tmp_path, find_images([image]), tmp_path / "out"),
            "name the folder of a run of gvsl transfer",
        ),
        (
            lambda: predict(run, find_images([image]), tmp_path / "file"),
            r"file can't be written: .*; name another folder",
        ),
        (
            lambda: predict(run, find_images([image]), Path("/proc/none")),
            r"/proc/none can't be written: .*; name another folder",
        ),
    ]
    for call, message in mistakes:
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
