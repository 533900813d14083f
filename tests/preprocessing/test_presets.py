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
def test_every_preset_names_itself_and_survives_being_written(name: str) -> None:
    contract = PRESETS[name]
    assert contract.preset == name
    assert parse_preprocessing(json.loads(json.dumps(asdict(contract)))).preset == name


@pytest.mark.parametrize("name", PRESETS)
def test_the_docs_give_every_preset_with_its_figures(name: str) -> None:
    contract = PRESETS[name]
    crop = contract.crop if contract.crop == "none" else f"{contract.crop}, {contract.margin}"
    unit = " %" if contract.intensity == "percentiles" else " HU"
    row = f"| `{name}` | RAS | {contract.spacing:g} mm | {contract.lower:g} to {contract.upper:g}{unit} | {crop} |"
    assert row in DOCS.read_text(encoding="utf-8").splitlines()


def test_a_name_makes_no_other_contract() -> None:
    assert replace(PRESETS["ct"], preset="mine") == PRESETS["ct"]
    values = asdict(PRESETS["ct"])
    del values["preset"]
    assert parse_preprocessing(values) == PRESETS["ct"]
    assert parse_preprocessing(values).preset == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "brain-mr"], "brain-mr: RAS, 1 mm, percentiles 0 to 99.9 mapped"),
        (["--preset", "none"], "none: RAS, 1 mm, percentiles 0 to 100 mapped to 0 to 1, no crop"),
        (["--preset", "mr", "--spacing", "2"], "mr except spacing: RAS, 2 mm"),
    ],
)
def test_a_store_says_its_preset_and_what_is_not_of_it(
    tmp_path: Path, make_case: Callable[..., Case], words: list[str], told: str
) -> None:
    make_case("a", labelled=False)
    assert main(["prepare", str(tmp_path / "source"), str(tmp_path / "store"), *words]) == 0
    store = Store.open(tmp_path / "store")
    assert store.preprocessing.preset == words[1]
    assert told in describe(store)


def test_the_contract_goes_into_the_weights_by_its_name(tmp_path: Path) -> None:
    contract = replace(PRESETS["chest-ct"], margin=3)
    save_weights(tmp_path, UNet3D(width=8), method="gvsl", preprocessing=contract, provenance={})
    found = load_backbone(tmp_path).preprocessing
    assert found == contract
    assert found.preset == "chest-ct"


def chest(lungs: bool = True) -> Volume:
    """A body in air, with two lungs, a windpipe and a bubble in the bowel, in HU at 2 mm."""
    array = np.full((90, 70, 80), -1000, np.float32)
    array[8:82, 10:60] = 40
    if lungs:
        array[15:40, 20:50, 30:] = -850
        array[50:75, 20:50, 30:] = -850
        array[43:47, 34:38, 60:] = -1000
        array[20:26, 30:36, 5:12] = -1000
    array += np.random.default_rng(0).normal(0, 10, array.shape).astype(np.float32)
    return Volume(array, np.diag([2.0, 2, 2, 1]))


def test_the_crop_to_the_lungs_holds_them_and_little_more() -> None:
    contract = replace(PRESETS["chest-ct"], spacing=2.0, margin=3)
    ready, _, _ = preprocess(chest(), None, contract)
    first = np.rint(ready.affine[:3, 3] / 2).astype(int)
    last = first + ready.array.shape
    np.testing.assert_array_equal(first <= (15, 20, 30), True)
    np.testing.assert_array_equal(last >= (75, 50, 80), True)
    np.testing.assert_array_equal(first >= np.array((15, 20, 30)) - 5, True)
    np.testing.assert_array_equal(last <= np.minimum(np.array((75, 50, 80)) + 5, 80), True)


def test_a_scan_without_lungs_is_refused() -> None:
    with pytest.raises(UnusableFile, match="no lungs are found in it"):
        preprocess(chest(lungs=False), None, PRESETS["chest-ct"])
