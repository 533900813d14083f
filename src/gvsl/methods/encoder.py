"""What the global methods share: they train the encoder alone, on the volumes of both sides of the pairs."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gvsl.backbones import UNet3D
from gvsl.types import PairBatch


def leave_decoder(backbone: UNet3D) -> None:
    """Leave the decoder at its initialisation, as the paper does for global methods (Section 4.1)."""
    backbone.decoder.requires_grad_(False)


def all_volumes(batch: PairBatch) -> Tensor:
    """The volumes of both sides: (2 B, C, D, H, W), so that a step sees as much data as one of GVSL does."""
    return torch.cat([batch.moving, batch.fixed])


def all_ids(batch: PairBatch) -> list[str]:
    """The ids of `all_volumes`."""
    return [*batch.moving_ids, *batch.fixed_ids]


def global_features(backbone: UNet3D, images: Tensor, chunk: int | None = None) -> Tensor:
    """The encoder's features, pooled, in float32 at least: (B, C, D, H, W) to (B, 16 * width).

    Args:
        backbone: only its encoder runs.
        images: any number of volumes of one size.
        chunk: volumes that are encoded at once. Each chunk is encoded again in the backward pass, so that memory
            holds the activations of one alone; the gradient stays exactly that of the whole batch.
    """
    if chunk is None or chunk >= len(images):
        return _pooled(backbone, images)
    return torch.cat(
        [cast(Tensor, checkpoint(_pooled, backbone, part, use_reentrant=False)) for part in images.split(chunk)]
    )


def _pooled(backbone: UNet3D, images: Tensor) -> Tensor:
    features = backbone.encode(images)
    return features.to(torch.promote_types(features.dtype, torch.float32)).mean(dim=(2, 3, 4))


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """A head's output without autocast: at a few rows it costs nothing, and bf16 would round their differences away."""
    with torch.autocast(features.device.type, enabled=False):
        out: Tensor = head(features)
    return out
