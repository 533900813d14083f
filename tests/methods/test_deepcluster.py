import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings
from gvsl.backbones import UNet3D
from gvsl.methods.deepcluster import DeepCluster, DeepClusterSettings, cluster
from gvsl.methods.method import both_volumes, pooled
from gvsl.types import PairBatch

VOLUMES = torch.rand(12, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named() -> list[tuple[list[str], Tensor]]:
    return [([str(index)], volume[None]) for index, volume in enumerate(VOLUMES)]


def make(**settings: object) -> DeepCluster:
    torch.manual_seed(0)
    return DeepCluster(UNet3D(width=8), DeepClusterSettings(**{"clusters": 3, **settings}))  # type: ignore[arg-type]


def test_well_parted_clouds_are_found() -> None:
    draw = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 15)
    centres = 10 * draw.standard_normal((4, 20))
    found = cluster(centres[truth] + draw.standard_normal((60, 20)), clusters=4, components=3, seed=0)
    assert adjusted_rand_score(truth, found) == 1


def test_points_that_agree_leave_clusters_empty_and_nothing_fails() -> None:
    found = cluster(np.ones((10, 5)), clusters=3, components=256, seed=0)
    assert set(found.tolist()) <= {0, 1, 2}


def test_a_reassignment_changes_what_is_trained_on_and_the_classifier_is_fresh() -> None:
    method = make()
    said = method.reassign(named(), generator())
    assert said["nmi"] == 0
    first, weight = dict(method.assignment), method.classifier.weight.clone()
    assert set(first) == {str(index) for index in range(12)}
    assert len(set(first.values())) == int(said["clusters"]) == 3

    for parameter in method.backbone.encoder.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator(5))
    said = method.reassign(named(), generator(1))
    assert method.assignment != first
    assert 0 <= said["nmi"] < 1
    assert not torch.equal(method.classifier.weight, weight)
    assert not method.classifier.bias.any()

    method.reassign(named(), generator(1))
    again = method.classifier.weight.clone()
    method.reassign(named(), generator(1))
    assert torch.equal(method.classifier.weight, again)


def test_the_next_step_trains_on_the_new_labels() -> None:
    method = make(spatial=SpatialSettings(rate=0), appearance=AppearanceSettings(0, 0, 0))
    method.reassign(named(), generator())
    batch = PairBatch(VOLUMES[:2], VOLUMES[2:4], ["0", "1"], ["2", "3"])
    for shift in (0, 1):
        method.assignment = {name: (value + shift) % 3 for name, value in method.assignment.items()}
        truth = torch.tensor([method.assignment[name] for name in "0123"])
        sizes = np.bincount(list(method.assignment.values()), minlength=3)
        logits = method.classifier(pooled(method.backbone, both_volumes(batch)))
        each = functional.cross_entropy(logits, truth, reduction="none")
        # Every cluster weighs the same over an epoch, and the weights are 1 on average over the volumes.
        expected = np.mean([loss.item() * 12 / (3 * sizes[label]) for loss, label in zip(each, truth, strict=True)])
        assert method.training_step(batch, generator())["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_clusters_are_made_at_the_start_and_each_epoch() -> None:
    assert [step for step in range(12) if make().reassigns(step, volumes=20, batch_size=2)] == [0, 5, 10]
    assert [step for step in range(8) if make(reassign_every=4).reassigns(step, 20, 2)] == [0, 4]


def test_more_clusters_than_volumes_allow_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(ValueError, match="give at most 4"):
        make(clusters=8).check(volumes=9, crop=(16, 16, 16))
    make(clusters=4).check(volumes=9, crop=(16, 16, 16))
    with pytest.raises(ValueError, match="2 or more"):
        make(clusters=1)


def test_the_assignment_travels_with_the_state() -> None:
    method, other = make(), make()
    method.reassign(named(), generator())
    other.load_state_dict(method.state_dict())
    assert other.assignment == method.assignment
