"""Which pre-training a transfer run's features come from, and how runs of one method differ in it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gvsl.report.comparability import NOT_RECORDED, deciding, told_apart, usual
from gvsl.report.runs import Run

RANDOM = "random"
"""The features that were never trained."""
INSIDE = ("weights", "model.safetensors")
"""What a path to weights may end with after the folder of the run that made them."""
STORE = "store"


def side(run: Run) -> str:
    """Say which features a transfer run stands on: `random`, or the method that trained them."""
    config = run.record.config
    return RANDOM if config["weights"] == "scratch" or config["mode"] == "scratch" else str(config["method"])


def feature_sides(runs: Sequence[Run], pretrained: Iterable[Run]) -> list[str]:
    """For each transfer run the side of a comparison that it is on: its method, told apart by its pre-training.

    Runs of one method whose pre-training differed, in its steps or in any other setting that decides something, are on
    different sides: `gvsl`, `gvsl (2400 steps)`. What most of them have stays unsaid.
    """
    known = list(pretrained)
    names = [side(run) for run in runs]
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        if name != RANDOM:
            alike[run.store, name].append(place)
    for places in alike.values():
        for place, more in zip(
            places, _variants([pretraining_of(runs[place], known) for place in places]), strict=True
        ):
            names[place] += f" ({more})" if more else ""
    return names


def pretraining_of(run: Run, pretrained: Iterable[Run]) -> Run | None:
    """The run that made a transfer run's weights, or None where it is not among those given.

    It is told by its folder, as far as the end of the weights' path goes, and by its method.
    """
    wanted = Path(str(run.record.config["weights"])).parts
    while wanted and wanted[-1] in INSIDE:
        wanted = wanted[:-1]
    method = run.record.config["method"]
    shared = [
        (_common_end(other.folder.parts, wanted), other)
        for other in pretrained
        if other.record.config.get("method", method) == method
    ]
    longest = max((length for length, _ in shared), default=0)
    best = [other for length, other in shared if length == longest]
    return best[0] if longest and len(best) == 1 else None


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts at the end two paths have in common."""
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        count += 1
    return count


def _variants(made: Sequence[Run | None]) -> list[str]:
    """What to say of each pre-training beside its method; nothing for the usual one."""
    found = {str(run.folder): run for run in made if run is not None}
    told = dict(zip(found, told_apart([_settings(run) for run in found.values()]), strict=True))
    most = usual(list(told.values()))
    said = {}
    for folder, settings in told.items():
        odd = {name: value for name, value in settings.items() if value != most.get(name)}
        recorded = {name: value for name, value in odd.items() if value != NOT_RECORDED}
        said[folder] = ", ".join(_words(name, value) for name, value in recorded.items())
    for folder, settings in told.items():  # two that differ in nothing but what one of them doesn't record
        if any(said[folder] == said[other] and settings != told[other] for other in told) and (
            NOT_RECORDED in settings.values()
        ):
            blank = ", ".join(name for name, value in settings.items() if value == NOT_RECORDED)
            said[folder] = f"{said[folder]}, {blank} not recorded".removeprefix(", ")
    unknown = "pre-training not among the runs" if found else ""
    return [unknown if run is None else said[str(run.folder)] for run in made]


def _settings(run: Run) -> dict[str, str]:
    return deciding(run.record.config) | {STORE: run.store}


def _words(name: str, value: str) -> str:
    short = name.partition(".")[2] or name
    return f"{value} steps" if short == "max_steps" else f"{short} {value}"
