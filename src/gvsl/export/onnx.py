"""ONNX: one file that ONNX Runtime and other engines run without gvsl or torch."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gvsl.errors import UserError
from gvsl.export.agreement import check, example
from gvsl.export.result import Exported, ExportSettings, agreement_line
from gvsl.export.source import Source, plain_network

NAME = "model.onnx"
OPSET = 18
"""The version of the operators: the first whose Resize every engine of the last years has."""
MAX_SIDE = 128
"""Limit for the sides of the example; it has 2 voxels a side at the last level, since a side of 1 would be fixed."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(source: Source, folder: Path, settings: ExportSettings) -> Exported:
    """Write model.onnx, whose outputs in ONNX Runtime equal gvsl's for images of any size.

    Args:
        source: the run.
        folder: to write into.
        settings: none applies.

    Raises:
        UserError: a package of the extra is missing, or the outputs differ from gvsl's.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"--to onnx needs {', '.join(missing)}: pip install 'gvsl[onnx]'")
    outputs = output_names(source)
    _export(source, folder / NAME, outputs)
    checked = check(source, _runner(folder / NAME))
    entries = {"file": NAME, "inputs": ["image"], "outputs": outputs, "opset": OPSET, "check": checked}
    return Exported(entries, [agreement_line(checked)])


def output_names(source: Source) -> list[str]:
    """Return the names of the outputs, in the order of `gvsl.export.source.expected_outputs`."""
    if source.model is not None:
        return ["logits"]
    return ["local", "global"] if source.has_decoder else ["global"]


def _export(source: Source, path: Path, outputs: list[str]) -> None:
    size: Any = torch.export.Dim.DYNAMIC
    side = min(2**source.backbone.levels, MAX_SIDE)
    image = example(source.backbone.in_channels, (2, side, side, side))
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own insides
            torch.onnx.export(
                plain_network(source),
                (image,),
                path,
                input_names=["image"],
                output_names=outputs,
                dynamic_shapes=({0: size, 2: size, 3: size, 4: size},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)


def _runner(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(found) for found in session.run(None, {"image": image.numpy()})]

    return run
