"""The run's logbook: every step's values to a table and TensorBoard, and progress to the terminal."""

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gvsl.progress import Advance, progress
from gvsl.records import write_curves
from gvsl.training.module import PretrainModule

Row = dict[str, float]


class Logbook(Callback):
    """Keeps what each step logged, and writes it from time to time; a resumed run's table goes on."""

    def __init__(self, path: Path, log_every: int, title: str) -> None:
        self.path = path
        self.log_every = log_every
        self.title = title
        self.rows: list[Row] = []
        self.waiting: list[tuple[int, dict[str, Tensor]]] = []
        self.stack = ExitStack()
        self.advance: Advance | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take up the table where the checkpoint is, and open the progress."""
        self.rows = [row for row in read_curves(self.path) if row["step"] < trainer.global_step]
        if trainer.is_global_zero:
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
        """Keep the step's values on the device; fetch them together once in `log_every` steps."""
        assert isinstance(pl_module, PretrainModule)
        if not trainer.is_global_zero:
            return
        self.waiting.append((trainer.global_step - 1, pl_module.latest))
        if self.advance is not None:
            self.advance()
        if trainer.global_step % self.log_every == 0:
            self.flush(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the table reach as far as the checkpoint."""
        self.flush(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Write what is left and close the progress."""
        self.stack.close()
        self.flush(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """The same for a run that stops early, which Lightning doesn't tear down."""
        self.stack.close()
        self.flush(trainer)

    def flush(self, trainer: lightning.Trainer) -> None:
        """Fetch and write the values that wait."""
        if not self.waiting:
            return
        for step, values in self.waiting:
            names = list(values)
            numbers = torch.stack([values[name].float() for name in names]).tolist()
            row = dict(zip(names, numbers, strict=True))
            if trainer.logger is not None:
                trainer.logger.log_metrics(row, step)
            self.rows.append({"step": float(step), **row})
        self.waiting.clear()
        write_curves(self.path, self.rows)


def read_curves(path: Path) -> list[Row]:
    """The rows of a table that `gvsl.records.record.write_curves` wrote; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
