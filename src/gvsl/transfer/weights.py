"""A trained network in a run's folder: weights/ (the backbone), head.safetensors, head.json."""

import hashlib
import json
from collections.abc import Collection, Iterable
from colorsys import hsv_to_rgb
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from gvsl.backbones.weights import CONFIG_NAME as WEIGHTS_CONFIG
from gvsl.backbones.weights import (
    MODEL_NAME,
    PretrainedUNet3D,
    compare_keys,
    find_weights,
    load_backbone,
    read_config,
    read_tensors,
    save_weights,
)
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.preprocessing import Preprocessing
from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.classifier import ClassificationNetwork
from gvsl.transfer.networks import SegmentationNetwork
from gvsl.transfer.transfer_settings import TransferSettings

Colour = tuple[int, int, int]
FORMAT = 1
GOLDEN_SECTION = 0.618034
HEAD_NAME = "head.safetensors"
CONFIG_NAME = "head.json"


@dataclass(frozen=True)
class Segmenter:
    """A trained network, and what has to be known to use it."""

    network: SegmentationNetwork
    """In eval mode, on the CPU."""
    labels: dict[int, str]
    """Label value to the structure's name, in the order of the network's classes, without the background."""
    preprocessing: Preprocessing
    """The contract that its input has to keep."""
    crop: tuple[int, int, int]
    """The window's largest sides in voxels."""
    overlap: float
    """Share of a window that the next one covers too."""
    colours: dict[int, Colour] = field(default_factory=dict)
    """Label value to red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Classifier:
    """A trained network that tells two classes, and what has to be known to use it."""

    network: ClassificationNetwork
    """In eval mode, on the CPU."""
    preprocessing: Preprocessing
    """The contract that its input has to keep."""
    crop: tuple[int, int, int]
    """The window's largest sides in voxels."""
    overlap: float
    """Share of a window that the next one covers too."""


def label_colours(labels: Iterable[int]) -> dict[int, Colour]:
    """A colour for each label value, far from those before it: hues a golden section of the circle apart."""
    colours: dict[int, Colour] = {}
    for index, value in enumerate(labels):
        red, green, blue = hsv_to_rgb((index * GOLDEN_SECTION) % 1, 0.75 - 0.35 * (index % 2), 0.95)
        colours[value] = (round(255 * red), round(255 * green), round(255 * blue))
    return colours


def save_segmenter(
    folder: Path,
    network: SegmentationNetwork,
    *,
    labels: dict[int, str],
    settings: TransferSettings,
    method: str,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    learnt_from: Collection[str] | None = None,
    task: str = "segmentation",
) -> None:
    """Write all that is needed to segment on another machine into a run's folder."""
    config = {
        "task": task,
        "kind": "segmentation",
        "labels": {str(value): name for value, name in labels.items()},
        "colours": {str(value): list(colour) for value, colour in label_colours(labels).items()},
        "kernel": settings.kernel,
    }
    save_weights(
        folder,
        network.backbone,
        method=method,
        preprocessing=preprocessing,
        provenance=provenance,
        learnt_from=learnt_from,
    )
    _save_head(folder, network, settings, config)


def save_classifier(
    folder: Path,
    network: ClassificationNetwork,
    *,
    settings: TransferSettings,
    method: str,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    learnt_from: Collection[str] | None = None,
    task: str = "classification",
) -> None:
    """Write all that is needed to classify on another machine into a run's folder."""
    save_weights(
        folder,
        network.backbone,
        method=method,
        preprocessing=preprocessing,
        provenance=provenance,
        learnt_from=learnt_from,
    )
    _save_head(folder, network, settings, {"task": task, "kind": "classification"})


def load_segmenter(folder: Path) -> Segmenter:
    """Load the network of a transfer run.

    Raises:
        UserError: `folder` is no such run's, a file in it is broken or newer, or a key does not match.
    """
    config, backbone = _open(folder, "segmentation")
    try:
        labels = {int(value): str(name) for value, name in config["labels"].items()}
        network = SegmentationNetwork(backbone, 1 + len(labels), kernel=config["kernel"], precision=config["precision"])
        crop, overlap = _windows(config)
        colours = _parse_colours(config.get("colours"), labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_config(folder, error) from None
    _load_head(folder, network)
    return Segmenter(network, labels, backbone.preprocessing, crop, overlap, colours)


def load_classifier(folder: Path) -> Classifier:
    """Load the network of a transfer run that tells two classes.

    Raises:
        UserError: `folder` is no such run's, a file in it is broken or newer, or a key does not match.
    """
    config, backbone = _open(folder, "classification")
    try:
        network = ClassificationNetwork(backbone, precision=config["precision"])
        crop, overlap = _windows(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_config(folder, error) from None
    _load_head(folder, network)
    return Classifier(network, backbone.preprocessing, crop, overlap)


def load_adapted(folder: Path) -> Segmenter | Classifier:
    """Load the network of a transfer run, whatever it does.

    Raises:
        UserError: `folder` is no such run's, a file in it is broken or newer, or a key does not match.
    """
    return load_classifier(folder) if _kind(_read(folder)) == "classification" else load_segmenter(folder)


def fingerprint(folder: Path) -> str:
    """The SHA-256 of all files that decide what the network of a run predicts.

    Raises:
        UserError: `folder` is no such run's.
    """
    weights, digest = find_weights(folder), hashlib.sha256()
    for path in (weights / MODEL_NAME, weights / WEIGHTS_CONFIG, folder / HEAD_NAME, folder / CONFIG_NAME):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _save_head(folder: Path, network: AdaptedNetwork, settings: TransferSettings, config: dict[str, Any]) -> None:
    with whole_file(folder / HEAD_NAME) as temporary:
        save_file({key: value.cpu().contiguous() for key, value in network.head.state_dict().items()}, temporary)
    whole = {
        "format": FORMAT,
        **config,
        "crop": list(settings.crop),
        "overlap": settings.overlap,
        "precision": network.precision,
    }
    write_text(folder / CONFIG_NAME, json.dumps(whole, indent=1) + "\n")


def _read(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder} holds no {CONFIG_NAME}: name the folder of a run of gvsl transfer")
    return read_config(folder / CONFIG_NAME)


def _kind(config: dict[str, Any]) -> object:
    """What the head does; runs from before there was a second kind segment."""
    return config.get("kind", "segmentation")


def _open(folder: Path, kind: str) -> tuple[dict[str, Any], PretrainedUNet3D]:
    """The head's config, which must be of this kind, and the backbone."""
    config = _read(folder)
    if _kind(config) != kind:
        raise UserError(f"{folder} holds a run of {_kind(config)}, not of {kind}: name another")
    return config, load_backbone(folder)


def _windows(config: dict[str, Any]) -> tuple[tuple[int, int, int], float]:
    """Crop and overlap."""
    depth, height, width = (int(side) for side in config["crop"])
    overlap = float(config["overlap"])
    if min(depth, height, width) < 1 or not 0 <= overlap < 1:
        raise ValueError(f"crop {config['crop']} or overlap {overlap:g} is out of its range")
    return (depth, height, width), overlap


def _load_head(folder: Path, network: AdaptedNetwork) -> None:
    """Load the head's tensors, and leave the network in eval mode."""
    tensors = read_tensors(folder / HEAD_NAME)
    report = compare_keys(network.head.state_dict(), tensors)
    if not report.complete:
        raise UserError(f"{folder / HEAD_NAME} does not fit its {CONFIG_NAME} ({report}): copy both from one run")
    network.head.load_state_dict(tensors)
    network.eval()


def _no_config(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder / CONFIG_NAME} is no config of a head ({error}); copy it from the run again")


def _parse_colours(values: dict[str, list[int]] | None, labels: Iterable[int]) -> dict[int, Colour]:
    """The colours of a config, or new ones for a run from before runs had them."""
    if values is None:
        return label_colours(labels)
    colours: dict[int, Colour] = {}
    for value, (red, green, blue) in values.items():
        colours[int(value)] = (int(red), int(green), int(blue))
    return colours
