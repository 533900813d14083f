"""The training loops of a transfer (Appendix E.3)."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from gvsl.errors import DivergedError
from gvsl.io import Box
from gvsl.progress import progress
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.transfer.cases import draw_boxes
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.monitor import Candidate, FitResult, TrainingMonitor
from gvsl.transfer.networks import RIDGE, AdaptedNetwork
from gvsl.transfer.task import Task

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

    def loss_of(case: str, box: Box, number: int) -> Tensor:
        features, target = task.example(case, box, number)
        return task.loss(network.head(features), target)

    if settings.optimiser == "lbfgs":
        with progress(settings.max_steps - checkpoint.done, "training", unit="steps") as advance:
            return _fit_frozen(task, network, settings, loss_of, advance, checkpoint)
    states = [checkpoint.of_candidate(number) for number in range(len(settings.learning_rates))]
    steps = settings.max_steps * len(states) - sum(state.done for state in states)
    with progress(steps, "training", unit="steps") as advance:
        drawn_from = task.drawn_from()
        shapes = {case: store.cases[case].shape for case in drawn_from}

        def train(rate: float, state: Checkpoint) -> FitResult:
            drawn = islice(draw_boxes(drawn_from, shapes, settings), state.done * settings.batch_size, None)
            monitor = _monitor(task, network, replace(settings, learning_rate=rate))
            return fit_adam(monitor, lambda number: loss_of(*next(drawn), number), advance, state, len(states) > 1)

        if len(states) == 1:
            return train(settings.learning_rates[0], checkpoint)
        return fit_candidates(network, train, list(zip(settings.learning_rates, states, strict=True)))


def _fit_frozen(
    task: Task,
    network: AdaptedNetwork,
    settings: TransferSettings,
    loss_of: Callable[[str, Box, int], Tensor],
    advance: Callable[[], object],
    checkpoint: Checkpoint,
) -> FitResult:
    """Train a head on all examples by L-BFGS, on standardised and, if set, whitened features."""
    examples, head = task.examples(), network.head

    def features() -> Iterator[Tensor]:
        return (task.example(*each, number)[0] for number, each in enumerate(examples))

    head.standardise(features())
    if settings.whiten:
        head.whiten(features(), RIDGE + settings.weight_penalty)  # the penalty adds to the loss's curvature alike
    monitor = _monitor(task, network, settings)
    result = fit_lbfgs(monitor, lambda number: loss_of(*examples[number], number), len(examples), advance, checkpoint)
    head.fold()
    return result


def _monitor(task: Task, network: AdaptedNetwork, settings: TransferSettings) -> TrainingMonitor:
    return TrainingMonitor(network, task.validate if task.val else None, settings, f"val_{task.score_name}")


def fit_candidates(
    network: AdaptedNetwork,
    train: Callable[[float, Checkpoint], FitResult],
    candidates: Sequence[tuple[float, Checkpoint]],
) -> FitResult:
    """Train the network at each learning rate from the same start; leave it with the weights that validated best.

    Args:
        network: to train.
        train: trains it at a learning rate, with a checkpoint of its own.
        candidates: the learning rates, each with its checkpoint; the first of equal scores is kept.

    Raises:
        DivergedError: the loss is no longer finite at any of them.
    """
    start = deepcopy(network.trained.state_dict())
    chosen, weights, tried = FitResult(), start, []
    for rate, checkpoint in candidates:
        network.trained.load_state_dict(start)
        try:
            result = train(rate, checkpoint)
        except DivergedError:  # one rate that is too high does not end the search
            result = FitResult()
        known = (result.best_score, result.best_step, result.steps, result.stopped_by)
        tried.append(Candidate(rate, *(known if result.rows else (None, 0, 0, None))))
        if result.best_score > chosen.best_score:
            chosen, weights = result, deepcopy(network.trained.state_dict())
    if not chosen.rows:
        raise DivergedError("the loss is no longer a number at any learning_rate: give lower ones")
    network.trained.load_state_dict(weights)
    network.eval()
    return replace(chosen, candidates=tried)


def fit_adam(
    monitor: TrainingMonitor,
    loss_of: Callable[[int], Tensor],
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
    keep_last: bool = False,
) -> FitResult:
    """Train the monitor's network by Adam; leave it with the weights that validated best.

    Args:
        monitor: the network and its validation, with the settings: steps, learning rate and batch.
        loss_of: returns the loss of an example by its number in the run; called once for each, in order.
        advance: called after each step.
        checkpoint: saves the state, and restores it if there is one.
        keep_last: save the state after the last step too, so that a finished training is not repeated.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    settings = monitor.settings
    (rate,) = settings.learning_rates
    optimiser = torch.optim.Adam(monitor.trained.parameters(), lr=rate)

    def take_step(step: int) -> None:
        optimiser.zero_grad()
        for number in range((step - 1) * settings.batch_size, step * settings.batch_size):
            loss = loss_of(number) / settings.batch_size
            loss.backward()
            monitor.losses.append(loss.detach() * settings.batch_size)
        optimiser.step()

    return _run_steps(monitor, optimiser, take_step, LOG_EVERY, advance, checkpoint, keep_last)


def fit_lbfgs(
    monitor: TrainingMonitor,
    loss_of: Callable[[int], Tensor],
    examples: int,
    advance: Callable[[], object] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Train a head on frozen features by L-BFGS on all examples at once; leave it with the best weights.

    A linear probe compares features, not how far a learning rate gets on them: with Adam, heads on trained features
    still improved after 2,000 steps where those on random features had converged (docs/earlier_results.md).

    Args:
        monitor: the network, whose head is standardised and may be whitened, and its validation, with the settings:
            steps, weight penalty.
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
        penalty = monitor.settings.weight_penalty * head.standardised_weight.square().sum()
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
    keep_last: bool = False,
) -> FitResult:
    """Take the steps from the checkpoint's on, log, save and validate, until validation no longer improves."""
    first = 1
    if checkpoint is not None:
        checkpoint.restore(monitor, optimiser)
        first += checkpoint.done
    monitor.network.train()
    for step in range(first, monitor.settings.max_steps + 1):
        if monitor.settled:
            break
        take_step(step)
        monitor.update_average(step)
        if monitor.validates(step) or step % log_every == 0:
            monitor.log(step)
        if checkpoint is not None:
            checkpoint.save(step, monitor, optimiser)
        advance()
    if checkpoint is not None and keep_last:
        checkpoint.save_last(monitor.result.steps, monitor, optimiser)
    return monitor.finish()
