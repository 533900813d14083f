from dataclasses import replace
from pathlib import Path

import pytest

from gvsl.backbones import UNet3D
from gvsl.backbones.compatibility import check_preprocessing, check_size
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.preprocessing.spec import Channel

from ..channels import make_files


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_weights(tmp_path, UNet3D(width=8), method="gvsl", preprocessing=PRESETS["ct"], provenance={})
    return tmp_path


def test_a_width_other_than_that_of_the_weights_is_refused(run: Path) -> None:
    check_size(run, "width", 8)
    with pytest.raises(UserError, match=r"width is 16, but .* has width 8: leave out --width"):
        check_size(run, "width", 16)


def test_the_width_is_read_without_the_tensors(run: Path) -> None:
    (run / "weights" / "model.safetensors").write_bytes(b"")
    check_size(run, "width", 8)


@pytest.mark.parametrize("backbone", ["{}", '{"in_channels": 1, "width": "wide"}', "3"])
def test_a_broken_config_is_one_line(run: Path, backbone: str) -> None:
    config = run / "weights" / "config.json"
    config.write_text(f'{{"format": 1, "backbone": {backbone}}}', encoding="utf-8")
    with pytest.raises(UserError, match=r"is not a valid config .*copy it from the run again") as caught:
        check_size(run, "width", 8)
    assert "\n" not in str(caught.value)


T2, ADC = Channel("T2", 0, 2, "percentiles", 0.5, 99.5), Channel("ADC", 1, 2, "percentiles", 0.5, 99.5)


@pytest.mark.parametrize(
    ("trained", "stored", "message"),
    [
        ((), (T2, ADC), r"takes 1 channels, but .*store has 2 \(T2, ADC\): name other weights, or prepare it again"),
        ((T2, ADC), (T2,), r"takes 2 channels, but .* has 1 \(T2\): .* with --channels T2=percentiles:0.5:99.5 ADC="),
        ((T2, ADC), (ADC, T2), r"volumes with channels T2=.* ADC=.*, but .* was prepared with channels ADC=.* T2="),
        ((T2,), (ADC,), r"with channels T2=percentiles:0.5:99.5, but .* with channels ADC=percentiles:0.5:99.5"),
        ((T2, ADC), (T2, replace(ADC, upper=90.0)), r"ADC=percentiles:0.5:90"),
        ((T2, ADC), (replace(T2, name="t2", number=4, count=9), ADC), ""),
        ((), (T2,), ""),
    ],
)
def test_weights_of_other_channels_are_refused(
    tmp_path: Path, trained: tuple[Channel, ...], stored: tuple[Channel, ...], message: str
) -> None:
    backbone = UNet3D(max(1, len(trained)), width=8, levels=2)
    spec = Preprocessing(channels=trained)
    save_weights(tmp_path, backbone, method="gvsl", preprocessing=spec, provenance={})
    files = make_files(tmp_path / "source", "a", ["T2", "ADC"])[: len(stored)]
    case = Case("a", files[0], channels=tuple(Case(file.name, file) for file in files))
    store = prepare([case], tmp_path / "store", Preprocessing(channels=stored), source="here")
    loaded = load_backbone(tmp_path)
    assert loaded.preprocessing.channels == trained
    if not message:
        check_preprocessing(loaded, tmp_path, store)
        return
    with pytest.raises(UserError, match=message) as caught:
        check_preprocessing(loaded, tmp_path, store)
    assert "\n" not in str(caught.value)
