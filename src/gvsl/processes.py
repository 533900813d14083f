"""Processes that help another: they end with it, however it ends; and launchers that start several at once."""

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Mapping
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


def refuse_copies(command: str, variables: Mapping[str, str]) -> None:
    """Refuse to be one of several processes that a launcher has started; gvsl starts its own.

    Args:
        command: for the message.
        variables: of the environment.

    Raises:
        UserError: there are several.
    """
    for launcher, (sign, count) in LAUNCHERS.items():
        if sign in variables and variables.get(count, "1") not in ("", "0", "1"):
            raise UserError(
                f"{launcher} has started {variables[count]} processes, which would all write the same: start {command} "
                "once; it starts its own processes (--trainer.devices of gvsl pretrain, --processes of others)"
            )
