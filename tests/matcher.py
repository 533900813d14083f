"""A pre-training that matches, for tests of what matching is used for."""

from pathlib import Path

from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
from gvsl.store import Store
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings, pretrain


def train_matcher(store: Store, out: Path) -> Path:
    """Pre-train a small network for one step; return its folder."""
    settings = PretrainSettings(
        backbone=UNet3DSettings(width=8, levels=2),
        data=DataSettings(batch_size=1, crop=(16, 16, 16), workers=0),
        optimiser=OptimiserSettings(learning_rate=1e-3, schedule="constant", warmup_steps=0),
        trainer=TrainerSettings(max_steps=1, device="cpu", checkpoint_every=1, log_every=1),
    )
    pretrain(store, out, settings)
    return out
