import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.prediction import PredictSettings, find_images, predict
from gvsl.store import Store

from .grids import source


class Stopped(list[Case]):
    """Images of which Ctrl-C comes before the second."""

    def __iter__(self) -> Iterator[Case]:
        yield self[0]
        raise KeyboardInterrupt


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


@pytest.mark.parametrize("kind", ["labels", "scores"])
def test_a_result_of_what_a_file_held_before_is_told_and_kept(
    run: Path, classifier: Path, store: Store, tmp_path: Path, kind: str
) -> None:
    used, out = (classifier if kind == "scores" else run), tmp_path / "out"
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(source(store, "s7"), folder / "a.nii.gz")
    predict(used, find_images([folder]), out)
    kept = contents(out)
    shutil.copy(source(store, "s8"), folder / "a.nii.gz")
    (failed,) = predict(used, find_images([folder]), out).failed
    assert "is of what the image held before: remove it to have it anew, or name another folder" in failed[1]
    shutil.copy(source(store, "s7"), folder / "a.nii.gz")  # as it was, but for its times
    folder.rename(tmp_path / "elsewhere")
    outcome = predict(used, find_images([tmp_path / "elsewhere"]), out)
    assert [case.id for case in outcome.present] == ["a"]
    assert contents(out) == kept


def test_results_of_an_earlier_gvsl_are_known_by_path(run: Path, store: Store, tmp_path: Path) -> None:
    images, out = find_images([source(store, "s7"), source(store, "s8")]), tmp_path / "out"
    predict(run, images[:1], out)
    ledger = json.loads((out / "predicted.json").read_text(encoding="utf-8"))
    assert ledger.pop("contents").keys() == ledger["images"].keys()
    (out / "predicted.json").write_text(json.dumps(ledger), encoding="utf-8")
    outcome = predict(run, images, out)
    assert (outcome.present, outcome.done) == (images[:1], images[1:])


def test_a_header_s_voxels_in_a_file_of_another_name_are_part_of_the_image(
    run: Path, store: Store, tmp_path: Path
) -> None:
    def write(case: str) -> Path:
        image = nib.load(source(store, case))
        voxels = np.asarray(image.dataobj, dtype="<f4")
        (tmp_path / "voxels.bin").write_bytes(voxels.tobytes(order="F"))
        header = {"NDims": 3, "DimSize": " ".join(map(str, voxels.shape)), "ElementType": "MET_FLOAT"}
        header |= {"ElementSpacing": "1 1 1", "BinaryDataByteOrderMSB": "False", "ElementDataFile": "voxels.bin"}
        path = tmp_path / "a.mhd"
        path.write_text("".join(f"{key} = {value}\n" for key, value in header.items()), encoding="ascii")
        return path

    assert predict(run, find_images([write("s7")]), tmp_path / "out").done
    (failed,) = predict(run, find_images([write("s8")]), tmp_path / "out").failed
    assert "is of what the image held before" in failed[1]
