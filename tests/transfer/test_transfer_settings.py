from dataclasses import fields, replace
from typing import Literal

import pytest

from gvsl.errors import UserError
from gvsl.settings.transfer import resolve_augment
from gvsl.transfer import TransferSettings
from gvsl.transfer.augmentation import AugmentSettings


def test_defaults_are_the_papers() -> None:
    settings = TransferSettings()
    assert (settings.learning_rate, settings.max_steps) == (1e-4, 40_000)
    assert (settings.batch_size, settings.validate_every) == (1, 200)
    assert (settings.crop, settings.overlap) == ((128, 128, 128), 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "probe"),
        ("precision", "fp16"),
        ("device", "tpu"),
        ("max_steps", 0),
        ("batch_size", 0),
        ("validate_every", 0),
        ("labels", 0),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", ()),
        ("learning_rate", (1e-3, 0.0)),
        ("patience", 0),
        ("crop", (16, 0, 16)),
        ("overlap", 1.0),
        ("width", 12),
        ("cache_gigabytes", -1.0),
        ("loss", "focal"),
        ("checkpoint_every", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    assert name in {item.name for item in fields(TransferSettings)}
    with pytest.raises(UserError, match=rf"^(there is no )?{name} ") as caught:
        replace(TransferSettings(), **{name: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_augmentation_is_not_for_frozen_features() -> None:
    with pytest.raises(UserError, match=r"^augment.rate is 0.5, but mode linear"):
        TransferSettings(augment=AugmentSettings(rate=0.5))
    assert TransferSettings(mode="finetune", augment=AugmentSettings(rate=0.5)).augment.rate == 0.5


@pytest.mark.parametrize(("mode", "rate"), [("linear", 0), ("finetune", 1), ("scratch", 1)])
def test_all_examples_are_augmented_unless_features_are_frozen(
    mode: Literal["linear", "finetune", "scratch"], rate: float
) -> None:
    assert resolve_augment(TransferSettings(mode=mode)).augment == AugmentSettings(rate=rate)
    assert resolve_augment(TransferSettings(mode=mode, augment=AugmentSettings(rate=0))).augment.rate == 0
