"""What nnU-Net has trained from an export of gvsl, as a run of segmentation again."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from gvsl.backbones import BACKBONES, BackboneSettings, build_backbone
from gvsl.backbones.nnunet import NNUNetBackbone, own_tensors
from gvsl.backbones.provenance import LABELS
from gvsl.backbones.tensor_file import refuse_not_finite
from gvsl.backbones.weights import compare_keys, parse_size, pretrained_backbone
from gvsl.cases import is_ignored
from gvsl.errors import UserError
from gvsl.export.nnunet_network import OWN, architecture, last_layer, random_network
from gvsl.export.nnunet_plans import CONFIGURATION, CONTRACT, OVERLAP
from gvsl.preprocessing import parse_preprocessing
from gvsl.readers import check_kind, read_json
from gvsl.settings.backbones import own_settings
from gvsl.transfer import SegmentationNetwork, Segmenter
from gvsl.transfer.foreign_checkpoint import read_network_weights

CHECKPOINT = "checkpoint_final.pth"
METHOD = "nnunet"


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
    weights = read_network_weights(path)
    try:
        labels = _labels(plans, dataset)
        settings = _settings(plans)
        with torch.device("meta"):  # no size in the plans costs memory before the file is known to have its tensors
            expected = random_network(build_backbone(settings), 1 + len(labels)).state_dict()
        report = compare_keys(expected, weights)
        if not report.complete:
            raise UserError(f"{path} does not fit its plans.json ({report}): copy both from one training")
        refuse_not_finite(weights, path)
        return _build(plans, labels, settings, weights)
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
    plans: dict[str, Any], labels: dict[int, str], settings: BackboneSettings, weights: dict[str, Tensor]
) -> Segmenter:
    """Return the model with nnU-Net's weights, its last layer as a head of kernel 1.

    Raises:
        KeyError: an entry of the plans is missing.
        ValueError: an entry is of another kind.
    """
    backbone = pretrained_backbone(settings)
    with torch.random.fork_rng(devices=[]):  # initialising weights must not advance the caller's generator
        network = SegmentationNetwork(backbone, 1 + len(labels), kernel=1)
    own = own_tensors(weights) if isinstance(backbone, NNUNetBackbone) else weights
    backbone.load_state_dict({name: value for name, value in own.items() if not name.startswith("heads.")})
    head = {key: weights[f"{last_layer(backbone)}.{key}"] for key in ("weight", "bias")}
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


def _settings(plans: dict[str, Any]) -> BackboneSettings:
    """Return the size of the backbone that the plans name.

    Raises:
        KeyError: an entry is missing.
        ValueError: it is none of gvsl's backbones.
    """
    configuration = plans["configurations"][CONFIGURATION]
    found = configuration["architecture"]
    names = {kind.architecture: name for name, kind in BACKBONES.items() if issubclass(kind, NNUNetBackbone)}
    name = ({OWN: "unet"} | names).get(str(found["network_class_name"]))
    if name is None:
        raise ValueError(f"its network is {found['network_class_name']}")
    chosen = found["arch_kwargs"]
    check_kind(chosen, dict[str, Any], "arch_kwargs")
    channels = chosen["features_per_stage"]
    check_kind(channels, list[int], "features_per_stage")
    if chosen.get("kernel", 0) != 0:
        raise ValueError("it is a run of gvsl itself")
    if not channels:
        raise ValueError("it has no levels")
    size: dict[str, Any] = {"width": channels[0], "levels": len(channels)}
    own = {"max_width": max(channels), "blocks": chosen.get("n_blocks_per_stage")}
    size |= {key: own[key] for key in own_settings(name)} | {"name": name}
    try:
        settings = parse_size(size | {"in_channels": len(configuration["normalization_schemes"])})
        with torch.device("meta"):
            same = architecture(build_backbone(settings)) == found
    except UserError as error:
        raise ValueError(str(error)) from None
    if not same:
        raise ValueError(f"its network is another {name} than gvsl's")
    return settings


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, dict[str, Any])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}): name a fold in the results of nnU-Net") from None
