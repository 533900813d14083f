"""A transfer run for segmentation from end to end: check, train, test once, write (Appendix E.3)."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import PretrainedUNet3D, load_backbone
from gvsl.evaluation.checks import check_contract, check_mode, check_structures, find_device
from gvsl.evaluation.dice import dice_per_structure
from gvsl.evaluation.pictures import Slices, segmentation_slices, write_segmentations
from gvsl.evaluation.prediction import predict_classes
from gvsl.files import refuse_existing, whole_folder
from gvsl.progress import progress
from gvsl.results import RunRecord, environment, utc_now, write_curves, write_record
from gvsl.store import Store
from gvsl.transfer import (
    FitResult,
    FrozenFeatures,
    LabelledCases,
    Represent,
    SegmentationNetwork,
    TransferSettings,
    converge,
    draw_boxes,
    draw_labelled,
    fit,
    save_segmenter,
    windows,
)

GIGABYTE = 1e9
CURVES_NAME = "curves.csv"


def transfer(store: Store, weights: Path | None, out: Path, settings: TransferSettings) -> RunRecord:
    """Train segmentation on a store's `train` split, keep what does best on `val`, score that on `test` once.

    Writes `out` whole or not at all: record.json, curves.csv, pictures/, and the network (weights/,
    head.safetensors, head.json), which `gvsl.transfer.load_segmenter` reads.

    Args:
        store: with label maps for every case of the three splits.
        weights: the folder of a pre-training run, or None for random weights.
        out: the new folder of this run.
        settings: the protocol; `linear` with random weights is the linear row of "Scratch" in Table 1.

    Raises:
        UserError: `out` exists, the weights do not fit the store or the mode, a split or a label is missing,
            or the loss stopped being a number.
    """
    began, created = time.monotonic(), utc_now()
    refuse_existing(out)
    check_mode(weights, settings)
    device = find_device(settings.device)
    val, test = store.split("val"), store.split("test")
    train = draw_labelled(store.split("train"), settings.labels, settings.seed)
    labels = check_structures(store, train, [*val, *test])
    network = _build(store, weights, 1 + len(labels), settings).to(device)
    cases = LabelledCases(store, labels, device)
    with whole_folder(out) as folder:
        result = _train(network, cases, train, val, settings)
        rows, slices = _test(network, cases, test, settings)
        method = network.backbone.method if isinstance(network.backbone, PretrainedUNet3D) else "scratch"
        record = RunRecord(
            kind="transfer",
            name=out.name,
            seed=settings.seed,
            config={
                **asdict(settings),
                "width": network.backbone.width,
                "weights": "scratch" if weights is None else str(weights),
                "method": method,
                "train_cases": train,
                "val_cases": len(val),
                "test_cases": len(test),
            },
            store={"name": store.path.name, "hash": store.hash},
            status="finished",
            created=created,
            environment={**environment(), "device": str(device)},
            metrics=_metrics(result, rows),
            cases=rows,
            labels={str(value): name for value, name in labels.items()},
            curves=CURVES_NAME,
            pictures=write_segmentations(folder, rows, slices),
        )
        write_curves(folder / CURVES_NAME, result.rows)
        _save_network(folder, network, cases, settings, record)
        record.seconds = time.monotonic() - began
        write_record(record, folder)
    return record


def _build(store: Store, weights: Path | None, classes: int, settings: TransferSettings) -> SegmentationNetwork:
    """The network before training, its random weights from the seed alone."""
    loaded = None
    if weights is not None:
        loaded = load_backbone(weights)
        check_contract(loaded, weights, store)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = UNet3D(width=settings.width) if loaded is None else loaded
        frozen = settings.mode == "linear"
        return SegmentationNetwork(
            backbone, classes, kernel=settings.kernel, frozen=frozen, precision=settings.precision
        )


def _train(
    network: SegmentationNetwork,
    cases: LabelledCases,
    train: Sequence[str],
    val: Sequence[str],
    settings: TransferSettings,
) -> FitResult:
    """Train, and leave the network with the weights that did best on the validation cases."""
    represent = _represent(network, cases, settings.cache_gigabytes * GIGABYTE)
    if isinstance(represent, FrozenFeatures):
        _compute_features(represent, cases, [*train, *val], settings)

    def validate() -> float:
        return float(np.mean([np.mean(_score(network, represent, cases, case, settings)[0]) for case in val]))

    with progress(settings.max_steps, "training", unit="steps") as advance:
        if settings.optimiser == "lbfgs":
            every = [
                (case, box) for case in train for box in windows(cases.shape(case), settings.crop, settings.overlap)
            ]
            return converge(network, represent, cases.target, every, validate, settings, advance)
        drawn = draw_boxes({case: cases.shape(case) for case in train}, settings)
        return fit(network, represent, cases.target, drawn, validate, settings, advance)


def _compute_features(
    features: FrozenFeatures, cases: LabelledCases, ids: Sequence[str], settings: TransferSettings
) -> None:
    """Compute what will be kept before the steps begin, whose rate is then steady."""
    places = {case: windows(cases.shape(case), settings.crop, settings.overlap) for case in ids}
    wanted = features.fitting((case, box) for case in ids for box in places[case])
    with progress(len(wanted), "features", unit="windows") as advance:
        for case, box in wanted:
            features(case, box)
            advance()


def _test(
    network: SegmentationNetwork, cases: LabelledCases, test: Sequence[str], settings: TransferSettings
) -> tuple[list[dict[str, Any]], list[Slices]]:
    """One row of scores and one set of slices for each test case."""
    represent = _represent(network, cases, limit_bytes=0)  # each is seen once: nothing to keep
    rows, slices = [], []
    with torch.no_grad(), progress(len(test), "testing", unit="cases") as advance:
        for case in test:
            scores, prediction = _score(network, represent, cases, case, settings)
            each = {f"dice/{name}": score for name, score in zip(cases.labels.values(), scores, strict=True)}
            rows.append({"id": case, "dice": float(np.mean(scores)), **each})
            values = cases.values[prediction[0, 0].cpu().numpy()]
            slices.append(segmentation_slices(cases.store.image(case), cases.store.label(case), values))
            advance()
    return rows, slices


def _represent(network: SegmentationNetwork, cases: LabelledCases, limit_bytes: float) -> Represent:
    """How a case's box becomes features: kept where the backbone is frozen, else computed with gradients."""
    if network.frozen:
        return FrozenFeatures(network, cases.image, limit_bytes)
    return lambda case, box: network.features(cases.image(case, box))


def _score(
    network: SegmentationNetwork,
    represent: Represent,
    cases: LabelledCases,
    case: str,
    settings: TransferSettings,
) -> tuple[list[float], Tensor]:
    """The DSC of each structure of a case, and its predicted classes, (1, 1, D, H, W)."""
    prediction = predict_classes(
        lambda box: network.head(represent(case, box)),
        cases.shape(case),
        settings.crop,
        settings.overlap,
        cases.device,
    )
    return dice_per_structure(prediction, cases.target(case), 1 + len(cases.labels)), prediction


def _metrics(result: FitResult, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The run's summary; the spread is the sample standard deviation over the test cases, 0 for one case."""
    scores = [row["dice"] for row in rows]
    return {
        "test/dice": float(np.mean(scores)),
        "test/dice_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
        "val/dice": result.best_score,
        "best_step": result.best_step,
    }


def _save_network(
    folder: Path,
    network: SegmentationNetwork,
    cases: LabelledCases,
    settings: TransferSettings,
    record: RunRecord,
) -> None:
    """Write the network with where it came from."""
    backbone = network.backbone
    before = backbone.provenance if isinstance(backbone, PretrainedUNet3D) else None
    provenance = {
        "store": record.store,
        "steps": int(record.metrics["best_step"]),
        "seed": settings.seed,
        "versions": record.environment,
        "mode": settings.mode,
        "weights": before,
    }
    save_segmenter(
        folder,
        network,
        labels=cases.labels,
        settings=settings,
        method=record.config["method"],
        preprocessing=cases.store.preprocessing,
        provenance=provenance,
    )
