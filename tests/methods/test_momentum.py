import math

import pytest
import torch

from gvsl.methods.momentum import follow, momentum_at


def test_momentum_rises_to_one_along_half_a_cosine() -> None:
    assert momentum_at(0, 100, 0.99) == pytest.approx(0.99)
    assert momentum_at(50, 100, 0.99) == pytest.approx(0.995)
    assert momentum_at(100, 100, 0.99) == 1
    values = [momentum_at(step, 100, 0.9) for step in range(101)]
    assert values == sorted(values)
    assert values[25] == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_a_target_moves_by_what_the_momentum_leaves() -> None:
    target, source = [torch.tensor([1.0, 3.0])], [torch.tensor([5.0, 3.0], requires_grad=True)]
    follow(target, source, 0.75)
    assert target[0].tolist() == [2, 3]
    follow(target, source, 1.0)
    assert target[0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="zip"):
        follow(target, [], 0.5)
