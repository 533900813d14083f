"""Weights from elsewhere as a start to compare with: a checkpoint of nnU-Net, or of nnssl's OpenMind, as one file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gvsl.backbones import BackboneSettings, build_backbone
from gvsl.backbones.nnunet import PlainConv, ResEnc, own_tensors
from gvsl.backbones.provenance import LABELS
from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import MODEL_NAME, PretrainedBackbone, compare_keys, parse_size, pretrained_backbone
from gvsl.errors import UserError
from gvsl.store import Store
from gvsl.text import few, note
from gvsl.transfer.nnunet_checkpoint import WEIGHTS, read_network_weights

METHOD = "nnunet"
PARTS = ("encoder", "decoder")
PREFIXES = ("module.", "_orig_mod.")
"""What training in parallel or a compiler puts before every name."""
NAMED = 3
AXES = 5
"""Of the weights of a convolution."""
BLOCK = re.compile(r"encoder\.stages\.(\d{1,3})\.blocks\.(\d{1,3})\.")
LEVEL = re.compile(r"encoder\.stages\.(\d{1,3})\.")


def is_weights_file(weights: str | Path | None) -> bool:
    """Return True for a file other than the one in a folder of weights."""
    return weights is not None and Path(weights).is_file() and Path(weights).name != MODEL_NAME


def load_weights_file(path: Path, store: Store) -> PretrainedBackbone:
    """Load the backbone in a checkpoint, see `read_weights_file`, for images that are prepared as a store's.

    The file doesn't say on which images and labels it was trained and how they were prepared, which is told.

    Raises:
        UserError: see `read_weights_file`; or it takes another number of channels than the store has.
    """
    backbone = read_weights_file(path)
    if backbone.in_channels != store.channel_count:
        raise UserError(f"{path} takes {backbone.in_channels} channels, but {store.path} has {store.channel_count}")
    backbone.preprocessing = store.preprocessing
    note(
        f"{path} does not say on which images and labels it was trained, nor how the images were prepared: neither is "
        "checked"
    )
    return backbone


def read_weights_file(path: Path) -> PretrainedBackbone:
    """Read the backbone in a checkpoint that holds a network of nnU-Net, in eval mode, on the CPU.

    It has no preprocessing. A decoder that the file lacks gets random weights from PyTorch's generator.

    Raises:
        UserError: it can't be read, its tensors are not those of such a network, or a weight is not finite.
    """
    tensors = _plain(read_network_weights(path))
    settings = _size(tensors, path)
    own = {name: value for name, value in tensors.items() if name.partition(".")[0] in PARTS}
    with torch.device("meta"):  # no size costs memory before the file is known to have its tensors
        expected = build_backbone(settings).state_dict()
    present = [part for part in PARTS if any(name.startswith(f"{part}.") for name in own)]
    report = compare_keys({name: value for name, value in expected.items() if name.partition(".")[0] in present}, own)
    if not report.complete:
        raise UserError(f"{path} does not fit backbone {settings.name}, which it is closest to ({report})")
    refuse_not_finite(own, path)
    backbone = pretrained_backbone(settings)
    backbone.load_state_dict(own, strict=False)
    backbone.keys, backbone.learnt_from, backbone.method = report, None, METHOD
    backbone.provenance = {"file": path.name, "pretrained": present, LABELS: None}
    _tell(path, tensors, present)
    return backbone.eval()


def _tell(path: Path, tensors: Mapping[str, Tensor], present: list[str]) -> None:
    others = sorted({name.partition(".")[0] for name in tensors} - set(PARTS))
    if others:
        note(f"{path}: left out {few(others, NAMED)}, which are no parts of a backbone")
    if "decoder" not in present:
        note(f"{path} has no decoder: its weights are random")


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by a backbone's names."""
    found = dict(weights)
    for prefix in PREFIXES:
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return own_tensors(found)


def _size(tensors: Mapping[str, Tensor], path: Path) -> BackboneSettings:
    """Return the size of the network that the names and shapes are of.

    Raises:
        UserError: they are of no network of nnU-Net.
    """
    kernels = {name: value for name, value in tensors.items() if value.ndim == AXES}
    kind = next((kind for kind in (ResEnc, PlainConv) if kind.stem_key in kernels), None)
    if kind is None:
        names = few(sorted(tensors), NAMED) if tensors else "nothing"
        raise UserError(f"{path} has no {ResEnc.stem_key} in its {WEIGHTS}, as a network of nnU-Net has, but {names}")
    found = [match for name in tensors if (match := LEVEL.match(name))]
    levels = 1 + max((int(match[1]) for match in found), default=0)
    last = "blocks.0.conv1" if kind is ResEnc else "0.convs.0"
    deepest = kernels.get(f"encoder.stages.{levels - 1}.{last}.all_modules.0.weight")
    stem = kernels[kind.stem_key]
    size: dict[str, Any] = {"name": kind.name, "in_channels": stem.shape[1], "width": stem.shape[0], "levels": levels}
    if deepest is not None:
        size["max_width"] = max(deepest.shape[0], stem.shape[0])
    if kind is ResEnc:
        blocks = {(int(match[1]), int(match[2])) for name in tensors if (match := BLOCK.match(name))}
        size["blocks"] = [sum(level == number for level, _ in blocks) for number in range(levels)]
    try:
        return parse_size(size)
    except (ValueError, UserError) as error:
        raise UserError(f"{path} holds no network that gvsl can build: {error}") from None
