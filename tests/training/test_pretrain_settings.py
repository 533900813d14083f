from collections.abc import Callable

import pytest

from gvsl.backbones import UNet3DSettings
from gvsl.errors import UserError
from gvsl.settings.augment import AppearanceSettings, SpatialSettings, ViewSettings
from gvsl.settings.methods import (
    BYOLSettings,
    DeepClusterSettings,
    GVSLSettings,
    InpaintingSettings,
    ModelsGenesisSettings,
    RotationSettings,
    SimCLRSettings,
    SimSiamSettings,
)
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
        (lambda: OptimiserSettings(warmup_steps=-5), "optimiser.warmup_steps is -5: give 0 or more"),
        (lambda: OptimiserSettings(clip_norm=0.0), "optimiser.clip_norm is 0.0: give more than 0"),
        (lambda: OptimiserSettings(clip_norm=-1.0), "optimiser.clip_norm is -1.0: give more than 0"),
        (lambda: GVSLSettings(damage="box"), "pretext.damage"),  # type: ignore[arg-type]
        (lambda: GVSLSettings(smooth_on="field"), "pretext.smooth_on"),  # type: ignore[arg-type]
        (lambda: GVSLSettings(window=8), "pretext.window is 8: give an odd number"),
        (lambda: GVSLSettings(window=-1), "pretext.window is -1: give an odd number"),
        (lambda: GVSLSettings(ncc_sigma=-1.0), "pretext.ncc_sigma is -1.0: give 0 or more"),
        (lambda: GVSLSettings(variance_floor=0.0), "pretext.variance_floor is 0: give more than 0"),
        (lambda: ModelsGenesisSettings(flip_rate=2.0), "pretext.flip_rate is 2.0: give 0 to 1"),
        (lambda: ModelsGenesisSettings(shuffle_largest=2.0), "pretext.shuffle_largest is 2.0: give 0 to 1"),
        (lambda: GVSLSettings(spatial=SpatialSettings(rotation=-5.0)), "pretext.spatial.rotation is -5.0: give 0 to"),
        (lambda: GVSLSettings(spatial=SpatialSettings(knots=1)), "pretext.spatial.knots is 1: give 2 or more"),
        (lambda: GVSLSettings(appearance=AppearanceSettings(inpaint_rate=1.5)), "appearance.inpaint_rate is 1.5: give"),
        (lambda: GVSLSettings(labels_weight=-1.0), "pretext.labels_weight is -1.0: give 0 or more"),
        (
            lambda: InpaintingSettings(spatial=SpatialSettings(shear=50.0)),
            "spatial.shear is 50.0: give 0 to 45",
        ),
        (lambda: RotationSettings(spatial=SpatialSettings(scale=1.0)), "pretext.spatial.scale is 1.0: give 0 to 0.9"),
        (lambda: DeepClusterSettings(clusters=1), "pretext.clusters is 1: give 2 or more"),
        (lambda: DeepClusterSettings(components=0), "pretext.components is 0: give 1 or more"),
        (lambda: DeepClusterSettings(least_epoch=0), "pretext.least_epoch is 0: give 1 or more"),
        (
            lambda: SimCLRSettings(views=ViewSettings(spatial=SpatialSettings(rate=3.0))),
            "pretext.views.spatial.rate is",
        ),
        (lambda: SimSiamSettings(norm="group"), "pretext.norm"),  # type: ignore[arg-type]
        (lambda: BYOLSettings(chunk=0), "pretext.chunk is 0: give 1 or more"),
        (lambda: SimCLRSettings(hidden=0), "pretext.hidden is 0: give 1 or more"),
        (lambda: PretrainSettings(seed=-1), "seed is -1"),
        (lambda: PretrainSettings(backbone=UNet3DSettings(width=12)), "backbone.width is 12"),
    ],
)
def test_settings_out_of_range_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
