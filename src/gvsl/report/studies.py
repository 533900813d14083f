"""Runs that a figure of the paper sets side by side: one store, one protocol, several methods."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gvsl.report.comparability import deciding, differing
from gvsl.report.runs import Run
from gvsl.report.table1.table import MODES, OURS, SCRATCH

NAMES = {"linear": "linear evaluation", "finetune": "fine-tuning", "pretrain": "pre-training"}


@dataclass(frozen=True)
class Study:
    """Finished runs side by side."""

    store: str
    mode: str
    """`linear`, `finetune` or `pretrain`."""
    settings: str
    """The settings that set it apart from others of its store and mode, or nothing."""
    sides: dict[str, list[Run]]
    """The runs of each method, by seed; `scratch` first, then `gvsl`."""
    note: str = ""
    """In what else the runs differ, or nothing."""

    @property
    def notes(self) -> str:
        """The note, and which methods have several runs of one seed, whose weights then differ."""
        twice = [name for name, runs in self.sides.items() if len({run.record.seed for run in runs}) < len(runs)]
        said = f"Several runs of one seed, of weights that differ: {', '.join(twice)}." if twice else ""
        return f"{self.note} {said}".strip()

    @property
    def title(self) -> str:
        """For a heading."""
        return f"{self.store}: {NAMES.get(self.mode, self.mode)}" + (f", {self.settings}" if self.settings else "")


def method_of(run: Run) -> str:
    """The method of a run's features, `scratch` where there is none."""
    config = run.record.config
    untrained = run.record.kind == "transfer" and SCRATCH in (config["weights"], config["mode"])
    return SCRATCH if untrained else str(config.get("method", run.label))


def mode_of(run: Run) -> str:
    """The protocol that a run belongs to; training from scratch is what fine-tuning is compared with."""
    return "pretrain" if run.record.kind == "pretrain" else MODES.get(str(run.record.config["mode"]), "transfer")


def studies(runs: Iterable[Run], least: int = 2, by_design: Sequence[str] = ()) -> tuple[list[Study], list[Run]]:
    """Sort finished runs into studies, and give the runs that are in none for want of others to set against.

    Runs of one store and mode that differ in a setting are told apart by it where each part still has so many
    methods; those that are left are set side by side with a note of what differs.

    Args:
        runs: that have what is to be shown.
        least: methods that a study must have.
        by_design: more settings that may differ within a study.
    """
    found, alone = [], []
    for (store, mode), members in sorted(_sorted_into(runs, lambda run: (run.store, mode_of(run))).items()):

        def told(run: Run) -> dict[str, str]:
            return deciding(run.record.config, by_design)

        parts = list(_sorted_into(members, lambda run: json.dumps(told(run), sort_keys=True)).values())
        whole = [part for part in parts if len({method_of(run) for run in part}) >= least]
        rest = [run for part in parts for run in part if part not in whole]
        varying = differing([told(part[0]) for part in whole])
        for part in whole:
            said = ", ".join(f"{name} {told(part[0]).get(name, 'not recorded')}" for name in varying)
            found.append(Study(store, mode, said, _sides(part)))
        if len({method_of(run) for run in rest}) >= least:
            said = "other settings" if whole else ""
            note = f"These runs differ in more than their weights: {', '.join(differing(map(told, rest)))}."
            found.append(Study(store, mode, said, _sides(rest), note))
        else:
            alone += rest
    return found, alone


def _sides(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found = _sorted_into(sorted(runs, key=lambda run: run.record.seed), method_of)
    first = {SCRATCH: 0, OURS: 1}
    return {name: found[name] for name in sorted(found, key=lambda name: (first.get(name, 2), name))}


def _sorted_into(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found
