"""Every method trains on every backbone."""

from collections.abc import Callable

import pytest
import torch

from gvsl.backbones import BACKBONES, BackboneSettings, build_backbone
from gvsl.methods import METHODS, Method
from gvsl.settings.backbones import BackboneName
from gvsl.types import PairBatch

pytest.importorskip("dynamic_network_architectures", reason="pip install 'gvsl[nnunet]'")

SIDE = 16
OTHERS = [name for name in BACKBONES if name != "unet"]  # on which tests/methods/test_methods.py trains them
QUICK = ("gvsl",)
"""Methods that the ordinary tests train too."""


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
@pytest.mark.parametrize("name", OTHERS)
def test_a_step_moves_all_that_the_method_trains_and_nothing_else(
    name: BackboneName, method: str, batch: PairBatch, prepared: Callable[[Method, PairBatch], PairBatch]
) -> None:
    moving, fixed = (images[..., :SIDE, :SIDE, :SIDE] for images in (batch.moving, batch.fixed))
    torch.manual_seed(0)
    made = METHODS[method](build_backbone(BackboneSettings(name=name, width=8, levels=3)))
    with torch.no_grad():  # the last normalisation of a residual block starts at 0, behind which nothing has a gradient
        for parameter in made.backbone.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.5)
    fitting = prepared(made, batch._replace(moving=moving, fixed=fixed))
    made.training_step(fitting, torch.Generator().manual_seed(0))["loss"].backward()
    trained = {id(parameter) for part in made.parts().values() for parameter in part.parameters()}
    for key, parameter in made.named_parameters():
        if id(parameter) not in trained:
            assert parameter.grad is None, key
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key
