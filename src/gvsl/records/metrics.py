"""The declaration of a logged metric. Imports no torch, so that both the methods and the report can use it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoggedMetric:
    """A scalar that a method logs in training, on held-out volumes, or both."""

    name: str
    """The column in curves.csv; on held-out volumes the record's metric is val/NAME."""
    title: str
    """A heading for charts and tables."""
    better: Literal["higher", "lower"] | None = None
    """The direction of improvement; None for a baseline or a descriptive value."""
