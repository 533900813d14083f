"""The training loops of a transfer (Appendix E.3)."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor

from gvsl.progress import progress
from gvsl.store import Store
from gvsl.transfer.cases import draw_boxes
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.monitor import FitResult, TrainingMonitor
from gvsl.transfer.networks import AdaptedNetwork
from gvsl.transfer.task import Task
from gvsl.transfer.transfer_settings import TransferSettings

LOG_EVERY = 20
"""Steps of Adam between two rows of the curves, each the mean of the loss since the last."""
HISTORY = 20
"""Steps from which L-BFGS estimates the loss's curvature."""


def fit(
    task: Task, network: AdaptedNetwork, store: Store, settings: TransferSettings, checkpoint: Checkpoint
) -> FitResult:
    """Train a task by the settings' optimiser; leave the network with the weights that validated best.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    monitor = TrainingMonitor(network, task.validate, settings, f"val_{task.score_name}")

    def loss_of(case: str, box: tuple[slice, slice, slice], number: int) -> Tensor:
        features, target = task.example(case, box, number)
        return task.loss(network.head(features), target)

    with progress(settings.max_steps - checkpoint.done, "training", unit="steps") as advance:
        if settings.optimiser == "lbfgs":
            examples = task.examples()
            network.head.standardise(task.example(*each, number)[0] for number, each in enumerate(examples))
            return fit_lbfgs(
                monitor, lambda number: loss_of(*examples[number], number), len(examples), advance, checkpoint
            )
        shapes = {case: store.cases[case].shape for case in task.train}
        drawn = islice(draw_boxes(shapes, settings), checkpoint.done * settings.batch_size, None)
        return fit_adam(monitor, lambda number: loss_of(*next(drawn), number), advance, checkpoint)


def fit_adam(
    monitor: TrainingMonitor,
    loss_of: Callable[[int], Tensor],
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train the monitor's network by Adam; leave it with the weights that validated best.

    Args:
        monitor: the network and its validation, with the settings: steps, learning rate and batch.
        loss_of: returns the loss of an example by its number in the run; called once for each, in order.
        advance: called after each step.
        checkpoint: saves the state, and restores it if there is one.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    settings = monitor.settings
    optimiser = torch.optim.Adam(monitor.trained.parameters(), lr=settings.learning_rate)

    def take_step(step: int) -> None:
        optimiser.zero_grad()
        for number in range((step - 1) * settings.batch_size, step * settings.batch_size):
            loss = loss_of(number) / settings.batch_size
            loss.backward()
            monitor.losses.append(loss.detach() * settings.batch_size)
        optimiser.step()

    return _run_steps(monitor, optimiser, take_step, LOG_EVERY, advance, checkpoint)


def fit_lbfgs(
    monitor: TrainingMonitor,
    loss_of: Callable[[int], Tensor],
    examples: int,
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train a head on frozen features by L-BFGS on all examples at once; leave it with the best weights.

    A linear probe compares features, not how far a learning rate gets on them: with Adam, heads on trained features
    still improved after 2,000 steps where those on random features had converged (docs/results.md).

    Args:
        monitor: the network, whose head is standardised, and its validation, with the settings: steps, weight penalty.
        loss_of: returns the loss of an example by its number.
        examples: how many there are; all have the same weight.
        advance: called after each step.
        checkpoint: see `fit_adam`.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    head = monitor.network.head
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=1, max_eval=25, history_size=HISTORY, line_search_fn="strong_wolfe"
    )

    def loss_of_all() -> Tensor:
        optimiser.zero_grad()
        penalty = monitor.settings.weight_penalty * head.weight.square().sum()
        penalty.backward()
        total = penalty.detach()
        for number in range(examples):
            loss = loss_of(number) / examples
            loss.backward()
            total += loss.detach()
        return total

    def take_step(_: int) -> None:
        monitor.losses.append(torch.as_tensor(optimiser.step(loss_of_all)))

    return _run_steps(monitor, optimiser, take_step, 1, advance, checkpoint)


def _run_steps(
    monitor: TrainingMonitor,
    optimiser: torch.optim.Optimizer,
    take_step: Callable[[int], None],
    log_every: int,
    advance: Callable[[], object],
    checkpoint: Checkpoint | None,
) -> FitResult:
    """Take the steps from the checkpoint's on, log, save and validate."""
    first = 1
    if checkpoint is not None:
        checkpoint.restore(monitor, optimiser)
        first += checkpoint.done
    monitor.network.train()
    for step in range(first, monitor.settings.max_steps + 1):
        take_step(step)
        if monitor.validates(step) or step % log_every == 0:
            monitor.log(step)
        if checkpoint is not None:
            checkpoint.save(step, monitor, optimiser)
        advance()
    return monitor.finish()
