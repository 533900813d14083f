"""Weights from elsewhere as a start to compare with: a checkpoint of nnU-Net, nnssl or Models Genesis, as one file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gvsl.backbones import BackboneSettings, build_backbone
from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.provenance import LABELS
from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import MODEL_NAME, PretrainedBackbone, compare_keys, pretrained_backbone
from gvsl.errors import UserError
from gvsl.store import Store
from gvsl.text import few, note
from gvsl.transfer.foreign_checkpoint import read_weights
from gvsl.transfer.foreign_layouts import LAYOUTS, PARTS, Layout

PREFIXES = ("module.", "_orig_mod.")
"""What training in parallel or a compiler puts before every name."""


def is_weights_file(weights: str | Path | None) -> bool:
    """Return True for a file other than the one in a folder of weights."""
    return weights is not None and Path(weights).is_file() and Path(weights).name != MODEL_NAME


def load_weights_file(path: Path, store: Store, allow_mismatch: bool = False) -> PretrainedBackbone:
    """Load the backbone in a checkpoint, see `read_weights_file`, for images that are prepared as a store's.

    The file doesn't say on which images and labels it was trained and how they were prepared, which is told.

    Raises:
        UserError: see `read_weights_file`; it takes another number of channels than the store has; or the intensities
            that it is known to need are others, unless a mismatch is allowed.
    """
    layout, backbone = _read(path)
    if backbone.in_channels != store.channel_count:
        raise UserError(f"{path} takes {backbone.in_channels} channels, but {store.place} has {store.channel_count}")
    backbone.preprocessing = store.preprocessing
    unknown = "how the images were prepared"
    if layout.window is not None:
        lower, upper = layout.window
        wanted = replace(store.preprocessing, intensity="window", lower=lower, upper=upper, channels=())
        backbone.preprocessing = wanted
        check_preprocessing(backbone, path, store, allow_mismatch)
        backbone.preprocessing = store.preprocessing
        unknown = f"with which voxels beside the window of {lower:g} to {upper:g} HU"
    note(f"{path} does not say on which images and labels it was trained, nor {unknown}: neither is checked")
    return backbone


def read_weights_file(path: Path) -> PretrainedBackbone:
    """Read the backbone in a checkpoint of nnU-Net, nnssl or Models Genesis, in eval mode, on the CPU.

    It has no preprocessing. A decoder that the file lacks gets random weights from PyTorch's generator.

    Raises:
        UserError: it can't be read, its tensors are not those of such a network, or a weight is not finite.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[Layout, PretrainedBackbone]:
    entry, weights = read_weights(path, list(LAYOUTS))
    layout = LAYOUTS[entry]
    tensors = layout.tensors(_without_prefixes(weights))
    settings = layout.size(tensors, path)
    found = {name: value for name, value in tensors.items() if not layout.is_other(name)}
    wanted = _expected(settings, path)
    names = {layout.name(own): own for own in wanted}
    parts = {name: own.partition(".")[0] for name, own in names.items()}
    present = [part for part in PARTS if part in {parts.get(name) for name in found}]
    report = compare_keys({name: wanted[own] for name, own in names.items() if parts[name] in present}, found)
    if not report.complete:
        raise UserError(f"{path} does not fit backbone {settings.name}, which it is closest to ({report})")
    refuse_not_finite(found, path)
    backbone = pretrained_backbone(settings)
    backbone.load_state_dict({names[name]: value for name, value in found.items()}, strict=False)
    backbone.keys, backbone.learnt_from, backbone.method = report, None, layout.method
    backbone.provenance = {"file": path.name, "pretrained": present, LABELS: None}
    _tell(path, sorted({name.partition(".")[0] for name in tensors if layout.is_other(name)}), present)
    return layout, backbone.eval()


def _expected(settings: BackboneSettings, path: Path) -> dict[str, Tensor]:
    """Return a backbone's tensors without values: no size costs memory before the file is known to have them."""
    try:
        with torch.device("meta"):
            return build_backbone(settings).state_dict()
    except UserError as error:
        raise UserError(f"{path} holds no network that gvsl can build: {error}") from None


def _tell(path: Path, others: list[str], present: list[str]) -> None:
    if others:
        note(f"{path}: left out {few(others)}, which are no parts of a backbone")
    if "decoder" not in present:
        note(f"{path} has no decoder: its weights are random")


def _without_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(weights)
    for prefix in PREFIXES:
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found
