"""Settings of the benchmark."""

from dataclasses import dataclass

from gvsl.errors import UserError
from gvsl.settings import check_settings


@dataclass(frozen=True)
class Executor:
    """Where runs are executed: processes of this machine, a Dask cluster, or SLURM jobs.

    Raises:
        UserError: a value is out of its range, or both clusters are given.
    """

    processes: int = 1
    """Runs to execute at once on this machine, sharing its cores."""
    dask: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers see the same files; needs distributed."""
    slurm: str | None = None
    """SLURM partition to submit to, one job per run; needs submitit. `local` and `debug` run on this machine."""
    slurm_minutes: int = 240
    """Time limit of a job in minutes."""
    slurm_cores: int = 4
    """CPU cores per job."""
    slurm_gpus: int = 0
    """GPUs per job."""

    def __post_init__(self) -> None:
        check_settings(self, processes=1)
        if self.dask and self.slurm:
            raise UserError("dask and slurm are both given: choose one")
