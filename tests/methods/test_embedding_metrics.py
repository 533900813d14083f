import pytest
import torch

from gvsl.methods.embedding_metrics import embedding_metrics, retrieval_accuracy


def test_embeddings_that_are_one_have_collapsed() -> None:
    metrics = embedding_metrics(torch.ones(6, 8) * torch.rand(6, 1))  # one direction, any length
    assert metrics["embedding_std"] < 1e-6
    line = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[torch.tensor([0, 1, 0, 1])]
    assert embedding_metrics(line)["effective_rank"].item() == pytest.approx(1)
    assert embedding_metrics(line)["embedding_std"].item() == pytest.approx(0.5**0.5)


def test_embeddings_that_point_everywhere_have_not() -> None:
    metrics = embedding_metrics(torch.eye(8))
    assert metrics["effective_rank"].item() == pytest.approx(7, rel=1e-3)
    assert metrics["embedding_std"].item() == pytest.approx((7 / 8) ** 0.5)
    random = embedding_metrics(torch.randn(512, 64, generator=torch.Generator().manual_seed(0)))
    assert random["embedding_std"] > 0.99
    assert 55 < random["effective_rank"] < 64


def test_positives_are_retrieved_where_they_are_nearest() -> None:
    rows = torch.eye(4)
    keys = torch.arange(4)
    assert retrieval_accuracy(rows, 3 * rows, keys) == 1
    assert retrieval_accuracy(rows, rows.roll(1, 0), keys) == 0
    assert retrieval_accuracy(rows, rows.roll(1, 0), torch.zeros(4)) == 1
