"""TorchScript: one file that torch.jit.load and LibTorch run without gvsl."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from gvsl.export.agreement import check
from gvsl.export.result import Exported, ExportSettings, agreement_line
from gvsl.export.source import Source, plain_network

NAME = "model.ts"


def write(source: Source, folder: Path, settings: ExportSettings) -> Exported:
    """Write model.ts, whose outputs equal gvsl's for images of any size.

    Args:
        source: the run.
        folder: to write into.
        settings: none applies.

    Raises:
        UserError: the outputs differ from gvsl's.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # it is what is asked for
        torch.jit.script(plain_network(source)).save(str(folder / NAME))
        loaded = torch.jit.load(str(folder / NAME))

    @torch.no_grad()
    def run(image: Tensor) -> list[Tensor]:
        found = loaded(image)
        return list(found) if isinstance(found, tuple) else [found]

    checked = check(source, run)
    return Exported({"file": NAME, "check": checked}, [agreement_line(checked)])
