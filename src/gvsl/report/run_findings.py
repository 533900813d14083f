"""Findings: what a reader must know about runs and comparisons before trusting a number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gvsl.records.comparability import differences
from gvsl.report.grouping import RANDOM, Group
from gvsl.report.numbers import number, percent, plural
from gvsl.report.run_metrics import curve_end, held_out, mean_of_cases
from gvsl.report.runs import Run
from gvsl.report.scores import case_ids, difference, seeds_of

MAX_FOLDED = 0.01
"""The fraction of folded voxels above which a run gets a caution."""
COLLAPSED_STD = 0.01
"""The standard deviation of embeddings, at most 1, below which a run has collapsed; random weights give about 0.1."""
COLLAPSED_RANK = 1.5
"""The effective rank of embeddings below which they lie on a line."""
COLLAPSED_CLUSTER = 0.9
"""The fraction of volumes in one cluster above which a run has collapsed."""
PRETEXT_METRICS = (
    *("embedding_std", "effective_rank", "clusters_used", "cluster_largest", "restoration", "restoration_identity"),
)
MIN_SEEDS = 3
MEAN_TOLERANCE = 1e-3
NAMED = 3
"""The number of subjects that a line about several names."""

Level = Literal["failed", "broken", "caution"]
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
        more = f" and {len(self.subjects) - NAMED} more" if len(self.subjects) > NAMED else ""
        return f"{self.text} ({'; '.join(self.subjects[:NAMED])}{more})"


def by_kind(found: Iterable[Finding]) -> list[FindingKind]:
    """Group findings by level and kind, most severe first."""
    kinds: dict[tuple[Level, str], list[Finding]] = {}
    for finding in found:
        kinds.setdefault((finding.level, finding.kind), []).append(finding)
    return sorted(
        (FindingKind(level, items) for (level, _), items in kinds.items()), key=lambda one: SEVERITY[one.level]
    )


def findings(runs: Sequence[Run], compared: Sequence[Group]) -> list[Finding]:
    """Return all findings about runs and comparisons, most severe first."""
    found = [finding for run in runs for finding in _of_run(run)]
    found += [finding for group in compared for finding in _of_group(group, compared)]
    return sorted(found, key=lambda finding: SEVERITY[finding.level])


def wrong_order(
    ncc: float | None, affine: float | None, identity: float | None, *, has_affine: bool = True
) -> str | None:
    """Describe how three matching losses break ncc < ncc_affine < ncc_identity; None if they hold it.

    Without an affine head its map is the identity, and only the first must be below the last.
    """
    if ncc is None or affine is None or identity is None:
        return None
    if ncc < affine < identity or (not has_affine and ncc < identity):
        return None
    return (
        f"ncc {number(ncc, 4)}, ncc_affine {number(affine, 4)}, ncc_identity {number(identity, 4)}: "
        "each must be below the next, so this run is broken"
    )


def _of_run(run: Run) -> list[Finding]:
    status = run.record.status
    found = []
    if status == "failed":
        reason = run.record.config.get("reason")
        text = f"the run failed: {reason}" if reason else "the run failed"
        text += "; what it wrote before is shown, and counts for nothing"
        found.append(
            Finding("failed", run.label, text, "failed; what they wrote before is shown, and counts for nothing")
        )
    elif status != "finished":
        text = f"the run is {status}: its numbers are of an unfinished run"
        found.append(Finding("caution", run.label, text, f"{status}: their numbers are of unfinished runs"))
    found += _of_curves(run)
    check = _of_pretraining if run.record.kind == "pretrain" else _of_transfer
    return found + list(check(run))


def _of_curves(run: Run) -> Iterable[Finding]:
    for name, curve in run.curves.items():
        bad = int((~np.isfinite(curve.values)).sum())
        if bad:
            text = f"{plural(bad, 'logged value')} of {name} not finite"
            yield Finding("broken", run.label, text, "logged values that are not finite")
        elif name.startswith("gradient_norm_") and not curve.values.any():
            part = name.removeprefix("gradient_norm_")
            text = f"the {part} part never had a gradient: it was not trained"
            yield Finding("broken", run.label, text, "a part that never had a gradient: it was not trained")


def _of_pretraining(run: Run) -> Iterable[Finding]:
    names = ("ncc", "ncc_affine", "ncc_identity")
    affine = bool((run.record.config.get("pretext") or {}).get("affine", True))
    ends = [curve_end(run.curves[name]) if name in run.curves else None for name in names]
    held = [held_out(run, name) for name in names]
    for where, values in (("at the end of training", ends), ("on held-out pairs", held)):
        problem = wrong_order(*values, has_affine=affine)
        if problem:
            kind = f"{where} not ncc < ncc_affine < ncc_identity, as matching that works has it: broken"
            yield Finding("broken", run.label, f"{where} {problem}", kind)
    end = curve_end(run.curves["folded"]) if "folded" in run.curves else None
    for folded, where in ((held_out(run, "folded"), "on held-out pairs"), (end, "at the end of training")):
        if folded is not None and folded > MAX_FOLDED:
            limit = percent(MAX_FOLDED, 0)
            text = f"{percent(folded)} of voxels folded {where}, above {limit}"
            yield Finding("caution", run.label, text, f"more than {limit} of voxels folded {where}")
    before, after = held_out(run, "dice_before"), held_out(run, "dice_after")
    if before is not None and after is not None and after <= before:
        kind = "labels overlap no better after matching than before"
        text = f"labels overlap no better after matching ({number(after, 4)}) than before ({number(before, 4)})"
        yield Finding("caution", run.label, text, kind)
    measured = run.record.cases or any(name.startswith("val/") for name in run.record.metrics)
    if run.record.status == "finished" and not measured:
        text = "nothing held out was measured: all its numbers are of training"
        yield Finding("caution", run.label, text, "nothing held out was measured: all numbers are of training")
    yield from _of_pretext(run)


def _of_pretext(run: Run) -> Iterable[Finding]:
    """Check the metrics of pretexts other than matching."""
    ends = {name: curve_end(run.curves[name]) for name in PRETEXT_METRICS if name in run.curves}
    held = {name: value for name in PRETEXT_METRICS if (value := held_out(run, name)) is not None}
    for where, found in (("at the end of training", ends), ("on held-out volumes", held)):
        if found.get("embedding_std", 1.0) < COLLAPSED_STD:
            yield _collapsed(
                run, f"{where} all embeddings are nearly one (spread {number(found['embedding_std'], 4)} of 1)"
            )
        elif found.get("effective_rank", 9.0) < COLLAPSED_RANK:
            yield _collapsed(run, f"{where} the embeddings spread over {number(found['effective_rank'], 2)} directions")
        if found.get("clusters_used", 9.0) < 2:
            yield _collapsed(run, f"{where} all volumes are in one cluster")
        elif found.get("cluster_largest", 0.0) > COLLAPSED_CLUSTER:
            yield _collapsed(run, f"{where} one cluster holds {percent(found['cluster_largest'], 0)} of the volumes")
        restored, untouched = found.get("restoration"), found.get("restoration_identity")
        if restored is not None and untouched is not None and restored >= untouched:
            kind = f"{where} restoring is no better than returning the damage"
            text = f"{where} restoring ({number(restored, 4)}) is no better than returning the damage"
            yield Finding("caution", run.label, f"{text} ({number(untouched, 4)})", kind)


def _collapsed(run: Run, text: str) -> Finding:
    return Finding("broken", run.label, f"the run has collapsed: {text}", "collapsed")


def _of_transfer(run: Run) -> Iterable[Finding]:
    mean = mean_of_cases(run, "dice")
    recorded = run.record.metrics.get("test/dice")
    if run.record.status == "finished" and mean is None and mean_of_cases(run, "score") is None:
        text = "finished without a DSC or a score for any test case"
        yield Finding("broken", run.label, f"the run {text}", text)
    if mean is not None and recorded is not None and abs(mean - recorded) > MEAN_TOLERANCE:
        text = f"the recorded test DSC {number(recorded)} is not the mean of its cases, {number(mean)}"
        yield Finding("broken", run.label, text, "the recorded test DSC is not the mean of the cases")


def _of_group(group: Group, compared: Sequence[Group]) -> Iterable[Finding]:
    subject = f"{group.store}, {group.name}"

    def caution(text: str, kind: str) -> Finding:
        return Finding("caution", subject, text, kind, "comparison")

    if not group.can_be_compared:
        yield caution(*_without_baseline(group, compared))
        return
    if group.partly_recorded:
        text = f"not recorded in every run, and taken to agree: {', '.join(group.partly_recorded)}"
        yield caution(text, "settings that not every run records, and which are taken to agree")
    shared = set(case_ids(group.runs))
    lost = {str(row["id"]) for run in group.runs for row in run.record.cases} - shared
    if lost:
        text = f"{plural(len(lost), 'case')} left out: not scored in every run"
        yield caution(text, "cases left out: not scored in every run")
    for method in group.methods:
        weights = {(run.record.seed, str(run.record.config["weights"])) for run in group.arms[method]}
        if len(weights) > len({seed for seed, _ in weights}):
            text = f"{method}: several weights of one seed, whose mean is taken"
            yield caution(text, "several weights of one seed, whose mean is taken")
    seeds = {name: len(seeds_of(runs)) for name, runs in group.arms.items()}
    few = [name for name, count in seeds.items() if count < MIN_SEEDS]
    if few:
        whose = "every arm" if len(few) == len(seeds) else ", ".join(few)
        counts = " or ".join(str(count) for count in sorted({seeds[name] for name in few}))
        verb = "has" if whose == "every arm" or len(few) == 1 else "have"
        kind = f"arms with fewer than {MIN_SEEDS} seeds: their uncertainty is not known"
        yield caution(f"fewer than {MIN_SEEDS} seeds: {whose} {verb} {counts}", kind)
    gaps = {
        method: difference(group.arms[method], group.arms[RANDOM], sorted(shared), "dice") for method in group.methods
    }
    apart = [method for method, gap in gaps.items() if not gap.seeds]
    if apart:
        text = f"no seed in common with random features, so not compared: {', '.join(apart)}"
        yield caution(text, "arms with no seed in common with random features, which are not compared")
    behind = [f"{method} ({number(gap.mean, signed=True)} DSC)" for method, gap in gaps.items() if gap.mean <= 0]
    if behind:
        verb = "is" if len(behind) == 1 else "are"
        yield caution(
            f"{', '.join(behind)} {verb} not ahead of a random start", "some features are not ahead of a random start"
        )


def _without_baseline(group: Group, compared: Sequence[Group]) -> tuple[str, str]:
    """Return why a group can't be compared, and the kind of that finding."""
    wanted = "pre-trained" if RANDOM in group.arms else "random"
    others = [
        differences(group.runs[0].record, other.runs[0].record)
        for other in compared
        if (other.store, other.protocol) == (group.store, group.protocol)
        and (other.methods if wanted == "pre-trained" else RANDOM in other.arms)
    ]
    nearest = min((found for found in others if found), key=len, default=[])
    text = f"no finished run on {wanted} features to compare {', '.join(group.arms)} with"
    if nearest:
        details = ", ".join(f"{change.name} is {change.earlier} against {change.now}" for change in nearest)
        text += f": {details} in the nearest one"
    return text, f"no finished run on {wanted} features of the same settings: not compared"
