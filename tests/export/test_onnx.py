"""The file in ONNX Runtime, against gvsl's own network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl.backbones.weights import load_backbone
from gvsl.export.export import export
from gvsl.transfer import load_adapted

from .conftest import MakeRun

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra gvsl[onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra gvsl[onnx] is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "encoder", "segmentation", "classification"])
def test_onnx_runtime_computes_what_gvsl_does_for_any_size(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(kind)
    export(run, tmp_path / "out", "onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    for shape in ((1, 1, 16, 16, 16), (3, 1, 5, 22, 17)):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(3))
        names = [item.name for item in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True))
        with torch.no_grad():
            if kind == "pretrain":
                features = load_backbone(run)(image)
                wanted = {"local": features.local, "global": features.global_}
            elif kind == "encoder":
                wanted = {"global": load_backbone(run).encode(image)}
            else:
                wanted = {"logits": load_adapted(run).network(image)}
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5 * float(value.abs().max()), rtol=0)
