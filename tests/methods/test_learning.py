"""Each pretext is learnt on the phantom, in up to two minutes on one core: `pytest -m slow tests/methods`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.augment import AppearanceSettings, SpatialSettings
from gvsl.backbones import UNet3D
from gvsl.memory import keep_freed_memory
from gvsl.methods import METHODS, Method
from gvsl.phantom.cohort import subject
from gvsl.settings.methods import PRETEXTS
from gvsl.types import PairBatch

pytestmark = pytest.mark.slow

SHAPE = (32, 32, 32)
SEEN, HELD_OUT = 16, 8


@pytest.fixture(scope="module")
def phantoms() -> list[Tensor]:
    keep_freed_memory()
    images = (torch.from_numpy(subject(0, index, SHAPE)[0])[None] for index in range(SEEN + HELD_OUT))
    return [((image + 1024) / 2048).clamp(0, 1) for image in images]


@dataclass
class Learnt:
    """What a short run of a method came to."""

    before: dict[str, float]
    """Of held-out volumes, before the first step."""
    after: dict[str, float]
    rows: list[dict[str, float]]
    """What each step logged."""
    epochs: list[dict[str, float]]

    def end(self, name: str) -> float:
        """A logged figure's mean over the last quarter of the steps."""
        values = [row[name] for row in self.rows[-len(self.rows) // 4 :]]
        return sum(values) / len(values)


def learn(name: str, phantoms: list[Tensor], steps: int, rate: float, pairs: int, **changes: Any) -> Learnt:
    torch.manual_seed(0)
    method = METHODS[name](UNet3D(width=8), replace(PRETEXTS[name].settings, **changes))
    method.check(SHAPE, SEEN)
    seen, held_out = phantoms[:SEEN], phantoms[SEEN:]
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(0)
    before = held_out_metrics(method, held_out)
    rows, epochs = [], []
    for number, batch in zip(range(steps), batches(seen, pairs, generator), strict=False):
        if method.min_epoch_steps is not None and number % method.min_epoch_steps == 0:
            looked = method.start_epoch([(str(index), image) for index, image in enumerate(seen)], generator)
            epochs.append({key: float(value) for key, value in looked.items()})
            for parameter in method.reinitialised():
                optimiser.state.pop(parameter, None)
        optimiser.zero_grad()
        terms = method.training_step(batch, generator)
        terms["loss"].backward()
        optimiser.step()
        method.after_step(number, steps)
        rows.append({key: float(value.detach()) for key, value in terms.items()})
    return Learnt(before, held_out_metrics(method, held_out), rows, epochs)


def held_out_metrics(method: Method, volumes: list[Tensor]) -> dict[str, float]:
    method.eval()
    found = method.held_out(volumes, torch.Generator().manual_seed(1))
    method.train()
    return found


def batches(volumes: list[Tensor], pairs: int, generator: torch.Generator) -> Iterator[PairBatch]:
    while True:
        ids = torch.randperm(len(volumes), generator=generator)[: 2 * pairs].tolist()
        images, names = torch.stack([volumes[index] for index in ids]), [str(index) for index in ids]
        yield PairBatch(images[:pairs], images[pairs:], names[:pairs], names[pairs:])


STEPS = {"denoising": 200, "inpainting": 400, "models-genesis": 150, "gvsl-no-matching": 150}


@pytest.mark.parametrize("name", STEPS)
def test_restoring_beats_returning_the_damaged_volume(name: str, phantoms: list[Tensor]) -> None:
    learnt = learn(name, phantoms, STEPS[name], 3e-3, pairs=1)
    print(name, learnt.before, learnt.after)
    assert learnt.after["restoration"] < 0.8 * learnt.after["restoration_identity"]


def test_rotation_beats_chance_threefold(phantoms: list[Tensor]) -> None:
    learnt = learn("rotation", phantoms, 250, 1e-3, pairs=2)
    print("rotation", learnt.before, learnt.after)
    assert learnt.before["accuracy"] < 0.25
    assert learnt.after["accuracy"] > 0.3


def test_a_simclr_view_finds_its_positive(phantoms: list[Tensor]) -> None:
    learnt = learn("simclr", phantoms, 250, 1e-3, pairs=4)
    print("simclr", learnt.before, learnt.after, learnt.end("twin_accuracy"))
    chance = 1 / (4 * 4 - 1)
    assert learnt.end("twin_accuracy") > 5 * chance
    assert learnt.end("twin_accuracy") > learnt.rows[0]["twin_accuracy"] + 0.15
    assert learnt.after["embedding_std"] > 0.1


@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_without_negatives_it_learns_and_does_not_collapse(name: str, phantoms: list[Tensor]) -> None:
    learnt = learn(name, phantoms, 200, 3e-4, pairs=4)
    print(name, learnt.before, learnt.after, learnt.rows[0], learnt.rows[-1])
    assert learnt.end("loss") < learnt.rows[0]["loss"] - 0.1
    assert learnt.after["embedding_std"] > 0.1
    assert learnt.after["effective_rank"] > 3
    assert learnt.end("twin_accuracy") > 2 / (4 * 4 - 1)


def test_without_what_prevents_it_simsiam_collapses_and_the_measures_show_it(phantoms: list[Tensor]) -> None:
    learnt = learn("simsiam", phantoms, 60, 1e-3, pairs=2, norm="layer")
    print("simsiam, layer", learnt.before, learnt.after)
    assert learnt.end("embedding_std") < 0.01
    assert learnt.before["embedding_std"] > 0.05


def test_deepcluster_learns_its_clusters_until_they_hold(phantoms: list[Tensor]) -> None:
    gentle = {"spatial": SpatialSettings(rate=0), "appearance": AppearanceSettings(0, 0, 0)}
    learnt = learn("deepcluster", phantoms, 201, 1e-3, pairs=4, clusters=4, components=4, least_epoch=100, **gentle)
    print("deepcluster", learnt.before, learnt.after, learnt.epochs)
    for first in (
        0,
        100,
    ):  # a fresh top layer knows nothing at the start of each epoch; the clusters are learnt by its end
        start, end = learnt.rows[first], learnt.rows[first + 85 : first + 100]
        assert start["loss"] == pytest.approx(math.log(4), abs=0.3)
        assert sum(row["loss"] for row in end) / 15 < start["loss"] / 10
        assert sum(row["accuracy"] for row in end) / 15 > 0.9
    assert all(epoch["clusters_used"] == 4 and epoch["cluster_largest"] < 0.9 for epoch in learnt.epochs)
    assert learnt.epochs[-1]["nmi"] > 0.5  # what was learnt holds: clusters of nothing would agree by 0.2 or so
    assert learnt.after["embedding_std"] > 0.01
