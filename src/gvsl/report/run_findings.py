"""Findings: what a reader must know about runs and comparisons before trusting a number."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gvsl.records.comparability import differences
from gvsl.report.grouping import RANDOM, Group
from gvsl.report.numbers import number, percent, plural
from gvsl.report.run_metrics import curve_end, held_out, mean_of_cases
from gvsl.report.runs import Run
from gvsl.report.scores import seeds_of

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
    checks = _pretraining_problems if run.record.kind == "pretrain" else _transfer_problems
    problems = [*_status_problems(run), *_curve_problems(run), *checks(run)]
    return [Finding(level, run.label, text, kind) for level, text, kind in problems]


def _status_problems(run: Run) -> Iterator[Problem]:
    status = run.record.status
    if status == "failed":
        reason = run.record.config.get("reason")
        text = f"the run failed: {reason}" if reason else "the run failed"
        ignored = "what {} wrote before is shown, and counts for nothing"
        yield "failed", f"{text}; {ignored.format('it')}", f"failed; {ignored.format('they')}"
    elif status != "finished":
        text = f"the run is {status}: its numbers are of an unfinished run"
        yield "caution", text, f"{status}: their numbers are of unfinished runs"


def _curve_problems(run: Run) -> Iterator[Problem]:
    for name, curve in run.curves.items():
        bad = int((~np.isfinite(curve.values)).sum())
        if bad:
            yield "broken", f"{plural(bad, 'logged value')} of {name} not finite", "logged values that are not finite"
        elif name.startswith("gradient_norm_") and not curve.values.any():
            text = "part never had a gradient: it was not trained"
            part = name.removeprefix("gradient_norm_")
            yield "broken", f"the {part} {text}", f"a {text.replace('part', 'part that')}"


def _pretraining_problems(run: Run) -> Iterator[Problem]:
    names = ("ncc", "ncc_affine", "ncc_identity")
    affine = bool((run.record.config.get("pretext") or {}).get("affine", True))
    ends = {name: curve_end(curve) for name, curve in run.curves.items()}
    held = {name: held_out(run, name) for name in (*names, "folded", *PRETEXT_METRICS)}
    for where, found in (("at the end of training", ends), ("on held-out pairs", held)):
        problem = wrong_order(*(found.get(name) for name in names), has_affine=affine)
        if problem:
            kind = f"{where} not ncc < ncc_affine < ncc_identity, as matching that works has it: broken"
            yield "broken", f"{where} {problem}", kind
    for where, folded in (("on held-out pairs", held["folded"]), ("at the end of training", ends.get("folded"))):
        if folded is not None and folded > MAX_FOLDED:
            limit = percent(MAX_FOLDED, 0)
            text = f"{percent(folded)} of voxels folded {where}, above {limit}"
            yield "caution", text, f"more than {limit} of voxels folded {where}"
    before, after = held_out(run, "dice_before"), held_out(run, "dice_after")
    if before is not None and after is not None and after <= before:
        kind = "labels overlap no better after matching than before"
        text = f"labels overlap no better after matching ({number(after, 4)}) than before ({number(before, 4)})"
        yield "caution", text, kind
    measured = run.record.cases or any(name.startswith("val/") for name in run.record.metrics)
    if run.record.status == "finished" and not measured:
        text = "nothing held out was measured: all {}numbers are of training"
        yield "caution", text.format("its "), text.format("")
    for where, values in (("at the end of training", ends), ("on held-out volumes", held)):
        yield from _pretext_problems(where, {name: value for name, value in values.items() if value is not None})


def _pretext_problems(where: str, found: Mapping[str, float]) -> Iterator[Problem]:
    """Check the metrics of pretexts other than matching."""
    collapsed = []
    if found.get("embedding_std", 1.0) < COLLAPSED_STD:
        collapsed.append(f"all embeddings are nearly one (spread {number(found['embedding_std'], 4)} of 1)")
    elif found.get("effective_rank", 9.0) < COLLAPSED_RANK:
        collapsed.append(f"the embeddings spread over {number(found['effective_rank'], 2)} directions")
    if found.get("clusters_used", 9.0) < 2:
        collapsed.append("all volumes are in one cluster")
    elif found.get("cluster_largest", 0.0) > COLLAPSED_CLUSTER:
        collapsed.append(f"one cluster holds {percent(found['cluster_largest'], 0)} of the volumes")
    for text in collapsed:
        yield "broken", f"the run has collapsed: {where} {text}", "collapsed"
    restored, untouched = found.get("restoration"), found.get("restoration_identity")
    if restored is not None and untouched is not None and restored >= untouched:
        kind = f"{where} restoring is no better than returning the damage"
        text = f"{where} restoring ({number(restored, 4)}) is no better than returning the damage"
        yield "caution", f"{text} ({number(untouched, 4)})", kind


def _transfer_problems(run: Run) -> Iterator[Problem]:
    mean = mean_of_cases(run, "dice")
    recorded = run.record.metrics.get("test/dice")
    if run.record.status == "finished" and mean is None and mean_of_cases(run, "score") is None:
        text = "finished without a DSC or a score for any test case"
        yield "broken", f"the run {text}", text
    if mean is not None and recorded is not None and abs(mean - recorded) > MEAN_TOLERANCE:
        text = f"the recorded test DSC {number(recorded)} is not the mean of its cases, {number(mean)}"
        yield "broken", text, "the recorded test DSC is not the mean of the cases"


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
    lost = {str(row["id"]) for run in group.runs for row in run.record.cases} - set(group.cases)
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
    gaps = {method: group.lead(method) for method in group.methods}
    apart = [method for method, gap in gaps.items() if not gap.seeds]
    if apart:
        text = f"no seed in common with random features, so not compared: {', '.join(apart)}"
        yield caution(text, "arms with no seed in common with random features, which are not compared")
    behind = [f"{method} ({number(gap.mean, signed=True)} DSC)" for method, gap in gaps.items() if gap.mean <= 0]
    if behind:
        ahead = "not ahead of a random start"
        yield caution(
            f"{', '.join(behind)} {'is' if len(behind) == 1 else 'are'} {ahead}", f"some features are {ahead}"
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
