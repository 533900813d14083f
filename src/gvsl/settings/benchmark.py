"""Settings of the benchmark."""

from dataclasses import dataclass

from gvsl.errors import UserError
from gvsl.settings import check_settings

MODES = {
    "linear": "a head on frozen features",
    "finetune": "whole networks, from pre-trained and from random weights",
    "unaugmented": "whole networks from random weights, without augmentation",
    "carried": "labels propagated by each method that matches, and without a network; nothing is trained",
    "student": "whole networks from random weights, also on labels that each method propagated",
    "finetuned-student": "whole networks from the weights of each method that matches, also on labels propagated by it",
}
"""What is trained in each mode of a matrix."""
TABLE_MODES = ("linear", "finetune")
"""The modes of Table 1."""
CARRYING_MODES = frozenset({"carried", "student", "finetuned-student"})
"""The modes that carry labels, by methods that match."""
UNAUGMENTED, FROM_NONE = "unaugmented", "carried from none"
"""Settings of a transfer that are named unlike its mode: `scratch` without augmentation, `carried` by no network."""


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
