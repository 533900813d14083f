"""A pre-training that matches, for tests of what matching is used for."""

from pathlib import Path

from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
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
