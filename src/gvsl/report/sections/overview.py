"""The top of the page: the results in words and numbers, then the findings."""

from collections.abc import Sequence

from gvsl.report.data import ReportData
from gvsl.report.figures.chart import INK, MUTED, SERIES, css_colour
from gvsl.report.finding import Finding, FindingKind, by_kind
from gvsl.report.grouping import RANDOM, Group
from gvsl.report.matching import verdict_lines
from gvsl.report.numbers import capital, number, percent, plural, plus_minus
from gvsl.report.page import Html, chip, details, element, join, section, text
from gvsl.report.run_metrics import evaluated, measured, pretext_metrics, title_of
from gvsl.report.runs import Run
from gvsl.report.sections.dice import mean_chart
from gvsl.report.sections.names import arm_colours, run_heading, seed_links
from gvsl.report.table1.table import Cell
from gvsl.report.verdicts import AucComparison, auc_interval, feature_name, outcome

MAX_CARDS = 12
"""The number of cards up to which the summary shows them unfolded."""

MATCHING = (
    ("ncc_identity", "no matching", SERIES[1]),
    ("ncc_affine", "affine alone", SERIES[2]),
    ("ncc", "affine and local", SERIES[0]),
)


def top(data: ReportData, written: str) -> Html:
    """Return the head of the page: number and kinds of runs, and the main result in one line."""
    runs = data.runs
    kinds = [(name, sum(run.record.kind == kind for run in runs)) for kind, name in KINDS]
    counted = ", ".join(f"{count} {name}" for name, count in kinds if count)
    marks = []
    for level in ("failed", "broken"):
        count = len({item.subject for item in data.findings if item.level == level})
        marks += [chip(f"{plural(count, 'run')} {level}", level)] if count else []
    return element(
        "header",
        element("p", f"gvsl report · {written} · {plural(len(runs), 'run')} ({counted})", css="eyebrow"),
        element("h1", data.headline),
        *([element("p", *marks, css="marks")] if marks else []),
    )


KINDS = (("pretrain", "pre-training"), ("transfer", "transfer"))


def overview(data: ReportData) -> Html:
    """Return the summary: a card for every comparison and every pre-training run, and all findings.

    Many cards fold under the findings: the table of all methods has the same results.
    """
    cards = [_comparison(group, method) for group in data.compared for method in group.methods or [RANDOM]]
    cards += [_auc_comparison(shown) for shown in data.aucs]
    cards += [_pretraining(run) for run in data.runs if run.record.kind == "pretrain"]
    lead = (
        "DSC is the Dice overlap of prediction and truth, 0 to 1, averaged over structures in each test "
        "case; AUC the area under the ROC curve, 0.5 for guessing. ncc is 1 minus the mean local correlation "
        "of two images: lower is more alike."
    )
    shown = element("div", *cards, css="cards wide")
    if len(cards) <= MAX_CARDS:
        return section("summary", "Summary", lead, shown, _findings(data.findings))
    folded = details(f"{len(cards)} cards: each comparison and each pre-training run by itself", shown)
    return section("summary", "Summary", lead, _findings(data.findings), folded)


def _comparison(group: Group, method: str) -> Html:
    arms = group.compared(method)
    stats = [_score(name, group, arms[name]) for name in dict.fromkeys((method, RANDOM)) if name in arms]
    words = "There is nothing with the same settings and seeds to compare with."
    if len(arms) == 2:
        gap = group.lead(method)
        spreads = [(gap.over_cases, "over cases"), (gap.over_seeds, f"over {plural(gap.seeds, 'seed')}")]
        notes = [f"{plus_minus(value)} {where}" for value, where in spreads if value is not None]
        stats.append(stat(number(gap.mean, signed=True), "difference in DSC", notes, INK))
        words = f"{capital(outcome(gap))}."
    title = f"{group.store}: {feature_name(method, group.protocol)}"
    settings = [element("p", group.conditions, css="quiet")] if group.conditions else []
    return element(
        "article",
        element("div", element("h3", title), *settings, element("div", *stats, css="stats"), element("p", words)),
        mean_chart(group, method),
        css="card comparison",
    )


def _auc_comparison(shown: AucComparison) -> Html:
    """Return the AUC of one arm beside that of random features."""
    colours = arm_colours({RANDOM, shown.arm})
    stats = [_auc(shown.name, shown.mine, colours[shown.arm])]
    if shown.random is not None and shown.arm != RANDOM:
        other = feature_name(RANDOM, shown.protocol)
        stats.append(_auc(other, shown.random, colours[RANDOM]))
    if shown.mine.to_scratch is not None:
        stats.append(stat(number(shown.mine.to_scratch / 100, signed=True), "difference in AUC", [], INK))
    title = element("h3", f"{shown.store}: {shown.name}")
    words = element("p", f"{capital(shown.outcome)}.")
    return element("article", title, element("div", *stats, css="stats"), words, css="card whole")


def _auc(name: str, cell: Cell, colour: str) -> Html:
    interval = [f"95 % in {auc_interval(cell)}"] if cell.interval else []
    seeds = join([text("seed "), seed_links(cell.runs)])
    return stat(number(cell.mean / 100), name, [*interval, plural(cell.cases, "case"), seeds], colour)


def _score(name: str, group: Group, runs: Sequence[Run]) -> Html:
    value = group.spread(runs)
    notes: list[Html | str] = [f"{plus_minus(value.over_cases)} over {plural(value.cases, 'case')}"]
    notes += [f"{plus_minus(value.over_seeds)} over {plural(value.seeds, 'seed')}"] if value.seeds > 1 else []
    notes.append(join([text("seed "), seed_links(runs)]))
    return stat(number(value.mean), feature_name(name, group.protocol), notes, arm_colours(group.arms)[name])


def stat(value: str, name: str, notes: Sequence[Html | str], colour: str) -> Html:
    """Return a number in large type with its name and notes below it, and a mark in a chart's colour."""
    small = [element("small", note) for note in notes]
    mark = f"--mark:{css_colour(colour)}"
    return element("div", element("b", value), element("span", name), *small, css="stat", style=mark)


def _pretraining(run: Run) -> Html:
    """Return how well a pre-training run matches the evaluated pairs, or its other metrics."""
    if all(measured(run, key) is None for key, _, _ in MATCHING):
        own = pretext_metrics(run)
        method = str(run.record.config.get("method", "the method"))
        words = f"{method} on {evaluated([run], 'volumes')}" if own else "There are no metrics of held-out volumes."
        stats = [stat(number(value), title_of(run, name), [], SERIES[0]) for name, value in own]
        shown = [element("div", *stats, css="stats")] if stats else []
        return element("article", run_heading(run), element("p", words, css="quiet"), *shown, css="card whole")
    bars = [bar for key, name, colour in MATCHING for bar in _bar(name, measured(run, key), colour)]
    before, after = measured(run, "dice_before"), measured(run, "dice_after")
    facts = []
    if before is not None or after is not None:
        facts.append(stat(number(after), "label overlap (DSC)", [f"{number(before)} before matching"], SERIES[0]))
    facts.append(stat(percent(measured(run, "folded")), "of voxels folded", ["at most 1 % is acceptable"], MUTED))
    pairs = element(
        "p", f"ncc over {plural(len(run.record.cases), evaluated([run], 'pair'))}, lower is better", css="quiet"
    )
    verdict = [element("p", f"{capital(line)}.") for line in verdict_lines(run)]
    matching = element("div", run_heading(run), pairs, element("dl", *bars, css="bars"), *verdict)
    return element("article", matching, element("div", *facts, css="stats"), css="card matching")


def _bar(name: str, value: float | None, colour: str) -> tuple[Html, Html]:
    width = 0.0 if value is None else 100 * min(max(value, 0.0), 1.0)
    bar = element("i", style=f"width:{width:.1f}%;--mark:{css_colour(colour)}")
    return element("dt", name), element("dd", element("span", bar, css="track"), element("b", number(value)))


def _findings(found: Sequence[Finding]) -> Html:
    if not found:
        words = (
            "No check found anything wrong. Checked, where logged: a pair's own field better than another pair's and "
            "than blur alone, folding under 1 %, a gradient in every part, labels better matched than before, no "
            "collapse and no pretext at chance, validation that stood still, three seeds for each arm, and settings "
            "that differ in nothing but weights and seed."
        )
        return element("p", words, css="card good")
    items = [element("li", chip(item.level, item.level), _kind(item)) for item in by_kind(found)]
    return element("div", element("h3", "Findings"), element("ul", *items, css="findings"), css="card")


def _kind(item: FindingKind) -> Html:
    """Return a kind of finding in a line; if it has several subjects, each of them behind a click."""
    line = join([element("b", item.subject), text(f": {item.text}.")])
    if not item.several:
        return element("div", line)
    each = [element("li", element("b", one.subject), f": {one.text}.") for one in item.items]
    return element("div", details(line, element("ul", *each)))
