"""The outcome of a command over a list of images."""

from dataclasses import dataclass, field

from gvsl.cases import Case


@dataclass
class Predicted:
    """The outcome of a list of images."""

    done: list[Case] = field(default_factory=list)
    present: list[Case] = field(default_factory=list)
    """Images whose results existed, from an earlier call with the same run."""
    failed: list[tuple[Case, str]] = field(default_factory=list)
    """Images that failed, each with the reason."""
