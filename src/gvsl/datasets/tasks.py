"""The tasks that weights are put to, by name: what they ask, and of which structures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gvsl.errors import UserError


@dataclass(frozen=True)
class Task:
    """What `gvsl transfer --task NAME` learns."""

    kind: Literal["segmentation", "classification"]
    summary: str
    """In a few words."""
    structures: tuple[str, ...] | None = None
    """The names of the structures, all of them; None where any will do."""
    most_structures: int | None = None
    """The most structures there can be, where their names are the data's."""


TASKS: dict[str, Task] = {
    "segmentation": Task("segmentation", "the structures of a store of one's own"),
    "classification": Task("classification", "the two classes of a store of one's own"),
    "shc": Task(
        "segmentation",
        "seven structures of the heart on CT",
        (
            "left ventricle",
            "right ventricle",
            "left atrium",
            "right atrium",
            "myocardium",
            "ascending aorta",
            "pulmonary artery",
        ),
    ),
    "sac": Task("segmentation", "the coronary arteries on CT", most_structures=1),
    "sbm": Task("segmentation", "28 structures of the brain on MR", most_structures=28),
    "ccc": Task("classification", "lungs with lesions against lungs without, on CT"),
}
"""Every task by name; the last four are the paper's (Appendix E.2)."""


def check_labels(name: str, labels: Mapping[int, str], where: str) -> None:
    """Refuse label maps that are not those of a task.

    Args:
        name: of the task.
        labels: label value to the structure's name.
        where: the store, for the message.

    Raises:
        UserError: a structure is not in the task's list, or there are more than it has.
    """
    task = TASKS[name]
    mend = "name the labels by it in labels.json and prepare again, or give --task segmentation"
    if task.structures is not None:
        odd = [f"{structure!r} ({value})" for value, structure in labels.items() if structure not in task.structures]
        if odd:
            raise UserError(
                f"{where} has the label {odd[0]}, which is not in the list of task {name} "
                f"({', '.join(task.structures)}): {mend}"
            )
    if task.most_structures is not None and len(labels) > task.most_structures:
        raise UserError(
            f"{where} has {len(labels)} labels, task {name} has at most {task.most_structures}: "
            "take the others out of the label maps and prepare again, or give --task segmentation"
        )
