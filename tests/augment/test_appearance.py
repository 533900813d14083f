import pytest
import torch

from gvsl.augment import (
    AppearanceSettings,
    change_appearance,
    change_intensity,
    draw_appearance,
    inpaint,
    shuffle,
)

SHAPE = (24, 20, 28)
NEVER = AppearanceSettings(shuffle_rate=0, intensity_rate=0, inpaint_rate=0)


def image(batch: int = 2) -> torch.Tensor:
    return torch.rand((batch, 1, *SHAPE), generator=torch.Generator().manual_seed(9))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_rates_are_the_papers() -> None:
    settings = AppearanceSettings()
    assert (settings.shuffle_rate, settings.intensity_rate, settings.inpaint_rate) == (0.8, 0.9, 1.0)


def test_the_three_transforms_are_applied_in_turn() -> None:
    draw = draw_appearance(2, SHAPE, AppearanceSettings(1.0, 1.0, 1.0), generator())
    expected = inpaint(change_intensity(shuffle(image(), draw.shuffle), draw.intensity), draw.inpaint)
    changed = change_appearance(image(), draw)
    assert torch.equal(changed, expected)
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("name", ["shuffle_rate", "intensity_rate", "inpaint_rate"])
def test_each_rate_is_its_own(name: str) -> None:
    settings = AppearanceSettings(**{**vars(NEVER), name: 1.0})
    draw = draw_appearance(2, SHAPE, settings, generator())
    alone = {
        "shuffle_rate": shuffle(image(), draw.shuffle),
        "intensity_rate": change_intensity(image(), draw.intensity),
        "inpaint_rate": inpaint(image(), draw.inpaint),
    }
    changed = change_appearance(image(), draw)
    assert torch.equal(changed, alone[name])
    assert not torch.equal(changed, image())


def test_with_all_rates_0_nothing_changes() -> None:
    changed = change_appearance(image(), draw_appearance(2, SHAPE, NEVER, generator()))
    assert torch.equal(changed, image())


def test_the_same_draw_changes_an_image_the_same_way_twice() -> None:
    draw = draw_appearance(2, SHAPE, AppearanceSettings(), generator())
    before = torch.get_rng_state()
    assert torch.equal(change_appearance(image(), draw), change_appearance(image(), draw))
    assert torch.equal(torch.get_rng_state(), before)
