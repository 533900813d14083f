"""The processes of a pre-training that torchrun or srun has started, on one machine or on several."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gvsl.errors import UserError
from gvsl.methods import Method
from gvsl.processes import launcher_of, restarts
from gvsl.settings.pretrain import TrainerSettings

T = TypeVar("T")

ANSWER_SECONDS = "GVSL_ANSWER_SECONDS"
"""The variable with the seconds for which a process waits for the others of a run."""
PATIENCE = 600
"""Those seconds, if none are given: longer than a batch may take to read."""
POLL_SECONDS = 0.05
"""Seconds between two looks at whether the others are there."""
LOST = re.compile(
    r"closed by (remote )?peer|connection (was )?(reset|refused|closed|aborted)|broken pipe|tim(ed|e) ?out|gloo|nccl"
    r"|socket|failed to recv|no route to host|unreachable",
    re.IGNORECASE,
)
"""What torch says where another process has ended or does not answer."""
READER = "DataLoader"
"""In what torch says of a process that reads for this one."""


@dataclass(frozen=True)
class Team:
    """The processes that train together; started by a launcher, unless it is this one alone."""

    environment: ClusterEnvironment
    rank: int = 0
    world: int = 1
    restarts: int = 0
    """How often the launcher has started them again."""

    @property
    def leads(self) -> bool:
        """True for the process that writes the run."""
        return self.rank == 0

    def first(self, work: Callable[[], T]) -> T:
        """Let the leading process alone do something, and return its result in every process.

        Raises:
            UserError: the leading one raised it; the same in all processes.
        """
        result: list[T | UserError | None] = [None]
        if self.leads:
            try:
                result = [work()]
            except UserError as error:
                result = [error]
            except BaseException:
                self._share([UserError("the first process of the run has failed; it says why")])
                raise
        self._share(result)
        if isinstance(result[0], UserError):
            raise result[0]
        return result[0]  # type: ignore[return-value]  # what `work` returned

    def each(self, work: Callable[[], T]) -> T:
        """Do something in every process; if it fails in one, raise its UserError in all."""
        failed: UserError | None = None
        result: T | None = None
        try:
            result = work()
        except UserError as error:
            failed = error
        found: list[UserError | None] = [failed] * self.world
        if self.world > 1:
            with told_if_lost(self.world):
                distributed.all_gather_object(found, failed)
        for error_of_one in found:
            if error_of_one is not None:
                raise error_of_one
        return result  # type: ignore[return-value]  # what `work` returned

    def _share(self, result: list[T | UserError | None]) -> None:
        """Fill in the leading process's result in all."""
        if self.world > 1:
            with told_if_lost(self.world):
                distributed.broadcast_object_list(result, src=0)


@contextmanager
def joined(settings: TrainerSettings) -> Iterator[Team]:
    """Meet the other processes that the launcher has started; this one is alone if it has started no others.

    Raises:
        UserError: there are more or fewer of them than the settings say, or they don't meet.
    """
    launcher = launcher_of(os.environ)
    if launcher is None:
        if settings.nodes > 1:
            raise UserError(
                f"trainer.nodes is {settings.nodes}, and this process was started alone: start the same command on "
                "each node by torchrun or srun (docs/scale.md)"
            )
        yield Team(LightningEnvironment(), restarts=restarts(os.environ))
        return
    environment = SLURMEnvironment(auto_requeue=False) if launcher == "srun" else TorchElasticEnvironment()
    world, rank = environment.world_size(), environment.global_rank()
    if world != settings.nodes * settings.devices:
        raise UserError(
            f"{launcher} has started {world} processes, and {settings.nodes} nodes of {settings.devices} devices need "
            f"{settings.nodes * settings.devices}: give --trainer.nodes and --trainer.devices as they were started"
        )
    team = Team(environment, rank, world, restarts(os.environ))
    begun_here = not distributed.is_initialized()
    if begun_here:
        with told_if_lost(world):
            _meet(environment, rank, world, find_cuda=settings.device != "cpu")
    try:
        yield team
    finally:
        if begun_here and distributed.is_initialized():
            distributed.destroy_process_group()


def _meet(environment: ClusterEnvironment, rank: int, world: int, *, find_cuda: bool) -> None:
    """Initialise torch's process group, before Lightning does, so that the processes can agree how to begin."""
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    backend = "gloo"
    if find_cuda and torch.cuda.is_available():
        torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(seconds=patience())
    store, *_ = next(rendezvous("env://", rank, world, timeout=timeout))
    part = own_part(store, rank, world, timeout)
    distributed.init_process_group(backend, store=part, rank=rank, world_size=world, timeout=timeout)


def own_part(store: Store, rank: int, world: int, timeout: timedelta) -> Store:
    """Return the part of a key-value store that only the processes which call this together use.

    A launcher that starts processes again keeps its store, and with it the addresses of those that have ended, for
    which their successors would wait. So the first process names a part, and tells each other one by its own question,
    which no ended one can have asked.

    Args:
        store: of the launcher, or of the first process.
        rank: this process's.
        world: number of processes.
        timeout: for which this waits for the others.

    Raises:
        UserError: another process did not call this in time; told to one that is not the first by torch's RuntimeError.
    """
    store.set_timeout(timeout)
    if rank:
        question = uuid4().hex
        store.set(f"question/{rank}", question)
        name = store.get(f"answer/{question}").decode()  # waits for it
        store.set(f"{name}/{rank}", "")
        return PrefixStore(name, store)
    name, until = uuid4().hex, time.monotonic() + timeout.total_seconds()
    while waiting := [other for other in range(1, world) if not store.check([f"{name}/{other}"])]:
        for other in waiting:
            if store.check([f"question/{other}"]):
                store.set(f"answer/{store.get(f'question/{other}').decode()}", name)
        if time.monotonic() > until:
            raise lost(world)
        time.sleep(POLL_SECONDS)
    return PrefixStore(name, store)


def patience() -> float:
    """Return the seconds for which a process waits for the others.

    Raises:
        UserError: the variable that sets them is no number of seconds.
    """
    given = os.environ.get(ANSWER_SECONDS, str(PATIENCE))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 1 <= seconds < 1e6:
        raise UserError(f"{ANSWER_SECONDS} is {given!r}: give a number of seconds, 1 or more")
    return seconds


@contextmanager
def told_if_lost(processes: int) -> Iterator[None]:
    """Turn what torch says when another process has ended into a line that names the fix.

    Args:
        processes: of the run.

    Raises:
        UserError: another process has ended, or did not answer.
    """
    try:
        yield
    except RuntimeError as error:  # so are all of torch.distributed's
        if processes == 1 or not tells_of_loss(str(error)):
            raise
        raise lost(processes) from None


def tells_of_loss(message: str) -> bool:
    """Return True for what torch says where another process of the team has ended."""
    return LOST.search(message) is not None and READER not in message


def by_volume(method: Method) -> bool:
    """Return True if a step's loss doesn't depend on which of its volumes share a process."""
    return method.by_volume and not method.backbone.normalises_over_batch


def lost(processes: int) -> UserError:
    """Return the error of a run of which another process has ended."""
    return UserError(
        f"another of the run's {processes} processes has ended, or did not answer for {patience():g} s: start all of "
        "them again, with --resume if there is a checkpoint"
    )
