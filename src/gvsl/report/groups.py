"""Transfer runs that can be set against each other: alike in all that decides a score but for their features."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gvsl.report.comparability import LABELS, deciding, labels_of, not_in_all, told_apart
from gvsl.report.numbers import plural
from gvsl.report.pretraining import RANDOM, feature_sides
from gvsl.report.run_figures import mean_of_cases
from gvsl.report.runs import Run
from gvsl.report.table1.table import MODES

T = TypeVar("T")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Group:
    """Runs of one store, protocol, number of labels and set of settings, on several kinds of features."""

    store: str
    protocol: str
    labels: int | None
    """Labelled cases that were learnt from; None where the records don't say."""
    settings: str
    """The other settings that set this group apart from another of the same store and protocol, or nothing."""
    sides: dict[str, list[Run]]
    """The finished runs of each kind of features, by method; `random` first, each by seed."""

    @property
    def methods(self) -> list[str]:
        """The sides with pre-trained features."""
        return [name for name in self.sides if name != RANDOM]

    @property
    def runs(self) -> list[Run]:
        """All runs of the group."""
        return [run for runs in self.sides.values() for run in runs]

    @property
    def can_be_compared(self) -> bool:
        """Whether there are both random and pre-trained features."""
        return RANDOM in self.sides and len(self.sides) > 1

    @property
    def conditions(self) -> str:
        """The labels and the settings that set the group apart, or nothing."""
        labels = [] if self.labels is None else [plural(self.labels, "label")]
        return ", ".join([*labels, *([self.settings] if self.settings else [])])

    @property
    def name(self) -> str:
        """What the runs have in common, but for the store."""
        return f"{self.protocol}, {self.conditions}" if self.conditions else self.protocol

    @property
    def partly_recorded(self) -> list[str]:
        """Settings that some of the runs' records lack, being older."""
        return not_in_all([deciding(run.record.config) for run in self.runs])


def protocol(run: Run) -> str:
    """Say which comparison a transfer run belongs to: training from scratch is what fine-tuning is set against."""
    mode = str(run.record.config["mode"])
    return MODES.get(mode, mode)


def groups(runs: Sequence[Run]) -> list[Group]:
    """Sort the finished transfer runs into groups that can be compared, those with two sides first.

    Runs that differ in a setting which decides a score never share a group, even where one then has nothing to be set
    against; the features of one method share a side only where their pre-training was alike.
    """
    usable = [run for run in runs if run.record.kind == "transfer" and _has_scores(run)]
    names = feature_sides(usable, [run for run in runs if run.record.kind == "pretrain"])
    found: list[Group] = []
    placed = _sorted_into(zip(usable, names, strict=True), lambda item: (item[0].store, protocol(item[0])))
    for (store, way), members in placed.items():
        told = told_apart([deciding(run.record.config) for run, _ in members])
        parts = _sorted_into(zip(members, told, strict=True), lambda item: tuple(sorted(item[1].items())))
        for part in parts.values():
            said = ", ".join(f"{key} {value}" for key, value in part[0][1].items() if key != LABELS)
            inside = [member for member, _ in part]
            counts = [count for run, _ in inside if (count := labels_of(run.record.config)) is not None]
            found.append(Group(store, way, counts[0] if counts else None, said, _sides(inside)))
    return sorted(
        found,
        key=lambda group: (not group.can_be_compared, group.store, group.protocol, group.labels or 0, group.settings),
    )


def what_differs(first: Group, second: Group) -> str:
    """The settings in which two groups differ, in words: `max_steps is 5 against 9`."""
    one, other = (deciding(group.runs[0].record.config) for group in (first, second))
    names = [name for name in sorted(one.keys() & other.keys()) if one[name] != other[name]]
    return ", ".join(f"{name} is {one[name]} against {other[name]}" for name in names)


def _has_scores(run: Run) -> bool:
    return run.record.status == "finished" and mean_of_cases(run, "dice") is not None


def _sides(members: Iterable[tuple[Run, str]]) -> dict[str, list[Run]]:
    """The runs by their features, random ones first, each side by seed."""
    found = _sorted_into(sorted(members, key=lambda member: member[0].record.seed), lambda member: member[1])
    ordered = sorted(found, key=lambda name: (name != RANDOM, name))
    return {name: [run for run, _ in found[name]] for name in ordered}


def _sorted_into(items: Iterable[T], key: Callable[[T], Key]) -> dict[Key, list[T]]:
    found: dict[Key, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
