from pathlib import Path

import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.store import Store
from gvsl.transfer import (
    ClassificationNetwork,
    ClusterSettings,
    SegmentationNetwork,
    TransferSettings,
    run_task,
    save_adapted,
)
from gvsl.transfer.weights import CLASSIFIER_CONFIG, segmenter_config

from ..matcher import train_matcher


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    """A trained run of segmentation."""
    out = tmp_path_factory.mktemp("predict") / "run"
    settings = TransferSettings(
        mode="linear",
        width=8,
        levels=3,
        max_steps=40,
        validate_every=20,
        learning_rate=3e-2,
        crop=(16, 16, 12),
        clusters=ClusterSettings(points=0),
    )
    run_task("segmentation", store, None, out, settings)
    return out


@pytest.fixture(scope="session")
def wide_run(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    """A run with random weights, whose one window holds a whole volume, for what does not depend on the weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wide") / "run"
    save_adapted(
        folder,
        SegmentationNetwork(UNet3D(width=8, levels=3), 3),
        segmenter_config({1: "ball", 7: "box"}, kernel=3),
        settings=TransferSettings(width=8, crop=(96, 96, 96)),
        method="x",
        preprocessing=store.preprocessing,
        provenance={},
    )
    return folder


@pytest.fixture(scope="session")
def classifier(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of classification with random weights."""
    settings = TransferSettings(width=8, crop=(12, 16, 16))
    network = ClassificationNetwork(UNet3D(width=8, levels=3))
    folder, contract = tmp_path_factory.mktemp("classifier") / "run", store.preprocessing
    save_adapted(
        folder, network, CLASSIFIER_CONFIG, settings=settings, method="x", preprocessing=contract, provenance={}
    )
    return folder


@pytest.fixture(scope="session")
def matcher(phantom_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training of two steps; with `start` none, its network decides nothing."""
    return train_matcher(phantom_store, tmp_path_factory.mktemp("matcher") / "run", levels=3, steps=2)
