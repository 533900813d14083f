"""The checks of runs and comparisons that give rise to findings."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gvsl.metrics.bootstrap import MIN_CASES, recorded_interval
from gvsl.records.comparability import differences
from gvsl.report.convergence import score_name, validation
from gvsl.report.finding import SEVERITY, Finding, Level, Problem
from gvsl.report.grouping import RANDOM, Group
from gvsl.report.matching import MIN_PAIRS, Gains, matches_pairs, matching_verdict, unmeasured
from gvsl.report.numbers import number, percent, plural
from gvsl.report.pretext_findings import PRECISION, PRETEXT_METRICS, RATE, STEPS, pretext_problems, untrained_part
from gvsl.report.run_metrics import curve_end, evaluated, evaluated_split, is_held_out, mean_of_cases, measured
from gvsl.report.runs import Run
from gvsl.report.scores import seeds_of
from gvsl.report.verdicts import start_of

MAX_FOLDED = 0.01
"""The fraction of folded voxels above which a run gets a caution."""
MIN_SEEDS = 3
CHANCE_AUC = 0.5
"""The AUC of a random score."""
MEAN_TOLERANCE = 1e-3
RISING_SPAN = 0.1
"""The last fraction of a run's steps in which the best validation must lie for the score to count as rising."""
RISING_PART = 0.25
"""The last fraction of the validations whose mean is compared with that of as many before."""
RISING_GAIN = 0.002
"""The difference of these means, in DSC or AUC, above which the score was still rising, if noise can't explain it."""


def findings(runs: Sequence[Run], compared: Sequence[Group]) -> list[Finding]:
    """Return all findings about runs and comparisons, most severe first."""
    found = [finding for run in runs for finding in run_findings(run)]
    found += [finding for group in compared for finding in _of_group(group, compared)]
    return sorted(found, key=lambda finding: SEVERITY[finding.level])


def run_findings(run: Run) -> list[Finding]:
    """Return the findings about one run, in the order of its checks."""
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
            text, fix = "not finite", f"a lower {RATE}, or {PRECISION}"
            values = f"{plural(bad, 'logged value')} of {name} {text}"
            yield "broken", f"{values}: {fix}", f"logged values that are {text}: {fix}"
        elif name.startswith("gradient_norm_") and not curve.values.any():
            yield untrained_part(name.removeprefix("gradient_norm_"), run.record.config)


def _pretraining_problems(run: Run) -> Iterator[Problem]:
    yield from _matching_problems(run)
    ends, pairs = _training_ends(run), evaluated([run], "pairs")
    known = {name: measured(run, name) for name in ("folded", *PRETEXT_METRICS)}
    for where, folded in (
        (f"on {pairs}", known["folded"]),
        ("at the end of training", ends.get("folded")),
    ):
        if folded is not None and folded > MAX_FOLDED:
            limit, fix = percent(MAX_FOLDED, 0), "raise --pretext.smoothness-weight"
            text = f"{percent(folded)} of voxels folded {where}, above {limit}: {fix}"
            yield "caution", text, f"more than {limit} of voxels folded {where}: {fix}"
    unknown = run.record.cases and evaluated_split(run.record) is None
    if run.record.status == "finished" and not is_held_out(run.record) and not unknown:
        text = "nothing held out was measured: all {}numbers are of training"
        yield "caution", text.format("its "), text.format("")
    for where, values in (("at the end of training", ends), (f"on {evaluated([run], 'volumes')}", known)):
        found = {name: value for name, value in values.items() if value is not None}
        yield from pretext_problems(where, found, run.record.config)


def _training_ends(run: Run) -> dict[str, float]:
    """Return the last values of each logged metric: of its curve, or, if that is missing, as recorded."""
    train = {name: value for name, value in run.record.metrics.items() if name.startswith("train/")}
    recorded = {name.removeprefix("train/"): value for name, value in train.items()}
    return recorded | {name: curve_end(curve) for name, curve in run.curves.items()}


def _matching_problems(run: Run) -> Iterator[Problem]:
    """Check that the field matches its own pair, and that its affine part depends on the pair."""
    if not matches_pairs(run):
        return
    verdict = matching_verdict(run)
    if verdict is None:
        kind = "matching not checked against controls; gvsl pretrain STORE --out RUN --resume does"
        yield "caution", f"matching {unmeasured(run)}", kind
    elif not verdict.known:
        fix = f"too few for an interval: prepare a store with {MIN_PAIRS} or more volumes in val"
        pairs = plural(verdict.field.over_swapped.pairs, evaluated([run], "pair"))
        yield "caution", f"matching was checked on {pairs}, {fix}", f"matching was checked on few pairs, {fix}"
    else:
        yield from _failed_gains(verdict.field, "it does not match: its own field", "broken")
        if verdict.affine is not None:
            yield from _failed_gains(verdict.affine, "its affine part does not align the pair: it", "caution")
    before, after = measured(run, "dice_before"), measured(run, "dice_after")
    if before is not None and after is not None and after <= before:
        text, fix = "labels overlap no better after matching", "more --max-steps"
        values = f"({number(after, 4)}) than before ({number(before, 4)})"
        yield "caution", f"{text} {values}: {fix}", f"{text} than before: {fix}"


def _failed_gains(gains: Gains, what: str, level: Level) -> Iterator[Problem]:
    fix = "more --max-steps or a larger --batch-size"
    for gain in (gains.over_swapped, gains.over_blurred):
        if not gain.shown:
            fails = f"{what} is no better than {gain.control}"
            yield level, f"{fails} (NCC gain {gain.interval}{gain.limit}): {fix}", f"{fails}: {fix}"


def _transfer_problems(run: Run) -> Iterator[Problem]:
    mean = mean_of_cases(run, "dice")
    recorded = run.record.metrics.get("test/dice")
    if run.record.config.get("val_cases") == 0:
        text = "nothing was validated, so the weights of the last step were kept"
        yield "caution", f"{text}: look at label maps of a few images, or put labelled cases into val", text
    if run.record.config.get("test_cases") == 0:
        text = "nothing was tested, since no case of test has a label map"
        yield "caution", text, text
    elif run.record.status == "finished" and mean is None and mean_of_cases(run, "score") is None:
        text = "finished without a DSC or a score for any test case"
        yield "broken", f"the run {text}", text
    if mean is not None and recorded is not None and abs(mean - recorded) > MEAN_TOLERANCE:
        text = f"the recorded test DSC {number(recorded)} is not the mean of its cases, {number(mean)}"
        yield "broken", text, "the recorded test DSC is not the mean of the cases"
    yield from _no_better_than_chance(run)
    yield from _rising(run)


def _no_better_than_chance(run: Run) -> Iterator[Problem]:
    """Check that the interval of the AUC is above chance, and that each structure was found in some test case."""
    metrics, fix = run.record.metrics, f"more {STEPS}, another {RATE}, or more --labels"
    auc, cases = metrics.get("test/auc"), len(run.record.cases)
    ends = recorded_interval(metrics, "test/auc", cases)
    if auc is not None and 0 < cases < MIN_CASES:
        text = f"fewer than {MIN_CASES} test cases, too few for an interval: not known if the AUC is above chance"
        yield "caution", f"{text} ({number(auc)} over {plural(cases, 'case')})", text
    elif auc is not None and ends is not None and ends[0] <= CHANCE_AUC:
        text = f"at chance: the interval of the test AUC holds {CHANCE_AUC}"
        values = f"{number(auc)} [{', '.join(map(number, ends))}]"
        yield "caution", f"{text} ({values}): {fix}", f"{text}: {fix}"
    prefix = "test/dice/"
    structures = [name for name in metrics if name.startswith(prefix) and not name.endswith(("_low", "_high"))]
    lost = [name.removeprefix(prefix) for name in structures if metrics[name] == 0]
    if lost:
        text = "structures that were found in no test case (DSC 0)"
        yield "broken", f"{text}: {', '.join(lost)}; {fix}", f"{text}: {fix}"


def _rising(run: Run) -> Iterator[Problem]:
    """Check that the validation score stood still at the end, so that the run is compared at its best."""
    curve = validation(run)
    if curve is None or curve.values.size < 2:
        return
    first, last = curve.steps[0], curve.steps[-1]
    best = curve.steps[int(curve.values.argmax())]
    count = max(1, round(RISING_PART * curve.values.size))
    ending = curve.values[-2 * count :]
    gain = float(ending[count:].mean() - ending[:count].mean())
    # The noise of one validation is the spread of successive differences over sqrt(2); that of a difference of two
    # means of `count` each, sqrt(2 / count) times that.
    noise = float(np.diff(ending).std()) / count**0.5
    if best >= last - RISING_SPAN * (last - first) and gain > max(RISING_GAIN, 2 * noise):
        fix = "a larger --patience" if run.record.training.get("stopped_by") == "patience" else f"more {STEPS}"
        name, steps = score_name(run), plural(count, "validation")
        text = f"{name} {number(gain, signed=True)} over the last {steps}, best at step {best:.0f} of {last:.0f}"
        rising = "still rising at the last steps"
        yield "caution", f"validation was {rising} ({text}): {fix}", f"validation {rising}: {fix}"


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
    for arm, runs in group.arms.items():
        for name, things in (("weights", "weights"), ("carry_run", "networks that carried labels")):
            used = {(run.record.seed, str(run.record.config.get(name, RANDOM))) for run in runs}
            if len(used) > len({seed for seed, _ in used}):
                text = f"several {things} of one seed, whose mean is taken"
                yield caution(f"{arm}: {text}", text)
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
        text = f"no seed in common with runs {start_of(group.protocol)}, so not compared: {', '.join(apart)}"
        yield caution(text, "arms with no seed in common with those that are not pre-trained, which are not compared")
    behind = [f"{method} ({number(gap.mean, signed=True)} DSC)" for method, gap in gaps.items() if gap.mean <= 0]
    if behind:
        ahead = f"not ahead of runs {start_of(group.protocol)}"
        yield caution(f"{', '.join(behind)} {'is' if len(behind) == 1 else 'are'} {ahead}", f"some arms are {ahead}")


def _without_baseline(group: Group, compared: Sequence[Group]) -> tuple[str, str]:
    """Return why a group can't be compared, and the kind of that finding."""
    untrained = RANDOM in group.arms
    wanted = start_of(group.protocol, pretrained=untrained)
    others = [
        differences(group.runs[0].record, other.runs[0].record)
        for other in compared
        if (other.store, other.protocol) == (group.store, group.protocol)
        and (other.methods if untrained else RANDOM in other.arms)
    ]
    nearest = min((found for found in others if found), key=len, default=[])
    arms = [f"runs {start_of(group.protocol)}" if arm == RANDOM else arm for arm in group.arms]
    text = f"no finished run {wanted} to compare {', '.join(arms)} with"
    if nearest:
        details = ", ".join(f"{change.name} is {change.earlier} against {change.now}" for change in nearest)
        text += f": {details} in the nearest one"
    return text, f"no finished run {wanted} of the same settings: not compared"
