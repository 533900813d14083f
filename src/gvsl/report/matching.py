"""Whether a run's fields match the evaluated pairs: its own field against the controls, with intervals over pairs."""

import shlex
from dataclasses import dataclass

from gvsl.metrics.bootstrap import MIN_CASES, Interval, mean_with_interval, recorded_interval
from gvsl.records.matching import has_controls
from gvsl.report.numbers import number, plural
from gvsl.report.run_metrics import measured
from gvsl.report.runs import Run

MIN_PAIRS = MIN_CASES
"""The number of pairs that a verdict needs."""
MIN_GAIN = 1e-3
"""Mean gain in the NCC loss, from 0 to 1, below which two fields count as one. Maps that differ by a thousandth of a
voxel may differ in the same direction for every pair."""

AFFINE_PARTS = {
    "rotation": "degrees of rotation",
    "translation": "voxels of translation",
    "scale": "of scaling beside 1",
    "shear": "of shear",
}
"""What an affine map consists of, and how a line names its mean absolute value."""


@dataclass(frozen=True)
class Gain:
    """How much lower the NCC loss of smoothed images is with a pair's own field than with a control."""

    control: str
    mean: float
    ends: Interval | None
    """The 95 % bootstrap interval over pairs; None if there are too few."""
    pairs: int

    @property
    def known(self) -> bool:
        """True if there are enough pairs for an interval."""
        return self.ends is not None

    @property
    def shown(self) -> bool:
        """True if the pair's own field is better than the control."""
        return self.ends is not None and self.ends[0] > 0 and self.mean >= MIN_GAIN

    @property
    def interval(self) -> str:
        """The gain, with its interval if there are enough pairs."""
        mean, *ends = (number(value, 4, signed=True) for value in (self.mean, *(self.ends or ())))
        return f"{mean} [{', '.join(ends)}]" if ends else mean

    @property
    def limit(self) -> str:
        """The note that the gain is below the minimum; empty if it is not."""
        return f", less than {MIN_GAIN:g}" if self.known and self.mean < MIN_GAIN else ""

    @property
    def text(self) -> str:
        """The gain over the control."""
        return f"{self.interval} over {self.control}{self.limit}"


@dataclass(frozen=True)
class Gains:
    """The gains of a pair's own field, or of its own affine part."""

    over_swapped: Gain
    over_blurred: Gain

    @property
    def shown(self) -> bool:
        """True if both are."""
        return self.over_swapped.shown and self.over_blurred.shown

    @property
    def text(self) -> str:
        """Both gains."""
        return f"NCC gain {self.over_swapped.text}, {self.over_blurred.text}"


@dataclass(frozen=True)
class MatchingVerdict:
    """Whether the field matches, and whether its affine part depends on the pair."""

    field: Gains
    affine: Gains | None
    """None if the method has no affine head."""

    @property
    def known(self) -> bool:
        """True if there are enough pairs for a verdict."""
        return self.field.over_swapped.known

    @property
    def sentences(self) -> list[str]:
        """The verdict with its numbers, on the field and on the affine part."""
        if not self.known:
            pairs = plural(self.field.over_swapped.pairs, "pair")
            return [f"not known if it matches: {pairs}, fewer than {MIN_PAIRS} ({self.field.text})"]
        found = [f"it {'matches' if self.field.shown else 'does not match'} ({self.field.text})"]
        if self.affine is not None:
            found.append(f"its affine part {_affine_outcome(self.affine)} ({self.affine.text})")
        return found


def matching_verdict(run: Run) -> MatchingVerdict | None:
    """Return the verdict on a pre-training run; None if it matches nothing, or its record has no controls."""
    if not matches_pairs(run) or not has_controls(run.record.cases):
        return None
    has_affine = (run.record.config.get("pretext") or {}).get("affine", True)
    return MatchingVerdict(
        _gains(run, "field", "smooth_ncc"), _gains(run, "affine part", "smooth_ncc_affine") if has_affine else None
    )


def matches_pairs(run: Run) -> bool:
    """Return True if the run's record has evaluated pairs."""
    return run.record.kind == "pretrain" and any("ncc" in row for row in run.record.cases)


def verdict_lines(run: Run) -> list[str]:
    """Return the verdict on a run's matching as lines, or the command that measures it; none if it matches nothing."""
    verdict = matching_verdict(run)
    if verdict is not None:
        return [*verdict.sentences, *_affine_line(run)]
    return [f"not known if it matches: {unmeasured(run)}"] if matches_pairs(run) else []


def unmeasured(run: Run) -> str:
    """State that a run's controls were not measured, and the command that does."""
    return f"not checked against controls; gvsl pretrain STORE --out {shlex.quote(str(run.folder))} --resume does"


def _affine_line(run: Run) -> list[str]:
    moved, differ = measured(run, "affine_displacement"), measured(run, "affine_difference")
    if moved is None or differ is None:
        return []
    line = f"its affine parts move voxels by {number(moved)} and differ between pairs by {number(differ)} voxels"
    parts = [(unit, measured(run, f"affine_{name}")) for name, unit in AFFINE_PARTS.items()]
    known = [f"{number(value)} {unit}" for unit, value in parts if value is not None]  # earlier records lack them
    return [f"{line}; mean absolute values: {', '.join(known)}" if known else line]


def _affine_outcome(gains: Gains) -> str:
    if not gains.over_swapped.shown:
        return "does not depend on the pair"
    return "depends on the pair" if gains.shown else "depends on the pair, but does not align it"


def _gains(run: Run, part: str, own: str) -> Gains:
    return Gains(
        _gain(run, f"another pair's {part}", f"{own}_swapped", own),
        _gain(run, "blur without motion", f"{own}_blurred", own),
    )


def _gain(run: Run, control: str, theirs: str, own: str) -> Gain:
    values = [float(row[theirs]) - float(row[own]) for row in run.record.cases if "ncc" in row]
    found = mean_with_interval("mean", values)
    return Gain(control, found["mean"], recorded_interval(found, "mean", len(values)), len(values))
