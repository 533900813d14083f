"""Reading run folders: what is there comes in whole, what is broken is refused by name."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.errors import UserError
from gvsl.records import RunRecord, write_record
from gvsl.report import read_report, write_report
from gvsl.report.run_arrays import read_picture
from gvsl.report.runs import read_curves, read_runs
from gvsl.report.summary import summary_lines

Maker = Callable[..., Path]


def change(folder: Path, **changes: object) -> None:
    """Change fields of a record on disk."""
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_blank_cells_were_not_logged(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("step,loss,val_dice,never\n10,1.5,,\n20,nan,0.25,\n30,0.5,,\n", encoding="utf-8")
    curves = read_curves(path)
    assert curves.keys() == {"loss", "val_dice"}
    np.testing.assert_array_equal(curves["loss"].steps, [10, 20, 30])
    np.testing.assert_array_equal(curves["loss"].values, [1.5, np.nan, 0.5])
    np.testing.assert_array_equal(curves["val_dice"].steps, [20])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"loss\n1\n",
        b"step,loss\n1\n",
        b"step,loss\n1,low\n",
        b"step,loss\n,1\n",
        b"step,a,a\n1,2,3\n",
        b"\xff\xfe",
    ],
)
def test_broken_curves_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"curves\.csv"):
        read_curves(path)


def test_a_record_may_travel_without_its_files(tmp_path: Path, pretrain_folder: Maker) -> None:
    folder = pretrain_folder(tmp_path / "run")
    change(folder, clusters=80 * "clusters", volumes=[{"file": "v.npz", "kind": "pair", "title": "a"}])
    (run,) = read_runs([folder])
    assert run.missing == ("volumes", "clusters")
    (folder / "curves.csv").unlink()
    (folder / "pictures/pair_1.npz").unlink()
    (run,) = read_runs([folder])
    assert run.missing == ("curves", "pictures", "volumes", "clusters")
    assert (run.curves, run.volumes, run.clusters) == ({}, [], None)
    assert [picture.title for picture in run.pictures_of("pair")] == ["case_00->case_01", "case_02->case_03"]


def test_a_file_outside_the_run_is_refused(tmp_path: Path, pretrain_folder: Maker) -> None:
    folder = pretrain_folder(tmp_path / "run")
    (tmp_path / "secret.csv").write_text("step,loss\n1,2\n", encoding="utf-8")
    change(folder, curves="../secret.csv")
    with pytest.raises(UserError, match="not in the run's folder"):
        read_runs([folder])


def test_pickled_pictures_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    planes: dict[str, Any] = {f"{name}_{k}": np.zeros((4, 4)) for name in ("image", "truth") for k in range(3)}
    np.savez(path, **planes, prediction_0=np.array([print], dtype=object))
    with pytest.raises(UserError, match=r"x\.npz"):
        read_picture(path, "segmentation", "x")


def test_an_unknown_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hologram"):
        read_picture(tmp_path / "x.npz", "hologram", "x")


def test_scalars_and_planes_are_kept_apart(study: list[Path]) -> None:
    run = next(run for run in read_runs(study) if run.record.kind == "pretrain")
    picture = run.pictures_of("pair")[0]
    assert picture.scalars["dice_after"] == 0.72
    planes = picture.planes("fixed")
    assert planes is not None
    assert [plane.shape for plane in planes] == [(52, 34), (38, 34), (38, 52)]
    assert picture.planes("nothing") is None


def test_runs_of_the_same_name_are_distinguished_by_folder(tmp_path: Path, transfer_folder: Maker) -> None:
    for place in ("a/x", "b/x", "b/y"):
        transfer_folder(tmp_path / place, 0, True, name="probe", pictures=[])
    transfer_folder(tmp_path / "z", 0, True, name="other", pictures=[])
    labels = [run.label for run in read_runs([tmp_path])]
    assert labels == [f"probe ({tmp_path}/a/x)", f"probe ({tmp_path}/b/x)", "probe (y)", "other"]


def test_a_transfer_record_must_state_its_features(tmp_path: Path, transfer_folder: Maker) -> None:
    transfer_folder(tmp_path / "run", 0, True, config={"mode": "linear"})
    with pytest.raises(UserError, match="weights, method"):
        read_runs([tmp_path])


def test_a_run_that_failed_need_not_state_them_and_its_reason_is_shown(tmp_path: Path) -> None:
    settings = {"method": "gvsl", "task": "shc", "mode": "linear", "reason": "no <memory> left"}
    write_record(
        RunRecord("transfer", "lost", 0, settings, {"name": "s", "hash": "h"}, status="failed"), tmp_path / "lost"
    )
    (run,) = read_runs([tmp_path])
    assert run.record.config == {**settings, "weights": "not recorded"}
    page = write_report([tmp_path], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "the run failed: no &lt;memory&gt; left;" in page


def test_cases_need_ids_of_their_own(tmp_path: Path, transfer_folder: Maker) -> None:
    transfer_folder(tmp_path / "run", 0, True, cases=[{"id": "a", "dice": 0.1}, {"id": "a", "dice": 0.2}])
    with pytest.raises(UserError, match="two have the same"):
        read_runs([tmp_path])


@pytest.mark.parametrize("section", [{"data": {"batch_size": "2"}}, {"pretext": {"clusters": 0.5}}, {"data": [2]}])
def test_settings_that_findings_compute_with_are_checked(tmp_path: Path, section: dict[str, Any]) -> None:
    settings = {"method": "deepcluster", **section}
    write_record(RunRecord("pretrain", "odd", 0, settings, {"name": "s", "hash": "h"}), tmp_path / "odd")
    with pytest.raises(UserError, match=f"in the record config.{next(iter(section))}"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"one": "ball"}}, "labels has the value 'one', not a whole number"),
        ({"logged": [{"name": "loss", "better": "lower"}]}, r"logged\[0\] lacks title"),
        ({"logged": [{"name": "loss", "title": "Loss", "better": "up"}]}, r"logged\[0\].better is 'up'"),
        ({"config": {"carry_failed": 3}}, "config.carry_failed is 3"),
        ({"config": {"val_cases": "many"}}, "config.val_cases is 'many', not a whole number"),
        ({"config": {"test_cases": None}}, "config.test_cases is None, not a whole number"),
    ],
)
def test_fields_that_tables_compute_with_are_checked(
    tmp_path: Path, transfer_folder: Maker, changes: dict[str, Any], message: str
) -> None:
    for name in ("whole", "odd"):
        transfer_folder(tmp_path / name, 0, True, name=name)
    settings = json.loads((tmp_path / "odd" / "record.json").read_text(encoding="utf-8"))["config"]
    change(tmp_path / "odd", **{**changes, "config": settings | changes.get("config", {})})
    data = read_report([tmp_path])
    assert [run.folder.name for run in data.broken] == ["odd"] and [run.label for run in data.runs] == ["whole"]
    with pytest.raises(UserError, match=message):
        read_runs([tmp_path / "odd"])


def test_cases_have_the_same_scores(tmp_path: Path, transfer_folder: Maker) -> None:
    transfer_folder(tmp_path / "run", 0, True, cases=[{"id": "a", "dice": 0.1}, {"id": "b", "dice": 0.2}])
    path = tmp_path / "run" / "record.json"
    path.write_text(path.read_text().replace('"dice": 0.2', '"hd95": 0.2'))
    with pytest.raises(UserError, match="a case in the record lacks a score that others have"):
        read_runs([tmp_path])


def test_stores_of_the_same_name_are_distinguished_by_hash(tmp_path: Path, transfer_folder: Maker) -> None:
    for place, name, mark in (("a", "store", "111111aa"), ("b", "store", "222222bb"), ("c", "hearts", "33")):
        transfer_folder(tmp_path / place, 0, True, name=place, store={"name": name, "hash": mark}, pictures=[])
    assert [run.store for run in read_runs([tmp_path])] == ["store (111111)", "store (222222)", "hearts"]


def test_a_broken_record_costs_its_own_row(tmp_path: Path, transfer_folder: Maker) -> None:
    for name in ("whole", "typed", "picture", "pipe", "deep"):
        transfer_folder(tmp_path / name, 0, True, name=name)
    change(tmp_path / "typed", metrics={"test/dice": "high"})
    change(tmp_path / "picture", curves="pipe.csv")
    os.mkfifo(tmp_path / "picture" / "pipe.csv")
    (tmp_path / "pipe" / "record.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "record.json")
    (tmp_path / "deep" / "record.json").write_text("[" * 100_000, encoding="utf-8")
    data = read_report([tmp_path])
    assert [run.label for run in data.runs] == ["whole"]
    assert {run.folder.name for run in data.broken} == {"typed", "picture", "pipe", "deep"}
    page = write_report(data, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "metrics.test/dice is &#x27;high&#x27;, not a number" in page
    lines = "\n".join(summary_lines(data))
    assert "broken: 4 runs: left out, can't be read" in lines
    with pytest.raises(UserError, match="not a number"):
        read_runs([tmp_path / "typed"])
    with pytest.raises(UserError, match="not a number"):
        read_report([tmp_path / "typed"])


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    header = io.BytesIO()
    shape = (2**20, 2**20)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image_0.npy", header.getvalue() + bytes(100))
    with pytest.raises(UserError, match="not as long as its header says"):
        read_picture(path, "segmentation", "x")
    np.savez_compressed(path, image_0=np.zeros((8192, 8192), np.uint8))  # 64 MB as bytes, 512 as float64
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="unpacks to more than 300 MB"):
        read_picture(path, "segmentation", "x")


def test_pictures_with_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    planes = {f"{name}_{k}": np.zeros((4, 4)) for name in ("image", "truth", "prediction") for k in range(3)}
    planes["image_1"][2, 2] = np.nan
    np.savez(tmp_path / "x.npz", **planes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="image_1 has NaN"):
        read_picture(tmp_path / "x.npz", "segmentation", "x")
