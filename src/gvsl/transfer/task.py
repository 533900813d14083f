"""The interface between a transfer run and the kind of task that it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from gvsl.backbones import Backbone
from gvsl.io import Box
from gvsl.transfer.networks import AdaptedNetwork

Example = tuple[str, Box]
"""A case's id and a box of it."""


@dataclass
class Outcome:
    """Result of the test split."""

    cases: list[dict[str, Any]]
    """One row a case: its `id` and scores."""
    metrics: dict[str, float]
    """Summary scores, such as `test/dice`, with the ends of their intervals."""
    other_metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that do not score the test split."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Further fields of the run's record, such as `labels` and `pictures`."""


class Task(Protocol):
    """One kind of task on one store.

    A factory of store, settings and task name draws the cases and raises a UserError where the store does not have
    what the task needs. `gvsl.transfer.run` then calls `build`, `start`, `examples` or `example` for each step, `loss`,
    `validate`, and at the end, with the best weights loaded, `test` and `head_config`, once each.
    """

    score_name: str
    """Name of the validation score, such as "dice"; higher is better."""
    train: list[str]
    """Ids of the training cases that were drawn."""
    val: list[str]
    test_cases: list[str]
    """Ids of the test cases that are scored."""

    def build(self, backbone: Backbone) -> AdaptedNetwork:
        """Add a head to the backbone, its random weights drawn from torch's current seed."""

    def start(self, network: AdaptedNetwork) -> None:
        """Keep the network, now on its device, and compute the features that can be reused."""

    def examples(self) -> Sequence[Example]:
        """Return all training examples, for an optimiser that needs them at once; the backbone is then frozen."""

    def drawn_from(self) -> Sequence[str]:
        """Return the ids that examples are drawn from; an id listed twice is drawn twice as often."""

    def example(self, case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        """Return the features and the target of a training example.

        Args:
            case: its id.
            box: of the case.
            number: of the example in the run, from 0; decides its augmentation.
        """

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the head's output for a target of `example`, a scalar."""

    def validate(self) -> float:
        """Score the network on the validation cases."""

    def test(self, folder: Path) -> Outcome:
        """Score the network on the test cases, and write what the record names into `folder`."""

    def head_config(self) -> dict[str, Any]:
        """Return what `head.json` needs to rebuild the head, `kind` among it."""
