import torch

from gvsl.augment import draw_erased, draw_painting, erase

SHAPE = (30, 24, 36)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_erased_boxes_are_zero_and_the_rest_is_as_it_was() -> None:
    image = torch.rand(3, 2, *SHAPE, generator=generator()) + 0.1
    draw = draw_erased(3, SHAPE, 5, (1 / 6, 1 / 3), generator(1))
    erased = erase(image, draw)
    gone = draw.erased.expand_as(image)
    assert not erased[gone].any()
    assert torch.equal(erased[~gone], image[~gone])


def test_one_box_has_the_sides_asked_for() -> None:
    draw = draw_erased(50, SHAPE, 1, (1 / 6, 1 / 3), generator())
    for mask in draw.erased[:, 0]:
        for axis, side in enumerate(SHAPE):
            other = [each for each in range(3) if each != axis]
            length = int(mask.any(dim=other[1]).any(dim=other[0]).sum())
            assert round(side / 6) <= length <= round(side / 3)
    assert draw.erased.flatten(1).any(dim=1).all()


def test_more_boxes_erase_more() -> None:
    one, five = (draw_erased(200, SHAPE, most, (1 / 6, 1 / 3), generator()).erased.double().mean() for most in (1, 5))
    assert 2 * one < five < 5 * one


def test_inner_painting_takes_boxes_and_outer_painting_all_but_boxes() -> None:
    inner = draw_painting(100, SHAPE, 1.0, 1.0, generator()).erased.double().mean(dim=(1, 2, 3, 4))
    outer = draw_painting(100, SHAPE, 1.0, 0.0, generator()).erased.double().mean(dim=(1, 2, 3, 4))
    assert inner.max() <= 5 / 27 + 0.05
    assert outer.max() < 1 - (2 / 5) ** 3
    assert inner.mean() < 0.2 < 0.5 < outer.mean()


def test_painting_has_its_rates_and_fills_with_noise() -> None:
    draw = draw_painting(4000, (6, 6, 6), 0.9, 0.2, generator())
    share = draw.erased.double().mean(dim=(1, 2, 3, 4))
    assert abs(float((share > 0).double().mean()) - 0.9) < 5 * (0.09 / 4000) ** 0.5
    assert draw.filling.min() >= 0
    assert draw.filling.max() < 1
    assert abs(float(draw.filling.mean()) - 0.5) < 0.01
