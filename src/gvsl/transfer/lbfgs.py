"""A head on frozen features trained to its optimum, by L-BFGS on all training examples at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.fit import FitResult, Watch
from gvsl.transfer.standardise import StandardisedHead

HISTORY = 20
"""Steps from which L-BFGS learns the loss's curvature."""


def converge(
    watch: Watch,
    loss_of: Callable[[int], Tensor],
    examples: int,
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train a head by L-BFGS; leave it with the weights that `watch` scores best.

    A probe is to compare features, not how far a learning rate gets on them: with Adam, heads on trained features
    were still rising after 2,000 steps where those on random ones stood (docs/results.md).

    Args:
        watch: a network whose backbone is frozen and whose head has been standardised, and how it is scored; steps
            and weight penalty are in its settings.
        loss_of: the loss of an example by its number.
        examples: how many there are; each weighs the same.
        advance: called after each step.
        checkpoint: where the state is kept, and taken up if there is one.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    settings, head = watch.settings, watch.trained
    assert isinstance(head, StandardisedHead)
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=1, max_eval=25, history_size=HISTORY, line_search_fn="strong_wolfe"
    )

    def loss_of_all() -> Tensor:
        optimiser.zero_grad()
        penalty = settings.weight_penalty * head.weight.square().sum()
        penalty.backward()
        total = penalty.detach()
        for number in range(examples):
            loss = loss_of(number) / examples
            loss.backward()
            total += loss.detach()
        return total

    if checkpoint is not None:
        checkpoint.restore(watch, optimiser)
    watch.network.train()
    for step in range(1 if checkpoint is None else checkpoint.done + 1, settings.max_steps + 1):
        before = optimiser.step(loss_of_all)
        watch.log(step, float(before))
        if checkpoint is not None:
            checkpoint.save(step, watch, optimiser, [])
        advance()
    return watch.finish()
