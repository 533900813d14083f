"""gvsl phantom, prepare and inspect."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.records import RunRecord, write_record
from gvsl.records.matching import CONTROLS
from gvsl.store import Store

from .helpers import SHAPE, make_folder, make_image, write_volume

Complaint = Callable[..., str]


def test_bad_files_are_refused_by_name_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_folder(tmp_path / "source")
    (source / "splits.json").unlink()
    images, labels = source / "images", source / "labels"
    good = gzip.decompress((images / "case_0.nii.gz").read_bytes())
    (images / "truncated.nii.gz").write_bytes(gzip.compress(good)[:2000])
    (images / "short.nii").write_bytes(good[:-500])
    (images / "text.nii.gz").write_text("not a volume", encoding="utf-8")
    holes = make_image(7)
    holes[3, 4, 5] = np.nan
    write_volume(images / "holes.nii.gz", holes)
    write_volume(images / "flat.nii.gz", make_image(7)[0])
    write_volume(images / "moving.nii.gz", np.stack([make_image(7)] * 3, axis=-1))
    write_volume(images / "blank.nii.gz", np.zeros(SHAPE, np.float32))
    write_volume(images / "shifted.nii.gz", make_image(8))
    write_volume(labels / "shifted.nii.gz", np.ones(SHAPE, np.uint8), np.diag([2.0, 1, 1, 1]))
    write_volume(images / "smaller.nii.gz", make_image(9))
    write_volume(labels / "smaller.nii.gz", np.ones((5, 5, 5), np.uint8))
    bad = ["truncated", "short", "text", "holes", "flat", "moving", "blank", "shifted", "smaller"]

    assert main(["prepare", str(source), str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    assert f"4 volumes prepared, {len(bad)} refused" in said
    assert main(["inspect", str(tmp_path / "store")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in bad:
        assert any(re.search(rf"\b{name}\.nii\S*: .{{5,}}", line) for line in lines), (name, lines)
    for index in range(4):
        assert not any(f"case_{index}.nii.gz:" in line for line in lines)


def test_nothing_is_left_where_nothing_was_usable(tmp_path: Path, complaint: Complaint) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "text.nii.gz").write_text("not a volume", encoding="utf-8")
    assert "empty" in complaint("prepare", empty, tmp_path / "store")
    assert "text.nii.gz" in complaint("prepare", broken, tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


def test_phantoms_are_written_and_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, store = tmp_path / "phantoms", tmp_path / "store"
    assert main(["phantom", str(out), "--task", "ccc", "--count", "8", "--val", "2", "--size", "16"]) == 0
    assert main(["prepare", str(out), str(store), "--preset", "ct"]) == 0
    assert len(Store.open(store).split("val")) == 2
    assert main(["inspect", str(store)]) == 0
    assert "class     1, 4 volumes" in capsys.readouterr().out
    assert main(["phantom", str(out)]) == 2
    assert main(["phantom", str(tmp_path / "other"), "--task", "heart"]) == 2
    assert "there is no phantom for task heart" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_inspect_of_a_run_judges_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A field that is the same for every pair loses nothing to another pair's."""
    controls = dict.fromkeys(("smooth_ncc", "smooth_ncc_affine", *CONTROLS), 0.5) | {"smooth_ncc_blurred": 0.6}
    cases = [{"id": f"{index}->x", "ncc": 0.5, **controls} for index in range(6)]
    record = RunRecord("pretrain", "run", 0, {"method": "gvsl"}, {"name": "s", "hash": "h"}, "finished", cases=cases)
    write_record(record, tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "run: it does not match (NCC gain +0.0000 [+0.0000, +0.0000] over another pair's field" in shown
    assert "broken: run: it does not match" in shown
    assert "--max-steps" in shown
