import math

import pytest
import torch

from gvsl.augment import ViewSettings
from gvsl.backbones import UNet3D
from gvsl.methods.byol import BYOL, BYOLSettings, ema_update, momentum_schedule
from gvsl.types import PairBatch


def test_the_target_starts_as_a_copy_and_follows_by_the_schedule(batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = BYOL(UNet3D(width=8, levels=3), BYOLSettings(momentum=0.9))
    pairs = [
        *zip(method.target.encoder.parameters(), method.backbone.encoder.parameters(), strict=True),
        *zip(method.target_projector.parameters(), method.projector.parameters(), strict=True),
    ]
    assert all(torch.equal(target, online) and target is not online for target, online in pairs)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    for step in range(3):
        before = [target.clone() for target, _ in pairs]
        optimiser.zero_grad()
        method.training_step(batch, torch.Generator().manual_seed(step))["loss"].backward()
        optimiser.step()
        assert all(torch.equal(target, was) for (target, _), was in zip(pairs, before, strict=True))
        method.after_step(step, 10)
        momentum = momentum_schedule(step, 10, 0.9)
        assert 0.9 <= momentum < 1
        for (target, online), was in zip(pairs, before, strict=True):
            assert not torch.equal(target, online)
            torch.testing.assert_close(target, momentum * was + (1 - momentum) * online)
    assert all(target.grad is None and not target.requires_grad for target, _ in pairs)


def test_the_target_has_no_decoder() -> None:
    method = BYOL(UNet3D(width=8, levels=3))
    assert not list(method.target.decoder.parameters())
    assert list(method.backbone.decoder.parameters())


@pytest.mark.parametrize(
    "settings", [BYOLSettings(momentum=1), BYOLSettings(momentum=-0.1), BYOLSettings(views=ViewSettings(smallest=0))]
)
def test_settings_that_make_no_sense_are_refused(settings: BYOLSettings) -> None:
    with pytest.raises(ValueError, match="give"):
        BYOL(UNet3D(width=8, levels=3), settings)


def test_momentum_rises_to_one_along_half_a_cosine() -> None:
    assert momentum_schedule(0, 100, 0.99) == pytest.approx(0.99)
    assert momentum_schedule(50, 100, 0.99) == pytest.approx(0.995)
    assert momentum_schedule(100, 100, 0.99) == 1
    values = [momentum_schedule(step, 100, 0.9) for step in range(101)]
    assert values == sorted(values)
    assert values[25] == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_a_target_is_updated_by_what_the_momentum_leaves() -> None:
    target, source = [torch.tensor([1.0, 3.0])], [torch.tensor([5.0, 3.0], requires_grad=True)]
    ema_update(target, source, 0.75)
    assert target[0].tolist() == [2, 3]
    ema_update(target, source, 1.0)
    assert target[0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="zip"):
        ema_update(target, [], 0.5)
