from pathlib import Path

import pytest

from gvsl.backbones import UNet3D
from gvsl.backbones.compatibility import check_size
from gvsl.backbones.weights import save_weights
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS


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
