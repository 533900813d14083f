"""What transfer runs of all tasks do alike: the backbone they start from, and what belongs to a run."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gvsl.backbones import UNet3D
from gvsl.backbones.compatibility import check_contract
from gvsl.backbones.weights import MODEL_NAME, PretrainedUNet3D, find_weights, load_backbone
from gvsl.files import whole_folder
from gvsl.records import RunRecord
from gvsl.settings import deciding_settings, effects_of
from gvsl.store import Store
from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.checkpoint import Checkpoint, part_folder
from gvsl.transfer.fit import DivergedError
from gvsl.transfer.leakage import check_leakage, told_leakage
from gvsl.transfer.transfer_settings import TransferSettings

CURVES_NAME = "curves.csv"


def open_backbone(store: Store, weights: str | Path | None, settings: TransferSettings) -> UNet3D:
    """The backbone before training: that of `weights`, or one with random weights from the current seed.

    Raises:
        UserError: the weights can't be loaded, do not fit the store, or were learnt from what it holds out.
    """
    if weights is None:
        return UNet3D(width=settings.width)
    loaded = load_backbone(weights)
    check_contract(loaded, weights, store, settings.allow_preprocessing_mismatch)
    check_leakage(loaded, weights, store, settings.allow_leakage)
    return loaded


def open_checkpoint(
    out: Path, task: str, store: Store, weights: str | Path | None, settings: TransferSettings, resume: bool
) -> Checkpoint:
    """The state of a run beside its output, which says what it belongs to.

    Raises:
        UserError: there is a state and `resume` is false, or none that fits and it is true.
    """
    start = "scratch"
    if weights is not None:
        start = hashlib.sha256((find_weights(weights) / MODEL_NAME).read_bytes()).hexdigest()
    identity = {"task": task, "store": store.hash, "weights": start, **deciding_settings(settings)}
    return Checkpoint(
        part_folder(out), identity, settings.checkpoint_every, effects=effects_of(settings), resume=resume
    )


@contextmanager
def run_folder(out: Path, checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield a run's folder, which becomes `out` whole or not at all, as `gvsl.files.whole_folder` does.

    The saved state goes when the run is there, or its loss has diverged; after anything else it can be gone on from.
    """
    try:
        with whole_folder(out) as folder:
            yield folder
    except DivergedError:
        checkpoint.remove()
        raise
    checkpoint.remove()


def resolved_config(
    network: AdaptedNetwork,
    store: Store,
    task: str,
    weights: str | Path | None,
    settings: TransferSettings,
    splits: tuple[Sequence[str], Sequence[str], Sequence[str]],
) -> dict[str, Any]:
    """What a run was told, every default written out, and what it learnt from."""
    train, val, test = splits
    backbone = network.backbone
    return {
        **asdict(settings),
        "task": task,
        "width": backbone.width,
        "weights": "scratch" if weights is None else str(weights),
        "weights_keys": str(backbone.keys) if isinstance(backbone, PretrainedUNet3D) else None,
        "leakage": told_leakage(backbone, store),
        "method": method_of(network),
        "train_cases": list(train),
        "val_cases": len(val),
        "test_cases": len(test),
    }


def pretraining_of(network: AdaptedNetwork) -> dict[str, Any]:
    """What the backbone's weights tell of their training: steps, seed, and the store by its hash."""
    if not isinstance(network.backbone, PretrainedUNet3D):
        return {}
    past = network.backbone.provenance
    store = past.get("store")
    mark = store.get("hash") if isinstance(store, dict) else None
    found = {"steps": past.get("steps"), "seed": past.get("seed"), "store": mark}
    return {name: value for name, value in found.items() if value is not None}


def method_of(network: AdaptedNetwork) -> str:
    """The method that the backbone was pre-trained by, or `scratch`."""
    return network.backbone.method if isinstance(network.backbone, PretrainedUNet3D) else "scratch"


def provenance_of(network: AdaptedNetwork, settings: TransferSettings, record: RunRecord) -> dict[str, Any]:
    """Where the run's weights come from, as their config says it."""
    backbone = network.backbone
    return {
        "store": record.store,
        "steps": int(record.metrics["best_step"]),
        "seed": settings.seed,
        "versions": record.environment,
        "mode": settings.mode,
        "weights": backbone.provenance if isinstance(backbone, PretrainedUNet3D) else None,
    }
