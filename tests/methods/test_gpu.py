"""What only a GPU can show; skipped, with the reason, where there is none."""

from collections.abc import Callable

import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.methods import GVSL, METHODS, Method
from gvsl.types import PairBatch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]


def pair(device: str) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 1, 5, 6, 4), generator=generator)
    volumes = torch.nn.functional.interpolate(coarse, size=(32, 48, 32), mode="trilinear").to(device)
    return PairBatch(volumes[:1], volumes[1:], ["a"], ["b"])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_stays_on_the_device_and_every_gradient_is_finite(
    name: str, precision: str, prepared: Callable[[Method, PairBatch], PairBatch]
) -> None:
    torch.manual_seed(0)
    method = METHODS[name](UNet3D(width=8)).to("cuda")
    batch = prepared(method, pair("cuda"))
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        terms = method.training_step(batch, torch.Generator("cuda").manual_seed(0))
    terms["loss"].backward()
    assert all(value.device.type == "cuda" for value in terms.values())
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


def test_matching_agrees_with_the_cpu() -> None:
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=8)).eval()
    moving, fixed = pair("cpu")[:2]
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        on_cpu = method.match(moving, fixed).dvf
        on_gpu = method.to("cuda").match(moving.to("cuda"), fixed.to("cuda")).dvf.cpu()
    assert torch.allclose(on_cpu, on_gpu, atol=1e-4)
