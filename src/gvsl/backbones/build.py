"""The one place where a backbone is built from its settings."""

from collections.abc import Callable
from typing import Any

from gvsl.backbones.backbone import Backbone
from gvsl.backbones.genesis import Genesis
from gvsl.backbones.nnunet import PlainConv, ResEnc
from gvsl.backbones.unet3d import UNet3D
from gvsl.errors import UserError
from gvsl.settings.backbones import BackboneSettings, own_settings

BACKBONES: dict[str, type[Backbone]] = {"unet": UNet3D, "resenc": ResEnc, "plainconv": PlainConv, "genesis": Genesis}
"""The backbones by the names that settings have for them."""


def build_backbone(settings: BackboneSettings, kind: type[Backbone] | None = None) -> Backbone:
    """Return a new backbone with random weights from PyTorch's generator.

    Args:
        settings: in which `levels` is a number.
        kind: a subclass of the backbone that `settings` name, to build that instead.

    Raises:
        UserError: the settings don't fit each other, or a package is missing.
    """
    if settings.levels == "auto":
        raise UserError("backbone.levels is auto, but there is no crop to choose it by: give a number")
    own: dict[str, Any] = {name: getattr(settings, name) for name in own_settings(settings.name)}
    size = (settings.in_channels, settings.width, settings.levels, settings.checkpoint_activations)
    build: Callable[..., Backbone] = kind or BACKBONES[settings.name]
    try:
        return build(*size, **own)
    except ValueError as error:
        raise UserError(f"backbone {settings.name}: {error}") from error
