import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.errors import UserError
from gvsl.store.arrays import Box
from gvsl.transfer import Checkpoint, FitResult, FrozenFeatures, SegmentationNetwork, TransferSettings, fit

IDENTITY: dict[str, Any] = {"store": "abc", "crop": (8, 8, 8), "seed": 0}


def image(case: str, box: Box) -> Tensor:
    return torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(int(case)))


def boxes() -> Iterator[tuple[str, Box]]:
    """Another case at every draw, so that a draw too many or too few changes the end."""
    for number in count():
        yield str(number), (slice(0, 8), slice(0, 8), slice(0, 8))


def run(checkpoint: Checkpoint | None, frozen: bool, stop: int = 10**9) -> tuple[FitResult, SegmentationNetwork]:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet3D(width=8), 2, frozen=frozen)
    settings = TransferSettings(mode="linear", batch_size=2, max_steps=50, validate_every=7, learning_rate=1e-3)
    represent = FrozenFeatures(network, image, 0) if frozen else lambda case, box: network.features(image(case, box))
    steps = [] if checkpoint is None else [None] * checkpoint.done

    def advance() -> None:
        steps.append(None)
        if len(steps) == stop:
            raise KeyboardInterrupt

    def validate() -> float:
        return float(network(image("77", next(boxes())[1])).mean())

    def target(case: str, box: Box) -> Tensor:
        return (image(case, box) > 0.6).long()

    result = fit(network, represent, target, boxes(), validate, settings, advance, checkpoint=checkpoint)
    return result, network


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_stopped_twice_ends_where_an_unbroken_one_does(tmp_path: Path, frozen: bool) -> None:
    whole, expected = run(None, frozen)
    folder = tmp_path / "run.part"
    for first, stop in ((True, 13), (False, 38)):
        with pytest.raises(KeyboardInterrupt):
            run(Checkpoint(folder, IDENTITY, 6, resume=not first), frozen, stop)
    resumed = Checkpoint(folder, IDENTITY, 6, resume=True)
    assert resumed.done == 36
    result, network = run(resumed, frozen)
    assert result == whole
    assert result.best_step > 0
    found = network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())
    assert len(list(folder.glob("*.safetensors"))) == 1
    resumed.remove()
    assert not folder.exists()


def saved(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoint(folder, IDENTITY, 5), True, stop=6)


def test_a_state_is_neither_overwritten_nor_taken_up_unasked(tmp_path: Path) -> None:
    saved(tmp_path / "a.part")
    with pytest.raises(UserError, match="holds a stopped run: give --resume"):
        Checkpoint(tmp_path / "a.part", IDENTITY, 5)
    with pytest.raises(UserError, match="holds no state to go on from: leave out --resume"):
        Checkpoint(tmp_path / "b.part", IDENTITY, 5, resume=True)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path / "a.part")
    with pytest.raises(UserError, match="was begun with seed 0, now 1"):
        Checkpoint(tmp_path / "a.part", {**IDENTITY, "seed": 1}, 5, resume=True)
    assert Checkpoint(tmp_path / "a.part", IDENTITY, 3, resume=True).done == 5


def test_a_broken_state_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "a.part"
    saved(folder)
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
