"""A third kind of task: regression of a volume's mean intensity."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import Backbone, UNet3D
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.io import Box
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer import ClassificationNetwork, Outcome, TransferSettings, load_adapted, run_task
from gvsl.transfer.cases import Cases, draw_labelled
from gvsl.transfer.features import PooledFeatures
from gvsl.transfer.networks import AdaptedNetwork
from gvsl.transfer.task import Example

LINEAR = TransferSettings(
    mode="linear",
    width=8,
    levels=3,
    optimiser="lbfgs",
    max_steps=20,
    validate_every=5,
    crop=(16, 16, 16),
    checkpoint_every=3,
    weight_penalty=0.1,
    whiten=True,
)
TRAINED = TransferSettings(
    mode="scratch",
    width=8,
    levels="auto",
    max_steps=6,
    validate_every=3,
    crop=(16, 16, 16),
    batch_size=2,
    checkpoint_every=2,
)

SEARCHED = replace(TRAINED, learning_rate=(1e-4, 1e-3))


class MeanIntensity:
    """All that a kind of task needs."""

    score_name = "fit"

    def __init__(self, store: Store, settings: TransferSettings, task: str) -> None:
        self.store, self.settings = store, settings
        self.train = draw_labelled(store.split("train"), settings.labels, settings.seed)
        self.val, self.test_cases = store.split("val"), store.split("test")
        self.targets = {case: float(store.image(case).mean()) for case in (*self.train, *self.val, *self.test_cases)}

    def build(self, backbone: Backbone) -> ClassificationNetwork:
        return ClassificationNetwork(backbone, frozen=self.settings.mode == "linear")

    def start(self, network: AdaptedNetwork) -> None:
        assert isinstance(network, ClassificationNetwork)
        self.cases = Cases(self.store, torch.device("cpu"))
        self.pooled = PooledFeatures(network, self.cases, self.settings)
        self.network = network

    def drawn_from(self) -> list[str]:
        return self.train

    def examples(self) -> list[Example]:
        return [(case, (slice(None), slice(None), slice(None))) for case in self.train]

    def example(self, case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        frozen = self.network.frozen
        features = self.pooled(case) if frozen else self.network.features(self.cases.image(case, box))
        return features, torch.tensor([[self.targets[case]]])

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(logits, target)

    def validate(self) -> float:
        return -float(np.mean([row["error"] for row in self._rows(self.val)]))

    def test(self, folder: Path) -> Outcome:
        rows = self._rows(self.test_cases)
        return Outcome(rows, {"test/error": float(np.mean([row["error"] for row in rows]))})

    def head_config(self) -> dict[str, Any]:
        return {"kind": "regression"}

    def _rows(self, ids: list[str]) -> list[dict[str, Any]]:
        found = self.pooled.logits(ids).tolist()
        return [
            {"id": case, "value": value, "error": abs(value - self.targets[case])}
            for case, value in zip(ids, found, strict=True)
        ]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(LINEAR, id="lbfgs"),
        pytest.param(TRAINED, id="adam", marks=pytest.mark.slow),
        pytest.param(SEARCHED, id="several rates"),
    ],
)
def test_a_third_kind_of_task_is_trained_resumed_and_recorded(
    tmp_path: Path, store: Store, settings: TransferSettings, stop_after: Any
) -> None:
    whole = run_task("mean", store, None, tmp_path / "whole", settings, open_task=MeanIntensity)
    stop_after(5)
    with pytest.raises(KeyboardInterrupt):
        run_task("mean", store, None, tmp_path / "run", settings, open_task=MeanIntensity)
    stop_after(None)
    resumed = run_task("mean", store, None, tmp_path / "run", settings, open_task=MeanIntensity, resume=True)
    assert resumed.cases == whole.cases == read_record(tmp_path / "run").cases
    assert [row["id"] for row in whole.cases] == store.split("test")
    assert list(whole.metrics) == ["test/error", "val/fit", "best_step"]  # no step reaches 95 % of a negative score
    assert (whole.config["task"], whole.config["method"]) == ("mean", "scratch")
    assert whole.config["levels"] == load_backbone(tmp_path / "whole").levels == 3
    lines = (tmp_path / "run" / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss,val_fit"
    curve = [line.split(",") for line in lines[1:]]
    assert whole.training == read_record(tmp_path / "run").training
    if settings is SEARCHED:
        assert whole.training["learning_rate"] in SEARCHED.learning_rates
        assert [tried["learning_rate"] for tried in whole.training["candidates"]] == [1e-4, 1e-3]
        assert whole.metrics["val/fit"] == max(tried["best_score"] for tried in whole.training["candidates"])
    else:
        assert whole.training == {
            "steps": settings.max_steps,
            "stopped_by": "max_steps",
            "best_step": whole.metrics["best_step"],
            "since_best": sum(float(row[0]) > whole.metrics["best_step"] and row[2] != "" for row in curve),
        }
    if settings is LINEAR:
        assert whole.metrics["test/error"] < 0.05
    with pytest.raises(UserError, match=r"not a valid head config .kind is 'regression', not 'segmentation'"):
        load_adapted(tmp_path / "run")


def test_levels_chosen_by_the_crop_are_those_of_the_weights_where_there_are_weights(
    tmp_path: Path, store: Store
) -> None:
    folder = save_weights(
        tmp_path, UNet3D(width=8, levels=2), method="gvsl", preprocessing=store.preprocessing, provenance={}
    )
    settings = replace(LINEAR, levels="auto", max_steps=1, validate_every=1)
    record = run_task("mean", store, folder, tmp_path / "run", settings, open_task=MeanIntensity)
    assert record.config["levels"] == 2
