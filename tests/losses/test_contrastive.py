import math

import pytest
import torch
from torch import Tensor

from gvsl.losses import negative_cosine, nt_xent, symmetric_negative_cosine


def reference(first: Tensor, second: Tensor, keys: list[int], temperature: float) -> float:
    """NT-Xent written out, in float64."""
    views = [row / row.norm() for row in torch.cat([first, second]).double()]
    subject = [*keys, *keys]
    count, total = len(first), 0.0
    for i, view in enumerate(views):
        positive = (i + count) % (2 * count)
        others = [k for k in range(2 * count) if k != i and (k == positive or subject[k] != subject[i])]
        sums = sum(math.exp(float(view @ views[k]) / temperature) for k in others)
        total -= math.log(math.exp(float(view @ views[positive]) / temperature) / sums)
    return total / (2 * count)


def embeddings(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn((2, count, 5), generator=generator)
    return first, second


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("keys", [[0, 1], [4, 7, 2, 9], [4, 7, 4, 9, 7]])
def test_nt_xent_is_the_plain_float64_one(keys: list[int], temperature: float) -> None:
    first, second = embeddings(len(keys))
    loss = nt_xent(first, second, torch.tensor(keys), temperature)
    assert loss.item() == pytest.approx(reference(first, second, keys, temperature), rel=1e-5)


def test_two_halves_beside_all_give_the_whole_and_its_gradient() -> None:
    """The same as in two processes, except for the gathering, which tests/methods/test_distributed.py covers."""
    first, second = (rows.double().requires_grad_() for rows in embeddings(6))
    keys = torch.tensor([0, 1, 2, 3, 1, 5])
    whole = nt_xent(first, second, keys, 0.2)
    halves = [
        nt_xent(first[part], second[part], keys[part], 0.2, gathered=(first, second, keys), offset=part.start)
        for part in (slice(0, 3), slice(3, 6))
    ]
    mean = torch.stack(halves).mean()
    torch.testing.assert_close(mean, whole)
    (expected,) = torch.autograd.grad(whole, first, retain_graph=True)
    (found,) = torch.autograd.grad(mean, first)
    torch.testing.assert_close(found, expected)


def test_nt_xent_is_minimal_where_positive_pairs_agree_and_others_do_not() -> None:
    first, _ = torch.eye(4).split([3, 1])
    keys = torch.arange(3)
    agreeing, mixed = nt_xent(first, first, keys, 0.1), nt_xent(first, first.roll(1, 0), keys, 0.1)
    assert agreeing < 0.01 < 5 < mixed


def test_one_subject_has_no_negatives() -> None:
    first, second = embeddings(2)
    with pytest.raises(ValueError, match="two subjects or more"):
        nt_xent(first, second, torch.tensor([3, 3]), 0.1)


def test_negative_cosine_ignores_scale_and_leaves_its_target_alone() -> None:
    one, other = (rows.requires_grad_() for rows in embeddings(4))
    loss = negative_cosine(one, other)
    cosines = [
        float(a @ b / (a.norm() * b.norm()))
        for a, b in zip(one.detach().double(), other.detach().double(), strict=True)
    ]
    assert loss.item() == pytest.approx(-sum(cosines) / 4, rel=1e-5)
    torch.testing.assert_close(negative_cosine(7 * one, 0.01 * other), loss)
    assert negative_cosine(one, one).item() == pytest.approx(-1)
    loss.backward()
    assert other.grad is None
    assert one.grad is not None and one.grad.any()


def test_both_directions_count_alike() -> None:
    (first, second), (third, fourth) = embeddings(4), embeddings(4)
    expected = (negative_cosine(first, fourth.roll(1, 0)) + negative_cosine(second, third.flip(1))) / 2
    found = symmetric_negative_cosine(torch.cat([first, second]), torch.cat([third.flip(1), fourth.roll(1, 0)]))
    assert torch.equal(found, expected)
