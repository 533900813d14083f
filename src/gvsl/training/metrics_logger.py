"""Logging of a pre-training: every step's values to a table and the loggers chosen, and progress to the terminal."""

import csv
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed

from gvsl.errors import UserError
from gvsl.progress import Advance, progress
from gvsl.readers import read_bytes
from gvsl.records import write_curves
from gvsl.training.module import PretrainModule

Row = dict[str, float]


class MetricsLogger(Callback):
    """Collect the values of each step and write them at intervals; a resumed run continues its table."""

    def __init__(self, path: Path, log_every: int, title: str) -> None:
        self.path = path
        self.log_every = log_every
        self.title = title
        self.rows: list[Row] = []
        self.pending: list[tuple[int, dict[str, Tensor]]] = []
        self.stack = ExitStack()
        self.advance: Advance | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the table up to the checkpoint's step, and open the progress."""
        if trainer.is_global_zero:
            self.rows = [row for row in read_curves(self.path) if row["step"] < trainer.global_step]
            left = int(trainer.max_steps) - trainer.global_step
            self.advance = self.stack.enter_context(progress(left, self.title, unit="steps"))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the step's values on the device, and fetch them together every `log_every` steps."""
        assert isinstance(pl_module, PretrainModule)
        self.pending.append((trainer.global_step - 1, pl_module.latest))
        if self.advance is not None:
            self.advance()
        if trainer.global_step % self.log_every == 0:
            self.flush(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the table up to the checkpoint's step."""
        self.flush(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Write the remaining values and close the progress."""
        self.stack.close()
        self.flush(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Do the same for a run that fails, which Lightning doesn't tear down.

        Of several processes one may have ended: values that are not averaged over all are left out.
        """
        if trainer.world_size > 1:
            self.pending.clear()
        self.teardown(trainer, pl_module, "fit")

    def flush(self, trainer: lightning.Trainer) -> None:
        """Fetch the pending values, averaged over the processes, and write them."""
        if not self.pending:
            return
        values = torch.stack([value.float() for _, logged in self.pending for value in logged.values()])
        if trainer.world_size > 1:
            distributed.all_reduce(values)
            values /= trainer.world_size
        numbers = iter(values.tolist())
        rows = [(step, dict(zip(logged, numbers, strict=False))) for step, logged in self.pending]
        self.pending.clear()
        if not trainer.is_global_zero:
            return
        for step, row in rows:
            for logger in trainer.loggers:
                logger.log_metrics(row, step)
            self.rows.append({"step": float(step), **row})
        write_curves(self.path, self.rows)


def read_curves(path: Path) -> list[Row]:
    """Return the rows of a table that `gvsl.records.write_curves` wrote; none if there is no file.

    Raises:
        UserError: the file can't be read, or is not such a table of numbers.
    """
    if not path.exists():
        return []
    try:
        lines = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
        if not all("step" in row for row in rows):
            raise ValueError("a row has no step")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as a table of curves ({error}); move it away") from None
    return rows
