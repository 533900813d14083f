import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gvsl.losses import NegativeCosine, NTXent, gather, negative_cosine, nt_xent


def embeddings(count: int = 5, channels: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    one, other = torch.randn(2, count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return one, other


def reference(one: Tensor, other: Tensor, temperature: float, subjects: list[int]) -> float:
    """NT-Xent as its paper writes it: a mean over every view of every volume."""
    views = [*one.tolist(), *other.tolist()]
    who = [*subjects, *subjects]
    count = len(one)

    def similarity(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(views[i], views[j], strict=True))
        return math.exp(dot / (math.hypot(*views[i]) * math.hypot(*views[j]) * temperature))

    total = 0.0
    for i in range(2 * count):
        twin = (i + count) % (2 * count)
        others = [k for k in range(2 * count) if k == twin or (k != i and who[k] != who[i])]
        total -= math.log(similarity(i, twin) / sum(similarity(i, k) for k in others))
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("subjects", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 1]])
def test_nt_xent_is_the_papers(temperature: float, subjects: list[int]) -> None:
    one, other = embeddings()
    expected = reference(one, other, temperature, subjects)

    assert nt_xent(one, other, temperature, torch.tensor(subjects)).item() == pytest.approx(expected, rel=1e-12)
    found = nt_xent(one.float(), other.float(), temperature, torch.tensor(subjects))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_without_subjects_all_are_different() -> None:
    one, other = embeddings()

    assert nt_xent(one, other) == nt_xent(one, other, 0.5, torch.arange(5))
    assert NTXent(0.2)(one, other) == nt_xent(one, other, 0.2)


def test_nt_xent_ignores_scale_and_its_gradient_is_right() -> None:
    one, other = (each.requires_grad_() for each in embeddings(3, 4))

    torch.testing.assert_close(nt_xent(7 * one, 0.1 * other), nt_xent(one, other))
    assert torch.autograd.gradcheck(nt_xent, (one, other))


def test_nt_xent_is_float32_under_autocast() -> None:
    one, other = (each.float() for each in embeddings())
    with torch.autocast("cpu", torch.bfloat16):
        assert nt_xent(one, other) == nt_xent(one, other)
        low = nt_xent(one, other)
    assert low == nt_xent(one, other)


def test_one_volume_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        nt_xent(*embeddings(1))


def test_negative_cosine_ignores_scale_and_stops_at_the_target() -> None:
    predicted, target = (each.requires_grad_() for each in embeddings())
    expected = -sum(
        float(p @ t) / (math.hypot(*p.tolist()) * math.hypot(*t.tolist()))
        for p, t in zip(predicted.detach(), target.detach(), strict=True)
    ) / len(predicted)

    assert negative_cosine(predicted, target).item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(negative_cosine(3 * predicted, 0.2 * target), negative_cosine(predicted, target))
    NegativeCosine()(predicted, target).backward()
    assert target.grad is None
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() > 0


def test_gather_in_one_process_is_nothing() -> None:
    values = embeddings()[0]
    assert gather(values) is values


PROCESS = """
import sys
import torch
from torch import distributed
from gvsl.losses import nt_xent

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
one, other, subjects = torch.load(f"{folder}/volumes.pt", weights_only=True)
mine = slice(2 * rank, 2 * rank + 2)
weight = torch.eye(7, dtype=torch.float64, requires_grad=True)
loss = nt_xent(one[mine] @ weight, other[mine] @ weight, 0.5, subjects[mine])
loss.backward()
torch.save([loss.detach(), weight.grad], f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_find_the_loss_and_gradient_of_one(tmp_path: Path) -> None:
    one, other = embeddings(4)
    subjects = torch.tensor([5, 6, 5, 8])
    torch.save([one, other, subjects], tmp_path / "volumes.pt")
    running = [subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)]) for rank in (0, 1)]
    assert [process.wait(120) for process in running] == [0, 0]
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)), strict=True)
    weight = torch.eye(7, dtype=torch.float64, requires_grad=True)
    whole = nt_xent(one @ weight, other @ weight, 0.5, subjects)
    whole.backward()

    # Data-parallel training averages losses and gradients over the processes.
    torch.testing.assert_close(sum(losses) / 2, whole.detach())
    torch.testing.assert_close(sum(gradients) / 2, weight.grad)
