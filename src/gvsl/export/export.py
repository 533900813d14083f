"""Export of a run to another program, as a folder that is written whole or not at all."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from gvsl.backbones.provenance import describe_labels
from gvsl.errors import UserError
from gvsl.export import gvsl_run, monai, nnunet, onnx, torchscript
from gvsl.export.reading import read_source
from gvsl.export.result import Exported, ExportSettings
from gvsl.export.source import Source, contract
from gvsl.files import claimed, naming, refuse_existing, whole_folder, write_text
from gvsl.memory import explained_memory
from gvsl.text import nearest

CONTRACT_NAME = "export.json"
FORMAT = 1
LESS = "end other programs, or export it on a machine with more"

Writer = Callable[[Source, Path, ExportSettings], Exported]
"""Writes a run for one program into a folder."""
TARGETS: dict[str, Writer] = {
    "gvsl": gvsl_run.write,
    "monai": monai.write,
    "nnunet": nnunet.write,
    "onnx": onnx.write,
    "torchscript": torchscript.write,
}
NETWORKS = ("unet", "resenc", "plainconv")
"""The backbones that can be exported."""


def export(run: Path, out: Path, to: str, settings: ExportSettings | None = None) -> list[str]:
    """Write a run for another program into the new folder `out`, with export.json, and return lines for the user.

    export.json holds the preprocessing that the network's input needs, its labels and windows, where its weights come
    from, and what was checked.

    Args:
        run: of `gvsl pretrain` or `gvsl transfer`, the name of weights on the Hugging Face Hub, or the folder of a fold
            that nnU-Net has trained from an export.
        out: must not exist.
        to: a name in TARGETS.
        settings: the defaults if not given.

    Raises:
        UserError: there is no such target, `out` exists, `run` has no weights or not those that the target takes, a
            package is missing, or the exported network does not agree with gvsl's.
    """
    if to not in TARGETS:
        raise UserError(f"there is no target {to}{nearest(to, TARGETS)}: name one of {', '.join(sorted(TARGETS))}")
    settings = ExportSettings() if settings is None else settings
    if to != "nnunet" and settings != ExportSettings():
        raise UserError(f"--store and --dataset are for --to nnunet, not {to}: leave them out")
    refuse_existing(out)
    source = read_source(run)
    if source.backbone.name not in NETWORKS:
        raise UserError(
            f"{run} is a {source.backbone.name}, which gvsl exports nowhere: `gvsl predict` runs it; "
            f"{', '.join(NETWORKS)} can be exported"
        )
    with claimed(out, "gvsl export"), whole_folder(out) as folder, naming(out), explained_memory(LESS):
        written = TARGETS[to](source, folder, settings)
        entries = {"format": FORMAT, "to": to, "gvsl": version("gvsl"), **contract(source), **written.entries}
        write_text(folder / CONTRACT_NAME, json.dumps(entries, indent=1, allow_nan=False) + "\n")
    return [*written.lines, f"labels seen in training: {describe_labels(source.backbone.provenance)}"]
