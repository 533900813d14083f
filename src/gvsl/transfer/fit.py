"""The training loop of a transfer (Appendix E.3)."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor, nn

from gvsl.errors import UserError
from gvsl.store.arrays import Box
from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.features import Represent
from gvsl.transfer.networks import SegmentationNetwork
from gvsl.transfer.transfer_settings import TransferSettings

LOG_EVERY = 20
"""Steps between two rows of the curves, each the mean of the loss since the last."""
Example = Callable[[str, Box, int], tuple[Tensor, Tensor]]
"""A case's id, a box of it and the example's number in the run to local features and class indices."""


class DivergedError(UserError):
    """The loss stopped being a number, and would again: there is nothing to go on from."""


@dataclass
class FitResult:
    """What the validation split said, and the curves."""

    best_step: int = 0
    best_score: float = -math.inf
    rows: list[dict[str, float]] = field(default_factory=list)
    """One row a logged step: `step`, `loss`, and the validation score, such as `val_dice`, where it was measured."""


class Watch:
    """Logs the loss, asks the validation split, and keeps the weights that it scores best; of equals the first."""

    def __init__(
        self,
        network: AdaptedNetwork,
        validate: Callable[[], float],
        settings: TransferSettings,
        score_name: str = "val_dice",
    ) -> None:
        self.network, self.validate, self.settings = network, validate, settings
        self.score_name = score_name
        self.trained = network.trained
        self.result = FitResult()
        self.best: dict[str, Tensor] = deepcopy(self.trained.state_dict())

    def validates(self, step: int) -> bool:
        """Whether the validation split is asked after this step."""
        return step == self.settings.max_steps or step % self.settings.validate_every == 0

    def log(self, step: int, loss: float) -> None:
        """Keep a step's loss, and the score if it is time.

        Raises:
            DivergedError: the loss stopped being a number.
        """
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is no longer a number at step {step}: give a lower learning_rate")
        row = {"step": float(step), "loss": loss}
        if self.validates(step):
            row[self.score_name] = score = self._score()
            if score > self.result.best_score:
                self.result.best_step, self.result.best_score = step, score
                self.best = deepcopy(self.trained.state_dict())
        self.result.rows.append(row)

    def finish(self) -> FitResult:
        """Leave the network with its best weights, in eval mode."""
        self.trained.load_state_dict(self.best)
        self.network.eval()
        return self.result

    def _score(self) -> float:
        """The score in eval mode; the network is in train mode again after."""
        self.network.eval()
        with torch.no_grad():
            score = self.validate()
        self.network.train()
        return score


def segmentation_loss(settings: TransferSettings) -> nn.Module:
    """The loss of logits (1, classes, D, H, W) and class indices (1, 1, D, H, W)."""
    # With the background in it the soft Dice first falls by predicting nothing else: at 1e-4 a head on random
    # features of hippocampus MR scored 0 after 4,000 steps, and 0.25 without; from 1e-3 on they end alike.
    kind = DiceLoss if settings.loss == "dice" else DiceCELoss
    loss: nn.Module = kind(softmax=True, to_onehot_y=True, include_background=False)
    return loss


def fit(
    network: SegmentationNetwork,
    represent: Represent,
    target: Callable[[str, Box], Tensor],
    boxes: Iterator[tuple[str, Box]],
    validate: Callable[[], float],
    settings: TransferSettings,
    advance: Callable[[], object] = lambda: None,
    *,
    example: Example | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train by Adam on the settings' loss; leave the network with the weights that `validate` scores best.

    The loss is the mean over the structures, without the background, of 1 - soft Dice. Of equal scores the
    first counts.

    Args:
        network: its head is trained, and its backbone unless frozen.
        represent: a case's id and a box to its local features, (1, width, D, H, W).
        target: a case's id and a box to its class indices, (1, 1, D, H, W).
        boxes: what to train on, in turn, from the run's first step on.
        validate: scores the network as it is, higher is better; called in eval mode and without gradients.
        settings: steps, rate, batch and when to validate.
        advance: called after each step.
        example: what to train on instead of `represent` and `target`, where the two are changed together.
        checkpoint: where the state is kept, and taken up if there is one.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    criterion = segmentation_loss(settings)
    done = 0 if checkpoint is None else checkpoint.done
    drawn = islice(boxes, done * settings.batch_size, None)

    def loss_of(number: int) -> Tensor:
        case, box = next(drawn)
        if example is None:
            features, classes = represent(case, box), target(case, box)
        else:
            features, classes = example(case, box, number)
        loss: Tensor = criterion(network.head(features), classes)
        return loss

    return optimise(Watch(network, validate, settings), loss_of, advance, checkpoint)


def optimise(
    watch: Watch,
    loss_of: Callable[[int], Tensor],
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train what `watch` watches by Adam, by its settings, and leave its best weights.

    Args:
        watch: the network, and how it is scored.
        loss_of: the loss of an example by its number in the run, called once for each, in turn.
        advance: called after each step.
        checkpoint: where the state is kept, and taken up if there is one.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    settings = watch.settings
    optimiser = torch.optim.Adam(watch.trained.parameters(), lr=settings.learning_rate)
    losses: list[Tensor] = [] if checkpoint is None else checkpoint.restore(watch, optimiser)
    watch.network.train()
    for step in range(1 if checkpoint is None else checkpoint.done + 1, settings.max_steps + 1):
        optimiser.zero_grad()
        for number in range((step - 1) * settings.batch_size, step * settings.batch_size):
            loss = loss_of(number) / settings.batch_size
            loss.backward()
            losses.append(loss.detach() * settings.batch_size)
        optimiser.step()
        if watch.validates(step) or step % LOG_EVERY == 0:
            watch.log(step, float(torch.stack(losses).mean()))
            losses.clear()
        if checkpoint is not None:
            checkpoint.save(step, watch, optimiser, losses)
        advance()
    return watch.finish()
