"""A transfer run for classification from end to end: check, train, test once, write (Appendix E.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional

from gvsl.files import refuse_existing
from gvsl.hardware import device_facts, find_device, resolve_precision
from gvsl.inferers import windows
from gvsl.metrics.bootstrap import bootstrap, draw_counts, percentile_interval, steps_to_fraction
from gvsl.metrics.ranking import auc_of_draws, average_precision
from gvsl.progress import progress
from gvsl.records import RunRecord, environment, utc_now, write_curves, write_record
from gvsl.settings import effects_of
from gvsl.store import Store
from gvsl.store.arrays import Box
from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import draw_boxes, draw_labelled
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.classifier import ClassificationNetwork
from gvsl.transfer.fit import FitResult, Watch, optimise
from gvsl.transfer.lbfgs import converge
from gvsl.transfer.leakage import learnt_by
from gvsl.transfer.preflight import check_mode, check_splits, check_targets
from gvsl.transfer.run import (
    CURVES_NAME,
    method_of,
    open_backbone,
    open_checkpoint,
    pretraining_of,
    provenance_of,
    resolved_config,
    run_folder,
)
from gvsl.transfer.transfer_settings import TransferSettings
from gvsl.transfer.weights import save_classifier


def classify(
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    *,
    task: str = "classification",
    resume: bool = False,
) -> RunRecord:
    """Train on a store's `train` split to tell its two classes, keep the best AUC on `val`, score `test` once.

    Writes `out` whole or not at all: record.json, curves.csv and the network (weights/, head.safetensors,
    head.json), which `gvsl.transfer.load_classifier` reads. A volume larger than the crop is seen in windows, whose
    pooled features are averaged; training draws one of them where the backbone is trained too.

    Args:
        store: with a class, 0 or 1, for every case of the three splits.
        weights: the folder of a pre-training run, a name on the Hugging Face Hub, or None for random weights.
        out: the new folder of this run.
        settings: the protocol; kernel and loss are segmentation's and have no say.
        task: a classification task of `gvsl.datasets.tasks.TASKS`.
        resume: go on from the state that a stopped run left.

    Raises:
        UserError: `out` exists, the weights do not fit the store or the mode, a case has no class, a split has one
            class only, there is no state to resume from, or the loss stopped being a number.
    """
    created = utc_now()
    refuse_existing(out)
    check_mode(weights, settings)
    check_splits(store)
    device, settings = find_device(settings.device), resolve_precision(settings)
    val, test = store.split("val"), store.split("test")
    learnt = store.split("train")
    classes = {case: store.cases[case].target for case in learnt}
    train = draw_labelled(learnt, settings.labels, settings.seed, classes)
    targets = check_targets(store, {"train": train, "val": val, "test": test})
    network = _build(store, weights, settings).to(device)
    checkpoint = open_checkpoint(out, task, store, weights, settings, resume)
    with run_folder(out, checkpoint) as folder:
        cases = ClassifiedCases(store, targets, network, settings, device)
        result = _train(cases, train, val, checkpoint)
        rows = [
            {"id": case, "target": targets[case], "score": float(score)}
            for case, score in zip(test, cases.scores(test), strict=True)
        ]
        record = RunRecord(
            kind="transfer",
            name=out.name,
            seed=settings.seed,
            config=resolved_config(network, store, task, weights, settings, (train, val, test)),
            store={"name": store.path.name, "hash": store.hash},
            status="finished",
            created=created,
            environment=environment(device_facts(device)),
            pretraining=pretraining_of(network),
            metrics=_metrics(result, rows),
            cases=rows,
            curves=CURVES_NAME,
            effects=effects_of(settings),
        )
        write_curves(folder / CURVES_NAME, result.rows)
        save_classifier(
            folder,
            network,
            settings=settings,
            method=method_of(network),
            preprocessing=store.preprocessing,
            provenance=provenance_of(network, settings, record),
            learnt_from=learnt_by(network, store, train),
            task=task,
        )
        record.seconds = checkpoint.seconds
        write_record(record, folder)
    return record


class ClassifiedCases:
    """The cases of a store, their classes, and what a network makes of them.

    The pooled features of a frozen backbone are 16 * width numbers a case: they are computed once and kept, unless
    `cache_gigabytes` is 0.
    """

    def __init__(
        self,
        store: Store,
        targets: dict[str, int],
        network: ClassificationNetwork,
        settings: TransferSettings,
        device: torch.device,
    ) -> None:
        self.store, self.targets, self.network = store, targets, network
        self.settings, self.device = settings, device
        self._kept: dict[str, Tensor] = {}

    def shape(self, case: str) -> tuple[int, ...]:
        """The sides of a case in voxels."""
        return tuple(self.store.cases[case].shape)

    def image(self, case: str, box: Box) -> Tensor:
        """A box of a case's image: (1, 1, D, H, W), float32 in [0, 1]."""
        return torch.from_numpy(self.store.image(case, box))[None, None].to(self.device)

    def features(self, case: str) -> Tensor:
        """The pooled features of a whole case, the mean over its windows: (1, 16 * width)."""
        if case in self._kept:
            return self._kept[case]
        boxes = windows(self.shape(case), self.settings.crop, self.settings.overlap)
        mean = torch.stack([self.network.features(self.image(case, box)) for box in boxes]).mean(0)
        if self.network.frozen and self.settings.cache_gigabytes:
            self._kept[case] = mean
        return mean

    @torch.no_grad()
    def scores(self, ids: Sequence[str]) -> NDArray[np.float64]:
        """How far each case belongs to class 1, from 0 to 1."""
        logits = [self.network.head(self.features(case)) for case in ids]
        return torch.sigmoid(torch.cat(logits)[:, 0].double()).cpu().numpy()


def _build(store: Store, weights: str | Path | None, settings: TransferSettings) -> ClassificationNetwork:
    """The network before training, its random weights from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = open_backbone(store, weights, settings)
        precision: Literal["bf16", "fp32"] = "bf16" if settings.precision == "bf16" else "fp32"
        return ClassificationNetwork(backbone, frozen=settings.mode == "linear", precision=precision)


def _train(cases: ClassifiedCases, train: Sequence[str], val: Sequence[str], checkpoint: Checkpoint) -> FitResult:
    """Train, and leave the network with the weights that did best on the validation cases."""
    settings, network = cases.settings, cases.network
    drawn = draw_boxes({case: cases.shape(case) for case in train}, settings)
    for _ in range(checkpoint.done * settings.batch_size):
        next(drawn)
    truth = np.array([cases.targets[case] for case in val])

    def validate() -> float:
        return float(roc_auc_score(truth, cases.scores(val)))

    def loss_of(number: int) -> Tensor:
        case, box = next(drawn)
        if network.frozen:
            features = cases.features(case)
        else:
            image, _ = augment(cases.image(case, box), None, settings.augmentation, settings.seed, number)
            features = network.features(image)
        return _loss(cases, case, features)

    if network.frozen and settings.cache_gigabytes:
        with progress(len(train) + len(val), "features", unit="cases") as advance:
            for case in (*train, *val):
                cases.features(case)
                advance()
    watch = Watch(network, validate, settings, "val_auc")
    with progress(settings.max_steps - checkpoint.done, "training", unit="steps") as advance:
        if settings.optimiser == "lbfgs":
            network.head.standardise(cases.features(case) for case in train)
            return converge(
                watch,
                lambda number: _loss(cases, train[number], cases.features(train[number])),
                len(train),
                advance,
                checkpoint,
            )
        return optimise(watch, loss_of, advance, checkpoint)


def _loss(cases: ClassifiedCases, case: str, features: Tensor) -> Tensor:
    """The cross-entropy of a case's class."""
    logits = cases.network.head(features)
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, cases.targets[case]))


def _metrics(result: FitResult, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The run's summary: AUC and average precision of the test cases with their intervals, and the best on `val`."""
    truth, scores = np.array([row["target"] for row in rows]), np.array([row["score"] for row in rows])

    def precision_of(drawn: NDArray[np.int64]) -> float:
        both = 0 < truth[drawn].sum() < drawn.size
        return average_precision(truth[drawn], scores[drawn]) if both else np.nan

    areas = auc_of_draws(truth, scores[None], np.ones(1), draw_counts(truth.size))
    metrics = {"test/auc": float(roc_auc_score(truth, scores))}
    metrics["test/auc_low"], metrics["test/auc_high"] = percentile_interval(areas)
    metrics["test/ap"] = float(average_precision_score(truth, scores))
    metrics["test/ap_low"], metrics["test/ap_high"] = bootstrap(truth.size, precision_of)
    validated = [row for row in result.rows if "val_auc" in row]
    reached = steps_to_fraction([row["step"] for row in validated], [row["val_auc"] for row in validated])
    return {
        **metrics,
        "val/auc": result.best_score,
        "best_step": result.best_step,
        **({} if reached is None else {"steps_to_95": int(reached)}),
    }
