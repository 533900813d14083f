"""A MONAI bundle: network and configs with which `python -m monai.bundle` checks, runs and exports a segmentation run.

The network is plain PyTorch in the bundle's own scripts. The preprocessing and the way back to the image's grid are
gvsl's own transforms, since MONAI's resample, crop and take percentiles otherwise and the label maps would differ.
"""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gvsl.errors import UserError
from gvsl.export import gvsl_unet
from gvsl.export.agreement import check
from gvsl.export.result import Exported, ExportSettings, agreement_line
from gvsl.export.source import Source, plain_network, require_segmenter
from gvsl.files import write_text
from gvsl.preprocessing import preprocessing_values
from gvsl.transfer import Segmenter

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
PARTS = "gvsl.export.monai_transforms"
VERSION = "1.0.0"
EVALUATED = re.compile(r"\s*[$@%+]|_\w+_$|.*[@%](::|#)", re.DOTALL)
"""Strings that MONAI evaluates in a config, takes for a reference or for the name of an instruction."""


def write(source: Source, folder: Path, settings: ExportSettings) -> Exported:
    """Write a bundle: configs/, models/model.pt and scripts/.

    Args:
        source: a run of segmentation.
        folder: to write into.
        settings: none applies.

    Raises:
        UserError: it is no such run, one of its texts would be evaluated by MONAI, or the bundle's network differs from
            gvsl's.
    """
    model = require_segmenter(source, "monai")
    if source.backbone.in_channels != 1:
        raise UserError(f"{source.run} takes images of {source.backbone.in_channels} channels, a bundle of gvsl 1")
    if source.backbone.name != "unet":
        raise UserError(
            f"{source.run} is a {source.backbone.name}, a bundle of gvsl holds its U-Net: give --to onnx, torchscript "
            "or nnunet"
        )
    for name, text in _texts_of(source, model):
        if EVALUATED.match(text):  # configs of a run may be a stranger's
            raise UserError(f"{source.run}: MONAI would evaluate its {name} {text!r}, not read it; rename it")
    for name in ("configs", "models", "scripts"):
        (folder / name).mkdir()
    write_text(folder / "scripts" / "__init__.py", '"""The network of this bundle."""\n')
    unet = Path(gvsl_unet.__file__)
    write_text(folder / "scripts" / unet.name, unet.read_text(encoding="utf-8"))
    torch.save(plain_network(source).state_dict(), folder / "models" / "model.pt")
    _write_json(folder / "configs" / "inference.json", _inference(source, model))
    _write_json(folder / "configs" / "metadata.json", _metadata(source, model))
    checked = check(source, _runner(source, folder / "models" / "model.pt"))
    lines = [agreement_line(checked), "the bundle's inference needs gvsl (pip install gvsl), its network torch alone"]
    return Exported({"check": checked}, lines)


def _texts_of(source: Source, model: Segmenter) -> list[tuple[str, str]]:
    """Return the texts of a run that the bundle's configs hold, and what each is."""
    spec = model.preprocessing
    texts = [("folder", source.name), ("method", source.backbone.method), ("preset", spec.preset)]
    texts += [("channel", channel.name) for channel in spec.channels]
    return texts + [("structure", name) for name in model.labels.values()]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def _runner(source: Source, path: Path) -> Any:
    network = plain_network(source)
    network.load_state_dict(torch.load(path, weights_only=True))

    @torch.no_grad()
    def run(image: Tensor) -> list[Tensor]:
        return [network(image)]

    return run


def _inference(source: Source, model: Segmenter) -> dict[str, Any]:
    """Return the config of `monai.bundle run`: all images of `dataset_dir` to label maps in `output_dir`."""
    head = model.network.head
    size = {"in_channels": 1, "channels": source.channels, "classes": head.out_channels, "kernel": head.kernel_size[0]}
    prepare = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {
            "_target_": f"{PARTS}.Prepared",
            "keys": "image",
            "preprocessing": preprocessing_values(model.preprocessing),
        },
    ]
    restore = [
        {"_target_": f"{PARTS}.Restored", "keys": "pred", "image_key": "image", "labels": [0, *model.labels]},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "separate_folder": False,
            "resample": False,
            "output_dtype": "$np.int16",
        },
    ]
    return {
        "imports": ["$import glob", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "scripts.gvsl_unet.Segmenter", **size},
        "network": "$@network_def.to(@device)",
        "images": "$[{'image': name} for name in sorted(glob.glob(@dataset_dir + '/*.nii*'))]",
        "preprocessing": {"_target_": "Compose", "transforms": prepare},
        "dataset": {"_target_": "Dataset", "data": "@images", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": f"{PARTS}.Windows", "roi_size": list(model.crop), "overlap": model.overlap},
        "postprocessing": {"_target_": "Compose", "transforms": restore},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', False)"],
        "run": ["$@evaluator.run()"],
    }


def _metadata(source: Source, model: Segmenter) -> dict[str, Any]:
    """Return metadata.json; the network takes images of any size."""
    free = {"dtype": "float32", "spatial_shape": ["*", "*", "*"], "is_patch_data": True}
    names = {str(place): name for place, name in enumerate(["background", *model.labels.values()])}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "changelog": {VERSION: f"exported by gvsl {version('gvsl')}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "gvsl": version("gvsl"),
            "nibabel": version("nibabel"),
            "pytorch-ignite": "0.5",
        },
        "name": source.name,
        "task": "segmentation",
        "description": f"A 3D U-Net pre-trained by {source.backbone.method}, with the head of a run of gvsl transfer",
        "authors": "",
        "copyright": "",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": 1,
                    "value_range": [0, 1],
                    "channel_def": {"0": "image"},
                    **free,
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": 1 + len(model.labels),
                    "value_range": [],
                    "channel_def": names,
                    **free,
                }
            },
        },
    }
