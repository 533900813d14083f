"""How checkpoints from elsewhere name a backbone's tensors, and how its size is read off them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gvsl.backbones import BackboneSettings
from gvsl.backbones.genesis import LAST_LAYER, PUBLISHED_LEVELS, Genesis, published_name
from gvsl.backbones.nnunet import PlainConv, ResEnc, own_tensors
from gvsl.backbones.weights import parse_size
from gvsl.errors import UserError
from gvsl.text import few
from gvsl.transfer.foreign_checkpoint import WEIGHTS

PARTS = ("encoder", "decoder")
AXES = 5
"""Of the weights of a convolution."""
BLOCK = re.compile(r"encoder\.stages\.(\d{1,3})\.blocks\.(\d{1,3})\.")
LEVEL = re.compile(r"encoder\.stages\.(\d{1,3})\.")
HU = (-1000.0, 1000.0)
"""The window of the images that Models Genesis was trained on, in HU."""


class Layout(NamedTuple):
    """A kind of checkpoint."""

    method: str
    """In place of a method of gvsl, in records."""
    tensors: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Returns the tensors of a network by the names of this layout, each once."""
    size: Callable[[Mapping[str, Tensor], Path], BackboneSettings]
    """Returns the size of the backbone that such tensors are of; UserError if they are of none."""
    name: Callable[[str], str]
    """Returns the name in this layout of a backbone's tensor."""
    is_other: Callable[[str], bool]
    """Returns True for the name of a tensor that is no part of a backbone."""
    window: tuple[float, float] | None = None
    """The intensities that are mapped to 0 and 1, if they are known."""


def _nnunet_size(tensors: Mapping[str, Tensor], path: Path) -> BackboneSettings:
    """Return the size of the network of nnU-Net that the names and shapes are of.

    Raises:
        UserError: they are of no network of nnU-Net.
    """
    kernels = {name: value for name, value in tensors.items() if value.ndim == AXES}
    kind = next((kind for kind in (ResEnc, PlainConv) if kind.stem_key in kernels), None)
    if kind is None:
        raise _no_network(path, f"{ResEnc.stem_key} in its {WEIGHTS}, as a network of nnU-Net has", tensors)
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
    return _parsed(size, path)


def _genesis_size(tensors: Mapping[str, Tensor], path: Path) -> BackboneSettings:
    """Return the size of the network of Models Genesis that the shapes are of.

    Raises:
        UserError: they are of none.
    """
    first, second = (published_name(name) for name in (Genesis.stem_key, "encoder.0.1.0.weight"))
    for name in (first, second):
        if name not in tensors or tensors[name].ndim != AXES:
            raise _no_network(path, f"{name} in its {GENESIS}, as Models Genesis has", tensors)
    channels, width = tensors[first].shape[1], tensors[second].shape[0]
    size = {"name": Genesis.name, "in_channels": channels, "width": width, "levels": PUBLISHED_LEVELS}
    return _parsed(size, path)


def _parsed(size: dict[str, Any], path: Path) -> BackboneSettings:
    try:
        return parse_size(size)
    except (ValueError, UserError) as error:
        raise UserError(f"{path} holds no network that gvsl can build: {error}") from None


def _no_network(path: Path, what: str, tensors: Mapping[str, Tensor]) -> UserError:
    names = few([name[:80] for name in sorted(tensors)]) if tensors else "nothing"
    return UserError(f"{path} has no {what}, but {names}")


GENESIS = "state_dict"
LAYOUTS = {
    WEIGHTS: Layout("nnunet", own_tensors, _nnunet_size, str, lambda name: name.partition(".")[0] not in PARTS),
    GENESIS: Layout("genesis", dict, _genesis_size, published_name, lambda name: name.startswith(LAST_LAYER), HU),
}
"""The layouts by the entry of a checkpoint that holds the network."""
