"""A head's optimum by L-BFGS."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import UNet3D
from gvsl.errors import UserError
from gvsl.io import Box
from gvsl.transfer import SegmentationNetwork, TransferSettings
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.fit import fit_lbfgs
from gvsl.transfer.monitor import FitResult, TrainingMonitor
from gvsl.transfer.segmentation import segmentation_loss

BOX: Box = (slice(0, 12), slice(0, 12), slice(0, 12))
BOXES = [("1", BOX), ("2", BOX)]


def features(case: str, box: Box) -> Tensor:
    """Channels whose scales and offsets differ a thousandfold, as those of a trained network may."""
    noise = torch.randn(1, 8, 12, 12, 12, generator=torch.Generator().manual_seed(int(case)))
    return (noise * 10.0 ** torch.linspace(-2, 1, 8).view(1, 8, 1, 1, 1) + 3)[..., *box]


def target(case: str, box: Box) -> Tensor:
    """What one channel of small scale tells."""
    return (features(case, box)[:, :1] > 3.005).long()


def build(kernel: int = 1) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(UNet3D(width=8, levels=3), 2, kernel=kernel, frozen=True)


def run(
    network: SegmentationNetwork,
    validate: Callable[[], float] = lambda: 0.0,
    checkpoint: Checkpoint | None = None,
    stop: int = 10**9,
    whiten: bool = False,
    **settings: object,
) -> FitResult:
    known: dict[str, object] = {"optimiser": "lbfgs", "loss": "dice_ce", "max_steps": 30, "validate_every": 10}
    options = TransferSettings(**{**known, **settings})  # type: ignore[arg-type]
    criterion = segmentation_loss(options)

    def loss_of(number: int) -> Tensor:
        loss: Tensor = criterion(network.head(features(*BOXES[number])), target(*BOXES[number]))
        return loss

    left = iter(range(stop))

    def advance() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    network.head.standardise(features(*each) for each in BOXES)
    if whiten:
        network.head.whiten(features(*each) for each in BOXES)
    result = fit_lbfgs(TrainingMonitor(network, validate, options), loss_of, len(BOXES), advance, checkpoint)
    network.head.fold()
    return result


def accuracy(network: SegmentationNetwork) -> float:
    right = [network.head(features(case, box)).argmax(1) == target(case, box)[:, 0] for case, box in BOXES]
    return float(torch.cat(right).double().mean())


def test_it_finds_what_a_channel_of_small_scale_tells() -> None:
    network = build()
    run(network, max_steps=30, validate_every=30)

    # The best weights are the first of equal scores, so the run's only score is its last step's.
    assert accuracy(network) > 0.99


def test_it_ends_where_the_gradient_is_zero() -> None:
    network = build()
    run(network, weight_penalty=0.1, max_steps=60, validate_every=60)
    head = network.head
    loss = 0.1 * head.weight.square().sum()
    for case, box in BOXES:
        logits, truth = head(features(case, box)), target(case, box)
        share = logits.softmax(1)[:, 1:]
        dice = 1 - (2 * (share * truth).sum() + 1e-5) / (share.sum() + truth.sum() + 1e-5)
        loss = loss + (dice + functional.cross_entropy(logits, truth[:, 0])) / 2
    loss.backward()

    assert head.weight.grad is not None
    assert head.weight.grad.norm() < 1e-3


def test_the_features_are_standardised_over_all_windows() -> None:
    head = build().head
    head.standardise(features(case, box) for case, box in BOXES)
    voxels = torch.cat([features(case, box)[0].flatten(1) for case, box in BOXES], dim=1).double()

    torch.testing.assert_close(head.centre.double(), voxels.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.spread.double(), voxels.std(1, correction=0), rtol=1e-4, atol=1e-4)


def test_a_channel_that_says_nothing_stays_finite() -> None:
    head = build().head
    head.standardise([torch.full((1, 8, 4, 4, 4), 2.0)])

    assert head(torch.full((1, 8, 4, 4, 4), 2.0)).isfinite().all()


def correlated() -> Tensor:
    """Smooth features, nearly equal channels: neighbours and channels say almost the same."""
    noise = torch.randn(2, 8, 12, 12, 12, generator=torch.Generator().manual_seed(5))
    smooth = functional.avg_pool3d(functional.pad(noise, [1] * 6, mode="circular"), 3, stride=1)
    return smooth.mean(1, keepdim=True) + 0.1 * smooth + 3


def test_whitened_inputs_have_a_unit_covariance() -> None:
    head = build(kernel=3).head
    head.standardise([correlated()])
    head.whiten([correlated()], ridge=1e-9)
    assert head.whitening is not None
    standard = (correlated() - head.centre.view(1, -1, 1, 1, 1)) / head.spread.view(1, -1, 1, 1, 1)
    patches = functional.pad(standard, [1] * 6).unfold(2, 3, 2).unfold(3, 3, 2).unfold(4, 3, 2)
    rows = patches.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(0, 3).double() @ head.whitening.double()

    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(8 * 27).double(), rtol=0, atol=0.02)


@pytest.mark.parametrize("kernel", [1, 3])
def test_folding_leaves_the_outputs_on_raw_features(kernel: int) -> None:
    head = build(kernel).head
    head.standardise([correlated()])
    head.whiten([correlated()])
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(6))
        expected = head(correlated())
    head.fold()

    assert head.whitening is None
    torch.testing.assert_close(head(correlated()), expected, rtol=1e-4, atol=1e-4)
    plain = build(kernel).head
    plain.load_state_dict(head.state_dict())  # what is saved is a head as it always was
    assert torch.equal(plain(correlated()), head(correlated()))


def optimum(whiten: bool, steps: int) -> Tensor:
    """The weight of a least-squares fit to what the small differences between correlated channels tell."""
    network, inputs = build(kernel=3), correlated()
    truth = (inputs[:, :2] - inputs[:, 2:4]) * 10 + inputs[:, 4:6].roll(1, 2)
    network.head.standardise([inputs])
    if whiten:
        network.head.whiten([inputs])
    options = TransferSettings(optimiser="lbfgs", max_steps=steps, validate_every=steps, weight_penalty=1e-3)
    monitor = TrainingMonitor(network, lambda: 0.0, options)
    fit_lbfgs(monitor, lambda _: functional.mse_loss(network.head(inputs), truth), 1)
    network.head.fold()
    return network.head.weight.detach()


@pytest.mark.slow
def test_whitening_reaches_the_same_optimum_sooner() -> None:
    target = optimum(whiten=False, steps=300)
    away = [float((optimum(whiten, steps=25) - target).norm() / target.norm()) for whiten in (False, True)]

    assert away[1] < 0.02
    assert away[1] < away[0] / 5


def test_training_stops_once_validation_stands_still() -> None:
    scores = iter([0.1, 0.3, 0.30005, 0.2, 0.30008, 0.9])
    result = run(build(), lambda: next(scores), patience=3, max_steps=30, validate_every=2)

    # Gains of less than 1e-4 are none, but the best weights are kept all the same.
    assert (result.steps, result.stopped_by) == (10, "patience")
    assert (result.best_step, result.best_score) == (10, 0.30008)


def test_a_last_step_without_gain_is_the_limits_doing() -> None:
    result = run(build(), patience=2, max_steps=6, validate_every=2)
    assert (result.steps, result.stopped_by, result.best_step) == (6, "max_steps", 2)


def test_the_backbone_is_not_changed_by_a_bit() -> None:
    network = build(kernel=3)
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    run(network, max_steps=3)

    assert all(torch.equal(before[key], value) for key, value in network.backbone.state_dict().items())


def test_the_best_weights_are_kept() -> None:
    network, seen = build(), []

    def validate() -> float:
        assert not torch.is_grad_enabled()
        seen.append(network.head.weight.detach().clone())
        return [0.1, 0.3, 0.2][len(seen) - 1]

    result = run(network, validate)

    assert (result.best_step, result.best_score) == (20, 0.3)
    assert torch.equal(network.head.weight, seen[1])
    assert [row["step"] for row in result.rows] == list(range(1, 31))


def test_the_loss_never_rises() -> None:
    losses = [row["loss"] for row in run(build(kernel=3)).rows]

    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(losses))


@pytest.mark.parametrize("whiten", [False, True])
def test_a_run_stopped_twice_ends_where_an_unbroken_one_does(tmp_path: Path, whiten: bool) -> None:
    def go(checkpoint: Checkpoint | None, stop: int = 10**9) -> tuple[FitResult, SegmentationNetwork]:
        network = build()
        score = lambda: float(network.head(features(*BOXES[0])).mean())  # noqa: E731
        return run(network, score, checkpoint, stop, whiten, validate_every=3), network

    whole, expected = go(None)
    for resume, stop in ((False, 0), (True, 22)):  # after one step there is no curvature yet, after 20 all of it
        with pytest.raises(KeyboardInterrupt):
            go(Checkpoint(tmp_path / "run.part", {}, 1, resume=resume), stop)
    resumed = Checkpoint(tmp_path / "run.part", {}, 1, resume=True)
    assert resumed.done == 24
    result, network = go(resumed)

    assert result == whole
    assert all(torch.equal(network.state_dict()[key], value) for key, value in expected.state_dict().items())


@pytest.mark.parametrize("mode", ["finetune", "scratch"])
def test_a_backbone_that_learns_is_refused(mode: str) -> None:
    with pytest.raises(UserError, match="frozen features"):
        TransferSettings(mode=mode, optimiser="lbfgs")  # type: ignore[arg-type]
