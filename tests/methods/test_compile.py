"""What `--trainer.compile` compiles: networks and losses of a step in one graph, with the losses of a plain step."""

from copy import deepcopy

import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.methods import METHODS, GVSLSettings, Method
from gvsl.types import LabelledPair, PairBatch

pytestmark = pytest.mark.slow
STEPS, SIDE = 4, 16
SETTINGS = {
    "gvsl": None,
    "gvsl with both directions, independent poses and labels": GVSLSettings(
        symmetric=True, independent_poses=True, labels=("a", "b"), affine_ncc_weight=0.5
    ),
    "inpainting": None,
}


def pairs(name: str) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 1, 5, 5, 5), generator=generator)
    moving, fixed = torch.nn.functional.interpolate(coarse, size=(SIDE,) * 3, mode="trilinear").chunk(2)
    classes = (moving > 0.5).long()
    labelled = LabelledPair(moving, fixed, classes, classes.roll(2, 3), 2) if "labels" in name else None
    return PairBatch(moving, fixed, ["a"], ["b"], labelled)


def curve(method: Method, batch: PairBatch) -> list[dict[str, float]]:
    """The values of a few steps, each with other random numbers."""
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    rows = []
    for step in range(STEPS):
        optimiser.zero_grad()
        terms = method.training_step(batch, torch.Generator().manual_seed(step))
        terms["loss"].backward()
        optimiser.step()
        rows.append({name: float(value.detach()) for name, value in terms.items()})
    return rows


@pytest.mark.parametrize("name", SETTINGS)
def test_a_compiled_step_is_one_graph_and_has_the_plain_ones_values(name: str) -> None:
    torch.manual_seed(0)
    plain = METHODS[name.split()[0]](UNet3D(width=8, levels=2), SETTINGS[name])
    assert plain.compilable
    for parameter in plain.parameters():  # the heads begin with zeros, which hide the field
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    compiled = deepcopy(plain)
    # AOTAutograd's graphs of forward and backward, run without making code of them, which takes minutes on a CPU.
    compiled.compile(backend="aot_eager", fullgraph=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found, expected = (curve(method, pairs(name)) for method in (compiled, plain))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for row, values in zip(found, expected, strict=True):
        assert row == pytest.approx(values, rel=1e-4, abs=1e-6)
