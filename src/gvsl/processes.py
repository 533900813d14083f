"""Processes that help another: they end with it, however it ends; and launchers that start several at once."""

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from gvsl.errors import UserError

LOOK_EVERY = 0.5
"""Seconds between two looks at the parent."""
WATCH = "gvsl: ends with its parent"
LAUNCHERS = {
    "torchrun": ("TORCHELASTIC_RUN_ID", "WORLD_SIZE"),
    "srun": ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}
"""The variable by which each is known, and the one with the number of processes that it has started."""

RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""The variables that count how often processes were started again."""


def end_with_parent(parent: int) -> None:
    """End this process soon after `parent`, which started it, has ended, as after a kill, which no clean-up sees.

    What is written then is lost as after a kill of this process; everything that gvsl writes stands that.

    Args:
        parent: the id of the process that this one works for.
    """
    if os.getpid() == parent or any(thread.name == WATCH for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        scratch = getattr(multiprocessing.current_process(), "_config", {}).get("tempdir")
        if scratch is not None:  # the folder of multiprocessing's sockets
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()


def pool_settings() -> dict[str, Any]:
    """Return the arguments of `joblib.Parallel` whose processes end with this one, even before a first task."""
    return {"backend": "loky", "initializer": end_with_parent, "initargs": (os.getpid(),)}


def launcher_of(variables: Mapping[str, str]) -> str | None:
    """Return the launcher that has started this process and others beside it; None for one that is alone.

    Args:
        variables: of the environment.
    """
    for launcher, (sign, count) in LAUNCHERS.items():
        if sign in variables and variables.get(count, "1") not in ("", "0", "1"):
            return launcher
    return None


def restarts(variables: Mapping[str, str]) -> int:
    """Return how often torchrun or SLURM has started this process again, after another had failed or was preempted."""
    counts = (variables.get(name, "") for name in RESTARTS)
    return sum(int(count) for count in counts if count.isdecimal())


def refuse_copies(command: str, variables: Mapping[str, str], together: Collection[str] = ()) -> None:
    """Refuse to be one of several processes that a launcher has started; gvsl starts its own.

    Args:
        command: for the message.
        variables: of the environment.
        together: launchers whose processes the command knows how to be.

    Raises:
        UserError: there are several.
    """
    launcher = launcher_of(variables)
    if launcher is not None and launcher not in together:
        raise UserError(
            f"{launcher} has started {variables[LAUNCHERS[launcher][1]]} processes, which would all write the same: "
            f"start {command} once; it starts its own processes (--trainer.devices of gvsl pretrain, --processes of "
            "others), and torchrun or srun may start those of gvsl pretrain alone"
        )
