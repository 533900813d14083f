import numpy as np
import pytest
import torch
from scipy import ndimage

from gvsl.augment import draw_inpaint, inpaint

SHAPE = (20, 25, 30)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_voxels_of_the_boxes_change_and_become_the_noise() -> None:
    image = torch.rand((3, 2, *SHAPE), generator=generator())
    draw = draw_inpaint(3, SHAPE, 1.0, generator(1))
    painted, erased = inpaint(image, draw), draw.erased.expand_as(image)
    assert torch.equal(painted[~erased], image[~erased])
    assert torch.equal(painted[erased], draw.noise.expand_as(image)[erased])
    assert all(volume.any() and not volume.all() for volume in draw.erased)
    assert not torch.equal(draw.erased[0], draw.erased[1])


def test_the_noise_is_uniform() -> None:
    noise = draw_inpaint(2, SHAPE, 1.0, generator()).noise
    assert noise.min() >= 0
    assert noise.max() < 1
    shares = torch.histc(noise, bins=10, min=0, max=1) / noise.numel()
    assert (shares - 0.1).abs().max() < 0.01


def test_as_much_is_erased_as_by_boxes_drawn_plainly() -> None:
    """Up to 30 boxes, each next one with probability 0.95: 15.7 in the mean, of 1/10 to 1/5 a side."""
    chance = np.random.default_rng(0)
    expected, counts = [], []
    for _ in range(1500):
        volume = np.zeros(SHAPE, dtype=bool)
        count = 1
        while count < 30 and chance.random() < 0.95:
            count += 1
        for _ in range(count):
            sides = [max(1, int(np.rint(chance.uniform(side / 10, side / 5)))) for side in SHAPE]
            first = [chance.integers(0, side - size + 1) for side, size in zip(SHAPE, sides, strict=True)]
            volume[tuple(slice(at, at + size) for at, size in zip(first, sides, strict=True))] = True
        expected.append(volume.mean())
        counts.append(count)
    assert np.mean(counts) == pytest.approx(15.7, abs=0.8)
    found = draw_inpaint(1500, SHAPE, 1.0, generator()).erased.float().mean(dim=(1, 2, 3, 4)).numpy()
    assert found.mean() == pytest.approx(np.mean(expected), rel=0.08)
    assert found.std() == pytest.approx(np.std(expected), rel=0.08)


def test_single_boxes_have_the_sides_that_are_documented() -> None:
    sides = []
    for volume in draw_inpaint(200, SHAPE, 1.0, generator()).erased[:, 0].numpy():
        labelled, _ = ndimage.label(volume)
        for index, box in enumerate(ndimage.find_objects(labelled), start=1):
            if (labelled[box] == index).all():  # a box that touches no other
                sides.append([part.stop - part.start for part in box])
    least, most = np.min(sides, axis=0), np.max(sides, axis=0)
    assert least.tolist() == [2, 3, 3]
    # Two boxes side by side may look like one, so the most is looked at in the bulk.
    assert np.percentile(sides, 95, axis=0).tolist() == [4, 5, 6]
    assert len(sides) > 300
    assert (most >= [4, 5, 6]).all()


@pytest.mark.parametrize("rate", [0.0, 0.6, 1.0])
def test_the_rate_is_kept(rate: float) -> None:
    erased = draw_inpaint(500, (10, 10, 10), rate, generator()).erased.flatten(1).any(dim=1)
    assert erased.float().mean().item() == pytest.approx(rate, abs=0.06 if 0 < rate < 1 else 0)


def test_the_type_is_kept() -> None:
    image = torch.rand(1, 1, *SHAPE).bfloat16()
    assert inpaint(image, draw_inpaint(1, SHAPE, 1.0, generator())).dtype == torch.bfloat16
