"""What is exported: the backbone of a pre-training run, or the whole network of a transfer run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones.nnunet import NNUNetBackbone
from gvsl.backbones.provenance import describe_labels
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.errors import UserError
from gvsl.export import gvsl_unet, nnunet_plain
from gvsl.preprocessing import preprocessing_values
from gvsl.transfer import AdaptedNetwork, Classifier, Segmenter


@dataclass(frozen=True)
class Source:
    """A run whose network is exported."""

    run: Path
    backbone: PretrainedBackbone
    """In eval mode, on the CPU."""
    model: Segmenter | Classifier | None = None
    """The network of a transfer run; None for a pre-training run."""

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.run.resolve().name

    @property
    def channels(self) -> list[int]:
        """Channels of the backbone's levels, from the finest on."""
        return self.backbone.channels

    @property
    def has_decoder(self) -> bool:
        """False if the run's method trained the encoder alone."""
        return self.model is not None or "decoder" in self.backbone.provenance.get("pretrained", ["decoder"])


def require_segmenter(source: Source, target: str) -> Segmenter:
    """Return the model of a segmentation run; UserError if it is another kind of run."""
    if isinstance(source.model, Segmenter):
        return source.model
    kind = "a pre-training run" if source.model is None else "a run of classification"
    raise UserError(f"{source.run} is {kind}, {target} takes runs of segmentation: name one, or give --to onnx")


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a backbone or an adapted network by the names that `gvsl_unet` has for them."""
    return {name.removeprefix("backbone."): value for name, value in network.state_dict().items()}


def plain_network(source: Source) -> nn.Module:
    """Return the source's network in plain PyTorch, in eval mode: it computes in float32, with random numbers nowhere.

    It is a `gvsl_unet.Segmenter`, `Classifier`, `Features`, or `Encoder` where the method trained no decoder; for
    backbones of nnU-Net that of the same name in `nnunet_plain`.
    """
    if isinstance(source.backbone, NNUNetBackbone):
        return _plain_nnunet(source, source.backbone)
    network: nn.Module
    size = source.backbone.in_channels, source.channels
    with torch.random.fork_rng(devices=[]):  # initialising weights must not advance the caller's generator
        if isinstance(source.model, Segmenter):
            head = source.model.network.head
            network = gvsl_unet.Segmenter(*size, head.out_channels, head.kernel_size[0])
        elif isinstance(source.model, Classifier):
            network = gvsl_unet.Classifier(*size)
        elif source.has_decoder:
            network = gvsl_unet.Features(*size)
        else:
            network = gvsl_unet.Encoder(*size)
    tensors = tensors_of(source.backbone if source.model is None else source.model.network)
    if isinstance(network, gvsl_unet.Encoder | gvsl_unet.Classifier):
        tensors = {name: value for name, value in tensors.items() if not name.startswith("decoder.")}
    network.load_state_dict(tensors)
    return network.eval()


def _plain_nnunet(source: Source, backbone: NNUNetBackbone) -> nn.Module:
    network: nn.Module
    with torch.random.fork_rng(devices=[]):
        if isinstance(source.model, Segmenter):
            network = nnunet_plain.Segmenter(backbone, source.model.network.head)
        elif isinstance(source.model, Classifier):
            network = nnunet_plain.Classifier(backbone, source.model.network.head)
        else:
            network = nnunet_plain.Features(backbone) if source.has_decoder else nnunet_plain.Encoder(backbone)
    return network.eval()


@torch.no_grad()
def expected_outputs(source: Source, image: Tensor) -> list[Tensor]:
    """Return what gvsl's own network computes in float32, in the order of the exported network's outputs."""
    if source.model is not None:
        return [_in_float32(source.model.network, image)]
    if source.has_decoder:
        features = source.backbone(image)
        return [features.local, features.global_]
    return [source.backbone.encode(image)]


def _in_float32(network: AdaptedNetwork, image: Tensor) -> Tensor:
    precision, network.precision = network.precision, "fp32"
    try:
        return network(image)
    finally:
        network.precision = precision


def contract(source: Source) -> dict[str, Any]:
    """Return what the use of an exported network requires, as JSON values."""
    backbone, model = source.backbone, source.model
    entries: dict[str, Any] = {
        "run": source.name,
        "method": backbone.method,
        "backbone": backbone.size,
        "input": {
            "shape": ["batch", backbone.in_channels, "right", "anterior", "superior"],
            "range": [0, 1],
            "preprocessing": preprocessing_values(backbone.preprocessing),
        },
        "provenance": backbone.provenance,
        "labels_seen": describe_labels(backbone.provenance),
    }
    if model is not None:
        entries["windows"] = {"crop": list(model.crop), "overlap": model.overlap, "weights": "gaussian"}
    if isinstance(model, Segmenter):
        names = {str(value): name for value, name in model.labels.items()}
        entries["labels"] = {"order": [0, *model.labels], "names": {"0": "background", **names}}
    return entries
