"""A trained segmentation network in a run's folder: weights/ (the backbone), head.safetensors, head.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from gvsl.backbones.weights import compare_keys, load_backbone, read_config, read_tensors, save_weights
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.store import Preprocessing
from gvsl.transfer.network import SegmentationNetwork
from gvsl.transfer.settings import TransferSettings

FORMAT = 1
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


def save_segmenter(
    folder: Path,
    network: SegmentationNetwork,
    *,
    labels: dict[int, str],
    settings: TransferSettings,
    method: str,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
) -> None:
    """Write all that is needed to segment on another machine into a run's folder."""
    save_weights(folder, network.backbone, method=method, preprocessing=preprocessing, provenance=provenance)
    with whole_file(folder / HEAD_NAME) as temporary:
        save_file({key: value.cpu().contiguous() for key, value in network.head.state_dict().items()}, temporary)
    config = {
        "format": FORMAT,
        "task": "segmentation",
        "labels": {str(value): name for value, name in labels.items()},
        "crop": list(settings.crop),
        "overlap": settings.overlap,
        "precision": network.precision,
        "kernel": settings.kernel,
    }
    write_text(folder / CONFIG_NAME, json.dumps(config, indent=1) + "\n")


def load_segmenter(folder: Path) -> Segmenter:
    """Load the network of a transfer run.

    Raises:
        UserError: `folder` is no such run's, a file in it is broken or newer, or a key does not match.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder} holds no {CONFIG_NAME}: name the folder of a run of gvsl transfer")
    backbone = load_backbone(folder)
    config = read_config(folder / CONFIG_NAME)
    try:
        labels = {int(value): str(name) for value, name in config["labels"].items()}
        network = SegmentationNetwork(backbone, 1 + len(labels), kernel=config["kernel"], precision=config["precision"])
        depth, height, width = (int(side) for side in config["crop"])
        overlap = float(config["overlap"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / CONFIG_NAME} is no config of a head ({error}); copy it from the run again"
        ) from None
    tensors = read_tensors(folder / HEAD_NAME)
    report = compare_keys(network.head.state_dict(), tensors)
    if not report.complete:
        raise UserError(f"{folder / HEAD_NAME} does not fit its {CONFIG_NAME} ({report}): copy both from one run")
    network.head.load_state_dict(tensors)
    return Segmenter(network.eval(), labels, backbone.preprocessing, (depth, height, width), overlap)
