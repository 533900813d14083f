"""The Lightning trainer of a pre-training: device, checkpoints, callbacks and interruption."""

import os
import re
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException
from torch.utils.data import DataLoader

from gvsl.backbones.checkpoint_file import check_checkpoint
from gvsl.data import PairStream, pair_loader, read_crop
from gvsl.data.pairs import READ_SECONDS
from gvsl.errors import UserError, told_in
from gvsl.hardware import find_device
from gvsl.methods import Method
from gvsl.processes import end_with_parent
from gvsl.records import CURVES_NAME
from gvsl.settings.pretrain import PretrainSettings
from gvsl.training.checkpoints import CHECKPOINT, WholeCheckpoints
from gvsl.training.divergence import StopOnDivergence
from gvsl.training.metrics_logger import MetricsLogger, Row, read_curves
from gvsl.training.module import Epoch, PretrainModule
from gvsl.training.stop_at_signal import ENDING, StopAtSignal, StoppedError, passed_on
from gvsl.training.team import Team, lost, tells_of_loss, told_if_lost
from gvsl.types import PairBatch

LOST_READER = re.compile(r"DataLoader (timed out|worker .*(exited|killed))")
"""What torch says of a reading process that has ended, or doesn't answer."""

ERRORS = re.compile(r"^([\w.]+Error)(?:: (.+))?$", re.MULTILINE)
"""An error in the traceback of another process."""


def fit(
    method: Method,
    stream: PairStream,
    out: Path,
    settings: PretrainSettings,
    resume: Path | None = None,
    loggers: Sequence[Logger] = (),
    team: Team | None = None,
) -> list[Row]:
    """Train a method on a stream of pairs, and return the values logged at each step.

    Args:
        method: is trained in place.
        stream: from the first step of this call on.
        out: the run's folder, for curves and checkpoints.
        settings: optimiser and trainer.
        resume: the checkpoint to continue from.
        loggers: take each step's values too.
        team: the processes that a launcher has started; by default none, and this one starts `devices - 1` others.

    Raises:
        DivergedError: the loss or the weights are no longer finite.
        UserError: the checkpoint is broken, or of another method or other settings; or another process has ended.
        KeyboardInterrupt: the run was stopped by Ctrl-C, SIGTERM or SIGUSR1.
    """
    chosen, team = settings.trainer, team or Team(LightningEnvironment())
    logger = MetricsLogger(out / CURVES_NAME, chosen.log_every, "pre-training")
    method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    trainer = _trainer(out, settings, logger, loggers, team)
    epoch = None if method.min_epoch_steps is None else _epoch(stream, method.min_epoch_steps)
    module = PretrainModule(method, settings.optimiser, settings.seed, chosen.max_steps, epoch)
    if resume:
        team.each(lambda: check_checkpoint(resume, module, chosen.max_steps))
    spawned = team.world == 1 and chosen.devices > 1
    with warnings.catch_warnings():
        # The stream itself starts at the checkpoint's step, and small crops need only one reading process.
        known = "resuming from a checkpoint|Checkpoint directory|does not have many workers|LeafSpec|Grad strides"
        warnings.filterwarnings("ignore", message=f".*({known}).*")
        with _explained(chosen.devices), told_if_lost(team.world), passed_on() if spawned else nullcontext():
            trainer.fit(
                module,
                datamodule=_Pairs(stream),
                ckpt_path=resume,
                weights_only=True if resume else None,
            )
    return read_curves(logger.path) if spawned else logger.rows  # spawned: logged in another process


def _trainer(
    out: Path, settings: PretrainSettings, logger: MetricsLogger, loggers: Sequence[Logger], team: Team
) -> lightning.Trainer:
    chosen = settings.trainer
    return lightning.Trainer(
        max_steps=chosen.max_steps,
        accelerator="gpu" if find_device(chosen.device).type == "cuda" else "cpu",
        devices=chosen.devices,
        num_nodes=chosen.nodes,
        strategy=_strategy(team, chosen.devices),
        precision="bf16-mixed" if chosen.precision == "bf16" else "32-true",
        gradient_clip_val=settings.optimiser.clip_norm,
        logger=list(loggers),
        callbacks=[
            logger,
            StopOnDivergence(settings),
            StopAtSignal(out / CHECKPOINT),
            *([_Compile()] if chosen.compile else []),
            ModelCheckpoint(
                out / CHECKPOINT.parent,
                filename=CHECKPOINT.stem,
                every_n_train_steps=chosen.checkpoint_every,
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
        ],
        plugins=[WholeCheckpoints(), team.environment],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )


@contextmanager
def _explained(devices: int) -> Iterator[None]:
    """Raise what ended another process, or Lightning, as the error that a user can mend or caused.

    Raises:
        UserError: another process raised it, or has ended.
        KeyboardInterrupt: the run was stopped.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except Exception as error:
        told = told_in(str(error))  # torch tells what happened in another process with its traceback
        if told is not None:
            raise told from (None if isinstance(told, UserError) else error)
        if isinstance(error, ProcessException):
            _tell_of_started(error, devices)
        if LOST_READER.search(str(error)) is None:
            raise
        raise UserError(
            f"a process that reads volumes has ended or did not answer for {READ_SECONDS} s, as where memory, "
            "or that which processes share (/dev/shm), runs short: give --data.workers 0, with --resume"
        ) from error
    except SystemExit:  # Lightning turns Ctrl-C and SIGTERM into an exit, and ignores Ctrl-C from then on
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def _tell_of_started(error: ProcessException, processes: int) -> None:
    """Raise what a process that Lightning has started ended with, as if it had happened here, where a user can mend it.

    Raises:
        UserError: that process raised it, or it was killed, or lost another.
        KeyboardInterrupt: it was stopped.
    """
    if isinstance(error, ProcessExitedException):
        if error.signal_name in {number.name for number in ENDING}:  # which it did not listen to yet
            raise KeyboardInterrupt from None
        raise lost(processes) from None
    errors = ERRORS.findall(str(error))
    last, message = errors[-1] if errors else ("", "")
    if last.endswith(StoppedError.__name__):
        raise KeyboardInterrupt from None
    if tells_of_loss(message):
        raise lost(processes) from None


def _strategy(team: Team, devices: int) -> str:
    """Return Lightning's name of how the processes train together; some methods don't use the decoder."""
    if team.world > 1:
        return "ddp_find_unused_parameters_true"
    # Spawned processes don't run the command line again.
    return "auto" if devices == 1 else "ddp_spawn_find_unused_parameters_true"


def _epoch(stream: PairStream, min_steps: int) -> Epoch:
    """Return an epoch whose steps show as many volumes as the split has, but at least `min_steps` of them."""
    return Epoch(max(min_steps, -(-len(stream.ids) // (2 * stream.settings.batch_size))), partial(_volumes, stream))


def _volumes(stream: PairStream, rank: int, processes: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a process's shard of the split, cropped as in pairs; a module-level function, since it is pickled."""
    for case in stream.ids[rank::processes]:
        yield case, read_crop(stream.store, case, stream.crop)


class _Pairs(lightning.LightningDataModule):
    """The stream, sharded over processes."""

    def __init__(self, stream: PairStream) -> None:
        super().__init__()
        self.stream, self.main = stream, os.getpid()

    def setup(self, stage: str) -> None:
        """Let a process that was started for this run end with the one that started it."""
        end_with_parent(self.main)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of this process's shard of each step's pairs."""
        assert self.trainer is not None
        stream = self.stream.shard(self.trainer.global_rank, self.trainer.world_size)
        return pair_loader(stream.kept_on(self.trainer.strategy.root_device))


class _Compile(Callback):
    """Compile the method in the process that trains: a compiled module can't be pickled."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compile once, before training."""
        assert isinstance(pl_module, PretrainModule)
        pl_module.method.compile()
