from collections.abc import Callable

import pytest

from gvsl.backbones import UNet3DSettings
from gvsl.errors import UserError
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings


def test_the_defaults_are_the_papers() -> None:
    settings = PretrainSettings()
    assert (settings.optimiser.learning_rate, settings.optimiser.schedule) == (1e-4, "constant")
    assert (settings.trainer.max_steps, settings.trainer.precision) == (200_000, "fp32")
    assert (settings.data.batch_size, settings.backbone.width) == (2, 32)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PretrainSettings(trainer=TrainerSettings(max_steps=0)), "trainer.max_steps is 0"),
        (lambda: PretrainSettings(trainer=TrainerSettings(checkpoint_every=0)), "trainer.checkpoint_every is 0"),
        (lambda: PretrainSettings(trainer=TrainerSettings(log_every=-1)), "trainer.log_every is -1"),
        (lambda: PretrainSettings(trainer=TrainerSettings(devices=0)), "trainer.devices is 0"),
        (lambda: PretrainSettings(optimiser=OptimiserSettings(learning_rate=0)), "learning_rate is 0"),
        (lambda: PretrainSettings(optimiser=OptimiserSettings(learning_rate=float("nan"))), "learning_rate is nan"),
        (lambda: PretrainSettings(seed=-1), "seed is -1"),
        (lambda: PretrainSettings(backbone=UNet3DSettings(width=12)), "backbone.width is 12"),
    ],
)
def test_settings_out_of_range_are_refused(build: Callable[[], PretrainSettings], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
