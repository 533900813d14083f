"""The tasks that weights are put to, by name: what they ask, and of which structures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gvsl.datasets.candi import STRUCTURES as BRAIN_STRUCTURES
from gvsl.errors import UserError

NAMED = 7
"""How many of many structures a message names."""


@dataclass(frozen=True)
class Task:
    """What `gvsl transfer --task NAME` learns."""

    kind: Literal["segmentation", "classification"]
    summary: str
    """In a few words."""
    structures: tuple[str, ...] | None = None
    """The names of the structures, all of which a store must have and no other; None where any will do."""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """What else a structure may be called, to its name in the list."""


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
    "sac": Task(
        "segmentation",
        "the coronary arteries on CT",
        ("coronary arteries",),
        synonyms={"coronary artery": "coronary arteries"},
    ),
    "sbm": Task("segmentation", "28 structures of the brain on MR", tuple(BRAIN_STRUCTURES.values())),
    "ccc": Task("classification", "lungs with lesions against lungs without, on CT"),
}
"""Every task by name; the last four are the paper's (Appendix E.2)."""


def check_labels(name: str, labels: Mapping[int, str], where: str) -> None:
    """Refuse label maps that are not those of a task.

    Args:
        name: of the task.
        labels: label value to the structure's name, for all values of a store.
        where: the store, for the message.

    Raises:
        UserError: two values are named alike, a structure is not in the task's list, or one of the list is missing.
    """
    owners: dict[str, int] = {}
    for value, structure in sorted(labels.items()):
        other = owners.setdefault(structure, value)
        if other != value:
            raise UserError(
                f"{where} has two labels called {structure!r} ({other} and {value}): make them one value in the label "
                "maps, or give them two names in labels.json, and prepare again"
            )
    task = TASKS[name]
    if task.structures is None:
        return
    named = {value: task.synonyms.get(structure, structure) for value, structure in sorted(labels.items())}
    odd = [f"{labels[value]!r} ({value})" for value, structure in named.items() if structure not in task.structures]
    if odd:
        raise UserError(
            f"{where} has the label {odd[0]}, which is not in the list of task {name} ({_few(task.structures)}): name "
            "it by that in labels.json, or take it out of the label maps, and prepare again; or give --task "
            "segmentation"
        )
    missing = [structure for structure in task.structures if structure not in named.values()]
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} of the {len(task.structures)} structures of task {name} "
            f"({_few(missing)}): add them to the label maps and to labels.json and prepare again, or give --task "
            "segmentation"
        )


def _few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
