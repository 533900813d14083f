import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gvsl.backbones import UNet3D
from gvsl.backbones.tensor_file import read_tensors, tensor_shapes
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_weights(tmp_path, UNet3D(width=8, levels=2), method="gvsl", preprocessing=PRESETS["ct"], provenance={})
    return tmp_path


def refusal(run: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(run)
    return str(caught.value)


def test_shapes_and_types_are_known_without_values(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.int64)}, tmp_path / "t.safetensors")
    found = tensor_shapes(tmp_path / "t.safetensors")
    assert {name: (tuple(one.shape), one.dtype, one.device.type) for name, one in found.items()} == {
        "a": ((2, 3), torch.float32, "meta"),
        "b": ((4,), torch.int64, "meta"),
    }


@pytest.mark.parametrize("size", [{"width": 1024}, {"width": 4096, "levels": 12}, {"levels": 10**9}, {"width": 2**40}])
def test_a_large_network_in_a_config_costs_no_memory(run: Path, size: dict[str, int]) -> None:
    path = run / "weights" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["backbone"] |= size
    path.write_text(json.dumps(config), encoding="utf-8")
    message = refusal(run)
    assert "does not fit the backbone" in message or "not a valid config" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(run: Path, value: float) -> None:
    path = run / "weights" / "model.safetensors"
    tensors = load_file(path)
    tensors["decoder.0.0.0.weight"][0, 0, 0, 0, 0] = value
    save_file(tensors, path)
    assert "NaN or infinite values in decoder.0.0.0.weight" in refusal(run)


def test_whole_numbers_are_no_weights(run: Path) -> None:
    path = run / "weights" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: value.long() for name, value in tensors.items()}, path)
    assert "int64 for float32" in refusal(run)


def test_headers_that_lie_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    for content, reason in (
        (struct.pack("<Q", len(header)) + header + bytes(64), "can't be read"),
        (struct.pack("<Q", 2**62) + b"{}", "can't be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>Sign in", "web page"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            read_tensors(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="pipe"):
        read_tensors(path)
