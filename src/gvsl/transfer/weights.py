"""A trained network in a run's folder: weights/ (the backbone), head.safetensors and head.json."""

import json
from collections.abc import Collection, Iterable, Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import torch
from safetensors.torch import save_file

from gvsl.backbones.tensor_file import read_tensors, tensor_shapes
from gvsl.backbones.weights import CONFIG_NAME as WEIGHTS_CONFIG
from gvsl.backbones.weights import (
    MODEL_NAME,
    PretrainedBackbone,
    compare_keys,
    find_run,
    find_weights,
    load_backbone,
    read_config,
    save_weights,
)
from gvsl.errors import UserError
from gvsl.files import sha256_of_all, whole_file, write_text
from gvsl.preprocessing import Preprocessing
from gvsl.readers import check_kind
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer.networks import (
    AdaptedNetwork,
    ClassificationHead,
    ClassificationNetwork,
    SegmentationHead,
    SegmentationNetwork,
)

Colour = tuple[int, int, int]
FORMAT = 1
GOLDEN_SECTION = 0.618034
HEAD_NAME = "head.safetensors"
CONFIG_NAME = "head.json"
MAX_KERNEL = 31
CLASSIFIER_CONFIG: Mapping[str, Any] = {"kind": "classification"}
"""The entries of a classifier's head.json that describe its head."""


class HeadConfig(TypedDict):
    """Entries of head.json that every head has, and those of a segmenter."""

    crop: list[int]
    overlap: float
    precision: Literal["fp32", "bf16"]
    kernel: NotRequired[int]
    labels: NotRequired[dict[str, str]]
    colours: NotRequired[dict[str, list[int]]]


@dataclass(frozen=True)
class Segmenter:
    """A trained segmentation network with what its use requires."""

    network: SegmentationNetwork
    """In eval mode, on the CPU."""
    labels: dict[int, str]
    """Label value to the structure's name, in the order of the network's classes, without the background."""
    preprocessing: Preprocessing
    """The preprocessing of its input."""
    crop: tuple[int, int, int]
    """The window's maximum sides in voxels."""
    overlap: float
    """Fraction of a window that the next one covers too."""
    colours: dict[int, Colour] = field(default_factory=dict)
    """Label value to red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Classifier:
    """A trained binary classification network with what its use requires."""

    network: ClassificationNetwork
    """In eval mode, on the CPU."""
    preprocessing: Preprocessing
    """The preprocessing of its input."""
    crop: tuple[int, int, int]
    """The window's maximum sides in voxels."""
    overlap: float
    """Fraction of a window that the next one covers too."""


def label_colours(labels: Iterable[int]) -> dict[int, Colour]:
    """Return a distinct colour for each label value: hues a golden section of the circle apart."""
    colours: dict[int, Colour] = {}
    for index, value in enumerate(labels):
        red, green, blue = hsv_to_rgb((index * GOLDEN_SECTION) % 1, 0.75 - 0.35 * (index % 2), 0.95)
        colours[value] = (round(255 * red), round(255 * green), round(255 * blue))
    return colours


def segmenter_config(labels: Mapping[int, str], kernel: int) -> dict[str, Any]:
    """Return the entries of a segmenter's head.json that describe its head."""
    return {
        "kind": "segmentation",
        "labels": {str(value): name for value, name in labels.items()},
        "colours": {str(value): list(colour) for value, colour in label_colours(labels).items()},
        "kernel": kernel,
    }


def save_adapted(
    folder: Path,
    network: AdaptedNetwork,
    head_config: Mapping[str, Any],
    *,
    settings: TransferSettings,
    method: str,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    learnt_from: Collection[str] | None = None,
    task: str | None = None,
) -> None:
    """Write all that prediction on another machine needs into a run's folder.

    Args:
        folder: of the run.
        network: on any device.
        head_config: of its head: `segmenter_config`, or CLASSIFIER_CONFIG.
        settings: of the run, whose windows prediction uses.
        method: the name of the method that pre-trained the backbone.
        preprocessing: of the volumes that it was trained on.
        provenance: see `gvsl.backbones.weights.save_weights`.
        learnt_from: see `gvsl.backbones.weights.save_weights`.
        task: its name; the kind's if not given.
    """
    save_weights(
        folder,
        network.backbone,
        method=method,
        preprocessing=preprocessing,
        provenance=provenance,
        learnt_from=learnt_from,
    )
    with whole_file(folder / HEAD_NAME) as temporary:
        save_file({key: value.cpu().contiguous() for key, value in network.head.state_dict().items()}, temporary)
    config = {
        "format": FORMAT,
        "task": head_config["kind"] if task is None else task,
        **head_config,
        "crop": list(settings.crop),
        "overlap": settings.overlap,
        "precision": network.precision,
    }
    write_text(folder / CONFIG_NAME, json.dumps(config, indent=1) + "\n")


def load_adapted(folder: Path, kind: str | None = None) -> Segmenter | Classifier:
    """Load the network of a transfer run.

    Args:
        folder: of the run, or a name on the Hugging Face Hub, owner/name or owner/name@revision.
        kind: "segmentation" or "classification"; either if not given.

    Raises:
        UserError: `folder` is not such a run's, a file in it is broken or of a newer format, a key does not match,
            or a weight is not finite.
    """
    folder = find_run(folder, (HEAD_NAME, CONFIG_NAME))
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{folder} holds no {CONFIG_NAME}: name the folder of a run of gvsl transfer")
    config = read_config(path)
    found = config.get("kind", "segmentation")  # runs from before there was a second kind have no entry
    if kind not in (None, found):
        raise UserError(f"{folder} holds a run of {found}, not of {kind}: name another")
    backbone = load_backbone(folder)
    try:
        model = _build(config, found, backbone, folder / HEAD_NAME)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not a valid head config ({error}); copy it from the run again") from None
    model.network.head.load_state_dict(read_tensors(folder / HEAD_NAME))
    model.network.eval()
    return model


def _build(config: dict[str, Any], kind: str, backbone: PretrainedBackbone, head: Path) -> Segmenter | Classifier:
    """Return the model that a head's config describes, with a random head.

    Raises:
        KeyError: the config lacks an entry.
        ValueError: an entry is of another type or out of its range.
        UserError: the tensors in the file `head` are not those of such a head.
    """
    check_kind(kind, Literal["segmentation", "classification"], "kind")
    check_kind(config, HeadConfig)
    crop, overlap = _windows(config)
    labels = _labels(config) if kind == "segmentation" else {}
    kernel = config["kernel"] if kind == "segmentation" else 1
    if not 0 < kernel <= MAX_KERNEL or kernel % 2 == 0:
        raise ValueError(f"kernel is {kernel}")
    with torch.device("meta"):  # neither kernel nor labels cost memory before the file is known to have their tensors
        expected = (
            SegmentationHead(backbone.local_channels, 1 + len(labels), kernel)
            if kind == "segmentation"
            else ClassificationHead(backbone.global_channels)
        )
    report = compare_keys(expected.state_dict(), tensor_shapes(head))
    if not report.complete:
        raise UserError(f"{head} does not fit its {CONFIG_NAME} ({report}): copy both from one run")
    precision = config["precision"]
    if kind == "classification":
        return Classifier(ClassificationNetwork(backbone, precision=precision), backbone.preprocessing, crop, overlap)
    network = SegmentationNetwork(backbone, 1 + len(labels), kernel=kernel, precision=precision)
    return Segmenter(network, labels, backbone.preprocessing, crop, overlap, _colours(config, labels))


def _labels(config: dict[str, Any]) -> dict[int, str]:
    """Return the structures of a head's config; ValueError if a value is no label value."""
    labels = {int(value): name for value, name in config["labels"].items()}
    if not labels or len(labels) < len(config["labels"]) or 0 in labels or max(map(abs, labels)) >= 2**15:
        raise ValueError("its labels are not distinct values other than 0 that fit 16 bits")
    if not all(name.strip() for name in labels.values()):
        raise ValueError("one of its labels has no name")
    return labels


def _colours(config: dict[str, Any], labels: Mapping[int, str]) -> dict[int, Colour]:
    """Return the colours of a head's config, in 0 to 255; runs from before there were colours have none."""
    if "colours" not in config:
        return label_colours(labels)
    colours = {}
    for value, colour in config["colours"].items():
        red, green, blue = colour
        if not all(0 <= part <= 255 for part in colour):
            raise ValueError(f"a colour is {colour}")
        colours[int(value)] = (red, green, blue)
    return colours


def load_segmenter(folder: Path) -> Segmenter:
    """Load the network of a segmentation run, see `load_adapted`."""
    model = load_adapted(folder, "segmentation")
    assert isinstance(model, Segmenter)
    return model


def load_classifier(folder: Path) -> Classifier:
    """Load the network of a classification run, see `load_adapted`."""
    model = load_adapted(folder, "classification")
    assert isinstance(model, Classifier)
    return model


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of all files that decide a run's predictions.

    Raises:
        UserError: `folder` is not a transfer run's.
    """
    folder = find_run(folder, (HEAD_NAME, CONFIG_NAME))
    weights = find_weights(folder)
    return sha256_of_all([weights / MODEL_NAME, weights / WEIGHTS_CONFIG, folder / HEAD_NAME, folder / CONFIG_NAME])


def _windows(config: dict[str, Any]) -> tuple[tuple[int, int, int], float]:
    """Return the crop and overlap of a head's config."""
    depth, height, width = config["crop"]
    overlap = float(config["overlap"])
    if min(depth, height, width) < 1 or not 0 <= overlap < 1:
        raise ValueError(f"crop {config['crop']} or overlap {overlap:g} is out of its range")
    return (depth, height, width), overlap
