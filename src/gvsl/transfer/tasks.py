"""A transfer run of any task."""

from pathlib import Path

from gvsl.datasets.tasks import TASKS
from gvsl.records import RunRecord
from gvsl.store import Store
from gvsl.text import one_of
from gvsl.transfer.classification import classify
from gvsl.transfer.segmentation import transfer
from gvsl.transfer.transfer_settings import TransferSettings

KINDS = {"segmentation": transfer, "classification": classify}


def run_task(
    name: str,
    store: Store,
    weights: str | Path | None,
    out: Path,
    settings: TransferSettings,
    *,
    resume: bool = False,
) -> RunRecord:
    """Train the task on a store's `train` split, keep what does best on `val`, score that on `test` once.

    Args:
        name: of the task, a key of `gvsl.datasets.tasks.TASKS`.
        store: with what the task needs: label maps, or the classes of the cases.
        weights: the folder of a pre-training run, a name on the Hugging Face Hub, or None for random weights.
        out: the new folder of this run.
        settings: the protocol.
        resume: go on from the state that a stopped run left.

    Raises:
        UserError: there is no such task, or what the run of its kind refuses.
    """
    task = TASKS[one_of(TASKS, "task", name)]
    return KINDS[task.kind](store, weights, out, settings, task=name, resume=resume)
