from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.errors import DivergedError, UserError
from gvsl.io import Box
from gvsl.transfer import SegmentationNetwork, TransferSettings
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.fit import fit_adam, fit_candidates
from gvsl.transfer.monitor import FitResult, TrainingMonitor
from gvsl.transfer.segmentation import segmentation_loss

BOX: Box = (slice(0, 16), slice(0, 16), slice(0, 16))


def image(case: str, box: Box) -> Tensor:
    return torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(int(case)))[..., *box]


def target(case: str, box: Box) -> Tensor:
    return (image(case, box) > 0.6).long()


def boxes() -> Iterator[tuple[str, Box]]:
    while True:
        yield "1", BOX
        yield "2", BOX


def build(frozen: bool = True) -> tuple[SegmentationNetwork, Represent]:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8, levels=2), 2, frozen=frozen)
    if frozen:
        return network, FrozenFeatures(network, image, 1e9)
    return network, lambda case, box: network.features(image(case, box))


def run(
    network: SegmentationNetwork,
    represent: Represent,
    validate: Callable[[], float] = lambda: 0.0,
    advance: Callable[[], object] = lambda: None,
    numbers: list[int] | None = None,
    **settings: object,
) -> FitResult:
    options = TransferSettings(**{"learning_rate": 1e-2, "max_steps": 40, **settings})  # type: ignore[arg-type]
    criterion, drawn = segmentation_loss(options), boxes()

    def loss_of(number: int) -> Tensor:
        if numbers is not None:
            numbers.append(number)
        case, box = next(drawn)
        loss: Tensor = criterion(network.head(represent(case, box)), target(case, box))
        return loss

    return fit_adam(TrainingMonitor(network, validate, options), loss_of, advance)


def scripted(scores: list[float], network: SegmentationNetwork, seen: list[Tensor]) -> Callable[[], float]:
    """Validation that gives the scores in turn and remembers the weights it was asked about."""

    def validate() -> float:
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append(network.head.weight.detach().clone())
        return scores[len(seen) - 1]

    return validate


@pytest.mark.parametrize("frozen", [True, False])
def test_the_loss_falls(frozen: bool) -> None:
    rows = run(*build(frozen), max_steps=16, validate_every=4).rows
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.02


def test_a_frozen_backbone_is_not_changed_by_a_bit() -> None:
    network, represent = build()
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    modes = []

    def validate() -> float:
        modes.append(any(part.training for part in network.backbone.modules()))
        return 0.0

    run(network, represent, validate, advance=validate, validate_every=10)
    after = network.backbone.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert len(modes) == 44
    assert not any(modes)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_weights_that_scored_best_are_left_and_the_first_of_equals(frozen: bool) -> None:
    network, represent = build(frozen)
    seen: list[Tensor] = []
    validate = scripted([0.1, 0.7, 0.3, 0.7], network, seen)
    result = run(network, represent, validate, max_steps=8, validate_every=2)
    assert (result.best_step, result.best_score) == (4, 0.7)
    assert torch.equal(network.head.weight, seen[1])
    assert not torch.equal(seen[1], seen[3])
    assert not network.training


def test_the_average_of_the_weights_is_validated_and_kept_and_changes_no_step() -> None:
    decay, steps = 0.8, 60
    weights: list[Tensor] = []
    network, represent = build()
    run(network, represent, advance=lambda: weights.append(network.head.weight.detach().clone()), max_steps=steps)
    network, represent = build()
    start = network.head.weight.detach().clone()
    latest: list[Tensor] = []
    seen: list[Tensor] = []
    run(
        network,
        represent,
        scripted([0.1, 0.3, 0.2], network, seen),
        advance=lambda: latest.append(network.head.weight.detach().clone()),
        max_steps=steps,
        validate_every=20,
        ema_decay=decay,
    )
    assert all(torch.equal(*both) for both in zip(latest, weights, strict=True))
    average, expected = start.double(), []
    for step, each in enumerate(weights, start=1):
        kept = min(decay, step / (step + 9))
        average = kept * average + (1 - kept) * each.double()
        expected.append(average)
    for found, step in zip(seen, (20, 40, 60), strict=True):
        torch.testing.assert_close(found.double(), expected[step - 1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(seen[1], weights[39], rtol=1e-3)
    assert torch.equal(network.head.weight, seen[1])


def test_an_average_keeps_counters_and_is_not_for_lbfgs() -> None:
    network, represent = build(frozen=False)
    network.register_buffer("steps_seen", torch.zeros((), dtype=torch.long))
    counts: list[int] = []

    def count() -> float:
        counts.append(int(network.state_dict()["steps_seen"]))
        return 0.0

    def advance() -> None:
        network.state_dict()["steps_seen"].add_(1)

    run(network, represent, count, advance=advance, max_steps=4, validate_every=2, ema_decay=0.9)
    assert counts == [1, 3]  # the step that is validated is announced after it
    with pytest.raises(UserError, match=r"ema_decay is 0\.9, but L-BFGS converges"):
        TransferSettings(optimiser="lbfgs", ema_decay=0.9)
    with pytest.raises(UserError, match=r"ema_decay is 1\.0: give 0 or more and less than 1"):
        TransferSettings(ema_decay=1.0)


def test_the_last_step_is_validated_too() -> None:
    network, represent = build()
    seen: list[Tensor] = []
    result = run(network, represent, scripted([0.1, 0.2], network, seen), validate_every=25)
    assert result.best_step == 40
    assert [row["step"] for row in result.rows] == [20, 25, 40]
    assert [row.get("val_dice") for row in result.rows] == [None, 0.1, 0.2]


def test_a_batch_of_two_has_the_mean_of_their_losses() -> None:
    network, represent = build()
    together = run(network, represent, batch_size=2, max_steps=1).rows[0]["loss"]
    network, represent = build()
    apart = run(network, represent, max_steps=2, learning_rate=1e-30, validate_every=1).rows
    assert together == pytest.approx((apart[0]["loss"] + apart[1]["loss"]) / 2, rel=1e-5)


def test_the_same_start_gives_the_same_weights() -> None:
    ends = []
    for _ in range(2):
        network, represent = build(frozen=False)
        run(network, represent, max_steps=3)
        ends.append(network.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_loss_that_is_no_number_is_one_line() -> None:
    with pytest.raises(UserError, match="no longer a number at step 3: give a lower learning_rate"):
        run(*build(frozen=False), learning_rate=1e30, max_steps=3)


def test_each_step_is_announced() -> None:
    steps: list[None] = []
    run(*build(), advance=lambda: steps.append(None))
    assert len(steps) == 40


def test_the_loss_is_the_one_asked_for() -> None:
    losses = []
    for kind in ("dice", "dice_ce"):
        network, represent = build()
        losses.append(run(network, represent, loss=kind, max_steps=1, batch_size=1).rows[0]["loss"])
    network, represent = build()
    logits, truth = network.head(represent("1", BOX)).detach(), target("1", BOX)
    share = logits.softmax(1)[:, 1:]
    dice = 1 - (2 * (share * truth).sum() + 1e-5) / (share.sum() + truth.sum() + 1e-5)
    assert losses[0] == pytest.approx(float(dice), abs=1e-5)
    entropy = torch.nn.functional.cross_entropy(logits, truth[:, 0])
    assert losses[1] == pytest.approx(float(dice + entropy), abs=1e-5)


def test_each_example_is_given_its_number() -> None:
    numbers: list[int] = []
    run(*build(), numbers=numbers, max_steps=3, batch_size=2)
    assert numbers == list(range(6))


def candidates(rates: list[float], scores: list[float]) -> tuple[FitResult, SegmentationNetwork, list[Tensor]]:
    network, represent = build(frozen=False)
    starts: list[Tensor] = []
    seen: list[Tensor] = []
    validate = scripted(scores, network, seen)

    def train(rate: float, _: Checkpoint) -> FitResult:
        starts.append(network.head.weight.detach().clone())
        return run(network, represent, validate, learning_rate=rate, max_steps=4, validate_every=2)

    state = Checkpoint(Path("none.part"), {}, 0)
    result = fit_candidates(network, train, [(rate, state) for rate in rates])
    assert all(torch.equal(each, starts[0]) for each in starts)
    return result, network, seen


def test_of_several_rates_the_one_that_validates_best_is_kept() -> None:
    result, network, seen = candidates([1e-3, 1e-2, 1e-1], [0.1, 0.2, 0.6, 0.5, 0.3, 0.6])

    assert (result.best_step, result.best_score) == (2, 0.6)
    assert [tried.learning_rate for tried in result.candidates] == [1e-3, 1e-2, 1e-1]
    assert [tried.best_score for tried in result.candidates] == [0.2, 0.6, 0.6]
    assert [(tried.best_step, tried.steps) for tried in result.candidates] == [(4, 4), (2, 4), (4, 4)]
    assert [tried.stopped_by for tried in result.candidates] == ["max_steps"] * 3
    assert torch.equal(network.head.weight, seen[2])
    assert not network.training


def test_a_rate_that_diverges_does_not_end_the_search() -> None:
    result, _, _ = candidates([1e30, 1e-3], [0.3, 0.2])  # the first has no loss to validate after its second step
    assert (result.best_score, result.candidates[0].best_score) == (0.3, None)
    assert [tried.stopped_by for tried in result.candidates] == [None, "max_steps"]


def test_a_search_in_which_all_diverge_is_one_line() -> None:
    with pytest.raises(DivergedError, match="at any learning_rate"):
        candidates([1e30, 1e30], [])


def test_weights_that_are_no_numbers_are_one_line() -> None:
    network, represent = build(frozen=False)
    network.register_buffer("unused", torch.tensor(torch.nan))  # the loss stays a number
    with pytest.raises(UserError, match="weights are no longer numbers at step 2: give a lower learning_rate"):
        run(network, represent, max_steps=2, validate_every=2)
