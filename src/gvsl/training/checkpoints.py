"""The checkpoints of a pre-training: the last one and the one before, each whole."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from gvsl.backbones.checkpoint_file import load_checkpoint
from gvsl.errors import UserError
from gvsl.files import remove, whole_file
from gvsl.text import note

CHECKPOINT = Path("checkpoints") / "last.ckpt"
PREVIOUS = Path("checkpoints") / "previous.ckpt"
"""The checkpoint before the last, until the run is finished."""


class WholeCheckpoints(TorchCheckpointIO):
    """Write a checkpoint beside the last one, flush it to the disk and rename it; the last becomes the one before.

    Lightning's own writer makes it in the system's temporary folder; from another disk it is copied over the last one,
    and a kill in between loses both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save a checkpoint as `path`; OSError if the disk is full."""
        path = Path(path)
        with whole_file(path, sync=True) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # before the last one moves
            if path.exists():
                path.replace(path.with_name(PREVIOUS.name))


def read_checkpoint(run: Path) -> tuple[Path, int]:
    """Return the file to resume a run from, and the number of its steps: the last whole checkpoint, which is told.

    Raises:
        UserError: there is none.
    """
    broken = ""
    for path in (run / CHECKPOINT, run / PREVIOUS):
        if not path.is_file():
            continue
        try:
            step = int(load_checkpoint(path)["global_step"])
        except UserError as error:
            broken = str(error).removesuffix(": start another run")
            continue
        if path.name == PREVIOUS.name:
            note(f"{broken or f'{run / CHECKPOINT} is missing'}: resuming from the one before it, of step {step}")
        return path, step
    raise UserError(
        f"{broken or f'{run} holds no {CHECKPOINT}'}: there is no whole checkpoint to resume from; remove {run} and "
        "start again"
    )


def has_checkpoint(run: Path) -> bool:
    """Return True if a run holds a checkpoint, whole or broken."""
    return any((run / path).is_file() for path in (CHECKPOINT, PREVIOUS))


def remove_previous(run: Path) -> None:
    """Remove the checkpoint before the last, of a run that is finished."""
    remove(run / PREVIOUS)
