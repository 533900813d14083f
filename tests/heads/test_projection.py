import pytest
import torch

from gvsl.heads import HeadNorm, ProjectionHead

NORMS: list[HeadNorm] = ["batch", "layer"]


@pytest.mark.parametrize("norm", NORMS)
def test_it_embeds_and_every_weight_learns(norm: HeadNorm) -> None:
    torch.manual_seed(0)
    head = ProjectionHead(16, 32, 24, 8, norm=norm)
    out = head(torch.randn(4, 16))
    assert out.shape == (4, 8)
    out.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_layer_normalisation_knows_one_row_alone() -> None:
    torch.manual_seed(0)
    head, rows = ProjectionHead(16, 32, 8, norm="layer", normalise_last=True), torch.randn(4, 16)
    torch.testing.assert_close(head(rows)[:1], head(rows[:1]))
    assert head(rows).mean(dim=1).abs().max() < 1e-5


def test_batch_normalisation_tells_rows_apart_that_are_almost_one() -> None:
    torch.manual_seed(0)
    rows = 5 + 0.01 * torch.randn(6, 16)
    spread = {norm: ProjectionHead(16, 32, 8, norm=norm, normalise_last=True)(rows).std(dim=0).mean() for norm in NORMS}
    assert spread["batch"] > 0.5
    assert spread["layer"] < 0.1
