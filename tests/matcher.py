"""A pre-training that matches, for tests of what matching is used for."""

from dataclasses import asdict
from pathlib import Path

import torch

from gvsl.backbones import UNet3D, UNet3DSettings
from gvsl.backbones.weights import save_weights
from gvsl.data import DataSettings
from gvsl.methods.gvsl import gvsl_no_affine
from gvsl.records import RunRecord, write_record
from gvsl.store import Store
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings, pretrain


def train_matcher(store: Store, out: Path, *, levels: int = 2, steps: int = 1) -> Path:
    """Pre-train a small network for a few steps; return its folder."""
    settings = PretrainSettings(
        backbone=UNet3DSettings(width=8, levels=levels),
        data=DataSettings(batch_size=1, crop=(16, 16, 16), workers=0),
        optimiser=OptimiserSettings(learning_rate=1e-3, schedule="constant", warmup_steps=0),
        trainer=TrainerSettings(max_steps=steps, device="cpu", checkpoint_every=steps, log_every=1),
    )
    pretrain(store, out, settings)
    return out


def write_matcher_without_affine(store: Store, run: Path) -> Path:
    """Write what is read of a pre-training by gvsl-no-affine, with random weights; return its folder."""
    torch.manual_seed(0)
    method = gvsl_no_affine(UNet3D(width=8, levels=2))
    run.mkdir()
    write_record(
        RunRecord(kind="pretrain", name="run", seed=0, config={"pretext": asdict(method.settings)}, store={}), run
    )
    save_weights(
        run,
        method.backbone,
        heads={key: value for key, value in method.state_dict().items() if not key.startswith("backbone.")},
        method="gvsl-no-affine",
        preprocessing=store.preprocessing,
        provenance={},
        learnt_from=frozenset(),
    )
    return run
