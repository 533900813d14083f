"""Rotation, SimSiam, BYOL, SimCLR: what each of their steps is."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import UNet3D
from gvsl.methods.byol import BYOL, BYOLSettings, follow, momentum_at
from gvsl.methods.method import pooled
from gvsl.methods.rotation import Rotation, RotationSettings
from gvsl.methods.simclr import SimCLR, SimCLRSettings, twins_found
from gvsl.methods.simsiam import SimSiam
from gvsl.types import PairBatch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cubes(batch: PairBatch) -> PairBatch:
    return batch._replace(moving=batch.moving[:, :, :16, :, :16], fixed=batch.fixed[:, :, :16, :, :16])


def test_rotation_is_ten_classes_by_chance_at_the_start(batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = Rotation(UNet3D(width=8), RotationSettings(copies=20))
    terms = method.training_step(cubes(batch), generator())
    assert terms["loss"].item() == pytest.approx(math.log(10), abs=0.4)
    assert 0 <= terms["accuracy"] < 0.4


def test_rotation_of_a_box_is_refused_with_the_cube_that_would_do() -> None:
    with pytest.raises(ValueError, match=r"give \[32, 32, 32\]"):
        Rotation(UNet3D(width=8)).check(100, (32, 48, 32))
    Rotation(UNet3D(width=8)).check(100, (48, 48, 48))


def test_no_gradient_of_simsiam_passes_its_targets(batch: PairBatch) -> None:
    """Were a target's gradient not stopped, a predictor that ignores its input would still train the backbone."""
    torch.manual_seed(0)
    method = SimSiam(UNet3D(width=8))
    for layer in method.predictor:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(list(method.predictor.parameters())[-1])
    method.training_step(batch, generator())["loss"].backward()
    assert all(each.grad is None or not each.grad.any() for each in method.backbone.parameters())


def test_the_target_of_byol_starts_as_an_exact_copy_and_is_never_trained() -> None:
    method = BYOL(UNet3D(width=8))
    for target, network in [
        (method.target_backbone.encoder, method.backbone.encoder),
        (method.target_projector, method.projector),
    ]:
        for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
            assert torch.equal(slow, fast)
            assert slow.data_ptr() != fast.data_ptr()
            assert not slow.requires_grad
    volumes = torch.rand(3, 1, 16, 16, 16, generator=generator())
    torch.testing.assert_close(method.target(volumes), method.projector(pooled(method.backbone, volumes)))


def test_the_momentum_rises_from_its_setting_to_one_along_a_half_cosine() -> None:
    found = [momentum_at(step, 1000, 0.99) for step in (0, 250, 500, 1000)]
    expected = [1 - 0.01 * (math.cos(math.pi * share) + 1) / 2 for share in (0, 0.25, 0.5, 1)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[0] == 0.99
    assert found[-1] == 1


def test_the_target_follows_by_the_steps_momentum(batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = BYOL(UNet3D(width=8), BYOLSettings(momentum=0.9))
    before = [each.clone() for each in method.target_projector.parameters()]
    for each in [*method.backbone.parameters(), *method.projector.parameters()]:
        each.data += 1.0
    method.after_step(50, 100)
    momentum = momentum_at(50, 100, 0.9)
    now = zip(before, method.target_projector.parameters(), method.projector.parameters(), strict=True)
    for old, slow, fast in now:
        torch.testing.assert_close(slow, momentum * old + (1 - momentum) * fast)
    encoders = zip(method.target_backbone.encoder.parameters(), method.backbone.encoder.parameters(), strict=True)
    for slow, fast in encoders:
        torch.testing.assert_close(slow, fast - momentum)


def test_a_momentum_of_one_stands_still_and_of_zero_copies() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = one.weight.clone()
    follow(one, other, 1.0)
    assert torch.equal(one.weight, before)
    follow(one, other, 0.0)
    assert torch.equal(one.weight, other.weight)


def test_twins_found_counts_first_views_whose_nearest_second_view_is_theirs() -> None:
    one = torch.eye(4)
    assert twins_found(one, 3 * one) == 1
    assert twins_found(one, one[[1, 0, 2, 3]]) == 0.5


def test_simclr_does_not_push_a_subject_from_itself(batch: PairBatch) -> None:
    """Subject 0 is in both pairs of the batch: with it alone there is nothing to push from."""
    torch.manual_seed(0)
    method = SimCLR(UNet3D(width=8))
    same = PairBatch(batch.moving[:1], batch.fixed[1:], ["0"], ["0"])
    assert method.training_step(same, generator())["loss"].item() == pytest.approx(0, abs=1e-6)


def test_simclr_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature"):
        SimCLR(UNet3D(width=8), SimCLRSettings(temperature=0))


def embeddings_of(method: SimSiam | SimCLR, volumes: Tensor) -> Tensor:
    return functional.normalize(method.projector(pooled(method.backbone, volumes)), dim=1)


@pytest.mark.parametrize("kind", [SimSiam, SimCLR])
def test_embeddings_do_not_depend_on_the_batch(kind: type[SimSiam | SimCLR], batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = kind(UNet3D(width=8))
    alone = torch.cat([embeddings_of(method, one[None]) for one in batch.moving])
    torch.testing.assert_close(embeddings_of(method, batch.moving), alone, rtol=1e-4, atol=1e-5)
