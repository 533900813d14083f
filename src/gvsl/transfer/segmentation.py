"""A transfer run for segmentation from end to end: check, train, test once, write (Appendix E.3)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gvsl.datasets.tasks import check_labels
from gvsl.files import refuse_existing
from gvsl.hardware import device_facts, find_device, resolve_precision
from gvsl.inferers import windows
from gvsl.inferers.classes import predict_classes
from gvsl.metrics.bootstrap import mean_with_interval, steps_to_fraction
from gvsl.metrics.dice import dice_per_structure
from gvsl.metrics.hausdorff import hd95_per_structure
from gvsl.progress import progress
from gvsl.records import RunRecord, environment, utc_now, write_curves, write_record
from gvsl.records.pictures import Slices, segmentation_slices, write_segmentations
from gvsl.records.volumes import Extremes
from gvsl.settings import effects_of
from gvsl.store import Store
from gvsl.store.arrays import Box
from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import LabelledCases, draw_boxes, draw_labelled
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.feature_clusters import CLUSTERS_NAME, Clusters, find_clusters, write_clusters
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.fit import FitResult, Watch, fit, segmentation_loss
from gvsl.transfer.lbfgs import converge
from gvsl.transfer.leakage import learnt_by
from gvsl.transfer.networks import SegmentationNetwork
from gvsl.transfer.preflight import check_mode, check_splits, check_structures, scored_cases
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
from gvsl.transfer.weights import save_segmenter

GIGABYTE = 1e9


def transfer(
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    *,
    task: str = "segmentation",
    resume: bool = False,
) -> RunRecord:
    """Train segmentation on a store's `train` split, keep what does best on `val`, score that on `test` once.

    Writes `out` whole or not at all: record.json, curves.csv, pictures, volumes, clusters.json where the backbone is
    frozen, and the network (weights/, head.safetensors, head.json), which `gvsl.transfer.load_segmenter` reads.
    Until it is there, the state to resume from lies beside it, in `out`.part.

    Args:
        store: with label maps for every case of the three splits; where no test case has one, as in challenges whose
            labels are kept back, nothing is tested.
        weights: the folder of a pre-training run, a name on the Hugging Face Hub, or None for random weights.
        out: the new folder of this run.
        settings: the protocol; `linear` with random weights is the linear row of "Scratch" in Table 1.
        task: a segmentation task of `gvsl.datasets.tasks.TASKS`, whose list of structures the labels must keep to.
        resume: go on from the state that a stopped run left.

    Raises:
        UserError: `out` exists, the weights do not fit the store or the mode, a split or a label is missing, a
            label is not the task's or one of the task's is missing, there is no state to resume from, or the loss
            stopped being a number.
    """
    created = utc_now()
    refuse_existing(out)
    check_mode(weights, settings)
    check_splits(store)
    device, settings = find_device(settings.device), resolve_precision(settings)
    val, test = store.split("val"), scored_cases(store)
    train = draw_labelled(store.split("train"), settings.labels, settings.seed)
    check_labels(task, store.label_names, str(store.path))
    labels = check_structures(store, train, [*val, *test])
    network = _build(store, weights, 1 + len(labels), settings).to(device)
    cases = LabelledCases(store, labels, device)
    checkpoint = open_checkpoint(out, task, store, weights, settings, resume)
    with run_folder(out, checkpoint) as folder:
        represent = _represent(network, cases, settings.cache_gigabytes * GIGABYTE)
        result = _train(network, represent, cases, train, val, settings, checkpoint)
        clusters: Clusters | None = None
        if network.frozen and settings.clusters.points:
            clusters = find_clusters(represent, cases, val, settings)
            write_clusters(folder / CLUSTERS_NAME, clusters)
        del represent  # what it keeps is of no use in testing
        rows, slices, extremes = _test(network, cases, test, settings)
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
            metrics=_metrics(result, rows, list(labels.values())) | (clusters.metrics if clusters else {}),
            cases=rows,
            labels={str(value): name for value, name in labels.items()},
            curves=CURVES_NAME,
            effects=effects_of(settings),
            pictures=write_segmentations(folder, rows, slices) if rows else [],
            volumes=extremes.write(folder),
            clusters=CLUSTERS_NAME if clusters else None,
        )
        write_curves(folder / CURVES_NAME, result.rows)
        save_segmenter(
            folder,
            network,
            labels=labels,
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


def _build(store: Store, weights: str | Path | None, classes: int, settings: TransferSettings) -> SegmentationNetwork:
    """The network before training, its random weights from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = open_backbone(store, weights, settings)
        frozen = settings.mode == "linear"
        precision: Literal["bf16", "fp32"] = "bf16" if settings.precision == "bf16" else "fp32"
        return SegmentationNetwork(backbone, classes, kernel=settings.kernel, frozen=frozen, precision=precision)


def _train(
    network: SegmentationNetwork,
    represent: Represent,
    cases: LabelledCases,
    train: Sequence[str],
    val: Sequence[str],
    settings: TransferSettings,
    checkpoint: Checkpoint,
) -> FitResult:
    """Train, and leave the network with the weights that did best on the validation cases."""
    if isinstance(represent, FrozenFeatures):
        _compute_features(represent, cases, [*train, *val], settings)

    def validate() -> float:
        return float(np.mean([np.mean(_score(network, represent, cases, case, settings)[0]) for case in val]))

    if settings.optimiser == "lbfgs":
        every = [(case, box) for case in train for box in windows(cases.shape(case), settings.crop, settings.overlap)]
        watch = Watch(network, validate, settings)
        with progress(settings.max_steps - checkpoint.done, "training", unit="steps") as advance:
            return _converge(network, represent, cases, every, watch, advance, checkpoint)

    def changed(case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        image, classes = cases.image(case, box), cases.target(case, box)
        image, moved = augment(image, classes, settings.augmentation, settings.seed, number)
        assert moved is not None  # there were classes to move
        return network.features(image), moved

    example = None if settings.augmentation == "none" else changed
    drawn = draw_boxes({case: cases.shape(case) for case in train}, settings)
    with progress(settings.max_steps - checkpoint.done, "training", unit="steps") as advance:
        return fit(
            network,
            represent,
            cases.target,
            drawn,
            validate,
            settings,
            advance,
            example=example,
            checkpoint=checkpoint,
        )


def _converge(
    network: SegmentationNetwork,
    represent: Represent,
    cases: LabelledCases,
    every: Sequence[tuple[str, Box]],
    watch: Watch,
    advance: Callable[[], object],
    checkpoint: Checkpoint,
) -> FitResult:
    """Train the head to its optimum on every training window."""
    criterion = segmentation_loss(watch.settings)

    def loss_of(number: int) -> Tensor:
        case, box = every[number]
        loss: Tensor = criterion(network.head(represent(case, box)), cases.target(case, box))
        return loss

    network.head.standardise(represent(case, box) for case, box in every)
    return converge(watch, loss_of, len(every), advance, checkpoint)


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
) -> tuple[list[dict[str, Any]], list[Slices], Extremes]:
    """One row of scores and one set of slices for each test case, and the best and the worst case as volumes."""
    represent = _represent(network, cases, limit_bytes=0)  # each is seen once: nothing to keep
    rows, slices, extremes = [], [], Extremes()
    with torch.no_grad(), progress(len(test), "testing", unit="cases") as advance:
        for case in test:
            scores, prediction = _score(network, represent, cases, case, settings)
            spacing = [cases.store.preprocessing.spacing] * 3
            distances = hd95_per_structure(prediction, cases.target(case), 1 + len(cases.labels), spacing)
            row: dict[str, Any] = {"id": case}
            for figure, found in (("dice", scores), ("hd95", distances)):
                row[figure] = float(np.mean(found))
                row |= {f"{figure}/{name}": value for name, value in zip(cases.labels.values(), found, strict=True)}
            rows.append(row)
            values = cases.values[prediction[0, 0].cpu().numpy()]
            image, truth = cases.store.image(case), cases.store.label(case)
            slices.append(segmentation_slices(image, truth, values))
            extremes.see(case, row["dice"], image, truth, values)
            advance()
    return rows, slices, extremes


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


def _metrics(result: FitResult, rows: Sequence[dict[str, Any]], structures: Sequence[str]) -> dict[str, float]:
    """The run's summary: means over the test cases with their intervals, and what the validation split said.

    `test/dice_std` is the sample standard deviation over the test cases, 0 for one case.
    """
    metrics: dict[str, float] = {}
    if rows:
        scores = [row["dice"] for row in rows]
        metrics |= mean_with_interval("test/dice", scores)
        metrics["test/dice_std"] = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
        metrics |= mean_with_interval("test/hd95", [row["hd95"] for row in rows])
        for name in structures:
            for figure in ("dice", "hd95"):
                metrics |= mean_with_interval(f"test/{figure}/{name}", [row[f"{figure}/{name}"] for row in rows])
    validated = [row for row in result.rows if "val_dice" in row]
    reached = steps_to_fraction([row["step"] for row in validated], [row["val_dice"] for row in validated])
    return {
        **metrics,
        "val/dice": result.best_score,
        "best_step": result.best_step,
        **({} if reached is None else {"steps_to_95": int(reached)}),
    }
