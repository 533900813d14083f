import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.cases import Case
from gvsl.cli import main
from gvsl.io import UnusableFile, Volume
from gvsl.preprocessing import PRESETS, parse_preprocessing, preprocess
from gvsl.store import Store, describe

DOCS = Path(__file__).parents[2] / "docs" / "preprocessing.md"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_records_its_name_and_round_trips(name: str) -> None:
    spec = PRESETS[name]
    assert spec.preset == name
    assert parse_preprocessing(json.loads(json.dumps(asdict(spec)))).preset == name


@pytest.mark.parametrize("name", PRESETS)
def test_the_docs_list_every_preset(name: str) -> None:
    spec = PRESETS[name]
    crop = spec.crop if spec.crop == "none" else f"{spec.crop}, {spec.margin}"
    unit = " %" if spec.intensity == "percentiles" else " HU"
    row = f"| `{name}` | RAS | {spec.spacing:g} mm | {spec.lower:g} to {spec.upper:g}{unit} | {crop} |"
    assert row in DOCS.read_text(encoding="utf-8").splitlines()


def test_the_preset_s_name_is_ignored_in_comparisons() -> None:
    assert replace(PRESETS["ct"], preset="mine") == PRESETS["ct"]
    values = asdict(PRESETS["ct"])
    del values["preset"]
    assert parse_preprocessing(values) == PRESETS["ct"]
    assert parse_preprocessing(values).preset == ""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--preset", "brain-mr"], "brain-mr: RAS, 1 mm, percentiles 0 to 99.9 mapped"),
        (["--preset", "none"], "none: RAS, 1 mm, percentiles 0 to 100 mapped to 0 to 1, no crop"),
        (["--preset", "mr", "--spacing", "2"], "mr except spacing: RAS, 2 mm"),
    ],
)
def test_a_store_describes_its_preset_and_other_settings(
    tmp_path: Path, make_case: Callable[..., Case], argv: list[str], expected: str
) -> None:
    make_case("a", labelled=False)
    assert main(["prepare", str(tmp_path / "source"), str(tmp_path / "store"), *argv]) == 0
    store = Store.open(tmp_path / "store")
    assert store.preprocessing.preset == argv[1]
    assert expected in describe(store)


def test_the_preset_is_saved_with_the_weights(tmp_path: Path) -> None:
    spec = replace(PRESETS["chest-ct"], margin=3)
    save_weights(tmp_path, UNet3D(width=8, levels=3), method="gvsl", preprocessing=spec, provenance={})
    found = load_backbone(tmp_path).preprocessing
    assert found == spec
    assert found.preset == "chest-ct"


def chest(lungs: bool = True) -> Volume:
    """Return a body in air with two lungs, a trachea and bowel gas, in HU at 2 mm."""
    array = np.full((90, 70, 80), -1000, np.float32)
    array[8:82, 10:60] = 40
    if lungs:
        array[15:40, 20:50, 30:] = -850
        array[50:75, 20:50, 30:] = -850
        array[43:47, 34:38, 60:] = -1000
        array[20:26, 30:36, 5:12] = -1000
    array += np.random.default_rng(0).normal(0, 10, array.shape).astype(np.float32)
    return Volume(array, np.diag([2.0, 2, 2, 1]))


def test_the_crop_to_the_lungs_is_tight() -> None:
    spec = replace(PRESETS["chest-ct"], spacing=2.0, margin=3)
    ready, _, _ = preprocess(chest(), None, spec)
    first = np.rint(ready.affine[:3, 3] / 2).astype(int)
    last = first + ready.array.shape
    np.testing.assert_array_equal(first <= (15, 20, 30), True)
    np.testing.assert_array_equal(last >= (75, 50, 80), True)
    np.testing.assert_array_equal(first >= np.array((15, 20, 30)) - 5, True)
    np.testing.assert_array_equal(last <= np.minimum(np.array((75, 50, 80)) + 5, 80), True)


def test_a_scan_without_lungs_is_refused() -> None:
    with pytest.raises(UnusableFile, match="no lungs are found in it"):
        preprocess(chest(lungs=False), None, PRESETS["chest-ct"])
