"""What the reader must know before believing a figure, gathered so that each kind of trouble is told once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gvsl.report.numbers import plural

Level = Literal["failed", "broken", "caution"]
ORDER: dict[Level, int] = {"failed": 0, "broken": 1, "caution": 2}
NAMED = 3
"""Subjects that a gathered line names."""


@dataclass(frozen=True)
class Finding:
    """One thing found."""

    level: Level
    subject: str
    """The run, or the comparison, that it is about."""
    text: str
    """With its figures."""
    kind: str
    """The same without them, as it is told of several subjects at once."""
    thing: Literal["run", "comparison"] = "run"
    """What the subject is."""


@dataclass(frozen=True)
class Gathered:
    """All findings of one kind."""

    level: Level
    items: Sequence[Finding]

    @property
    def subject(self) -> str:
        """The one thing that it is about, or how many."""
        first = self.items[0]
        return plural(len({item.subject for item in self.items}), first.thing) if self.several else first.subject

    @property
    def several(self) -> bool:
        """Whether it is about more than one thing."""
        return len({item.subject for item in self.items}) > 1

    @property
    def text(self) -> str:
        """What was found, with its figures if it is about one thing alone."""
        return self.items[0].kind if self.several else "; ".join(item.text for item in self.items)

    @property
    def text_with_names(self) -> str:
        """The same with the first ones' names where it is about several."""
        if not self.several:
            return self.text
        names = list(dict.fromkeys(item.subject for item in self.items))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{self.text} ({'; '.join(names[:NAMED])}{more})"


def gathered(found: Iterable[Finding]) -> list[Gathered]:
    """The findings by level and kind, the gravest first."""
    kinds: dict[tuple[Level, str], list[Finding]] = {}
    for finding in found:
        kinds.setdefault((finding.level, finding.kind), []).append(finding)
    return sorted((Gathered(level, items) for (level, _), items in kinds.items()), key=lambda one: ORDER[one.level])
