"""What is wrong with the runs, said plainly: pure functions of the runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gvsl.report.numbers import number, percent, plural
from gvsl.report.runs import Run
from gvsl.report.summary import (
    RANDOM,
    Group,
    case_ids,
    curve_end,
    difference,
    differing_settings,
    held_out,
    mean_of_cases,
)

MOST_FOLDED = 0.01
"""The share of folded voxels above which a run is warned of."""
COLLAPSED_STD = 0.01
"""The spread of embeddings, at most 1, below which a run has collapsed; random weights give about 0.1."""
COLLAPSED_RANK = 1.5
"""The effective rank of embeddings below which they lie on a line."""
COLLAPSED_CLUSTER = 0.9
"""The share of volumes in one cluster above which a run has collapsed."""
PRETEXT_FIGURES = (
    *("embedding_std", "effective_rank", "clusters_used", "cluster_largest", "restoration", "restoration_identity"),
)
SEEDS_ASKED_FOR = 3
MEAN_TOLERANCE = 1e-3

Level = Literal["failed", "broken", "caution"]


@dataclass(frozen=True)
class Finding:
    """One thing the reader must know before believing a figure."""

    level: Level
    subject: str
    """The run, or the comparison, that it is about."""
    text: str


def findings(runs: Sequence[Run], compared: Sequence[Group]) -> list[Finding]:
    """All findings about the runs and their comparisons, the gravest first."""
    found = [finding for run in runs for finding in _of_run(run)]
    found += [finding for group in compared for finding in _of_group(group)]
    order = {"failed": 0, "broken": 1, "caution": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def wrong_order(
    ncc: float | None, affine: float | None, identity: float | None, *, has_affine: bool = True
) -> str | None:
    """Say how three matching losses break ncc < ncc_affine < ncc_identity, or None where they hold it.

    Without an affine head, its map is the identity, and only the first must be below the last.
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
        said = f"the run failed: {reason}" if reason else "the run failed"
        found.append(Finding("failed", run.label, f"{said}; what it wrote before is shown, and counts for nothing"))
    elif status != "finished":
        found.append(Finding("caution", run.label, f"the run is {status}: its figures are of an unfinished run"))
    found += _of_curves(run)
    checks = _of_pretraining if run.record.kind == "pretrain" else _of_transfer
    return found + list(checks(run))


def _of_curves(run: Run) -> Iterable[Finding]:
    for name, curve in run.curves.items():
        bad = int((~np.isfinite(curve.values)).sum())
        if bad:
            yield Finding("broken", run.label, f"{plural(bad, 'logged value')} of {name} not finite")
        elif name.startswith("gradient_norm_") and not curve.values.any():
            part = name.removeprefix("gradient_norm_")
            yield Finding("broken", run.label, f"the {part} part never had a gradient: it was not trained")


def _of_pretraining(run: Run) -> Iterable[Finding]:
    names = ("ncc", "ncc_affine", "ncc_identity")
    affine = bool((run.record.config.get("pretext") or {}).get("affine", True))
    ends = [curve_end(run.curves[name]) if name in run.curves else None for name in names]
    at_end = wrong_order(*ends, has_affine=affine)
    if at_end:
        yield Finding("broken", run.label, f"at the end of training {at_end}")
    on_pairs = wrong_order(*(held_out(run, name) for name in names), has_affine=affine)
    if on_pairs:
        yield Finding("broken", run.label, f"on held-out pairs {on_pairs}")
    folded = held_out(run, "folded")
    end = curve_end(run.curves["folded"]) if "folded" in run.curves else None
    for share, where in ((folded, "on held-out pairs"), (end, "at the end of training")):
        if share is not None and share > MOST_FOLDED:
            text = f"{percent(share)} of voxels folded {where}, above {percent(MOST_FOLDED, 0)}"
            yield Finding("caution", run.label, text)
    before, after = held_out(run, "dice_before"), held_out(run, "dice_after")
    if before is not None and after is not None and after <= before:
        text = f"labels overlap no better after matching ({number(after, 4)}) than before ({number(before, 4)})"
        yield Finding("caution", run.label, text)
    has_figures = run.record.cases or any(name.startswith("val/") for name in run.record.metrics)
    if run.record.status == "finished" and not has_figures:
        yield Finding("caution", run.label, "nothing held out was measured: all its figures are of training")
    yield from _of_pretext(run)


def _of_pretext(run: Run) -> Iterable[Finding]:
    """What is wrong with a run that learns from something else than matching."""
    for what, found in (("at the end of training", _ends(run)), ("on held-out volumes", _held_out_figures(run))):
        if found.get("embedding_std", 1.0) < COLLAPSED_STD:
            text = f"{what} all embeddings are nearly one (spread {number(found['embedding_std'], 4)} of 1)"
            yield Finding("broken", run.label, f"the run has collapsed: {text}")
        elif found.get("effective_rank", 9.0) < COLLAPSED_RANK:
            text = f"{what} the embeddings spread over {number(found['effective_rank'], 2)} directions"
            yield Finding("broken", run.label, f"the run has collapsed: {text}")
        if found.get("clusters_used", 9.0) < 2:
            yield Finding("broken", run.label, f"the run has collapsed: {what} all volumes are in one cluster")
        elif found.get("cluster_largest", 0.0) > COLLAPSED_CLUSTER:
            text = f"{what} one cluster holds {percent(found['cluster_largest'], 0)} of the volumes"
            yield Finding("broken", run.label, f"the run has collapsed: {text}")
        restored, untouched = found.get("restoration"), found.get("restoration_identity")
        if restored is not None and untouched is not None and restored >= untouched:
            text = f"{what} restoring ({number(restored, 4)}) is no better than returning the damage"
            yield Finding("caution", run.label, f"{text} ({number(untouched, 4)})")


def _ends(run: Run) -> dict[str, float]:
    return {name: curve_end(run.curves[name]) for name in PRETEXT_FIGURES if name in run.curves}


def _held_out_figures(run: Run) -> dict[str, float]:
    values = {name: held_out(run, name) for name in PRETEXT_FIGURES}
    return {name: value for name, value in values.items() if value is not None}


def _of_transfer(run: Run) -> Iterable[Finding]:
    mean = mean_of_cases(run, "dice")
    stated = run.record.metrics.get("test/dice")
    if run.record.status == "finished" and mean is None and mean_of_cases(run, "score") is None:
        yield Finding("broken", run.label, "the run finished without a DSC or a score for any test case")
    if mean is not None and stated is not None and abs(mean - stated) > MEAN_TOLERANCE:
        text = f"the recorded test DSC {number(stated)} is not the mean of its cases, {number(mean)}"
        yield Finding("broken", run.label, text)


def _of_group(group: Group) -> Iterable[Finding]:
    subject = f"{group.store}, {group.protocol}" + (f", {group.settings}" if group.settings else "")
    for name, values in differing_settings(group.runs).items():
        text = f"the runs differ in more than their weights: {name} is {' or '.join(values)}"
        yield Finding("caution", subject, text)
    if len(group.sides) == 1:
        other = "pre-trained" if RANDOM in group.sides else "random"
        yield Finding("caution", subject, f"no finished run on {other} features to compare with")
        return
    shared = set(case_ids(group.runs))
    lost = {str(row["id"]) for run in group.runs for row in run.record.cases} - shared
    if lost:
        yield Finding("caution", subject, f"{plural(len(lost), 'case')} left out: not scored in every run")
    seeds = {name: len({run.record.seed for run in runs}) for name, runs in group.sides.items()}
    if min(seeds.values()) < SEEDS_ASKED_FOR:
        few = [name for name, count in seeds.items() if count < SEEDS_ASKED_FOR]
        whose = "every side" if len(few) == len(seeds) else ", ".join(few)
        counts = " or ".join(str(count) for count in sorted({seeds[name] for name in few}))
        yield Finding("caution", subject, f"fewer than {SEEDS_ASKED_FOR} seeds: {whose} has {counts}")
    gaps = {
        method: difference(group.sides[method], group.sides[RANDOM], sorted(shared), "dice").mean
        for method in (group.methods if RANDOM in group.sides else ())
    }
    behind = [f"{method} ({number(gap, signed=True)} DSC)" for method, gap in gaps.items() if not gap > 0]
    if behind:
        verb = "is" if len(behind) == 1 else "are"
        yield Finding("caution", subject, f"{', '.join(behind)} {verb} not ahead of a random start")
