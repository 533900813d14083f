"""What is wrong with the runs, said plainly: pure functions of the runs."""

from collections.abc import Iterable, Sequence

import numpy as np

from gvsl.report.findings import ORDER, Finding
from gvsl.report.groups import Group, what_differs
from gvsl.report.numbers import number, percent, plural
from gvsl.report.pretraining import RANDOM
from gvsl.report.run_figures import curve_end, held_out, mean_of_cases
from gvsl.report.runs import Run
from gvsl.report.scores import case_ids, difference, seeds_of

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


def findings(runs: Sequence[Run], compared: Sequence[Group]) -> list[Finding]:
    """All findings about the runs and their comparisons, the gravest first."""
    found = [finding for run in runs for finding in _of_run(run)]
    found += [finding for group in compared for finding in _of_group(group, compared)]
    return sorted(found, key=lambda finding: ORDER[finding.level])


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
        text = f"{said}; what it wrote before is shown, and counts for nothing"
        found.append(
            Finding("failed", run.label, text, "failed; what they wrote before is shown, and counts for nothing")
        )
    elif status != "finished":
        text = f"the run is {status}: its figures are of an unfinished run"
        found.append(Finding("caution", run.label, text, f"{status}: their figures are of unfinished runs"))
    found += _of_curves(run)
    checks = _of_pretraining if run.record.kind == "pretrain" else _of_transfer
    return found + list(checks(run))


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
    folded = held_out(run, "folded")
    end = curve_end(run.curves["folded"]) if "folded" in run.curves else None
    for share, where in ((folded, "on held-out pairs"), (end, "at the end of training")):
        if share is not None and share > MOST_FOLDED:
            most = percent(MOST_FOLDED, 0)
            text = f"{percent(share)} of voxels folded {where}, above {most}"
            yield Finding("caution", run.label, text, f"more than {most} of voxels folded {where}")
    before, after = held_out(run, "dice_before"), held_out(run, "dice_after")
    if before is not None and after is not None and after <= before:
        kind = "labels overlap no better after matching than before"
        text = f"labels overlap no better after matching ({number(after, 4)}) than before ({number(before, 4)})"
        yield Finding("caution", run.label, text, kind)
    has_figures = run.record.cases or any(name.startswith("val/") for name in run.record.metrics)
    if run.record.status == "finished" and not has_figures:
        text = "nothing held out was measured: all its figures are of training"
        yield Finding("caution", run.label, text, "nothing held out was measured: all figures are of training")
    yield from _of_pretext(run)


def _of_pretext(run: Run) -> Iterable[Finding]:
    """What is wrong with a run that learns from something else than matching."""
    for what, found in (("at the end of training", _ends(run)), ("on held-out volumes", _held_out_figures(run))):
        if found.get("embedding_std", 1.0) < COLLAPSED_STD:
            yield _collapsed(
                run, f"{what} all embeddings are nearly one (spread {number(found['embedding_std'], 4)} of 1)"
            )
        elif found.get("effective_rank", 9.0) < COLLAPSED_RANK:
            yield _collapsed(run, f"{what} the embeddings spread over {number(found['effective_rank'], 2)} directions")
        if found.get("clusters_used", 9.0) < 2:
            yield _collapsed(run, f"{what} all volumes are in one cluster")
        elif found.get("cluster_largest", 0.0) > COLLAPSED_CLUSTER:
            yield _collapsed(run, f"{what} one cluster holds {percent(found['cluster_largest'], 0)} of the volumes")
        restored, untouched = found.get("restoration"), found.get("restoration_identity")
        if restored is not None and untouched is not None and restored >= untouched:
            kind = f"{what} restoring is no better than returning the damage"
            text = f"{what} restoring ({number(restored, 4)}) is no better than returning the damage"
            yield Finding("caution", run.label, f"{text} ({number(untouched, 4)})", kind)


def _collapsed(run: Run, text: str) -> Finding:
    return Finding("broken", run.label, f"the run has collapsed: {text}", "collapsed")


def _ends(run: Run) -> dict[str, float]:
    return {name: curve_end(run.curves[name]) for name in PRETEXT_FIGURES if name in run.curves}


def _held_out_figures(run: Run) -> dict[str, float]:
    values = {name: held_out(run, name) for name in PRETEXT_FIGURES}
    return {name: value for name, value in values.items() if value is not None}


def _of_transfer(run: Run) -> Iterable[Finding]:
    mean = mean_of_cases(run, "dice")
    stated = run.record.metrics.get("test/dice")
    if run.record.status == "finished" and mean is None and mean_of_cases(run, "score") is None:
        text = "finished without a DSC or a score for any test case"
        yield Finding("broken", run.label, f"the run {text}", text)
    if mean is not None and stated is not None and abs(mean - stated) > MEAN_TOLERANCE:
        text = f"the recorded test DSC {number(stated)} is not the mean of its cases, {number(mean)}"
        yield Finding("broken", run.label, text, "the recorded test DSC is not the mean of the cases")


def _of_group(group: Group, compared: Sequence[Group]) -> Iterable[Finding]:
    subject = f"{group.store}, {group.name}"

    def caution(text: str, kind: str) -> Finding:
        return Finding("caution", subject, text, kind, "comparison")

    if not group.can_be_compared:
        yield caution(*_alone(group, compared))
        return
    if group.partly_recorded:
        text = f"not recorded in every run, and taken to be alike: {', '.join(group.partly_recorded)}"
        yield caution(text, "settings that not every run records, and which are taken to be alike")
    shared = set(case_ids(group.runs))
    lost = {str(row["id"]) for run in group.runs for row in run.record.cases} - shared
    if lost:
        text = f"{plural(len(lost), 'case')} left out: not scored in every run"
        yield caution(text, "cases left out: not scored in every run")
    for method in group.methods:
        runs = group.sides[method]
        weights = {(run.record.seed, str(run.record.config["weights"])) for run in runs}
        if len(weights) > len(seeds_of(runs)):
            text = f"{method}: several weights of one seed, whose mean is taken"
            yield caution(text, "several weights of one seed, whose mean is taken")
    seeds = {name: len(seeds_of(runs)) for name, runs in group.sides.items()}
    if min(seeds.values()) < SEEDS_ASKED_FOR:
        few = [name for name, count in seeds.items() if count < SEEDS_ASKED_FOR]
        whose = "every side" if len(few) == len(seeds) else ", ".join(few)
        counts = " or ".join(str(count) for count in sorted({seeds[name] for name in few}))
        verb = "has" if whose == "every side" or len(few) == 1 else "have"
        kind = f"sides with fewer than {SEEDS_ASKED_FOR} seeds: how sure they are is not known"
        yield caution(f"fewer than {SEEDS_ASKED_FOR} seeds: {whose} {verb} {counts}", kind)
    gaps = {
        method: difference(group.sides[method], group.sides[RANDOM], sorted(shared), "dice") for method in group.methods
    }
    apart = [method for method, gap in gaps.items() if not gap.seeds]
    if apart:
        text = f"no seed in common with random features, so not compared: {', '.join(apart)}"
        yield caution(text, "sides with no seed in common with random features, which are not compared")
    behind = [f"{method} ({number(gap.mean, signed=True)} DSC)" for method, gap in gaps.items() if gap.mean <= 0]
    if behind:
        verb = "is" if len(behind) == 1 else "are"
        yield caution(
            f"{', '.join(behind)} {verb} not ahead of a random start", "some features are not ahead of a random start"
        )


def _alone(group: Group, compared: Sequence[Group]) -> tuple[str, str]:
    """Why a group has nothing to be set against, and the same in general."""
    wanted = "pre-trained" if RANDOM in group.sides else "random"
    others = [
        what_differs(group, other)
        for other in compared
        if (other.store, other.protocol) == (group.store, group.protocol)
        and (other.methods if wanted == "pre-trained" else RANDOM in other.sides)
    ]
    nearest = min((words for words in others if words), key=lambda words: words.count(","), default="")
    text = f"no finished run on {wanted} features to compare {', '.join(group.sides)} with"
    but = f": {nearest} in the nearest one" if nearest else ""
    return text + but, f"no finished run on {wanted} features of the same settings: not compared"
