"""The folder that is published: weights as safetensors, their configs, and the model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from gvsl.backbones.provenance import HASHES_NAME, format_hashes
from gvsl.backbones.tensor_file import read_tensors
from gvsl.backbones.weights import CONFIG_NAME, MODEL_NAME, PretrainedBackbone, find_weights, load_backbone, read_config
from gvsl.errors import UserError
from gvsl.files import naming, whole_folder, write_text
from gvsl.publication.card import model_card
from gvsl.publication.contract import published_config, published_head
from gvsl.publication.statement import Statement
from gvsl.report.runs import read_run
from gvsl.transfer.weights import CONFIG_NAME as HEAD_CONFIG
from gvsl.transfer.weights import HEAD_NAME, load_adapted

CARD_NAME = "README.md"
PUBLISHED = (CARD_NAME, MODEL_NAME, CONFIG_NAME, HEAD_NAME, HEAD_CONFIG, HASHES_NAME)
"""Every file that may be in the folder."""


def publish(run: Path, out: Path, statement: Statement, *, hashes: bool = False) -> Path:
    """Write the folder of a run's weights for others, whole or not at all, and return its path.

    It holds tensors and JSON, whose loading executes nothing, and neither paths, nor names of stores or cases, nor the
    machine: each value is taken from the run by name.

    Args:
        run: the folder of a finished run.
        out: the new folder.
        statement: the owner's.
        hashes: write learnt_from.txt too, by which whoever has an image can tell if it was trained on.

    Raises:
        UserError: the run is not finished, its weights are missing or broken, or `out` exists.
    """
    found = read_run(run)
    if found.record.status != "finished":
        raise UserError(f"{run} is {found.record.status}: push a finished run")
    backbone = load_backbone(run)
    if hashes and backbone.learnt_from is None:
        raise UserError(f"{run} has no {HASHES_NAME}: leave out --hashes")
    weights = find_weights(run)
    config = published_config(backbone, read_config(weights / CONFIG_NAME)["backbone"])
    adapted = found.record.kind == "transfer"
    head = published_head(_head_config(run)) if adapted else {}
    with whole_folder(out) as folder:
        _write_tensors(folder / MODEL_NAME, backbone.state_dict())
        _write_json(folder / CONFIG_NAME, config)
        if adapted:
            _write_tensors(folder / HEAD_NAME, read_tensors(run / HEAD_NAME))
            _write_json(folder / HEAD_CONFIG, head)
        if hashes and backbone.learnt_from is not None:
            write_text(folder / HASHES_NAME, format_hashes(backbone.learnt_from))
        write_text(folder / CARD_NAME, model_card(found, config, head, _images(backbone), statement))
    return out


def _head_config(run: Path) -> dict[str, Any]:
    """Return a run's head.json, once its network has been loaded, which checks it."""
    load_adapted(run)
    return read_config(run / HEAD_CONFIG)


def _images(backbone: PretrainedBackbone) -> int | None:
    return None if backbone.learnt_from is None else len(backbone.learnt_from)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors alone: what else the run's own file may hold in its header stays behind."""
    with naming(path):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
