"""Stopping a pre-training at a scheduler's signal: a checkpoint first, and a place in the queue again."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed

from gvsl.backbones.tensor_file import all_finite
from gvsl.text import note
from gvsl.training.module import PretrainModule
from gvsl.training.team import patience, told_if_lost

REQUEUE_SIGNAL = getattr(signal, "SIGUSR1", None)
"""What `sbatch --signal=USR1@SECONDS` sends before the time is over; Windows has none."""
JOB = re.compile(r"[0-9]+(_[0-9]+)?")
ENDING = tuple(filter(None, (signal.SIGTERM, REQUEUE_SIGNAL)))
"""The signals that stop a run."""
RANKS = (0, *ENDING)
"""No signal, and those in rising order: a job that was to be requeued is, whatever else ends it afterwards."""


class StoppedError(Exception):
    """The run was stopped by a signal; for processes that Lightning has started, whose KeyboardInterrupt it hides."""


class StopAtSignal(Callback):
    """After SIGTERM or SIGUSR1, end the step, write a checkpoint and stop; after SIGUSR1 also requeue a SLURM job.

    The processes of a run stop at the same step, whichever of them the signal reaches. A second SIGTERM stops at once,
    but for processes that Lightning has started: one that is sent to all of a run's reaches them twice (`passed_on`).
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.main = checkpoint, os.getpid()
        self.received = 0
        """The signal that ranks highest of those received, see RANKS; 0 for none."""
        self.terminated = False
        """Whether SIGTERM was received."""
        self.earlier: dict[int, Any] = {}
        """What the signals did before."""
        self.vote: tuple[torch.Tensor, Any] | None = None
        """The highest rank of a signal that a process had received after the last step, which may not have arrived
        yet."""
        self.voters: Any = None
        """The group in which the processes agree, of tensors of the host."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen to the signals, in the thread that receives them, instead of Lightning.

        Lightning's own handler of SIGTERM broadcasts from the one process that received it, which the others never
        answer.
        """
        if trainer.world_size > 1:
            self.voters = distributed.new_group(backend="gloo", timeout=timedelta(seconds=patience()))
        if threading.current_thread() is threading.main_thread():
            self.earlier = {number: signal.signal(number, self._receive) for number in ENDING}

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop if a signal has come; the last step ends the run anyway."""
        assert isinstance(pl_module, PretrainModule)
        number = self._agreed(trainer.world_size)
        if not number or trainer.global_step >= int(trainer.max_steps):
            return
        if all_finite(pl_module.method.state_dict().values()):
            trainer.save_checkpoint(self.checkpoint)
        if number == REQUEUE_SIGNAL and trainer.is_global_zero:
            requeue()
        raise KeyboardInterrupt if os.getpid() == self.main else StoppedError

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Let the signals do what they did before; in a process that Lightning has started, nothing.

        Torch ends such a process by SIGTERM when another has ended first, which may cut what this one still writes.
        """
        for number, handler in self.earlier.items():
            signal.signal(number, handler if os.getpid() == self.main else signal.SIG_IGN)
        self.earlier.clear()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Do the same for a run that fails."""
        self.on_train_end(trainer, pl_module)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self.terminated and os.getpid() == self.main:
            signal.signal(number, signal.SIG_IGN)  # further ones don't disturb the clean-up
            raise KeyboardInterrupt
        self.terminated |= number == signal.SIGTERM
        self.received = max(self.received, number, key=RANKS.index)

    def _agreed(self, processes: int) -> int:
        """Return the signal for all processes to stop at, 0 for none; of several processes, as of the step before."""
        if processes == 1:
            return self.received
        agreed = 0
        with told_if_lost(processes):
            if self.vote is not None:
                highest, handle = self.vote
                handle.wait()
                agreed = RANKS[int(highest)]
            mine = torch.tensor(RANKS.index(self.received))
            self.vote = mine, distributed.all_reduce(mine, distributed.ReduceOp.MAX, self.voters, async_op=True)
        return agreed


@contextmanager
def passed_on() -> Iterator[None]:
    """Pass SIGTERM and SIGUSR1 on to the processes that are started within, which stop by StopAtSignal.

    None of them outlives it, however it ends. A second SIGTERM, or one before any was started, stops at once.
    """
    others = active_children()
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        started = [process for process in active_children() if process not in others]
        for process in started:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        if not started or number == signal.SIGTERM in received:
            signal.signal(number, signal.SIG_IGN)  # further ones don't disturb the clean-up
            raise KeyboardInterrupt
        received.append(number)

    listens = threading.current_thread() is threading.main_thread()
    earlier = {number: signal.signal(number, pass_on) for number in ENDING} if listens else {}
    try:
        yield
    finally:
        for process in active_children():
            if process not in others:
                process.kill()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def requeue() -> None:
    """Ask SLURM to start this job again; nothing where it isn't one."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    if array is not None:
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if not JOB.fullmatch(job):
        return
    program = shutil.which("scontrol")
    if program is None:
        note(f"there is no scontrol here to requeue job {job}: submit it again")
        return
    done = subprocess.run([program, "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        note(f"scontrol did not requeue job {job} ({' '.join(done.stderr.split())[:200]}): submit it again")
