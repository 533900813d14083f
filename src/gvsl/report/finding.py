"""Findings: what a reader must know about runs and comparisons before trusting a number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gvsl.report.numbers import plural
from gvsl.text import few

Level = Literal["failed", "broken", "caution"]
Problem = tuple[Level, str, str]
"""A finding about a run: level, text and kind."""
SEVERITY: dict[Level, int] = {"failed": 0, "broken": 1, "caution": 2}


@dataclass(frozen=True)
class Finding:
    """One thing found about a run or a comparison."""

    level: Level
    subject: str
    """The run or the comparison."""
    text: str
    """With its values."""
    kind: str
    """The text without values, for several subjects at once."""
    thing: Literal["run", "comparison"] = "run"
    """The type of the subject."""


@dataclass(frozen=True)
class FindingKind:
    """All findings of one level and kind."""

    level: Level
    items: Sequence[Finding]

    @property
    def subjects(self) -> list[str]:
        """The subjects, each once."""
        return list(dict.fromkeys(item.subject for item in self.items))

    @property
    def several(self) -> bool:
        """True if there are several subjects."""
        return len(self.subjects) > 1

    @property
    def subject(self) -> str:
        """The only subject, or the number of subjects."""
        return plural(len(self.subjects), self.items[0].thing) if self.several else self.subjects[0]

    @property
    def text(self) -> str:
        """The findings of a single subject, or the kind if there are several."""
        return self.items[0].kind if self.several else "; ".join(item.text for item in self.items)

    @property
    def text_with_names(self) -> str:
        """The text, with the names of the first subjects if there are several."""
        if not self.several:
            return self.text
        return f"{self.text} ({few(self.subjects, separator='; ')})"


def by_kind(found: Iterable[Finding]) -> list[FindingKind]:
    """Group findings by level and kind, most severe first."""
    kinds: dict[tuple[Level, str], list[Finding]] = {}
    for finding in found:
        kinds.setdefault((finding.level, finding.kind), []).append(finding)
    return sorted(
        (FindingKind(level, items) for (level, _), items in kinds.items()), key=lambda one: SEVERITY[one.level]
    )
