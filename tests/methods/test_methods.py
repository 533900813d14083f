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
    """A method from its initialisation, with targets for the batch's volumes if it makes such."""
    torch.manual_seed(0)
    method = METHODS[name](UNet3D(width=WIDTH))
    volumes = torch.rand(20, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    if method.reassigns(0, len(volumes), 1):
        named = (([str(index)], volume[None]) for index, volume in enumerate(volumes))
        method.reassign(named, torch.Generator().manual_seed(2))
    return method


def step(method: Method, batch: PairBatch, seed: int, precision: str = "fp32") -> dict[str, Tensor]:
    """A step on the batch, or on cubes of it if the method takes nothing else."""
    try:
        method.check(20, (batch.moving.shape[2], batch.moving.shape[3], batch.moving.shape[4]))
    except ValueError:
        side = min(batch.moving.shape[2:])
        batch = batch._replace(
            moving=batch.moving[..., :side, :side, :side], fixed=batch.fixed[..., :side, :side, :side]
        )
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return method.training_step(batch, torch.Generator().manual_seed(seed))


def check_gradients(method: Method) -> None:
    """What is trained has a finite gradient, no output of any layer goes without, and what isn't trained has none."""
    for name, part in method.parts().items():
        for key, parameter in part.named_parameters():
            gradient = parameter.grad
            if not parameter.requires_grad:
                continue
            assert gradient is not None, f"{name}.{key} has no gradient"
            assert gradient.isfinite().all(), f"{name}.{key} has a gradient that is not finite"
            assert gradient.flatten(1).any(dim=1).all() if gradient.ndim > 1 else gradient.any(), f"{name}.{key}"
    assert all(parameter.grad is None for parameter in method.parameters() if not parameter.requires_grad)
    learnt = {"encoder": method.backbone.encoder, "decoder": method.backbone.decoder}
    for name, module in learnt.items():
        assert all(parameter.requires_grad == (name in method.learns) for parameter in module.parameters())


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
    methods = [make(name) for _ in range(3)]  # a step may leave something for the next one to log
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = step(methods[0], batch, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = step(methods[1], batch, 3), step(methods[2], batch, 4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["loss"] != other["loss"]


@pytest.mark.parametrize("name", METHODS)
def test_its_parts_hold_the_backbone_and_every_parameter_that_is_trained(name: str) -> None:
    method = make(name)
    parts = method.parts()
    assert parts["backbone"] is method.backbone
    listed = [parameter for part in parts.values() for parameter in part.parameters() if parameter.requires_grad]
    assert {id(each) for each in listed} == {id(each) for each in method.parameters() if each.requires_grad}
    assert len(listed) == len({id(each) for each in listed})


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_trained_stays_as_it_was_bit_by_bit(name: str, batch: PairBatch) -> None:
    method = make(name)
    before = {key: value.clone() for key, value in method.backbone.state_dict().items()}
    optimiser = torch.optim.Adam([each for each in method.parameters() if each.requires_grad], lr=1e-2)
    for number in range(2):
        optimiser.zero_grad()
        step(method, batch, number)["loss"].backward()
        optimiser.step()
        method.after_step(number + 1, 2)
    for key, value in method.backbone.state_dict().items():
        assert torch.equal(value, before[key]) == (key.split(".")[0] not in method.learns), key


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
