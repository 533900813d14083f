import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import gvsl
from gvsl.backbones import UNet3D
from gvsl.backbones.weights import compare_keys, load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.preprocessing import Preprocessing

CONTRACT = Preprocessing(intensity="window", lower=-100.0, upper=400.0, spacing=1.5)
PROVENANCE = {
    "store": {"name": "hearts", "hash": "ab12"},
    "steps": 7,
    "seed": 3,
    "versions": {"torch": "2.8"},
}


@pytest.fixture
def backbone() -> UNet3D:
    torch.manual_seed(1)
    return UNet3D(in_channels=2, width=8)


@pytest.fixture
def run(tmp_path: Path, backbone: UNet3D) -> Path:
    save_weights(tmp_path / "run", backbone, method="gvsl", preprocessing=CONTRACT, provenance=PROVENANCE)
    return tmp_path / "run"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def change_config(run: Path, **values: object) -> None:
    path = run / "weights" / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")


@pytest.mark.parametrize("inside", ["", "weights"])
def test_loads_what_was_saved(run: Path, backbone: UNet3D, inside: str) -> None:
    loaded = load_backbone(run / inside)
    assert not any(part.training for part in loaded.modules())
    assert (loaded.preprocessing, loaded.method, loaded.provenance) == (CONTRACT, "gvsl", PROVENANCE)
    assert loaded.state_dict().keys() == backbone.state_dict().keys()
    for key, value in backbone.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_config_is_as_documented(run: Path) -> None:
    config = json.loads((run / "weights" / "config.json").read_text(encoding="utf-8"))
    assert config.keys() == {"format", "method", "backbone", "preprocessing", "provenance"}
    assert (config["format"], config["backbone"]) == (1, {"in_channels": 2, "width": 8, "levels": 5})
    assert config["preprocessing"]["upper"] == 400.0


def test_loading_leaves_the_global_generator_alone(run: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_backbone(run)
    assert torch.equal(torch.rand(3), expected)


def test_layouts_other_than_contiguous_are_saved(tmp_path: Path, backbone: UNet3D) -> None:
    values = {key: value.clone() for key, value in backbone.state_dict().items()}
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.contiguous(memory_format=torch.channels_last_3d)
    save_weights(tmp_path, backbone, method="gvsl", preprocessing=CONTRACT, provenance={})
    loaded = load_backbone(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in values.items())


def test_heads_go_beside_the_backbone(tmp_path: Path, backbone: UNet3D) -> None:
    heads = {"affine.weight": torch.arange(6.0).reshape(2, 3)}
    folder = save_weights(tmp_path, backbone, method="gvsl", preprocessing=CONTRACT, provenance={}, heads=heads)
    assert torch.equal(load_file(folder / "heads.safetensors")["affine.weight"], heads["affine.weight"])
    load_backbone(tmp_path)


def test_saving_again_replaces_all(run: Path, backbone: UNet3D) -> None:
    (run / "weights" / "stray").touch()
    with torch.no_grad():
        next(backbone.parameters()).zero_()
    save_weights(run, backbone, method="byol", preprocessing=CONTRACT, provenance=PROVENANCE)
    loaded = load_backbone(run)
    assert loaded.method == "byol"
    assert not next(loaded.parameters()).any()
    assert [path.name for path in run.iterdir()] == ["weights"]
    assert not (run / "weights" / "stray").exists()


def test_a_failed_save_keeps_the_old_weights(run: Path, backbone: UNet3D) -> None:
    with pytest.raises(TypeError):
        save_weights(run, backbone, method="byol", preprocessing=CONTRACT, provenance={"bad": object()})
    assert load_backbone(run).method == "gvsl"
    assert [path.name for path in run.iterdir()] == ["weights"]


def test_paths_that_are_no_run_are_refused(run: Path, tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "is a file" in refusal(run / "weights" / "config.json")
    (tmp_path / "empty").mkdir()
    assert "holds no model.safetensors" in refusal(tmp_path / "empty")


def test_the_file_itself_names_its_folder(run: Path) -> None:
    assert load_backbone(run / "weights" / "model.safetensors").method == load_backbone(run).method
    (run / "weights" / "config.json").rename(run / "config.json")
    assert "with its config.json beside it" in refusal(run / "weights" / "model.safetensors")


@pytest.mark.usefixtures("offline")
def test_names_on_the_hub_say_so_offline() -> None:
    for name in ("someone/no-such-weights", "someone/no-such-weights@v1"):
        said = refusal(Path(name))
        assert name in said and "Hugging Face Hub" in said and "\n" not in said


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("snapshot", ["", "weights"])
def test_what_was_downloaded_from_the_hub_is_loaded(
    run: Path, snapshot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The Hub's own cache, as a download leaves it: a commit behind a branch's name, and its files.
    commit = "0" * 40
    place = tmp_path / "hub" / "models--someone--heart"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    shutil.copytree(run / "weights", place / "snapshots" / commit / snapshot, dirs_exist_ok=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert load_backbone("someone/heart").provenance == load_backbone(run).provenance


def test_an_image_repeated_over_more_channels_gives_the_same(run: Path) -> None:
    image = torch.rand(1, 2, 20, 16, 24, generator=torch.Generator().manual_seed(0))
    before, after = load_backbone(run), load_backbone(run, in_channels=6)
    assert after.in_channels == 6
    with torch.no_grad():
        expected, found = before(image), after(image.repeat(1, 3, 1, 1, 1))
    torch.testing.assert_close(found.local, expected.local, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.global_, expected.global_, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="in_channels is 0"):
        load_backbone(run, in_channels=0)


def test_a_pickle_is_never_opened(run: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (run / "sprung",))

    (run / "weights" / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    assert "can't be read" in refusal(run)
    assert not (run / "sprung").exists()


def test_truncated_weights_are_refused(run: Path) -> None:
    path = run / "weights" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "can't be read" in refusal(run)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"format": 2}, "has format 2"),
        ({"method": None}, "method"),
        ({"backbone": {"in_channels": 1}}, "width"),
        ({"backbone": {"in_channels": 1, "width": 12}}, "multiple of 8"),
        ({"backbone": {"in_channels": 1, "width": 8, "blocks": [1]}}, "a backbone unet with blocks"),
        ({"backbone": {"name": "vit", "in_channels": 1, "width": 8}}, "a backbone 'vit'"),
        ({"backbone": {"name": "resenc", "in_channels": 1, "width": 8, "blocks": [1, 10**9, 1, 1, 1]}}, "blocks"),
        ({"backbone": {"name": "plainconv", "in_channels": 1, "width": 8, "max_width": 10**9}}, "width 8"),
        ({"preprocessing": {"spacing": 1.0}}, "lack or add"),
        ({"preprocessing": []}, "config"),
    ],
)
def test_broken_configs_are_refused(run: Path, values: dict[str, object], expected: str) -> None:
    change_config(run, **values)
    assert expected in refusal(run)


def test_a_config_that_is_not_json_is_refused(run: Path) -> None:
    (run / "weights" / "config.json").write_text("{", encoding="utf-8")
    assert "can't be read" in refusal(run)


def test_every_kind_of_wrong_key_is_refused_and_named(run: Path) -> None:
    path = run / "weights" / "model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    tensors["stranger"] = tensors.pop(names[0])
    tensors[names[1]] = torch.zeros(5, 4)
    save_file(tensors, path)
    message = refusal(run)
    assert f"{len(names) - 2} matched, 1 missing ({names[0]}), 1 unexpected (stranger)" in message
    assert f"1 mismatched ({names[1]} (5, 4) for " in message


def test_weights_of_another_width_are_refused(run: Path) -> None:
    change_config(run, backbone={"in_channels": 2, "width": 16})
    assert "mismatched" in refusal(run)


def test_key_report_of_equal_modules_is_complete(backbone: UNet3D) -> None:
    report = compare_keys(backbone.state_dict(), backbone.state_dict())
    assert report.complete
    assert len(report.matched) == len(backbone.state_dict())


def test_package_exports_it_without_importing_torch(run: Path) -> None:
    assert gvsl.load_backbone(str(run)).width == 8
    code = "import sys, gvsl; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
