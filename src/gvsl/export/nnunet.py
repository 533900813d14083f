"""nnU-Net v2: checkpoint, plans, trainer and, for `unet`, a module: with these, stock nnU-Net starts from a run."""

import json
import re
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import nn

from gvsl.backbones import Backbone
from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.nnunet import NNUNetBackbone
from gvsl.cases import IGNORE
from gvsl.errors import UserError
from gvsl.export import gvsl_unet
from gvsl.export.agreement import check, divided_shapes
from gvsl.export.nnunet_dataset import label_order, median_shape, write_cases
from gvsl.export.nnunet_network import backbone_tensors, build_network, compared, is_whole_model, runner
from gvsl.export.nnunet_plans import CONFIGURATION, NAME, dataset_json, label_values, patch_for, plans
from gvsl.export.result import Exported, ExportSettings, agreement_line
from gvsl.export.source import Source
from gvsl.files import write_text
from gvsl.readers import check_kind
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer import Segmenter

DATASET = re.compile(r"Dataset\d{3}_\w+")
"""The names that nnU-Net takes."""
DEFAULT_DATASET = "Dataset900_gvsl"
DEFAULT_CROP = (128, 128, 128)
"""For weights without the record of their run; nnU-Net's usual patch."""
TRAINER = "gvsl_trainer.py"


class RecordedData(TypedDict):
    """The settings `data` of a record, of which others may be there."""

    crop: NotRequired[tuple[int, int, int]]


class RecordedWindows(TypedDict):
    """The settings of a record that tell a run's windows."""

    data: NotRequired[RecordedData]


def write(source: Source, folder: Path, settings: ExportSettings) -> Exported:
    """Write checkpoint.pth, the plans and trainers/; with a store also its volumes as a dataset.

    A run of segmentation also gets model/, with which nnU-Net predicts. gvsl_unet.py is the network of `unet`; those of
    nnU-Net need none, and their model/ a head of kernel 1.

    Args:
        source: any run.
        folder: to write into.
        settings: store and name of the dataset.

    Raises:
        UserError: the dataset's name or a structure's is not one for nnU-Net, the store was prepared otherwise or has
            no label maps, or there is no store and nnU-Net can't express the preprocessing.
    """
    name = settings.dataset or DEFAULT_DATASET
    if not DATASET.fullmatch(name):
        raise UserError(f"--dataset is {name}: nnU-Net takes names such as Dataset004_Hippocampus")
    if source.backbone.in_channels != 1:
        raise UserError(f"{source.run} takes images of {source.backbone.in_channels} channels, --to nnunet those of 1")
    store = None if settings.store is None else Store.open(settings.store)
    if store is not None:
        check_preprocessing(source.backbone, source.run, store)
    elif source.backbone.preprocessing.intensity != "window":
        raise UserError(
            f"{source.run} scales intensities by percentiles, which nnU-Net's plans can't express: give --store STORE, "
            "whose prepared volumes are then exported"
        )
    _write_code(source.backbone, folder)
    torch.save({"network_weights": backbone_tensors(source.backbone)}, folder / "checkpoint.pth")
    median = None if store is None else median_shape(store)
    patch = patch_for(_crop(source), source.backbone.levels, median)
    order = None if store is None else label_order(store)
    content = plans(source, name, patch, prepared=store is not None, labels=order)
    if store is None:
        _write_json(folder / f"{NAME}.json", content)
    else:
        _write_dataset(source, store, folder, name, content)
    network = build_network(source)
    if isinstance(source.model, Segmenter) and is_whole_model(source):
        kernel = source.model.network.head.kernel_size[0]
        of_model = plans(source, name, patch, prepared=store is not None, kernel=kernel)
        _write_model(source, source.model, network, folder / "model", of_model)
    stock = isinstance(source.backbone, NNUNetBackbone)
    shapes = divided_shapes(source.backbone.levels) if stock else None
    checked = check(compared(source), runner(source, network), shapes)
    entries = {"dataset": name, "patch": patch, "check": checked}
    return Exported(entries, [agreement_line(checked), *_notes(source, store, patch)])


def _write_json(path: Path, values: Any) -> None:
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def _write_code(backbone: Backbone, folder: Path) -> None:
    unet = Path(gvsl_unet.__file__)
    if not isinstance(backbone, NNUNetBackbone):  # whose networks nnU-Net has
        write_text(folder / unet.name, unet.read_text(encoding="utf-8"))
    trainer = unet.with_name(TRAINER).read_text(encoding="utf-8")
    write_text(folder / "trainers" / TRAINER, trainer)


def _crop(source: Source) -> tuple[int, int, int]:
    """Return the windows that the run was trained with.

    Raises:
        UserError: its record doesn't state them as three numbers of voxels.
    """
    if source.model is not None:
        return source.model.crop
    if not (source.run / "record.json").is_file():
        return DEFAULT_CROP
    config = read_record(source.run).config
    try:
        check_kind(config, RecordedWindows, "config")
    except ValueError as error:
        raise UserError(f"{source.run / 'record.json'} is not a run's record: {error}; copy it again") from None
    depth, height, width = config.get("data", {}).get("crop", DEFAULT_CROP)
    return depth, height, width


def _write_dataset(source: Source, store: Store, folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write raw/NAME with the volumes, and preprocessed/NAME with plans, splits and dataset.json."""
    order = label_order(store)
    labels = label_values([store.label_names.get(value, IGNORE) for value in order])
    parts = write_cases(store, folder / "raw" / name, order)
    listing = dataset_json(labels, sum(map(len, parts.values())), source.backbone.in_channels)
    preprocessed = folder / "preprocessed" / name
    for place in (folder / "raw" / name, preprocessed):
        _write_json(place / "dataset.json", listing)
    _write_json(preprocessed / f"{NAME}.json", content)
    _write_json(preprocessed / "splits_final.json", [parts])


def _write_model(source: Source, model: Segmenter, network: nn.Module, folder: Path, content: dict[str, Any]) -> None:
    """Write a trained model as nnU-Net's own: dataset.json, plans.json and fold_0/checkpoint_final.pth."""
    (folder / "fold_0").mkdir(parents=True)
    _write_json(folder / "plans.json", content)
    labels = label_values(list(model.labels.values()))
    _write_json(folder / "dataset.json", dataset_json(labels, 0, source.backbone.in_channels))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _notes(source: Source, store: Store | None, patch: list[int]) -> list[str]:
    """Return what is not carried over."""
    spec, lines = source.backbone.preprocessing, []
    if store is not None:
        lines.append("the volumes are exported as prepared, and nnU-Net does not normalise them: predict prepared ones")
    else:
        if spec.crop != "none":
            lines.append(f"not carried over: the crop ({spec.crop}); nnU-Net keeps the whole image")
        lines.append("not carried over: smoothing before an axis shrinks; nnU-Net resamples without it")
    if isinstance(source.model, Segmenter) and not is_whole_model(source):
        side = source.model.network.head.kernel_size[0]
        lines.append(
            f"not carried over: the head, whose kernel of {side} nnU-Net's last layer can't hold, so that there is no "
            "model/ to predict with; one trained with --kernel 1 is"
        )
    if not source.has_decoder:
        lines.append(f"{source.backbone.method} trains the encoder alone: the decoder's weights are random")
    sides = " x ".join(map(str, patch))
    lines.append(f"nnU-Net pads volumes that are smaller than the patch of {sides} voxels, gvsl does not")
    return lines
