from pathlib import Path

import pytest

from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
from gvsl.store import Store
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings, pretrain


@pytest.fixture(scope="session")
def tiny() -> PretrainSettings:
    """Five steps of a narrow network on small crops; a checkpoint after the third."""
    return PretrainSettings(
        seed=1,
        backbone=UNet3DSettings(width=8, levels=3),
        data=DataSettings(batch_size=1, crop=(16, 16, 16), workers=0),
        optimiser=OptimiserSettings(learning_rate=1e-3, schedule="cosine", warmup_steps=2),
        trainer=TrainerSettings(max_steps=5, device="cpu", checkpoint_every=3, log_every=2),
    )


@pytest.fixture(scope="session")
def finished(phantom_store: Store, tiny: PretrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with the settings `tiny`."""
    out = tmp_path_factory.mktemp("finished") / "run"
    pretrain(phantom_store, out, tiny)
    return out
