"""A head on frozen features trained to its optimum, by L-BFGS on all training windows at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gvsl.store.arrays import Box
from gvsl.transfer.features import Represent
from gvsl.transfer.fit import FitResult, Watch, segmentation_loss
from gvsl.transfer.network import SegmentationNetwork
from gvsl.transfer.settings import TransferSettings

HISTORY = 20
"""Steps from which L-BFGS learns the loss's curvature."""


def converge(
    network: SegmentationNetwork,
    represent: Represent,
    target: Callable[[str, Box], Tensor],
    boxes: Sequence[tuple[str, Box]],
    validate: Callable[[], float],
    settings: TransferSettings,
    advance: Callable[[], object] = lambda: None,
) -> FitResult:
    """Train the head by L-BFGS on standardised features; leave it with the weights that `validate` scores best.

    A probe is to compare features, not how far a learning rate gets on them: with Adam, heads on trained features
    were still rising after 2,000 steps where those on random ones stood (docs/results.md).

    Args:
        network: its backbone is frozen, its head is trained.
        represent: a case's id and a box to its local features, (1, width, D, H, W).
        target: a case's id and a box to its class indices, (1, 1, D, H, W).
        boxes: every training window; each weighs the same.
        validate: scores the network as it is, higher is better; called in eval mode and without gradients.
        settings: loss, steps, weight penalty and when to validate.
        advance: called after each step.

    Raises:
        UserError: the loss stopped being a number.
    """
    watch = Watch(network, validate, settings)
    head, criterion = network.head, segmentation_loss(settings)
    head.standardise(represent(case, box) for case, box in boxes)
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=1, max_eval=25, history_size=HISTORY, line_search_fn="strong_wolfe"
    )

    def loss_of_all() -> Tensor:
        optimiser.zero_grad()
        penalty = settings.weight_penalty * head.weight.square().sum()
        penalty.backward()
        total = penalty.detach()
        for case, box in boxes:
            loss = criterion(head(represent(case, box)), target(case, box)) / len(boxes)
            loss.backward()
            total += loss.detach()
        return total

    network.train()
    for step in range(1, settings.max_steps + 1):
        before = optimiser.step(loss_of_all)
        watch.log(step, float(before))
        advance()
    return watch.finish()
