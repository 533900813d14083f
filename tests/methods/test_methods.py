"""What every method of METHODS keeps to."""

from dataclasses import fields, is_dataclass, replace

import docstring_parser
import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.methods import METHODS, Method
from gvsl.types import PairBatch

WIDTH = 8


def make(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name](UNet3D(width=WIDTH))


def step(method: Method, batch: PairBatch, seed: int, precision: str = "fp32") -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return method.training_step(batch, torch.Generator().manual_seed(seed))


def check_gradients(method: Method) -> None:
    """Every parameter of every part has a finite gradient, and no output of any layer goes without."""
    for name, part in method.parts().items():
        for key, parameter in part.named_parameters():
            gradient = parameter.grad
            assert gradient is not None, f"{name}.{key} has no gradient"
            assert gradient.isfinite().all(), f"{name}.{key} has a gradient that is not finite"
            assert gradient.flatten(1).any(dim=1).all() if gradient.ndim > 1 else gradient.any(), f"{name}.{key}"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_every_parameter_at_the_start_and_after_ten_steps(
    name: str, precision: str, batch: PairBatch
) -> None:
    method = make(name)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    for number in range(11):
        optimiser.zero_grad()
        step(method, batch, number, precision)["loss"].backward()
        if number in (0, 10):
            check_gradients(method)
        optimiser.step()


@pytest.mark.parametrize("name", METHODS)
def test_bf16_gradients_point_where_those_of_fp32_do(name: str, batch: PairBatch) -> None:
    found: list[dict[str, Tensor]] = []
    for precision in ("fp32", "bf16"):
        method = make(name)
        step(method, batch, 0, precision)["loss"].backward()
        gradients = {
            part: torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
            for part, module in method.parts().items()
        }
        found.append(gradients)
    for part, exact in found[0].items():
        assert torch.cosine_similarity(exact, found[1][part], dim=0) > 0.9, part


@pytest.mark.parametrize("name", METHODS)
def test_a_step_gives_finite_scalars_to_log_and_one_loss_to_minimise(name: str, batch: PairBatch) -> None:
    method = make(name)
    terms = step(method, batch, 0)
    assert terms["loss"].requires_grad
    for key, value in terms.items():
        assert value.shape == (), key
        assert value.isfinite(), key
        assert key == "loss" or not value.requires_grad, key


@pytest.mark.parametrize("name", METHODS)
def test_a_step_draws_from_its_generator_alone(name: str, batch: PairBatch) -> None:
    method = make(name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = step(method, batch, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = step(method, batch, 3), step(method, batch, 4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["loss"] != other["loss"]


@pytest.mark.parametrize("name", METHODS)
def test_its_parts_hold_the_backbone_and_every_other_parameter(name: str) -> None:
    method = make(name)
    parts = method.parts()
    assert parts["backbone"] is method.backbone
    listed = [parameter for part in parts.values() for parameter in part.parameters()]
    assert {id(parameter) for parameter in listed} == {id(parameter) for parameter in method.parameters()}
    assert len(listed) == len(list(method.parameters()))


@pytest.mark.parametrize("name", METHODS)
def test_its_settings_are_frozen_and_explained(name: str) -> None:
    settings = make(name).settings
    assert is_dataclass(settings)
    assert not isinstance(settings, type)
    explained = {item.arg_name for item in docstring_parser.parse_from_object(type(settings)).params}
    assert explained == {item.name for item in fields(settings)}
    with pytest.raises(AttributeError):
        setattr(settings, fields(settings)[0].name, None)
    assert replace(settings) == settings
