"""The top of the page: the answer in words and figures, then what to mind."""

from collections.abc import Sequence

from gvsl.report.classification import Classified, auc_standing, classified
from gvsl.report.figures.chart import INK, MUTED, SERIES, css_colour
from gvsl.report.findings import Finding, Gathered, gathered
from gvsl.report.groups import Group
from gvsl.report.numbers import capital, number, percent, plural, plus_minus
from gvsl.report.page import Html, chip, details, element, join, section, text
from gvsl.report.pretraining import RANDOM
from gvsl.report.run_figures import held_out, pretext_figures
from gvsl.report.runs import Run
from gvsl.report.scores import case_ids, difference, scores, spread
from gvsl.report.sections.dice import compared_sides, mean_chart
from gvsl.report.sections.names import run_heading, seed_links, side_colours
from gvsl.report.table1.table import Cell
from gvsl.report.wording import feature_name, standing

MOST_CARDS = 12
"""Cards that the summary shows unfolded."""

MATCHING = (
    ("ncc_identity", "no matching", SERIES[1]),
    ("ncc_affine", "affine alone", SERIES[2]),
    ("ncc", "affine and local", SERIES[0]),
)


def top(runs: Sequence[Run], line: str, found: Sequence[Finding], written: str) -> Html:
    """The head of the page: what this is, and the one line to take away."""
    kinds = [(name, sum(run.record.kind == kind for run in runs)) for kind, name in KINDS]
    counted = ", ".join(f"{count} {name}" for name, count in kinds if count)
    marks = []
    for level in ("failed", "broken"):
        count = len({item.subject for item in found if item.level == level})
        marks += [chip(f"{plural(count, 'run')} {level}", level)] if count else []
    return element(
        "header",
        element("p", f"gvsl report · {written} · {plural(len(runs), 'run')} ({counted})", css="eyebrow"),
        element("h1", line),
        *([element("p", *marks, css="marks")] if marks else []),
    )


KINDS = (("pretrain", "pre-training"), ("transfer", "transfer"))


def overview(runs: Sequence[Run], compared: Sequence[Group], found: Sequence[Finding]) -> Html:
    """The summary: a card for every comparison and every pre-training run, and all findings.

    More cards than a reader can take in fold away under the findings: the table of all methods says the same.
    """
    cards = [_comparison(group, method) for group in compared for method in group.methods or [RANDOM]]
    cards += [_classification(shown) for shown in classified(runs)]
    cards += [_matching(run) for run in runs if run.record.kind == "pretrain"]
    lead = (
        "DSC is the Dice overlap of prediction and truth, 0 to 1, averaged over structures in each test "
        "case; AUC the area under the receiver's curve, 0.5 for guessing. ncc is 1 minus the mean local correlation "
        "of two images: lower is more alike."
    )
    shown = element("div", *cards, css="cards wide")
    if len(cards) <= MOST_CARDS:
        return section("summary", "Summary", lead, shown, _findings(found))
    folded = details(f"{len(cards)} cards: each comparison and each pre-training run by itself", shown)
    return section("summary", "Summary", lead, _findings(found), folded)


def _comparison(group: Group, method: str) -> Html:
    cases = case_ids(group.runs)
    sides = compared_sides(group, method)
    stats = [_score(name, group, sides[name], cases) for name in dict.fromkeys((method, RANDOM)) if name in sides]
    words = "There is nothing with the same settings and seeds to compare with."
    if len(sides) == 2:
        gap = difference(group.sides[method], group.sides[RANDOM], cases, "dice")
        spreads = [(gap.over_cases, "over cases"), (gap.over_seeds, f"over {plural(gap.seeds, 'seed')}")]
        said = [f"{plus_minus(value)} {where}" for value, where in spreads if value is not None]
        stats.append(_stat(number(gap.mean, signed=True), "difference in DSC", said, INK))
        words = f"{capital(standing(gap))}."
    title = f"{group.store}: {feature_name(method, group.protocol)}"
    settings = [element("p", group.conditions, css="quiet")] if group.conditions else []
    return element(
        "article",
        element("div", element("h3", title), *settings, element("div", *stats, css="stats"), element("p", words)),
        mean_chart(group, method),
        css="card comparison",
    )


def _classification(shown: Classified) -> Html:
    """The AUC of one method beside that of random features."""
    colours = side_colours({RANDOM, shown.method})
    stats = [_area(shown.name, shown.mine, shown.runs, colours[shown.method])]
    if shown.random is not None and shown.method != RANDOM:
        other = feature_name(RANDOM, shown.protocol)
        stats.append(_area(other, shown.random, shown.random_runs, colours[RANDOM]))
    if shown.mine.to_scratch is not None:
        stats.append(_stat(number(shown.mine.to_scratch / 100, signed=True), "difference in AUC", [], INK))
    title = element("h3", f"{shown.store}: {shown.name}")
    words = element("p", f"{capital(auc_standing(shown))}.")
    return element("article", title, element("div", *stats, css="stats"), words, css="card whole")


def _area(name: str, cell: Cell, made: Sequence[Run], colour: str) -> Html:
    interval = f"95 % in [{number(cell.low / 100)}, {number(cell.high / 100)}]"
    counted = plural(cell.cases, "case")
    return _stat(number(cell.mean / 100), name, [interval, counted, join([text("seed "), seed_links(made)])], colour)


def _score(name: str, group: Group, runs: Sequence[Run], cases: Sequence[str]) -> Html:
    value = spread(scores(runs, cases, "dice"))
    said = [f"{plus_minus(value.over_cases)} over {plural(value.cases, 'case')}"]
    seeds = [f"{plus_minus(value.over_seeds)} over {plural(value.seeds, 'seed')}"] if value.seeds > 1 else []
    colour = side_colours(group.sides)[name]
    made = join([text("seed "), seed_links(runs)])
    return _stat(number(value.mean), feature_name(name, group.protocol), [*said, *seeds, made], colour)


def _stat(value: str, name: str, said: Sequence[Html | str], colour: str) -> Html:
    return element(
        "div",
        element("b", value),
        element("span", name),
        *(element("small", words) for words in said),
        css="stat",
        style=f"--mark:{css_colour(colour)}",
    )


def _matching(run: Run) -> Html:
    """How well a pre-training run matches its held-out pairs."""
    bars = []
    for key, name, colour in MATCHING:
        value = held_out(run, key)
        width = 0.0 if value is None else 100 * min(max(value, 0.0), 1.0)
        bar = element("i", style=f"width:{width:.1f}%;--mark:{css_colour(colour)}")
        bars.append(
            join(
                [
                    element("dt", name),
                    element("dd", element("span", bar, css="track"), element("b", number(value))),
                ]
            )
        )
    before, after = held_out(run, "dice_before"), held_out(run, "dice_after")
    facts = []
    if before is not None or after is not None:
        facts.append(_stat(number(after), "label overlap (DSC)", [f"{number(before)} before matching"], SERIES[0]))
    facts.append(_stat(percent(held_out(run, "folded")), "of voxels folded", ["1 % is the most to accept"], MUTED))
    title = run_heading(run)
    if all(held_out(run, key) is None for key, _, _ in MATCHING):
        own = pretext_figures(run)
        method = str(run.record.config.get("method", "the method"))
        words = f"What {method} makes of held-out volumes" if own else "It has no figures of held-out volumes."
        stats = [_stat(number(value), name.replace("_", " "), [], SERIES[0]) for name, value in own]
        return element(
            "article",
            title,
            element("p", words, css="quiet"),
            *([element("div", *stats, css="stats")] if stats else []),
            css="card whole",
        )
    pairs = plural(len(run.record.cases), "held-out pair")
    return element(
        "article",
        element(
            "div",
            title,
            element("p", f"ncc over {pairs}, lower is better", css="quiet"),
            element("dl", *bars, css="bars"),
        ),
        element("div", *facts, css="stats"),
        css="card matching",
    )


def _findings(found: Sequence[Finding]) -> Html:
    if not found:
        words = (
            "No check found anything wrong. Checked, where logged: ncc below ncc_affine below "
            "ncc_identity, folding under 1 %, a gradient in every part, labels better matched than "
            "before, three seeds a side, and settings that differ in nothing but weights and seed."
        )
        return element("p", words, css="card good")
    items = [element("li", chip(item.level, item.level), _told(item)) for item in gathered(found)]
    return element("div", element("h3", "What to mind"), element("ul", *items, css="findings"), css="card")


def _told(item: Gathered) -> Html:
    """One kind of trouble in a line; of each run or comparison by itself at a click, where it is of several."""
    line = join([element("b", item.subject), text(f": {item.text}.")])
    if not item.several:
        return element("div", line)
    each = [element("li", element("b", one.subject), f": {one.text}.") for one in item.items]
    return element("div", details(line, element("ul", *each)))
