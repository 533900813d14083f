"""What nnU-Net has trained from an export of gvsl, as a run of segmentation again."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from gvsl.backbones.provenance import LABELS
from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import MAX_CHANNELS, MAX_LEVELS, PretrainedUNet3D, compare_keys
from gvsl.cases import is_ignored
from gvsl.errors import UserError
from gvsl.export import gvsl_unet
from gvsl.export.nnunet_plans import CONFIGURATION, CONTRACT, NETWORK, OVERLAP
from gvsl.preprocessing import parse_preprocessing
from gvsl.readers import check_kind, read_json
from gvsl.training.checkpoint_file import BROKEN, unpickled
from gvsl.transfer import SegmentationNetwork, Segmenter

CHECKPOINT = "checkpoint_final.pth"
METHOD = "nnunet"
SAFE = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
"""What nnU-Net's curves are made of, beside plain values; nothing else is unpickled."""


class Contract(TypedDict):
    """What gvsl adds to the plans."""

    preprocessing: dict[str, Any]
    labels: list[int] | None
    provenance: NotRequired[dict[str, Any]]
    """Of the weights that the training began from; missing in plans of an earlier gvsl."""


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
    results, path = folder.resolve().parent, folder / CHECKPOINT
    plans, dataset = (_read_json(results / name) for name in ("plans.json", "dataset.json"))
    weights = _read_weights(path)
    try:
        labels = _labels(plans, dataset)
        sizes = _sizes(plans, 1 + len(labels))
        with torch.device("meta"):  # no size in the plans costs memory before the file is known to have its tensors
            report = compare_keys(gvsl_unet.ForNNUNet(**sizes).state_dict(), weights)
        if not report.complete:
            raise UserError(f"{path} does not fit its plans.json ({report}): copy both from one training")
        refuse_not_finite(weights, path)
        return _build(plans, labels, sizes, weights)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{results} has no plans of gvsl export --to nnunet ({error}): name a fold trained by them"
        ) from None


def _labels(plans: dict[str, Any], dataset: dict[str, Any]) -> dict[int, str]:
    """Return gvsl's label values and the structures' names, in the order of nnU-Net's values.

    Raises:
        KeyError: the plans are not gvsl's.
        ValueError: the labels are not 1, 2, ..., or others than those of the plans.
    """
    check_kind(plans[CONTRACT], Contract, CONTRACT)
    check_kind(dataset["labels"], dict[str, int], "labels")
    names = {value: name for name, value in dataset["labels"].items() if value != 0}
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError("its labels are not 1, 2, ...")
    order = plans[CONTRACT]["labels"] or sorted(names)
    if len(order) != len(names):
        raise ValueError(f"its labels are not the {len(order)} of its plans")
    pairs = zip(order, (names[place] for place in sorted(names)), strict=True)
    return {value: name for value, name in pairs if not is_ignored(name)}


def _build(
    plans: dict[str, Any], labels: dict[int, str], sizes: dict[str, Any], weights: dict[str, Tensor]
) -> Segmenter:
    """Return the model with nnU-Net's weights, its last layer as a head of kernel 1.

    Raises:
        KeyError: an entry of the plans is missing.
        ValueError: an entry is of another kind.
    """
    channels = sizes["features_per_stage"]
    with torch.random.fork_rng(devices=[]):  # initialising weights must not advance the caller's generator
        backbone = PretrainedUNet3D(sizes["input_channels"], channels[0], len(channels))
        network = SegmentationNetwork(backbone, 1 + len(labels), kernel=1)
    backbone.load_state_dict({name: value for name, value in weights.items() if not name.startswith("heads.")})
    last = f"heads.seg_layers.{backbone.levels - 2}"
    head = {key: weights[f"{last}.{key}"] for key in ("weight", "bias")}
    network.head.load_state_dict(network.head.state_dict() | head)
    backbone.preprocessing = parse_preprocessing(plans[CONTRACT]["preprocessing"])
    backbone.method, backbone.learnt_from = METHOD, None
    begun_from = plans[CONTRACT].get("provenance")
    backbone.provenance = {
        "nnunet": {"dataset": str(plans["dataset_name"]), "plans": str(plans["plans_name"])},
        **({LABELS: None} if begun_from is None else {"weights": begun_from}),
    }
    patch = plans["configurations"][CONFIGURATION]["patch_size"]
    check_kind(patch, list[int], "patch_size")
    depth, height, width = patch
    if min(patch) < 1:
        raise ValueError(f"a patch of {patch} voxels")
    network.eval()
    return Segmenter(network, labels, backbone.preprocessing, (depth, height, width), OVERLAP)


def _sizes(plans: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return the arguments of the network that the plans name; KeyError or ValueError if it is not gvsl's."""
    configuration = plans["configurations"][CONFIGURATION]
    architecture = configuration["architecture"]
    if architecture["network_class_name"] != NETWORK:
        raise ValueError(f"its network is {architecture['network_class_name']}")
    chosen = architecture["arch_kwargs"]
    channels = chosen["features_per_stage"]
    check_kind(channels, list[int], "features_per_stage")
    if chosen["kernel"] != 0:
        raise ValueError("it is a run of gvsl itself")
    sound = 2 <= len(channels) <= MAX_LEVELS and 8 <= channels[0] <= MAX_CHANNELS and channels[0] % 8 == 0
    if not sound or channels != [channels[0] * 2**level for level in range(len(channels))]:
        raise ValueError(f"its levels have {channels} channels")
    return {
        "input_channels": len(configuration["normalization_schemes"]),
        "num_classes": classes,
        "features_per_stage": channels,
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
