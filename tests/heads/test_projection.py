import pytest
import torch
from torch import nn
from torch.nn import functional

from gvsl.heads import EmbeddingMonitor, effective_rank, multilayer


def test_a_row_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    head = multilayer(6, 16, 4, layers=3)
    rows = torch.randn(5, 6)
    torch.testing.assert_close(head(rows), torch.cat([head(row[None]) for row in rows]))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_has_the_layers_asked_for_and_ends_linear(layers: int) -> None:
    head = multilayer(6, 16, 4, layers)
    linear = [part for part in head if isinstance(part, nn.Linear)]
    assert len(linear) == layers
    assert isinstance(head[-1], nn.Linear)
    assert (linear[0].in_features, linear[-1].out_features) == (6, 4)


def test_the_effective_rank_counts_directions() -> None:
    axes = torch.eye(8)
    assert effective_rank(torch.cat([axes[:3], -axes[:3]])).item() == pytest.approx(3, abs=1e-4)
    assert effective_rank(torch.cat([axes[:1], -axes[:1]])).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.ones(5, 8)).item() == pytest.approx(1, abs=1e-4)


def test_the_monitor_tells_spread_from_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    spread, collapsed = EmbeddingMonitor(32), EmbeddingMonitor(32)
    for _ in range(20):
        well = spread(torch.randn(4, 32, generator=generator))
        badly = collapsed(torch.ones(4, 32) + 1e-3 * torch.randn(4, 32, generator=generator))
    assert well["embedding_std"].item() == pytest.approx(1, abs=0.05)
    assert well["embedding_rank"] > 20
    assert badly["embedding_std"] < 0.01


def test_the_monitor_remembers_the_last_ones_whatever_their_scale() -> None:
    monitor = EmbeddingMonitor(4, remembered=3)
    assert monitor(torch.ones(1, 4))["embedding_std"] == 0
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    monitor(rows[:2])
    found = monitor(1000 * rows[2:])["embedding_std"]
    expected = functional.normalize(rows[2:], dim=1).std(dim=0).mean() * 2
    torch.testing.assert_close(found, expected)
