"""Classification of whole volumes, from the backbone's pooled global features (Appendix E.3)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import Backbone
from gvsl.io import Box
from gvsl.metrics.bootstrap import MIN_CASES, bootstrap, draw_counts, percentile_interval
from gvsl.metrics.ranking import auc, auc_of_draws, average_precision
from gvsl.progress import progress
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import Cases, draw_labelled
from gvsl.transfer.features import PooledFeatures
from gvsl.transfer.networks import AdaptedNetwork, ClassificationNetwork
from gvsl.transfer.preflight import check_targets
from gvsl.transfer.task import Example, Outcome
from gvsl.transfer.weights import CLASSIFIER_CONFIG

ENDS = ("low", "high")
"""Suffixes of the ends of an interval."""


class Classification:
    """Binary classification of a store's cases, as a `gvsl.transfer.task.Task`; 1 is the positive class.

    A volume larger than the crop is seen in windows whose pooled features are averaged; if the backbone is trained
    too, a training step draws one window. The settings `kernel` and `loss` have no effect.
    """

    score_name = "auc"

    def __init__(self, store: Store, settings: TransferSettings, task: str) -> None:
        """Draw the cases, stratified by class.

        Raises:
            UserError: a case has no class, or a split has one class only.
        """
        self.store, self.settings = store, settings
        self.val, self.test_cases = store.split("val"), store.split("test")
        labelled = store.split("train")
        classes = {case: store.cases[case].target for case in labelled}
        self.train = draw_labelled(labelled, settings.labels, settings.seed, classes)
        self.targets = check_targets(store, {"train": self.train, "val": self.val, "test": self.test_cases})

    def build(self, backbone: Backbone) -> ClassificationNetwork:
        """Add a linear layer to the backbone."""
        frozen = self.settings.mode == "linear"
        return ClassificationNetwork(backbone, frozen=frozen, precision=self.settings.precision)

    def start(self, network: AdaptedNetwork) -> None:
        """Keep the network, and compute the features of a frozen backbone."""
        assert isinstance(network, ClassificationNetwork)
        self.network = network
        self.cases = Cases(self.store, next(network.parameters()).device)
        self.pooled = PooledFeatures(network, self.cases, self.settings)
        if self.pooled.cached:
            with progress(len(self.train) + len(self.val), "features", unit="cases") as advance:
                for case in (*self.train, *self.val):
                    self.pooled(case)
                    advance()

    def examples(self) -> list[Example]:
        """Return the training cases, each as a whole."""
        depth, height, width = slice(None), slice(None), slice(None)
        return [(case, (depth, height, width)) for case in self.train]

    def drawn_from(self) -> list[str]:
        """Return the training cases."""
        return self.train

    def example(self, case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        """Return pooled features (1, global_channels), of the whole case if frozen, and the class (1, 1)."""
        target = torch.full((1, 1), float(self.targets[case]), device=self.cases.device)
        if self.network.frozen:
            return self.pooled(case), target
        image, _ = augment(self.cases.image(case, box), None, self.settings.augment, self.settings.seed, number)
        return self.network.features(image), target

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return functional.binary_cross_entropy_with_logits(logits, target)

    def validate(self) -> float:
        """Return the AUC of the validation cases."""
        truth = np.array([self.targets[case] for case in self.val])
        return auc(truth, self._probabilities(self.val))

    def test(self, folder: Path) -> Outcome:
        """Return class and predicted probability of each test case, with AUC and average precision."""
        scores = self._probabilities(self.test_cases)
        rows: list[dict[str, Any]] = [
            {"id": case, "target": self.targets[case], "score": float(score)}
            for case, score in zip(self.test_cases, scores, strict=True)
        ]
        return Outcome(rows, _metrics(np.array([row["target"] for row in rows]), scores))

    def head_config(self) -> dict[str, Any]:
        """Return the kind alone."""
        return dict(CLASSIFIER_CONFIG)

    def _probabilities(self, ids: list[str]) -> NDArray[np.float64]:
        """Return the predicted probability of the positive class, (cases,)."""
        return torch.sigmoid(self.pooled.logits(ids).double()).cpu().numpy()


def _metrics(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    """Return AUC and average precision, with intervals over draws that have both classes."""

    def precision_of(drawn: NDArray[np.int64]) -> float:
        both = 0 < truth[drawn].sum() < drawn.size
        return average_precision(truth[drawn], scores[drawn]) if both else np.nan

    areas = auc_of_draws(truth, scores[None], np.ones(1), draw_counts(truth.size))
    metrics = {
        "test/auc": auc(truth, scores),
        "test/ap": average_precision(truth, scores),
    }
    ends = {"auc": percentile_interval(areas), "ap": bootstrap(truth.size, precision_of)}
    if truth.size >= MIN_CASES:
        metrics |= {f"test/{name}_{end}": at for name, pair in ends.items() for end, at in zip(ENDS, pair, strict=True)}
    return metrics
