"""Stores by URL get results as stores in folders do, and messages name the URL."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gvsl.cli import main
from gvsl.store import Store, remote

from ..web import serving

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

QUICK = ("--refine", 2, "--start", "none", "--least-dice", 0, "--device", "cpu")
TEST = ("--split", "test", "--device", "cpu")
Url = str


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Url]]:
    """A folder, and the URL that it is served by."""
    monkeypatch.setenv(remote.CACHE, str(tmp_path / "cache"))
    (tmp_path / "web").mkdir()
    with serving(tmp_path / "web") as (url, _):
        yield tmp_path / "web", url


def same_maps(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.glob("*.nii.gz"))
    assert names and names == sorted(path.name for path in other.glob("*.nii.gz"))
    loaded = [[np.asanyarray(nib.load(folder / name).dataobj) for name in names] for folder in (one, other)]
    return all(np.array_equal(first, second) for first, second in zip(*loaded, strict=True))


def command(*words: object) -> int:
    return main([str(word) for word in words])


def test_predict_takes_a_url(
    web: tuple[Path, Url], run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root, url), model = web, run
    (root / "store").symlink_to(store.path)
    for place, out in ((store.path, "folder"), (f"{url}/store", "url")):
        assert command("predict", model, place, "--out", tmp_path / out, *TEST) == 0
    assert same_maps(tmp_path / "folder", tmp_path / "url")
    assert command("predict", model, f"{url}/store", "--out", tmp_path / "url", *TEST) == 0
    assert "were there already" in capsys.readouterr().out
    assert command("predict", model, f"{url}/store", store.path, "--out", tmp_path / "both") == 2
    assert f"{url}/store is a URL, by which a store alone is read" in capsys.readouterr().err
    assert command("predict", model, f"{url}/store", "--out", tmp_path / "none", "--split", "pretrain") == 2
    said = capsys.readouterr().err
    assert f"{url}/store has no case in the split 'pretrain'" in said and "cache" not in said


def test_propagate_takes_urls(
    web: tuple[Path, Url], matcher: Path, phantom_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, url = web
    (root / "store").symlink_to(phantom_store.path)
    for place, out in ((phantom_store.path, "folder"), (f"{url}/store", "url")):
        words = ("propagate", place, place, "--weights", matcher, "--out", tmp_path / out, "--split", "val")
        assert command(*words, *QUICK) == 0
    assert same_maps(tmp_path / "folder", tmp_path / "url")
    capsys.readouterr()
    where = (f"{url}/store", f"{url}/store", "--weights", matcher, "--out", tmp_path / "none")
    assert command("propagate", *where, "--cases", "nobody", *QUICK) == 2
    said = capsys.readouterr().err
    assert f"no case nobody in {url}/store" in said and "cache" not in said


def test_an_image_that_can_not_be_read_is_named_by_its_url(
    web: tuple[Path, Url], run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root, url), model = web, run
    (root / "store").mkdir()
    for name in ("manifest.json", "cases.jsonl"):
        (root / "store" / name).write_bytes((store.path / name).read_bytes())
    assert command("predict", model, f"{url}/store", "--out", tmp_path / "out", *TEST) == 2
    said = "".join(capsys.readouterr())
    case = store.split("test")[0]
    assert f"{url}/store/images/{case}.b2nd): {url}/store/images/{case}.b2nd can't be read" in said
    assert "cache" not in said
