import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.errors import UserError
from gvsl.io import Box
from gvsl.store import Store
from gvsl.transfer import SegmentationNetwork, Task, TransferSettings
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.features import FrozenFeatures
from gvsl.transfer.fit import fit
from gvsl.transfer.monitor import FitResult
from gvsl.transfer.segmentation import segmentation_loss

IDENTITY: dict[str, Any] = {"store": "abc", "crop": (8, 8, 8), "seed": 0}
BOX: Box = (slice(0, 8), slice(0, 8), slice(0, 8))
SETTINGS = TransferSettings(
    mode="linear", batch_size=2, max_steps=26, validate_every=7, learning_rate=1e-3, crop=(8, 8, 8), overlap=0
)
STORE = cast(Store, SimpleNamespace(cases={str(number): SimpleNamespace(shape=(8, 8, 8)) for number in range(100)}))
StopAfter = Callable[[int | None], None]


def image(case: str, box: Box) -> Tensor:
    return torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(int(case)))


class Thresholds:
    """A task of so many cases that a draw too many or too few changes the end."""

    score_name = "dice"
    train = val = tuple(STORE.cases)

    def __init__(self, network: SegmentationNetwork) -> None:
        self.network = network
        self.represent = FrozenFeatures(network, image, 0)
        self.loss = segmentation_loss(SETTINGS)

    def drawn_from(self) -> tuple[str, ...]:
        return self.train

    def example(self, case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        features = self.represent(case, box) if self.network.frozen else self.network.features(image(case, box))
        return features, (image(case, box) > 0.6).long()

    def validate(self) -> float:
        return float(self.network(image("177", BOX)).mean())


def run(
    checkpoint: Checkpoint, frozen: bool, settings: TransferSettings = SETTINGS
) -> tuple[FitResult, SegmentationNetwork]:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8, levels=2), 2, frozen=frozen)
    return fit(cast(Task, Thresholds(network)), network, STORE, settings, checkpoint), network


@pytest.mark.parametrize(
    ("frozen", "ema_decay"), [(True, 0.0), pytest.param(False, 0.0, marks=pytest.mark.slow), (False, 0.9)]
)
def test_a_run_stopped_twice_ends_where_an_unbroken_one_does(
    tmp_path: Path, frozen: bool, ema_decay: float, stop_after: StopAfter
) -> None:
    settings = replace(SETTINGS, mode="linear" if frozen else "scratch", ema_decay=ema_decay)
    whole, expected = run(Checkpoint(tmp_path / "none.part", IDENTITY, 0), frozen, settings)
    folder = tmp_path / "run.part"
    for first, stop in ((True, 9), (False, 21)):
        stop_after(stop)
        with pytest.raises(KeyboardInterrupt):
            run(Checkpoint(folder, IDENTITY, 6, resume=not first), frozen, settings)
    stop_after(None)
    resumed = Checkpoint(folder, IDENTITY, 6, resume=True)
    assert resumed.done == 18
    result, network = run(resumed, frozen, settings)
    assert result == whole
    assert result.best_step > 0
    found = network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())
    assert len(list(folder.glob("*.safetensors"))) == 1
    resumed.remove()
    assert not folder.exists()


@pytest.fixture
def count_steps(monkeypatch: pytest.MonkeyPatch) -> StopAfter:
    """Raise KeyboardInterrupt after so many steps, those of all candidates counted; never for None."""
    save = Checkpoint.save

    def stop(last: int | None) -> None:
        taken = iter(range(1, 10**9))

        def save_and_stop(self: Checkpoint, *rest: Any) -> None:
            save(self, *rest)
            if next(taken) == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save_and_stop)

    return stop


@pytest.mark.parametrize(
    "stop", [pytest.param(8, marks=pytest.mark.slow), 20, pytest.param(33, marks=pytest.mark.slow)]
)
def test_a_search_among_rates_goes_on_with_the_one_in_progress(
    tmp_path: Path, stop: int, count_steps: StopAfter
) -> None:
    several = replace(SETTINGS, learning_rate=(1e-2, 3e-2, 1e-3), max_steps=14)
    whole, expected = run(Checkpoint(tmp_path / "none.part", IDENTITY, 0), True, several)
    folder = tmp_path / "run.part"
    count_steps(stop)
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoint(folder, IDENTITY, 6), True, several)
    count_steps(None)
    result, network = run(Checkpoint(folder, IDENTITY, 6, resume=True), True, several)
    assert result == whole
    assert len({tried.best_score for tried in whole.candidates}) == 3
    found = network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())


def test_a_finished_candidate_is_not_trained_again(tmp_path: Path, count_steps: StopAfter) -> None:
    several = replace(SETTINGS, learning_rate=(1e-3, 3e-3), max_steps=14)
    count_steps(20)
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoint(tmp_path / "run.part", IDENTITY, 6), True, several)
    count_steps(9)  # 14 + 6 of 28 steps were saved: more than the other 8 would be a repetition
    run(Checkpoint(tmp_path / "run.part", IDENTITY, 6, resume=True), True, several)


@pytest.fixture
def saved(tmp_path: Path, stop_after: StopAfter) -> Path:
    stop_after(6)
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoint(tmp_path / "a.part", IDENTITY, 5), True)
    stop_after(None)
    return tmp_path / "a.part"


def test_a_state_is_neither_overwritten_nor_taken_up_unasked(saved: Path) -> None:
    with pytest.raises(UserError, match="holds a stopped run: give --resume"):
        Checkpoint(saved, IDENTITY, 5)
    with pytest.raises(UserError, match="holds no checkpoint to resume: leave out --resume"):
        Checkpoint(saved.with_name("b.part"), IDENTITY, 5, resume=True)


def test_other_settings_are_refused_by_name(saved: Path) -> None:
    with pytest.raises(UserError, match="was begun with seed 0, now 1"):
        Checkpoint(saved, {**IDENTITY, "seed": 1}, 5, resume=True)
    assert Checkpoint(saved, IDENTITY, 3, resume=True).done == 5


def test_the_layout_on_disk_is_that_of_format_1(saved: Path) -> None:
    state = json.loads((saved / "state.json").read_text(encoding="utf-8"))
    known = {"format", "identity", "step", "tensors", "optimiser", "best_step", "best_score", "rows", "seconds"}
    assert (state.keys(), state["format"]) == (known, 1)
    assert set(state["optimiser"]["0"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["optimiser"]["0"]["step"] == {"tensor": "0/step"}
    head = {f"{group}/{name}" for group in ("network", "best") for name in ("weight", "bias", "centre", "spread")}
    moments = {f"optimiser/{number}/{name}" for number in range(2) for name in state["optimiser"]["0"]}
    assert set(load_file(saved / state["tensors"])) == head | moments | {"since/losses"}


def test_a_broken_state_is_one_line(saved: Path) -> None:
    folder = saved
    path = folder / "state.json"
    whole = path.read_text(encoding="utf-8")
    outside = {**json.loads(whole), "tensors": "../elsewhere.safetensors"}
    for text in (whole[:40], "[]", '{"format": 1}', json.dumps(outside)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="can't be read") as caught:
            Checkpoint(folder, IDENTITY, 5, resume=True)
        assert "\n" not in str(caught.value)
    path.write_text(whole, encoding="utf-8")
    next(folder.glob("*.safetensors")).write_bytes(b"nothing")
    with pytest.raises(UserError, match="can't be read"):
        run(Checkpoint(folder, IDENTITY, 5, resume=True), True)


def test_nothing_is_kept_where_none_is_asked_for(tmp_path: Path) -> None:
    run(Checkpoint(tmp_path / "a.part", IDENTITY, 0), True)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_contradicts_itself_is_refused(saved: Path) -> None:
    path = saved / "state.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    moments = whole["optimiser"]["0"]
    for change, reason in (
        ({"step": 6}, "names no tensors of its step"),
        ({"best_step": 9}, "best step is 9 of 5"),
        ({"rows": [{"step": "one"}]}, r"rows\[0\]\.step is 'one', not a number"),
        ({"optimiser": {"0": {**moments, "exp_avg": 0.5}}}, "state of parameter 0 is not that of Adam"),
        ({"optimiser": {"7": moments}}, "has no parameter 7"),
    ):
        path.write_text(json.dumps(whole | change), encoding="utf-8")
        with pytest.raises(UserError, match=reason):
            run(Checkpoint(saved, IDENTITY, 5, resume=True), True)
    path.write_text(json.dumps(whole), encoding="utf-8")
    tensors = load_file(saved / whole["tensors"])
    for name, value, reason in (
        ("network/weight", torch.full_like(tensors["network/weight"], torch.nan), "NaN or infinite"),
        ("optimiser/0/exp_avg", torch.zeros(3), "state of parameter 0"),
        ("best/bias", torch.zeros(9), "1 mismatched"),
        ("optimiser/0/x", torch.zeros(10**6), "too large"),
    ):
        save_file({**tensors, name: value}, saved / whole["tensors"])
        with pytest.raises(UserError, match=reason):
            run(Checkpoint(saved, IDENTITY, 5, resume=True), True)
