"""Published weights of Models Genesis: the features of a network written plainly, and a line for what doesn't fit."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer.weights_file import load_weights_file, read_weights_file

WIDTH = 8
Tensors = dict[str, Tensor]


def published(width: int = WIDTH) -> Tensors:
    """Random weights of the published layout, 64 being `width`, with statistics that matter."""
    generator, found = torch.Generator().manual_seed(0), Tensors()

    def convolution(name: str, *shape: int) -> None:
        out = shape[1] if "up_conv" in name else shape[0]
        scale = (2 / (shape[1] * 27)) ** 0.5
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
        found[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def ops(name: str, *channels: int) -> None:
        for number, (below, above) in enumerate(pairwise(channels)):
            convolution(f"{name}.ops.{number}.conv1", above, below, 3, 3, 3)
            norm = f"{name}.ops.{number}.bn1"
            found[f"{norm}.weight"] = torch.rand(above, generator=generator) + 0.5
            found[f"{norm}.bias"] = torch.rand(above, generator=generator) - 0.3
            found[f"{norm}.running_mean"] = torch.randn(above, generator=generator) * 0.3
            found[f"{norm}.running_var"] = torch.rand(above, generator=generator) + 0.2
            found[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    one, two, four, eight = width, 2 * width, 4 * width, 8 * width
    for name, *channels in (
        (64, 1, one // 2, one),
        (128, one, one, two),
        (256, two, two, four),
        (512, four, four, eight),
    ):
        ops(f"down_tr{name}", *channels)
    for name, deep, skip in ((256, eight, four), (128, four, two), (64, two, one)):
        convolution(f"up_tr{name}.up_conv", deep, deep, 2, 2, 2)
        ops(f"up_tr{name}", deep + skip, skip, skip)
    convolution("out_tr.final_conv", 1, one, 1, 1, 1)
    return {f"module.{name}": value for name, value in found.items()}


def reference(tensors: Tensors, image: Tensor) -> tuple[Tensor, Tensor]:
    """The deepest features and the last before the last layer, in float64."""
    values = {name.removeprefix("module."): value.double() for name, value in tensors.items()}

    def ops(name: str, features: Tensor) -> Tensor:
        for number in (0, 1):
            at = f"{name}.ops.{number}"
            features = functional.conv3d(features, values[f"{at}.conv1.weight"], values[f"{at}.conv1.bias"], padding=1)
            mean, variance, scale, shift = (
                values[f"{at}.bn1.{part}"].view(1, -1, 1, 1, 1)
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            features = ((features - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp_min(0)
        return features

    skips = [ops("down_tr64", image.double())]
    for name in (128, 256, 512):
        skips.append(ops(f"down_tr{name}", functional.max_pool3d(skips[-1], 2)))
    local = skips[3]
    for name, skip in ((256, skips[2]), (128, skips[1]), (64, skips[0])):
        at = f"up_tr{name}.up_conv"
        local = functional.conv_transpose3d(local, values[f"{at}.weight"], values[f"{at}.bias"], stride=2)
        local = ops(f"up_tr{name}", torch.cat([local, skip], dim=1))
    return skips[3], local


def save(path: Path, tensors: Tensors, *, old: bool = False) -> Path:
    content = {"epoch": 3, "state_dict": tensors, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.fixture
def windowed(store: Store) -> Store:
    """The store, as if it had been prepared in the window of the weights."""
    spec = replace(store.preprocessing, intensity="window", lower=-1000.0, upper=1000.0)
    return replace(store, preprocessing=spec)


@torch.no_grad()
@pytest.mark.parametrize("old", [True, False], ids=["torch before 1.6", "torch"])
def test_features_are_those_of_the_published_network(
    old: bool, windowed: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, image = published(), torch.rand(2, 1, 16, 24, 8, generator=torch.Generator().manual_seed(1))
    backbone = load_weights_file(save(tmp_path / "Genesis_Chest_CT.pt", tensors, old=old), windowed)
    features, (deepest, local) = backbone(image), reference(tensors, image)
    torch.testing.assert_close(features.global_.double(), deepest, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.local.double(), local, rtol=1e-5, atol=1e-5)
    assert deepest.std() > 0.01 and local.std() > 0.01  # else nothing is compared
    assert backbone.preprocessing == windowed.preprocessing and backbone.method == "genesis"
    said = capsys.readouterr().err
    assert "left out out_tr" in said and "beside the window of -1000 to 1000 HU" in said


def test_images_in_another_window_are_refused(windowed: Store, tmp_path: Path) -> None:
    path, other = save(tmp_path / "genesis.pt", published()), replace(windowed.preprocessing, lower=-1024.0)
    store = replace(windowed, preprocessing=other)
    with pytest.raises(UserError, match=r"lower -1000, but .* lower -1024: .*--lower -1000 .*-preprocessing-mismatch"):
        load_weights_file(path, store)
    assert load_weights_file(path, store, allow_mismatch=True).preprocessing == other


def changed(name: str, value: Tensor | None) -> Tensors:
    tensors = published()
    assert name in tensors
    return {key: old for key, old in tensors.items() if key != name} | ({} if value is None else {name: value})


STEM, LAST = "module.down_tr64.ops.0.conv1.weight", "module.up_tr64.ops.1.bn1.running_var"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (lambda: changed(LAST, None), r"1 missing \(up_tr64.ops.1.bn1.running_var\)"),
        (lambda: changed(LAST, torch.ones(9)), r"up_tr64.ops.1.bn1.running_var \(9,\) for \(8,\)"),
        (lambda: changed(LAST, -torch.ones(WIDTH)), r"variance below 0 in up_tr64.ops.1.bn1.running_var"),
        (lambda: changed(LAST, torch.full((WIDTH,), torch.inf)), "NaN or infinite values in up_tr64"),
        (lambda: changed(STEM, None), "has no down_tr64.ops.0.conv1.weight in its state_dict"),
        (lambda: published() | {"module.down_tr1024.ops.0.conv1.bias": torch.ones(1)}, r"1 unexpected \(down_tr1024"),
        (lambda: {"encoder.layer.0.weight": torch.ones(2)}, "as Models Genesis has, but encoder.layer.0.weight"),
        (lambda: published(20), "width is 20: give a positive multiple of 8"),
        (lambda: changed(STEM, torch.zeros(1).expand(4, 10**6, 3, 3, 3)), "lacks values of module.down_tr64.ops.0"),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_what_does_not_fit_is_named(tensors: Callable[[], Tensors], expected: str, old: bool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected) as raised:
        read_weights_file(save(tmp_path / "genesis.pt", tensors(), old=old))
    assert "\n" not in str(raised.value)


class Executed:
    """What runs a function where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.place,)


def test_nothing_in_an_old_file_is_executed_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genesis.pt"
    content = {"state_dict": published(), "model": Executed(tmp_path / "executed")}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="no whole checkpoint of nnU-Net, nnssl or Models Genesis"):
        read_weights_file(path)
    assert not (tmp_path / "executed").exists()
    whole = save(path, published(), old=True).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="no whole checkpoint"):
        read_weights_file(path)


def test_a_run_starts_from_the_file(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "Genesis_Chest_CT.pt", published(), old=True)
    words = ["transfer", store.path, "--weights", path, "--out", tmp_path / "run", "--device", "cpu"]
    short = ["--mode", "finetune", "--max-steps", 1, "--crop", 16]
    assert main([*map(str, [*words, *short])]) == 2
    assert "--lower -1000 --upper 1000" in capsys.readouterr().err
    assert main([*map(str, [*words, *short, "--allow-preprocessing-mismatch", "true"])]) == 0
    assert "labels seen in training: not known" in capsys.readouterr().out
    config = read_record(tmp_path / "run").config
    assert config["backbone"]["name"] == "genesis" and "0 missing" in config["weights_keys"]
    assert (config["width"], config["levels"], config["method"]) == (WIDTH, 4, "genesis")
