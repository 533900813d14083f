"""The downstream tasks by name: their kind and their structures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gvsl.datasets.candi import STRUCTURES as BRAIN_STRUCTURES
from gvsl.datasets.mmwhs import STRUCTURES as HEART_STRUCTURES
from gvsl.errors import UserError
from gvsl.text import few

NAMED = 7
"""Maximum number of structures in a message."""


@dataclass(frozen=True)
class Task:
    """A downstream task, `gvsl transfer --task NAME`."""

    kind: Literal["segmentation", "classification"]
    structures: tuple[str, ...] | None = None
    """Names of the structures; a store must have exactly these. None if it may have any."""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """Name in the list by alternative name."""


TASKS: dict[str, Task] = {
    "segmentation": Task("segmentation"),
    "classification": Task("classification"),
    "shc": Task("segmentation", tuple(HEART_STRUCTURES.values())),
    "sac": Task(
        "segmentation",
        ("coronary arteries",),
        synonyms={"coronary artery": "coronary arteries"},
    ),
    "sbm": Task("segmentation", tuple(BRAIN_STRUCTURES.values())),
    "ccc": Task("classification"),
}
"""Every task by name; `gvsl.settings.names` has a line on each. The last four are those of the GVSL paper (Appendix
E.2)."""


def check_labels(name: str, labels: Mapping[int, str], where: str) -> None:
    """Check that a store's labels are those of a task.

    Args:
        name: of the task.
        labels: structure's name by label value, for all values of a store.
        where: the store, for the message.

    Raises:
        UserError: two values have the same name, or structures are missing or unknown to the task.
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
            f"{where} has the label {odd[0]}, which is not in the list of task {name} "
            f"({few(task.structures, NAMED)}): name it as there in labels.json, or take it out of the label maps, and "
            "prepare again; or give --task segmentation"
        )
    missing = [structure for structure in task.structures if structure not in named.values()]
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} of the {len(task.structures)} structures of task {name} "
            f"({few(missing, NAMED)}): add them to the label maps and to labels.json and prepare again, or give --task "
            "segmentation"
        )
