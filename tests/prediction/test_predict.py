import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.cases import Case
from gvsl.cli import main
from gvsl.datasets.mmwhs import STRUCTURES
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.prediction import PredictSettings, find_images, predict
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.records import read_record
from gvsl.store import Store, describe
from gvsl.transfer import (
    ClassificationNetwork,
    ClusterSettings,
    SegmentationNetwork,
    TransferSettings,
    run_task,
    save_adapted,
)
from gvsl.transfer.weights import CLASSIFIER_CONFIG, segmenter_config

from .grids import GRIDS, affine_of, changed_fields, phantom, source


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
def test_the_header_stays_bit_for_bit(wide_run: Path, store: Store, tmp_path: Path, kind: str) -> None:
    array = np.asarray(nib.load(source(store, "s7")).dataobj)
    affine = affine_of((12, -9, 20), (1.1, 0.9, 1.3), [-1, 3, 2])
    affine[:3, 3] = [1 / 3, -100.1, 7.7]
    image = (nib.Nifti2Image if kind == "nifti2" else nib.Nifti1Image)(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    image.set_sform(affine, code=2 if kind in ("sform", "both", "nifti2") else 0)
    image.set_qform(affine, code=1 if kind in ("qform", "both") else 0)
    nib.save(image, tmp_path / "odd.nii")
    predict(wide_run, find_images([tmp_path / "odd.nii"]), tmp_path / "out")
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


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("plain", "all of it", "left-handed oblique") else pytest.param(name, marks=pytest.mark.slow)
        for name in GRIDS
    ],
)
def test_the_grid_stays_bit_for_bit(wide_run: Path, tmp_path: Path, name: str) -> None:
    nib.save(phantom(GRIDS[name])[0], tmp_path / "image.nii.gz")
    before = nib.load(tmp_path / "image.nii.gz")
    outputs: tuple[Literal["labels", "probabilities"], ...] = ("labels", "probabilities")
    for output in outputs:
        out = tmp_path / output
        settings = PredictSettings(output=output)
        assert not predict(wide_run, find_images([tmp_path / "image.nii.gz"]), out, settings).failed
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
    save_weights(
        weights, UNet3D(width=8, levels=3), method="gvsl", preprocessing=made.preprocessing, provenance=provenance
    )
    off = ClusterSettings(points=0)
    settings = TransferSettings(mode="linear", max_steps=2, learning_rate=3e-2, crop=(16, 16, 12), clusters=off)
    run_task("segmentation", made, weights, tmp_path / "run", settings)
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
    assert [case.id for case in outcome.done] == ["a", "b", "c", "series_1.2.3"]
    assert [case.id for case, _ in outcome.failed] == ["d"]
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
    learnt = ["--mode", "linear", "--optimiser", "lbfgs", "--loss", "dice_ce", "--max-steps", "20"]
    learnt += [
        "--width",
        "8",
        "--levels",
        "3",
        "--validate-every",
        "10",
        "--crop",
        "[24, 24, 16]",
        "--clusters.points",
        "0",
        "--kernel",
        "1",
    ]
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
    assert f"bad ({folder / 'bad.nii'}): is not NIfTI, NRRD" in said.out
    assert "predicting 2/2 images" in said.err
    assert said.err.splitlines()[-1].startswith("gvsl: error: 1 of 2 images were not done; the first, ")
    one, other = (tmp_path / name / "good.nii.gz" for name in ("all", "some"))
    assert np.array_equal(np.asarray(nib.load(one).dataobj), np.asarray(nib.load(other).dataobj))


def test_a_classification_writes_a_table(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ClassificationNetwork(UNet3D(width=8, levels=3))
    settings = TransferSettings(width=8, crop=(12, 16, 16))
    contract = store.preprocessing
    save_adapted(
        tmp_path / "run",
        network,
        CLASSIFIER_CONFIG,
        settings=settings,
        method="x",
        preprocessing=contract,
        provenance={},
    )
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


def test_mistakes_are_one_line(run: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    image = source(store, "s7")
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: find_images([tmp_path / "nowhere"]), "nowhere does not exist; name images"),
        (lambda: find_images([tmp_path / "empty"]), r"empty holds no volume \(NIfTI, NRRD, MetaImage, MGZ or DICOM\)"),
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


def test_label_maps_among_images_are_not_predicted(wide_run: Path, store: Store, tmp_path: Path) -> None:
    image = nib.load(source(store, "s7"))
    truth = np.zeros(image.shape, np.uint8)
    truth[2:9, 3:9, 4:9] = 1
    for name in ("case_0/segmentation", "case_0/any", "case_1/segmentation"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.Nifti1Image(truth, image.affine).to_filename(tmp_path / f"{name}.nii.gz")
    for name in ("case_0", "case_1"):
        nib.save(image, tmp_path / name / "imaging.nii.gz")
    outcome = predict(wide_run, find_images([tmp_path]), tmp_path / "out")
    assert [case.id for case in outcome.done] == ["case_0_imaging", "case_1_imaging"]
    [(case, reason)] = outcome.failed
    assert case.id == "case_0_any"
    assert reason.startswith("is a label map by its 2 whole values, on the grid of imaging.nii.gz")


@pytest.fixture(scope="module")
def ct_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on CT with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("ct") / "run"
    network = SegmentationNetwork(UNet3D(width=8, levels=2), 2)
    config = segmenter_config({1: "heart"}, kernel=3)
    settings = TransferSettings(width=8, levels=2, crop=(32, 32, 32))
    save_adapted(folder, network, config, settings=settings, method="x", preprocessing=PRESETS["ct"], provenance={})
    return folder


def test_it_says_what_prepare_says_before_it_writes(
    ct_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hounsfield = np.random.default_rng(0).normal(-1000, 15, (14, 14, 14)).astype(np.float32)
    hounsfield[3:11, 3:11, 3:11] += 1040
    images = tmp_path / "images"
    images.mkdir()
    for name, array in {"hu": hounsfield, "stored": hounsfield + 1024, "unit": (hounsfield + 1024) / 4096}.items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), images / f"{name}.nii")
    written: dict[str, bool] = {}

    def tell(image: Case, note: str) -> None:
        written[f"{image.id}: {note}"] = (tmp_path / "maps" / f"{image.id}.nii.gz").exists()

    outcome = predict(ct_run, find_images([images]), tmp_path / "maps", tell=tell)
    assert [case.id for case in outcome.done] == ["hu", "stored"]
    ((unit, reason),) = outcome.failed
    assert (unit.id, "hardly any contrast" in reason) == ("unit", True)
    cases = [Case(path.stem, path) for path in sorted(images.iterdir())]
    store = prepare(cases, tmp_path / "store", PRESETS["ct"], source="x")
    assert store.refused == (("unit.nii", reason),)
    assert store.cases["stored"].without_air
    noted = [line for line in describe(store).splitlines() if line.startswith("note")]
    assert noted == [f"note      {line}" for line in written]
    assert noted[0].startswith("note      stored: no voxel lies below -200 HU")
    assert not any(written.values())
    assert main(["predict", str(ct_run), str(images / "stored.nii"), "--out", str(tmp_path / "again")]) == 0
    assert f"gvsl: note: stored ({images / 'stored.nii'}): no voxel lies below -200 HU" in capsys.readouterr().err
