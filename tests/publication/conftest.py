"""A pre-training and a transfer run as gvsl writes them, full of names that must not leave the machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.preprocessing import Preprocessing
from gvsl.records import RunRecord, write_record
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer import SegmentationNetwork
from gvsl.transfer.weights import save_adapted, segmenter_config

from .hub_server import Hub, serving

SECRET = "annamueller"
"""Part of every path, case and store of the runs."""
CONTRACT = Preprocessing(intensity="window", lower=-100.0, upper=400.0, spacing=1.5, preset=SECRET)
PROVENANCE: dict[str, Any] = {
    "store": {"name": f"clinic-{SECRET}", "hash": "ab12" * 16, "path": f"/home/{SECRET}"},
    "steps": 7,
    "seed": 3,
    "versions": {"torch": "2.8", "processor": f"cpu of {SECRET}", "python": f"3.11 {SECRET}"},
    "source": f"/data/{SECRET}",
}
HASHES = [f"{number:016x}" for number in range(5)]


def pair_row(number: int) -> dict[str, Any]:
    shift = 0.01 * number
    smooth = {"smooth_ncc": 0.2, "smooth_ncc_affine": 0.4, "smooth_ncc_swapped": 0.7, "smooth_ncc_mean_field": 0.7}
    smooth |= {"smooth_ncc_affine_swapped": 0.7, "smooth_ncc_blurred": 0.6, "smooth_ncc_affine_blurred": 0.6}
    return {"id": f"{SECRET}-{number}->{SECRET}", "ncc": 0.3 + shift, "ncc_identity": 0.6, "folded": 0.0} | smooth


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished pre-training."""
    run = tmp_path_factory.mktemp(SECRET) / f"run of {SECRET}"
    torch.manual_seed(1)
    saved = save_weights(
        run, UNet3D(width=8, levels=2), method="gvsl", preprocessing=CONTRACT, provenance=PROVENANCE, learnt_from=HASHES
    )
    model = saved / "model.safetensors"
    save_file(load_file(model), model, metadata={"patient": SECRET})
    record = RunRecord(
        kind="pretrain",
        name=run.name,
        seed=3,
        config={"method": "gvsl", "data": {"batch_size": 2, "source": SECRET}, "optimiser": {"schedule": SECRET}},
        store={"name": SECRET, "hash": "ab12" * 16},
        status="finished",
        metrics={"val/restoration": 0.01, "val/restoration_identity": 0.02},
        cases=[pair_row(number) for number in range(6)],
        environment={"processor": SECRET},
    )
    write_record(record, run)
    return run


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished transfer."""
    run = tmp_path_factory.mktemp(SECRET) / f"probe of {SECRET}"
    torch.manual_seed(2)
    network = SegmentationNetwork(UNet3D(width=8, levels=2), classes=3)
    save_adapted(
        run,
        network,
        segmenter_config({1: "head|tail", 2: "body"}, kernel=3),
        settings=TransferSettings(mode="scratch"),
        method="scratch",
        preprocessing=CONTRACT,
        provenance={**PROVENANCE, "mode": "scratch", "weights": {**PROVENANCE, "weights": f"/runs/{SECRET}"}},
        task=f"hearts of {SECRET}",
    )
    head = run / "head.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "author": SECRET}), encoding="utf-8")
    record = RunRecord(
        kind="transfer",
        name=run.name,
        seed=3,
        config={
            "mode": "scratch",
            "weights": f"/runs/{SECRET}",
            "method": "scratch",
            "labels": 2,
            "train_cases": [f"{SECRET}-1", f"{SECRET}-2"],
            "val_cases": 4,
            "leakage": f"trained on {SECRET}",
        },
        store={"name": SECRET, "hash": "ab12" * 16},
        status="finished",
        metrics={
            "test/dice": 0.75,
            "test/dice_low": 0.7,
            "test/dice_high": 0.8,
            "test/dice_std": 0.1,
            "val/dice": 0.9,
            "test/dice/head|tail": 0.7,
            "test/dice/head|tail_low": 0.6,
            "test/dice/head|tail_high": 0.8,
        },
        cases=[{"id": f"{SECRET}-{number}", "dice": 0.7 + 0.025 * number} for number in range(5)],
    )
    write_record(record, run)
    return run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, which knows the token that the environment holds."""
    with serving() as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)
        template = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for module in ("constants", "file_download"):  # before 1.0 the latter has a copy
            name = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
            monkeypatch.setattr(name, template, raising=module == "constants")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        yield found
