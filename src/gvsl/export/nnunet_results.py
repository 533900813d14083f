"""What nnU-Net has trained from an export of gvsl, as a run of segmentation again."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import PretrainedUNet3D, compare_keys
from gvsl.errors import UserError
from gvsl.export import gvsl_unet
from gvsl.export.nnunet_plans import CONFIGURATION, CONTRACT, NETWORK, OVERLAP
from gvsl.preprocessing import parse_preprocessing
from gvsl.readers import check_kind, read_json
from gvsl.training.checkpoint_file import BROKEN, unpickled
from gvsl.transfer import SegmentationNetwork, Segmenter

CHECKPOINT = "checkpoint_final.pth"
METHOD = "nnunet"
MAX_LEVELS, MAX_CHANNELS = 12, 4096
SAFE = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
"""What nnU-Net's curves are made of, beside plain values; nothing else is unpickled."""


class Contract(TypedDict):
    """What gvsl adds to the plans."""

    preprocessing: dict[str, Any]
    labels: list[int] | None


def is_results(folder: Path) -> bool:
    """Return True for the folder of one fold in nnU-Net's results."""
    return (folder / CHECKPOINT).is_file()


def read_results(folder: Path) -> Segmenter:
    """Read the network of one fold that nnU-Net has trained with the plans of `gvsl export --to nnunet`.

    Args:
        folder: such as results/Dataset004_Hippocampus/nnUNetTrainerGVSL__gvslPlans__3d_fullres/fold_0.

    Raises:
        UserError: a file is missing or broken, or the plans are not gvsl's.
    """
    plans, dataset = (_read_json(folder.resolve().parent / name) for name in ("plans.json", "dataset.json"))
    try:
        model = _build(plans, dataset)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{folder.resolve().parent} has no plans of gvsl export --to nnunet ({error}): name a fold of them"
        ) from None
    path = folder / CHECKPOINT
    weights = _read_weights(path)
    network = gvsl_unet.ForNNUNet(**_arguments(plans, len(model.labels) + 1))
    report = compare_keys(network.state_dict(), weights)
    if not report.complete:
        raise UserError(f"{path} does not fit its plans.json ({report}): copy both from one training")
    refuse_not_finite(weights, path)
    backbone = {name: value for name, value in weights.items() if not name.startswith("heads.")}
    model.network.backbone.load_state_dict(backbone)
    last = f"heads.seg_layers.{model.network.backbone.levels - 2}"
    model.network.head.load_state_dict(
        {**model.network.head.state_dict(), **{key: weights[f"{last}.{key}"] for key in ("weight", "bias")}}
    )
    model.network.eval()
    return model


def _build(plans: dict[str, Any], dataset: dict[str, Any]) -> Segmenter:
    """Return the model that the plans describe, with random weights; KeyError or ValueError if they are others'."""
    contract = plans[CONTRACT]
    check_kind(contract, Contract, CONTRACT)
    configuration = plans["configurations"][CONFIGURATION]
    sizes = _arguments(plans, 2)
    channels, levels = sizes["features_per_stage"], len(sizes["features_per_stage"])
    width = channels[0]
    if channels != [width * 2**level for level in range(levels)] or levels > MAX_LEVELS or width > MAX_CHANNELS:
        raise ValueError(f"levels of {channels} channels")
    names = {int(value): str(name) for name, value in dataset["labels"].items() if name not in ("background", "ignore")}
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError("its labels are not 1, 2, ...")
    order = contract["labels"] or sorted(names)
    labels = {value: names[place] for place, value in enumerate(order[: len(names)], start=1)}
    with torch.random.fork_rng(devices=[]):
        backbone = PretrainedUNet3D(sizes["input_channels"], width, levels)
        network = SegmentationNetwork(backbone, 1 + len(labels), kernel=1)
    backbone.preprocessing = parse_preprocessing(contract["preprocessing"])
    backbone.method, backbone.learnt_from = METHOD, None
    backbone.provenance = {"nnunet": {"dataset": str(plans["dataset_name"]), "plans": str(plans["plans_name"])}}
    depth, height, length = (int(side) for side in configuration["patch_size"])
    return Segmenter(network, labels, backbone.preprocessing, (depth, height, length), OVERLAP)


def _arguments(plans: dict[str, Any], classes: int) -> dict[str, Any]:
    configuration = plans["configurations"][CONFIGURATION]
    architecture = configuration["architecture"]
    if architecture["network_class_name"] != NETWORK:
        raise ValueError(f"its network is {architecture['network_class_name']}")
    chosen = architecture["arch_kwargs"]
    check_kind(chosen["features_per_stage"], list[int], "features_per_stage")
    if chosen["kernel"] != 0:
        raise ValueError("it is a run of gvsl itself")
    return {
        "input_channels": len(configuration["normalization_schemes"]),
        "num_classes": classes,
        "features_per_stage": chosen["features_per_stage"],
        "strides": chosen["strides"],
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, dict[str, Any])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}): name a fold in the results of nnU-Net") from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Return the network's tensors; only tensors and plain values are unpickled."""
    try:
        weights = unpickled(path, SAFE)["network_weights"]
        check_kind(weights, dict[str, Any], "network_weights")
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is no whole checkpoint of nnU-Net ({reason}): copy it again") from None
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}
