"""What every method of METHODS keeps to."""

import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path

import docstring_parser
import pytest
import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.methods import METHODS, Method
from gvsl.settings.methods import PRETEXTS
from gvsl.types import PairBatch

WIDTH, LEVELS = 8, 3
SIDE = 16
LAST_STEP = 5
PAGES = Path(__file__).parents[2] / "docs" / "methods"
REFERENCE = r"https://(arxiv\.org/abs/\d{4}\.\d{5}|doi\.org/10\.|jmlr\.org/papers/)"
Prepared = Callable[[Method, PairBatch], PairBatch]


@pytest.fixture(scope="module")
def batch(batch: PairBatch) -> PairBatch:
    """Small crops, which leave four voxels a side at the bottleneck."""
    moving, fixed = (images[..., :SIDE, :SIDE, :SIDE] for images in (batch.moving, batch.fixed))
    return batch._replace(moving=moving, fixed=fixed)


def make(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name](UNet3D(width=WIDTH, levels=LEVELS))


def step(method: Method, batch: PairBatch, seed: int, precision: str = "fp32") -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return method.training_step(batch, torch.Generator().manual_seed(seed))


def check_gradients(method: Method) -> None:
    """Every parameter of every part has a finite gradient, and every output of every layer; nothing else has one."""
    trained = {id(parameter) for part in method.parts().values() for parameter in part.parameters()}
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) in trained), key
        assert id(parameter) in trained or parameter.grad is None, key
    for name, part in method.parts().items():
        for key, parameter in part.named_parameters():
            gradient = parameter.grad
            assert gradient is not None, f"{name}.{key} has no gradient"
            assert gradient.isfinite().all(), f"{name}.{key} has a gradient that is not finite"
            assert gradient.flatten(1).any(dim=1).all() if gradient.ndim > 1 else gradient.any(), f"{name}.{key}"


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.bf16)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("gvsl") else name for name in METHODS]
)
def test_gradients_reach_every_parameter_at_the_start_and_after_some_steps(
    name: str, precision: str, batch: PairBatch, prepared: Prepared
) -> None:
    method = make(name)
    batch = prepared(method, batch)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    for number in range(LAST_STEP + 1):
        optimiser.zero_grad()
        step(method, batch, number, precision)["loss"].backward()
        if number in (0, LAST_STEP):
            check_gradients(method)
        optimiser.step()
        method.after_step(number, LAST_STEP + 1)


@pytest.mark.bf16
@pytest.mark.parametrize("name", METHODS)
def test_bf16_gradients_point_where_those_of_fp32_do(name: str, batch: PairBatch, prepared: Prepared) -> None:
    found: list[dict[str, Tensor]] = []
    for precision in ("fp32", "bf16"):
        method = make(name)
        fitting = prepared(method, batch)
        step(method, fitting, 0, precision)["loss"].backward()
        gradients = {
            part: torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
            for part, module in method.parts().items()
        }
        found.append(gradients)
    # What normalises over the batch blows up the small differences of untrained features, and their rounding too.
    least = 0.7 if any(isinstance(part, nn.BatchNorm1d) for part in method.modules()) else 0.9
    for part, exact in found[0].items():
        assert torch.cosine_similarity(exact, found[1][part], dim=0) > least, part


@pytest.mark.parametrize("name", METHODS)
def test_a_step_gives_finite_scalars_to_log_and_one_loss_to_minimise(
    name: str, batch: PairBatch, prepared: Prepared
) -> None:
    method = make(name)
    terms = step(method, prepared(method, batch), 0)
    assert terms["loss"].requires_grad
    assert terms.keys() <= {metric.name for metric in method.logs}
    for key, value in terms.items():
        assert value.shape == (), key
        assert value.isfinite(), key
        assert key == "loss" or not value.requires_grad, key


@pytest.mark.parametrize("name", METHODS)
def test_a_step_draws_from_its_generator_alone(name: str, batch: PairBatch, prepared: Prepared) -> None:
    method = make(name)
    batch = prepared(method, batch)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = step(method, batch, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = step(method, batch, 3), step(method, batch, 4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["loss"] != other["loss"]


@pytest.mark.parametrize("name", METHODS)
def test_its_parts_are_what_is_trained_once_each_and_hold_what_it_says_of_the_backbone(name: str) -> None:
    method = make(name)
    listed = [parameter for part in method.parts().values() for parameter in part.parameters()]
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in listed} == {id(parameter) for parameter in trained}
    assert len(listed) == len(trained)
    for part in ("encoder", "decoder"):
        own = {id(parameter) for parameter in getattr(method.backbone, part).parameters()}
        assert (own <= {id(parameter) for parameter in listed}) == (part in method.pretrained)
    assert "encoder" in method.pretrained


@pytest.mark.parametrize("name", [name for name in METHODS if "decoder" not in make(name).pretrained])
def test_a_global_method_never_runs_the_decoder_nor_changes_it(name: str, batch: PairBatch, prepared: Prepared) -> None:
    method = make(name)
    before = [parameter.clone() for parameter in method.backbone.decoder.parameters()]
    for level in method.backbone.decoder.children():
        level.register_forward_hook(lambda *_: pytest.fail("the decoder ran"))
    step(method, prepared(method, batch), 0)["loss"].backward()
    assert all(torch.equal(*pair) for pair in zip(before, method.backbone.decoder.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_its_figures_of_held_out_volumes_are_finite_and_drawn_from_their_generator(
    name: str, cohort: dict[str, Tensor]
) -> None:
    method = make(name).eval()
    volumes = [image[:, :16, :16, :16] for image in list(cohort.values())[:3]]
    one, again = (method.held_out(iter(volumes), torch.Generator().manual_seed(2)) for _ in range(2))
    assert one == again
    assert one.keys() <= {metric.name for metric in method.logs}
    assert all(math.isfinite(value) for value in one.values())
    assert one or name == "gvsl-no-restoration"


@pytest.mark.parametrize("name", METHODS)
def test_it_says_in_one_line_what_it_learns_from(name: str) -> None:
    line = (METHODS[name].__doc__ or "").splitlines()[0]
    assert line.endswith(".") and len(line.split()) > 4


@pytest.mark.parametrize("name", METHODS)
def test_it_names_its_paper(name: str) -> None:
    assert re.search(REFERENCE, METHODS[name].__doc__ or "")


def index_of_pages() -> dict[str, Path]:
    """The page of each method that the table in docs/methods/README.md names."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \|.*\[[^]]+\]\(([\w-]+\.md)[^)]*\)", (PAGES / "README.md").read_text(encoding="utf-8"), re.M
    )
    return {name: PAGES / page for name, page in rows}


def test_every_method_is_in_the_index_and_every_page_too() -> None:
    assert list(index_of_pages()) == list(METHODS)
    assert {path.name for path in index_of_pages().values()} | {"README.md"} == {page.name for page in PAGES.iterdir()}


@pytest.mark.parametrize("name", METHODS)
def test_its_page_names_its_paper(name: str) -> None:
    assert re.search(REFERENCE, index_of_pages()[name].read_text(encoding="utf-8"))


def test_the_command_line_knows_every_method() -> None:
    assert list(PRETEXTS) == list(METHODS)
    for name, factory in METHODS.items():
        assert PRETEXTS[name].summary == (factory.__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", METHODS)
def test_its_settings_are_frozen_and_explained(name: str) -> None:
    settings = make(name).settings
    assert is_dataclass(settings)
    assert not isinstance(settings, type)
    assert is_dataclass(PRETEXTS[name].settings) and PRETEXTS[name].settings == settings
    explained = {item.arg_name for item in docstring_parser.parse_from_object(type(settings)).params}
    assert explained == {item.name for item in fields(settings)}
