"""The network that nnU-Net builds from exported plans: its own for its own backbones, gvsl_unet.py for `unet`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones import Backbone
from gvsl.backbones.nnunet import IMPORTED, NNUNetBackbone
from gvsl.export import gvsl_unet
from gvsl.export.source import Source, tensors_of
from gvsl.transfer import Segmenter

OWN = "gvsl_unet.ForNNUNet"
"""The name of the network of `unet` in plans."""


def architecture(backbone: Backbone, kernel: int = 0) -> dict[str, Any]:
    """Return the part of the plans that says which network to build.

    Args:
        backbone: of the run.
        kernel: side of the head's convolution of `unet`, of a run of segmentation; 0 for nnU-Net's own last layer.
    """
    if isinstance(backbone, NNUNetBackbone):
        return {
            "network_class_name": backbone.architecture,
            "arch_kwargs": backbone.arguments(),
            "_kw_requires_import": list(IMPORTED),
        }
    strides = [[1, 1, 1]] + [[2, 2, 2]] * (backbone.levels - 1)
    return {
        "network_class_name": OWN,
        "arch_kwargs": {"features_per_stage": backbone.channels, "strides": strides, "kernel": kernel},
        "_kw_requires_import": [],
    }


def is_whole_model(source: Source) -> bool:
    """Return True if nnU-Net's network holds the head too: of a segmentation, and for its own networks a 1x1x1 one."""
    if not isinstance(source.model, Segmenter):
        return False
    return not isinstance(source.backbone, NNUNetBackbone) or source.model.network.head.kernel_size[0] == 1


def backbone_tensors(backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors that nnU-Net's function for pre-trained weights looks for, by its names."""
    if isinstance(backbone, NNUNetBackbone):
        return backbone.stock_tensors()
    return tensors_of(backbone)


def build_network(source: Source) -> nn.Module:
    """Return the network that nnU-Net builds from the plans, with the run's weights, in eval mode."""
    backbone, model, head = source.backbone, source.model, {}
    classes, kernel = 2, 0
    if isinstance(model, Segmenter) and is_whole_model(source):
        classes, kernel = 1 + len(model.labels), model.network.head.kernel_size[0]
        head = model.network.head.state_dict()
    with torch.random.fork_rng(devices=[]):  # initialising weights must not advance the caller's generator
        network = random_network(backbone, classes, kernel)
    head = _folded(head) if isinstance(backbone, NNUNetBackbone) else head
    own = {f"{last_layer(backbone)}.{key}": value for key, value in head.items()}
    network.load_state_dict(network.state_dict() | backbone_tensors(backbone) | own)
    return network.eval()


def random_network(backbone: Backbone, classes: int, kernel: int = 0) -> nn.Module:
    """Return the network that nnU-Net builds for a backbone of this size, with random weights; see `architecture`."""
    if isinstance(backbone, NNUNetBackbone):
        network: nn.Module = backbone.stock(classes)
        return network
    strides = architecture(backbone)["arch_kwargs"]["strides"]
    return gvsl_unet.ForNNUNet(backbone.in_channels, classes, backbone.channels, strides, kernel=kernel)


def last_layer(backbone: Backbone) -> str:
    """Return the name of the layer in that network that a run's head becomes."""
    group = "decoder" if isinstance(backbone, NNUNetBackbone) else "heads"
    return f"{group}.seg_layers.{backbone.levels - 2}"


def _folded(head: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weight and bias of a 1x1x1 head on features as they are, of one on centred and scaled features."""
    if not head:
        return {}
    weight = head["weight"].double() / head["spread"].double().view(1, -1, 1, 1, 1)
    bias = head["bias"].double() - (weight[:, :, 0, 0, 0] @ head["centre"].double())
    return {"weight": weight.float(), "bias": bias.float()}


def compared(source: Source) -> Source:
    """Return what the check compares: the logits of a whole model, the features of any other."""
    return source if is_whole_model(source) else replace(source, model=None)


def runner(source: Source, network: Any) -> Callable[[Tensor], list[Tensor]]:
    """Return a function that computes with nnU-Net's network what `compared` holds."""

    @torch.no_grad()
    def run(image: Tensor) -> list[Tensor]:
        if is_whole_model(source):
            return [network(image)]
        local, deepest = _features(network, image)
        return [local, deepest] if compared(source).has_decoder else [deepest]

    return run


def _features(network: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(network, gvsl_unet.ForNNUNet):
        skips = network.encode(image)
        return network.decode(skips)[-1], skips[-1]
    seen: list[Tensor] = []
    hook = network.decoder.stages[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    network(image)
    hook.remove()
    return seen[0], network.encoder(image)[-1]
