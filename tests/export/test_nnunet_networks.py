"""Runs on nnU-Net's networks, exported: the same outputs elsewhere, and a line where it can't be."""

import json
from pathlib import Path

import pytest
import torch

from gvsl.backbones import BackboneSettings, build_backbone
from gvsl.backbones.nnunet import NNUNetBackbone
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.export.agreement import divided_shapes, shapes_for
from gvsl.export.export import export
from gvsl.export.reading import read_source
from gvsl.preprocessing import PRESETS
from gvsl.settings.backbones import BackboneName
from gvsl.transfer import load_adapted, load_segmenter

from .conftest import WINDOW, MakeRun, spread

pytest.importorskip("dynamic_network_architectures", reason="pip install 'gvsl[nnunet]'")

IMAGE = torch.rand(2, 1, 13, 16, 11, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("name", [pytest.param("resenc", marks=pytest.mark.slow), "plainconv"])
def test_torchscript_gives_the_features(name: BackboneName, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("pretrain", name=name)
    export(run, tmp_path / "out", "torchscript")
    local, deepest = torch.jit.load(tmp_path / "out" / "model.ts")(IMAGE)
    expected = load_backbone(run)(IMAGE)
    torch.testing.assert_close(local, expected.local, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(deepest, expected.global_, rtol=1e-5, atol=1e-5)
    contract = json.loads((tmp_path / "out" / "export.json").read_text())
    assert contract["backbone"]["name"] == name


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_torchscript_gives_the_logits(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(kind, name="plainconv")
    export(run, tmp_path / "out", "torchscript")
    found = torch.jit.load(tmp_path / "out" / "model.ts")(IMAGE)
    torch.testing.assert_close(found, load_adapted(run).network(IMAGE), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resenc", "plainconv"])
def test_onnx_gives_the_features(name: BackboneName, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("pretrain", name=name)
    export(run, tmp_path / "out", "onnx")  # which compares
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    (local,) = session.run(["local"], {"image": IMAGE.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(local), load_backbone(run)(IMAGE).local, rtol=1e-4, atol=1e-4)


def test_a_monai_bundle_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a resenc, a bundle of gvsl holds its U-Net"):
        export(make_run("segmentation", name="resenc"), tmp_path / "out", "monai")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kernel", [1, 3])
def test_nnunet_gets_all_tensors_of_its_own_network_and_no_module(
    kernel: int, make_run: MakeRun, tmp_path: Path
) -> None:
    run, out = make_run("segmentation", WINDOW, name="resenc", kernel=kernel), tmp_path / "out"
    lines = export(run, out, "nnunet")
    backbone = load_backbone(run)
    assert isinstance(backbone, NNUNetBackbone)
    weights = torch.load(out / "checkpoint.pth", weights_only=True)["network_weights"]
    stock = backbone.stock(3)
    assert weights.keys() == {name for name in stock.state_dict() if ".seg_layers." not in name}
    stock.load_state_dict(weights, strict=False)
    assert torch.equal(stock.encoder(IMAGE[:, :, :12, :16, :8])[-1], backbone.encode(IMAGE[:, :, :12, :16, :8]))
    plans = json.loads((out / "gvslPlans.json").read_text())["configurations"]["3d_fullres"]["architecture"]
    assert plans["network_class_name"].endswith(".ResidualEncoderUNet") and not (out / "gvsl_unet.py").exists()
    assert (out / "model").exists() == (kernel == 1)
    assert any("--kernel 1" in line for line in lines) == (kernel == 3)


@torch.no_grad()
@pytest.mark.parametrize("name", [pytest.param("resenc", marks=pytest.mark.slow), "plainconv"])
def test_what_nnunet_has_trained_comes_back(name: BackboneName, make_run: MakeRun, tmp_path: Path) -> None:
    run, out = make_run("segmentation", WINDOW, name=name, kernel=1), tmp_path / "out"
    export(run, out, "nnunet")
    stock = load_backbone(run).stock(3).eval()  # type: ignore[operator]
    spread(stock)
    torch.save({"network_weights": stock.state_dict()}, out / "model" / "fold_0" / "checkpoint_final.pth")
    export(out / "model" / "fold_0", tmp_path / "back", "gvsl")
    model = load_segmenter(tmp_path / "back")
    image = IMAGE[:, :, :12, :16, :8]
    torch.testing.assert_close(model.network(image), stock(image), rtol=1e-5, atol=1e-5)
    plans = json.loads((out / "model" / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"][1] = [1, 2, 2]
    (out / "model" / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UserError, match=f"its network is another {name} than gvsl's"):
        export(out / "model" / "fold_0", tmp_path / "other", "gvsl")


@pytest.mark.parametrize(
    "settings",
    [
        BackboneSettings(name="unet", width=8, levels=6),
        BackboneSettings(name="plainconv", width=8, levels=6, max_width=16),
        BackboneSettings(name="plainconv", width=8, levels=7, max_width=16),
    ],
)
def test_images_are_large_enough_for_deep_networks(settings: BackboneSettings, tmp_path: Path) -> None:
    backbone = build_backbone(settings)
    save_weights(tmp_path, backbone, method="x", preprocessing=PRESETS["mr"], provenance={})
    for _, *sides in [*shapes_for(read_source(tmp_path)), *divided_shapes(backbone.levels)]:
        backbone.check(sides)
