"""Methods that train the encoder only, on its pooled features of both volumes of each pair."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gvsl.augment import draw_spatial
from gvsl.backbones import Backbone
from gvsl.geometry import spatial_shape, warp
from gvsl.methods.method import Method
from gvsl.settings.augment import SpatialSettings
from gvsl.types import PairBatch


class EncoderMethod(Method):
    """Base of the methods that learn global features.

    The decoder never runs and stays at its initialisation, as in the GVSL paper (Section 4.1). A subclass creates the
    modules that it names in `heads`.
    """

    pretrained = ("encoder",)
    heads: tuple[str, ...]
    """Names of the trained modules besides the encoder."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        backbone.decoder.requires_grad_(False)

    def parts(self) -> dict[str, nn.Module]:
        """Return the encoder and the heads."""
        return {"encoder": self.backbone.encoder} | {name: getattr(self, name) for name in self.heads}


def all_volumes(batch: PairBatch) -> Tensor:
    """Return both volumes of each pair, (2 B, C, D, H, W), so that a step sees as much data as one of GVSL does."""
    return torch.cat([batch.moving, batch.fixed])


def all_ids(batch: PairBatch) -> list[str]:
    """Return the ids of `all_volumes`."""
    return [*batch.moving_ids, *batch.fixed_ids]


def all_subjects(batch: PairBatch) -> list[str]:
    """Return the subjects of `all_volumes`."""
    return all_ids(batch) if batch.subjects is None else batch.subjects


def move(images: Tensor, settings: SpatialSettings, generator: torch.Generator) -> Tensor:
    """Return volumes, (B, C, D, H, W), each transformed by a draw of its own; beyond them the border is repeated."""
    if settings.rate == 0:
        return images
    return warp(images, draw_spatial(len(images), spatial_shape(images), settings, generator), padding="border")


def global_features(backbone: Backbone, images: Tensor, chunk: int | None = None) -> Tensor:
    """Return the encoder's features averaged over space, in float32 or higher.

    Args:
        backbone: only its encoder runs.
        images: (B, C, D, H, W).
        chunk: number of volumes encoded at a time, by default all. Chunks are encoded again in the backward pass, so
            that memory holds the activations of one chunk; the gradient is that of the whole batch.

    Returns:
        (B, global_channels).

    >>> from gvsl.backbones import UNet3D
    >>> global_features(UNet3D(width=8), torch.rand(3, 1, 16, 16, 16), chunk=2).shape
    torch.Size([3, 128])
    """
    if chunk is None or chunk >= len(images):
        return _pooled(backbone, images)
    return torch.cat(
        [cast(Tensor, checkpoint(_pooled, backbone, part, use_reentrant=False)) for part in images.split(chunk)]
    )


def _pooled(backbone: Backbone, images: Tensor) -> Tensor:
    features = backbone.encode(images)
    return features.to(torch.promote_types(features.dtype, torch.float32)).mean(dim=(2, 3, 4))


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run a head without autocast: bf16 would round away the differences between a few rows, and saves no time."""
    with torch.autocast(features.device.type, enabled=False):
        out: Tensor = head(features)
    return out
