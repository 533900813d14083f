"""A transfer run of any task from end to end: check, train, test once, write (Appendix E.3)."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gvsl.backbones import Backbone, BackboneSettings, build_backbone, levels_for
from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.provenance import LABELS
from gvsl.backbones.weights import MODEL_NAME, PretrainedBackbone, find_weights, load_backbone, read_size
from gvsl.data.crop import fit_crop
from gvsl.datasets.tasks import TASKS
from gvsl.errors import DivergedError, UserError
from gvsl.files import claimed, refuse_existing, sha256_of, whole_folder
from gvsl.hardware import device_facts, find_device, resolve_precision
from gvsl.metrics.bootstrap import steps_to_fraction
from gvsl.propagation.atlases import matcher_fingerprint
from gvsl.propagation.carry import CHECK, NO_VOTE
from gvsl.records import CURVES_NAME, RunRecord, environment, utc_now, write_curves, write_record
from gvsl.records.comparability import CARRIED, NO_CARRY
from gvsl.settings import deciding_settings, effects_of
from gvsl.settings.transfer import TransferSettings, resolve_augment
from gvsl.store import Store
from gvsl.text import one_of
from gvsl.transfer.carried import carried_config, load_carrier, score_carried
from gvsl.transfer.carrying import FOLDER_NAME, CarriedPool, carry_labels, check_carry
from gvsl.transfer.checkpoint import Checkpoint, part_folder
from gvsl.transfer.classification import Classification
from gvsl.transfer.fit import fit
from gvsl.transfer.leakage import (
    check_labels_seen,
    check_leakage,
    contents_of,
    describe_leakage,
    images_learnt_from,
    images_of,
    labels_learnt_from,
)
from gvsl.transfer.monitor import FitResult
from gvsl.transfer.networks import AdaptedNetwork
from gvsl.transfer.origin import method_of, pretraining_of
from gvsl.transfer.preflight import check_choice, check_mode, check_splits
from gvsl.transfer.segmentation import Segmentation
from gvsl.transfer.task import Outcome, Task
from gvsl.transfer.weights import fingerprint, save_adapted
from gvsl.transfer.weights_file import is_weights_file, load_weights_file

OpenTask = Callable[[Store, TransferSettings, str], Task]
"""Opens a task, by its name, on a store."""
KINDS: dict[str, OpenTask] = {"segmentation": Segmentation, "classification": Classification}


def run_task(
    name: str,
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    *,
    carry: Path | None = None,
    resume: bool = False,
    open_task: OpenTask | None = None,
) -> RunRecord:
    """Train a task on a store's `train` split, keep the weights best on `val`, and score `test` once.

    Writes `out` whole or not at all: record.json, curves.csv, the network (weights/, head.safetensors, head.json),
    which `gvsl.transfer.load_adapted` reads, and what the task adds. The checkpoint lies in `out`.part until then. In
    mode `carried` nothing is trained: the record has the scores of carried labels, and there is no network.

    Args:
        name: of the task, a key of `gvsl.datasets.tasks.TASKS`.
        store: with what the task needs for the cases of all three splits: label maps, or classes.
        weights: the folder of a pre-training run, a name on the Hugging Face Hub, a checkpoint of nnU-Net, nnssl
            or Models Genesis (`gvsl.transfer.weights_file`), or None for random weights; in mode `carried` the run that
            matches, or None for the control from no network.
        out: the new folder of this run.
        settings: the protocol; `linear` with random weights is the linear row of "Scratch" in Table 1.
        carry: the folder of a pre-training run that learnt to match, to carry the labels of the training cases onto
            the unlabelled volumes of `pretrain`, which are trained on too; for a segmentation.
        resume: continue from the checkpoint of a stopped run.
        open_task: opens a task of another kind; then `name` need not be a key of `TASKS`.

    Raises:
        UserError: there is no such task, `out` exists or is being written, the weights do not fit the store or the
            mode, what the task needs is missing, or a split (a segmentation needs train alone), there is no checkpoint
            to resume from, or the loss is no longer finite.
    """
    if open_task is None:
        open_task = KINDS[TASKS[one_of(TASKS, "task", name)].kind]
    with claimed(out, "gvsl transfer"):
        return _run(name, store, weights, out, settings, carry=carry, resume=resume, open_task=open_task)


def _run(
    name: str,
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    *,
    carry: Path | None,
    resume: bool,
    open_task: OpenTask,
) -> RunRecord:
    created = utc_now()
    refuse_existing(out)
    check_mode(weights, settings, resume=resume)
    check_carry(carry, settings)
    check_splits(
        store, ("train",) if open_task is Segmentation and settings.mode != CARRIED else ("train", "val", "test")
    )
    device, settings = find_device(settings.device), resolve_precision(resolve_augment(settings))
    source = None if weights is None else Path(weights) if is_weights_file(weights) else find_weights(weights)
    settings = _resolve_levels(source, store, settings)
    task = open_task(store, settings, name)
    if settings.mode == CARRIED:
        return _score_carried(name, task, store, weights, out, settings, device, created)
    check_choice(store, task.val, settings)
    if carry is not None and not isinstance(task, Segmentation):
        raise UserError("--carry carries label maps, and this task has none: leave it out")
    network = _build_network(task, source, weights, store, settings).to(device)
    checkpoint = Checkpoint(
        part_folder(out),
        _identity(name, source, store, settings, carry),
        settings.checkpoint_every,
        effects=effects_of(settings),
        resume=resume,
    )
    with _run_folder(out, checkpoint) as folder:
        pool = None if carry is None else _carry(carry, task, store, settings, checkpoint.folder, device)
        task.start(network)
        result = fit(task, network, store, settings, checkpoint)
        tested = task.test(folder)
        carried = dict(NO_CARRY) if pool is None else pool.config()
        record = _record(out, store, settings, created, device, network.backbone, tested)
        record.config = _config(name, network, settings) | _origin(task, network.backbone, store, weights) | carried
        record.training = _training(result, task.score_name)
        record.metrics = tested.metrics | _validation_metrics(result, task.score_name) | tested.other_metrics
        record.curves = CURVES_NAME
        write_curves(folder / CURVES_NAME, result.rows)
        _save_network(folder, network, task, store, settings, record, pool)
        record.seconds = checkpoint.seconds
        write_record(record, folder)
    return record


def _build_network(
    task: Task, source: Path | None, weights: str | Path | None, store: Store, settings: TransferSettings
) -> AdaptedNetwork:
    """Return the task's network on the backbone from `source`, or on a random one; the seed decides what is random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = _scratch(settings, store) if source is None else _load(source, weights, store, task.train, settings)
        return task.build(backbone)


def _identity(
    name: str, source: Path | None, store: Store, settings: TransferSettings, carry: Path | None
) -> dict[str, Any]:
    """Return what a stopped run and the one that resumes it have to share."""
    start = "scratch" if source is None else sha256_of(source if source.is_file() else source / MODEL_NAME)
    identity = {"task": name, "store": store.hash, "weights": start, **deciding_settings(settings)}
    if carry is not None:
        identity["carry"] = matcher_fingerprint(carry)
        if settings.carrying.least_dice:
            identity["carried_by"] = CHECK
        if store.ignored:
            identity["ignored"] = NO_VOTE
        if settings.carrying.teacher is not None:
            identity["teacher"] = fingerprint(Path(settings.carrying.teacher))
    return identity


def _save_network(
    folder: Path,
    network: AdaptedNetwork,
    task: Task,
    store: Store,
    settings: TransferSettings,
    record: RunRecord,
    pool: CarriedPool | None,
) -> None:
    """Write the network into a run's folder, with all that `gvsl predict` and the checks for leakage need."""
    backbone = network.backbone
    save_adapted(
        folder,
        network,
        task.head_config(),
        settings=settings,
        method=method_of(backbone),
        preprocessing=store.preprocessing,
        provenance={
            "store": record.store,
            "steps": record.training["best_step"],
            "seed": settings.seed,
            "versions": record.environment,
            "mode": settings.mode,
            "weights": backbone.provenance if isinstance(backbone, PretrainedBackbone) else None,
            LABELS: labels_learnt_from(network, store, task.train, () if pool is None else pool.carriers),
        },
        learnt_from=_learnt_from(network, store, task, pool),
        task=record.config["task"],
    )


def _score_carried(
    name: str,
    task: Task,
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    device: torch.device,
    created: str,
) -> RunRecord:
    """Score carried labels; nothing is trained, so there is neither checkpoint nor network to keep."""
    if not isinstance(task, Segmentation):
        raise UserError("mode carried carries label maps, and this task has none: choose another mode")
    method = load_carrier(None if weights is None else Path(weights), store, task.train, settings).to(device)
    began = time.monotonic()
    with whole_folder(out) as folder:
        tested, carried = score_carried(task, method, settings, folder, device)
        record = _record(out, store, settings, created, device, method.backbone, tested)
        origin = _origin(task, method.backbone, store, weights)
        record.config = {"task": name} | carried_config(settings, method.backbone.levels) | carried | origin
        record.metrics = tested.metrics | tested.other_metrics
        record.seconds = time.monotonic() - began
        write_record(record, folder)
    return record


def _record(
    out: Path,
    store: Store,
    settings: TransferSettings,
    created: str,
    device: torch.device,
    backbone: Backbone,
    tested: Outcome,
) -> RunRecord:
    """Return what the records of all modes say; what a mode adds is filled in."""
    return RunRecord(
        kind="transfer",
        name=out.name,
        seed=settings.seed,
        config={},
        store={"name": store.path.name, "hash": store.hash},
        status="finished",
        created=created,
        environment=environment(device_facts(device)),
        pretraining=pretraining_of(backbone),
        cases=tested.cases,
        spacing=list(store.preprocessing.voxel),
        effects=effects_of(settings),
        **tested.fields,
    )


def _carry(
    carry: Path, task: Task, store: Store, settings: TransferSettings, folder: Path, device: torch.device
) -> CarriedPool:
    assert isinstance(task, Segmentation)  # the run was refused otherwise
    task.carried = carry_labels(
        carry,
        store,
        task.train,
        task.labels,
        folder / FOLDER_NAME,
        settings,
        device,
    )
    return task.carried


def _learnt_from(network: AdaptedNetwork, store: Store, task: Task, pool: CarriedPool | None) -> frozenset[str] | None:
    if pool is None:
        return images_learnt_from(network, store, task.train)
    return images_learnt_from(network, store, [*task.train, *pool.labels.used], pool.carriers)


def _load(
    source: Path, name: str | Path | None, store: Store, train: Sequence[str], settings: TransferSettings
) -> PretrainedBackbone:
    """Load the backbone in a folder of weights, or in a file from elsewhere, and check that it fits the store.

    Raises:
        UserError: it can't be loaded, does not fit, or was trained on images that the store holds out, or on labels of
            other cases than `train`.
    """
    assert name is not None
    if source.is_file():
        return load_weights_file(source, store, settings.allow_preprocessing_mismatch)
    backbone = load_backbone(source)
    check_preprocessing(backbone, name, store, settings.allow_preprocessing_mismatch)
    check_leakage(backbone, name, store, settings.allow_leakage)
    check_labels_seen(backbone, name, contents_of(store, train), settings.allow_leakage)
    return backbone


@contextmanager
def _run_folder(out: Path, checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield a run's folder, which becomes `out` whole or not at all, as `gvsl.files.whole_folder` does.

    The checkpoint is removed on success. On divergence its state is, and carried labels are kept: a repeat with a lower
    learning rate needs the same ones. After any other failure the run can be resumed.
    """
    try:
        with whole_folder(out) as folder:
            yield folder
    except DivergedError:
        checkpoint.remove_state()
        raise
    checkpoint.remove()


def _resolve_levels(source: Path | None, store: Store, settings: TransferSettings) -> TransferSettings:
    """Return the settings with a number of levels; for `auto` that of the weights, or that which suits the crop.

    The crop is that of pre-training on the same volumes: it fits their median, up to `settings.crop`.
    """
    if settings.levels != "auto":
        return settings
    if source is not None:  # a file from elsewhere has its own; the number is overwritten in the record
        return settings if source.is_file() else replace(settings, levels=read_size(source).levels)
    fitted = fit_crop(store.shapes("train"), math.prod(settings.crop))
    depth, height, width = map(min, fitted, settings.crop)
    return replace(settings, levels=levels_for((depth, height, width)))


def _scratch(settings: TransferSettings, store: Store) -> Backbone:
    chosen = {name: getattr(settings, name) for name in ("width", "levels")} | vars(settings.backbone)
    return build_backbone(BackboneSettings(in_channels=store.channel_count, **chosen))


def _config(name: str, network: AdaptedNetwork, settings: TransferSettings) -> dict[str, Any]:
    """Return the resolved settings of a run that trained, for its record."""
    backbone = network.backbone
    return {
        **asdict(settings),
        "task": name,
        "backbone": asdict(settings.backbone) | backbone.network,
        "width": backbone.width,
        "levels": backbone.levels,
    }


def _origin(task: Task, backbone: Backbone, store: Store, weights: str | Path | None) -> dict[str, Any]:
    """Return a run's weights and cases, for its record; without weights, a backbone was made for the occasion."""
    return {
        "weights": "scratch" if weights is None else str(weights),
        "weights_keys": str(backbone.keys) if isinstance(backbone, PretrainedBackbone) else None,
        "leakage": describe_leakage(images_of(backbone), store),
        "method": method_of(backbone),
        "train_cases": list(task.train),
        "val_cases": len(task.val),
        "test_cases": len(task.test_cases),
    }


def _training(result: FitResult, score_name: str) -> dict[str, Any]:
    """Return how long the training took, why it ended, its best step and which learning rates were tried."""
    validated, _ = result.validated(f"val_{score_name}")
    found: dict[str, Any] = {
        "steps": result.steps,
        "stopped_by": result.stopped_by,
        "best_step": result.best_step,
        "since_best": sum(step > result.best_step for step in validated),
    }
    if result.candidates:
        kept = max(result.candidates, key=lambda tried: -math.inf if tried.best_score is None else tried.best_score)
        found |= {"learning_rate": kept.learning_rate, "candidates": [asdict(tried) for tried in result.candidates]}
    return found


def _validation_metrics(result: FitResult, score_name: str) -> dict[str, float]:
    """Return the best validation score, its step, and the first step with 95 % of it (Figure 6).

    Without validation there is only the step whose weights were kept, the last.
    """
    steps, found = result.validated(f"val_{score_name}")
    if not found:
        return {"best_step": result.best_step}
    reached = steps_to_fraction(steps, found)
    return {
        f"val/{score_name}": result.best_score,
        "best_step": result.best_step,
        **({} if reached is None else {"steps_to_95": int(reached)}),
    }
