import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.io import UnusableFile, Volume
from gvsl.preprocessing import PRESETS, parse_preprocessing, preprocess, preprocessing_values
from gvsl.preprocessing.lungs import WEIGHTS_NAME, find_weights, lungs_by_network
from gvsl.store import Store, describe
from gvsl.transfer import ClassificationNetwork, TransferSettings, save_adapted
from gvsl.transfer.weights import CLASSIFIER_CONFIG

# Replaces the package: its network finds a bright marker instead of lungs, and saves its input.
PACKAGE = """
from pathlib import Path
import numpy as np

class LMInferer:
    def __init__(self, modelname="R231", modelpath=None, tqdm_disable=False):
        self.place = Path(modelpath)
        if self.place.read_bytes() == b"broken":
            raise RuntimeError("no weights at all")

    def apply(self, image):
        np.save(self.place.with_name("seen.npy"), image)
        return np.where(image > 500, 2, 0).astype(np.uint8)
"""
LUNGMASK = replace(PRESETS["chest-ct"], lungs="lungmask", margin=0)
SHAPE = (30, 26, 22)
MARKER = (slice(4, 10), slice(15, 22), slice(9, 17))


def scan(seed: int = 0) -> Volume:
    """Return a volume in HU without lungs, with the marker at the left, the front and the middle."""
    array = np.random.default_rng(seed).normal(0, 50, SHAPE).astype(np.float32)
    array[MARKER] = 900
    return Volume(array, np.eye(4))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the replacement and return the folder for its weights."""
    package = tmp_path / "site" / "lungmask"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "lungmask"}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    sys.modules.pop("lungmask", None)
    sys.modules.update(real)


@pytest.fixture
def weights(hub: Path) -> Path:
    path = hub / WEIGHTS_NAME
    path.write_bytes(b"weights")
    return path


def test_the_network_gets_slices_in_its_own_orientation(weights: Path) -> None:
    volume = scan()
    found = lungs_by_network(volume)
    np.testing.assert_array_equal(found, volume.array > 500)
    assert found[MARKER].all()
    seen = np.load(weights.with_name("seen.npy"))
    assert seen.shape == SHAPE[::-1]
    # The marker is at the end of the axis to the left, and at the beginning of that to the back.
    where = np.argwhere(seen > 500)
    assert where.min(0).tolist() == [9, SHAPE[1] - 22, SHAPE[0] - 10]
    assert where.max(0).tolist() == [16, SHAPE[1] - 16, SHAPE[0] - 5]


def test_the_crop_surrounds_the_segmented_lungs(weights: Path) -> None:
    ready, _, _ = preprocess(scan(), None, LUNGMASK)
    assert ready.array.shape == (8, 9, 10)  # with one more voxel on each side
    with pytest.raises(UnusableFile, match="no lungs are found in it"):
        preprocess(Volume(np.minimum(scan().array, 400), np.eye(4)), None, LUNGMASK)


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_weights_are_found_in_torch_s_cache(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    place = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_NAME
    with pytest.raises(UserError) as caught:
        find_weights()
    text = str(caught.value)
    assert f"lungmask has no weights at {place}, and gvsl downloads nothing: fetch them with `python -c" in text
    assert str(tmp_path / "elsewhere") in str(place)


def test_a_missing_package_or_weights_is_one_line_before_any_work(
    hub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_volume: Callable[[Path, Volume], Path],
) -> None:
    write_volume(tmp_path / "in" / "a.nii.gz", scan())
    argv = ["prepare", str(tmp_path / "in"), str(tmp_path / "store"), "--preset", "chest-ct", "--lungs", "lungmask"]
    assert main(argv) == 2
    (output,) = capsys.readouterr().err.splitlines()
    assert output.startswith(
        f"gvsl: error: lungmask has no weights at {hub / WEIGHTS_NAME}, and gvsl downloads nothing"
    )
    (hub / WEIGHTS_NAME).write_bytes(b"broken")
    assert main([*argv, "--processes", "1"]) == 2
    output = capsys.readouterr().err.splitlines()[-1]
    assert "(no weights at all); remove it and fetch it again, or give --lungs threshold" in output
    monkeypatch.setitem(sys.modules, "lungmask", None)
    assert main(argv) == 2
    (output,) = capsys.readouterr().err.splitlines()
    assert "lungmask, which isn't installed: pip install lungmask, or give --lungs threshold" in output
    assert {path.name for path in tmp_path.iterdir()} == {"in", "site", "torch"}


def test_store_and_weights_record_lungmask_and_predict_uses_it(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], write_volume: Callable[[Path, Volume], Path]
) -> None:
    image = write_volume(tmp_path / "in" / "a.nii.gz", scan())
    argv = ["prepare", str(image.parent), str(tmp_path / "store"), "--preset", "chest-ct", "--lungs", "lungmask"]
    assert main([*argv, "--margin", "0", "--processes", "1"]) == 0
    assert "Lungs: 0 volumes cropped by a supplied mask, 1 by lungmask" in capsys.readouterr().out
    store = Store.open(tmp_path / "store")
    assert store.cases["a"].shape == (8, 9, 10)
    assert store.preprocessing == LUNGMASK
    assert "chest-ct except margin, lungs: RAS, 1 mm, window -1024 to 1024 mapped to 0 to 1, lungs (by lungmask)" in (
        describe(store)
    )
    settings = TransferSettings(width=8, crop=(16, 16, 16))
    network = ClassificationNetwork(UNet3D(width=8, levels=3))
    head, spec = CLASSIFIER_CONFIG, store.preprocessing
    save_adapted(tmp_path / "run", network, head, settings=settings, method="x", preprocessing=spec, provenance={})
    weights.with_name("seen.npy").unlink()
    assert main(["predict", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "out")]) == 0
    assert weights.with_name("seen.npy").is_file()
    weights.unlink()
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("gvsl: error: lungmask has no weights at ")
    assert not (tmp_path / "none").exists()


def test_the_default_for_lungs_is_not_recorded() -> None:
    values = preprocessing_values(PRESETS["chest-ct"])
    assert "lungs" not in values
    assert parse_preprocessing(json.loads(json.dumps(values))) == PRESETS["chest-ct"]
    assert parse_preprocessing(preprocessing_values(LUNGMASK)) == parse_preprocessing(asdict(LUNGMASK)) == LUNGMASK
    assert replace(LUNGMASK, lungs="threshold") != LUNGMASK


def test_lungmask_is_for_a_crop_to_the_lungs() -> None:
    with pytest.raises(UserError, match="lungs lungmask is for a crop to the lungs, not foreground"):
        replace(PRESETS["ct"], lungs="lungmask")
    with pytest.raises(UserError, match="preprocessing lungs is 'guess'; it can be threshold or lungmask"):
        replace(PRESETS["chest-ct"], lungs="guess")  # type: ignore[arg-type]
