import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from gvsl.errors import UserError
from gvsl.processes import refuse_copies

HELPED = """
import os, subprocess, sys, time
helper = "import sys, time; from gvsl.processes import end_with_parent; end_with_parent(int(sys.argv[1])); "
helper += "print('ready', flush=True); time.sleep(60)"
started = subprocess.Popen([sys.executable, "-c", helper, str(os.getpid())], stdout=subprocess.PIPE)
started.stdout.readline()
print(started.pid, flush=True)
time.sleep(60)
"""


POOL = """
import os, time
from joblib import Parallel, delayed
from gvsl.processes import pool_settings
print(Parallel(2, **pool_settings())([delayed(os.getpid)()])[0], flush=True)
time.sleep(60)  # the pool waits for more
"""


@pytest.mark.skipif(os.name != "posix", reason="processes get no new parent")
@pytest.mark.parametrize("program", [HELPED, pytest.param(POOL, marks=pytest.mark.slow)])
def test_a_helper_ends_soon_after_its_parent_is_killed(program: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    helper = int(parent.stdout.readline())
    os.kill(helper, 0)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(helper, 0)
            time.sleep(0.05)
        os.kill(helper, signal.SIGKILL)
        pytest.fail("the helper lives on")


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0"}),
        ("srun", {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}),
        ("mpirun", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}),
    ],
)
def test_one_of_several_copies_is_refused_and_a_single_one_is_not(launcher: str, variables: dict[str, str]) -> None:
    with pytest.raises(UserError, match=f"^{launcher} has started . processes.*start gvsl pretrain once"):
        refuse_copies("gvsl pretrain", variables)
    refuse_copies("gvsl pretrain", {name: "1" if value in "24" else value for name, value in variables.items()})


def test_a_job_of_several_tasks_may_start_one_process() -> None:
    refuse_copies("gvsl pretrain", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
