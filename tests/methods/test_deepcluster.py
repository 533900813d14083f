import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings
from gvsl.backbones import UNet3D
from gvsl.backbones.genesis import Genesis
from gvsl.methods.deepcluster import DeepCluster, DeepClusterSettings
from gvsl.types import PairBatch

PLAIN = DeepClusterSettings(
    clusters=3, components=4, spatial=SpatialSettings(rate=0), appearance=AppearanceSettings(0, 0, 0)
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(settings: DeepClusterSettings = PLAIN) -> DeepCluster:
    torch.manual_seed(0)
    return DeepCluster(UNet3D(width=8, levels=3), settings)


def test_an_assignment_changes_the_labels_that_are_learnt_and_begins_a_fresh_top_layer(
    cohort: dict[str, Tensor], batch: PairBatch
) -> None:
    method = make()
    first = method.start_epoch(cohort.items(), generator(1))
    before, top = dict(method.labels), method.top.weight.clone()
    assert before.keys() == cohort.keys()
    assert set(before.values()) == {0, 1, 2}
    assert "nmi" not in first
    with torch.no_grad():  # as training would
        for parameter in method.backbone.encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
        method.top.bias.fill_(3)
    second = method.start_epoch(cohort.items(), generator(2))
    assert method.labels != before
    assert 0 <= second["nmi"] < 1
    assert not torch.equal(method.top.weight, top)
    assert method.top.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not method.top.bias.any()
    assert all(one is other for one, other in zip(method.reinitialised(), method.top.parameters(), strict=True))

    def loss() -> Tensor:
        return method.training_step(batch, generator())["loss"]

    new = loss()
    method.labels = before
    assert not torch.isclose(loss(), new, rtol=1e-6)


def test_each_volume_counts_by_the_inverse_of_its_clusters_size(batch: PairBatch, cohort: dict[str, Tensor]) -> None:
    method = make()
    method.start_epoch(cohort.items(), generator())
    method.labels = {"0": 0, "1": 0, "2": 1, **{str(index): 2 for index in range(3, 12)}}
    loss = method.training_step(batch, generator())["loss"]
    logits = method.classify(torch.cat([batch.moving, batch.fixed]))
    errors = functional.cross_entropy(logits, torch.tensor([0, 0, 1, 0]), reduction="none")
    torch.testing.assert_close(loss, (errors * torch.tensor([2.0, 2.0, 4.0, 2.0])).mean())


def test_sizes_and_spread_are_logged(cohort: dict[str, Tensor]) -> None:
    metrics = make().start_epoch(cohort.items(), generator())
    assert metrics["clusters_used"] == 3
    assert 1 / 12 <= metrics["cluster_smallest"] <= 1 / 3 <= metrics["cluster_largest"] <= 10 / 12
    assert 0 < metrics["embedding_std"] < 1 < metrics["effective_rank"] < 12


def test_volumes_that_are_all_one_fill_one_cluster_and_can_still_be_learnt(batch: PairBatch) -> None:
    method = make()
    metrics = method.start_epoch([(str(index), torch.ones(1, 16, 16, 16)) for index in range(6)], generator())
    assert metrics["clusters_used"] == 1
    assert metrics["cluster_largest"] == 1
    assert method.training_step(batch, generator())["loss"].isfinite()


def test_a_volume_without_a_cluster_is_refused(batch: PairBatch, cohort: dict[str, Tensor]) -> None:
    method = make()
    with pytest.raises(ValueError, match="0 has no cluster"):
        method.training_step(batch, generator())
    other = make()
    method.start_epoch(cohort.items(), generator())
    other.resume(method.state_to_resume())
    assert other.labels == method.labels and other.labels is not method.labels


def test_more_clusters_than_volumes_can_fill_are_refused_with_a_number_that_can() -> None:
    method = make(DeepClusterSettings(clusters=8))
    with pytest.raises(ValueError, match=r"give --pretext\.clusters 5 or less"):
        method.check((16, 16, 16), volumes=11)
    method.check((16, 16, 16), volumes=16)
    with pytest.raises(ValueError, match="give 4 or more"):
        make().check((16, 16, 16), volumes=3)
    make(DeepClusterSettings(clusters=5)).check((16, 16, 16), volumes=11)


def test_a_pass_over_the_split_leaves_the_statistics_of_a_batch_norm(cohort: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    method = DeepCluster(Genesis(width=8, levels=3), PLAIN)
    before = {name: value.clone() for name, value in method.backbone.named_buffers()}
    method.start_epoch(cohort.items(), generator())
    assert before and all(torch.equal(value, before[name]) for name, value in method.backbone.named_buffers())
    assert method.backbone.training
