"""DSC of every structure: a dot for every case, pre-trained and not."""

from collections.abc import Mapping, Sequence

import numpy as np

from gvsl.report.figures.dots import NAMED_AT_MOST, Column, common_limits, dots_chart
from gvsl.report.grouping import CARRIED, RANDOM, Group
from gvsl.report.numbers import MINUS, number, plural, plus_minus
from gvsl.report.page import Html, element, figure, section, shown_first, table, unfolded, value_cell
from gvsl.report.runs import Run
from gvsl.report.scores import scores, spread, structures
from gvsl.report.sections.names import arm_colours, seed_links
from gvsl.report.verdicts import feature_name

SHOWN_AT_ONCE, GROUPS_AT_ONCE = 11, 3
MEAN = "mean of structures"
CAPTION = (
    "Mean DSC ± standard deviation over cases, seeds averaged first; differences and cases ahead are over the seeds "
    "that both arms have."
)
HOW_TO_READ = (
    "A dot is a case (mean over seeds), its thin bar the range over seeds. If few arms are compared, a line joins the "
    "same case: lines should rise to the right. Diamonds are the seeds' means, the line across and the number the "
    "mean of all."
)


def dice(compared: Sequence[Group]) -> Html | None:
    """Return for each group of comparable runs a chart of each structure and a table; None without groups."""
    blocks = unfolded([(_title(group), _block(group)) for group in compared], GROUPS_AT_ONCE)
    return section("dice", "DSC of every structure", HOW_TO_READ, *blocks) if blocks else None


def mean_chart(group: Group, method: str) -> Html:
    """Return the chart of the mean over structures of one method and of random features, for the summary."""
    caption = f"Test DSC, {plural(len(group.cases), 'case')}, a dot each."
    return figure(_chart(group, "dice", _limits(group, ["dice"]), group.compared(method)), caption)


def _block(group: Group) -> Html:
    names = structures(group.runs)
    keys = {name: f"dice/{name}" for name in names}
    if len(names) != 1:  # the mean of one structure is that structure
        keys = {MEAN: "dice"} | keys
    limits = _limits(group, list(keys.values()))
    charts = []
    for name, key in keys.items():
        counts = dict.fromkeys(group.spread(runs, key).cases for runs in group.arms.values())
        caption = f"{plural(len(group.cases), 'case')}."
        if min(counts) < len(group.cases):
            caption = f"{' and '.join(map(str, counts))} of {caption}"
        charts.append(figure(_chart(group, key, limits, group.arms), caption, name))
    many = len(group.arms) > NAMED_AT_MOST
    runs = [
        element("li", element("span", f"{feature_name(name, group.protocol)}: seed ", seed_links(members)))
        for name, members in group.arms.items()
    ]
    body = shown_first(charts, SHOWN_AT_ONCE, "structure", "charts dots")
    arms = [] if many else [element("ul", *runs, css="legend")]
    figures = _row_per_arm(group, keys) if many else _table(group, keys)
    return element("div", element("h3", _title(group)), *arms, *body, figures)


def _baseline(group: Group) -> str:
    """Return the arm without pre-trained weights in few words, for columns."""
    return {"linear": "random", CARRIED: "no network"}.get(group.protocol, "scratch")


def _title(group: Group) -> str:
    return f"{group.store}: {group.name}"


def _chart(group: Group, key: str, limits: tuple[float, float], arms: Mapping[str, list[Run]]) -> str:
    colours = arm_colours(group.arms)
    names = {name: _baseline(group) if name == RANDOM else name for name in arms}
    columns = [Column(names[name], colours[name], scores(runs, group.cases, key)) for name, runs in arms.items()]
    means = ", ".join(f"{column.name} {number(spread(column.table).mean)}" for column in columns)
    return dots_chart(columns, limits, f"DSC of {len(group.cases)} cases on {group.store}, {key}: {means}")


def _limits(group: Group, keys: Sequence[str]) -> tuple[float, float]:
    tables = [scores(runs, group.cases, key) for runs in group.arms.values() for key in keys]
    return common_limits(tables) if any(np.isfinite(table).any() for table in tables) else (0.0, 1.0)


def _table(group: Group, keys: dict[str, str]) -> Html:
    """Return mean and spread over cases of each arm, then each method's difference to the one not pre-trained."""
    leads = group.methods if group.can_be_compared else []
    header = ["Structure", *(feature_name(name, group.protocol) for name in group.arms)]
    for name in leads:
        header += ["Difference" if len(leads) == 1 else f"{name} {MINUS} {_baseline(group)}", "Cases ahead"]
    rows = []
    for name, key in keys.items():
        row: list[Html | str] = [name]
        row += [_score(group, arm, key) for arm in group.arms]
        for gap in (group.lead(method, key) for method in leads):
            gap_cell = value_cell(number(gap.mean, signed=True), plus_minus(gap.over_cases))
            row += [gap_cell, f"{gap.cases_ahead} of {gap.cases}"]
        rows.append(row)
    return table(header, rows, CAPTION)


def _row_per_arm(group: Group, keys: dict[str, str]) -> Html:
    """Return mean and spread of each arm in a row of its own, for more arms than fit in columns."""
    rows: list[list[Html | str]] = [
        [feature_name(name, group.protocol), seed_links(runs), *(_score(group, name, key) for key in keys.values())]
        for name, runs in group.arms.items()
    ]
    return table(["Arm", "Seeds", *keys], rows, CAPTION)


def _score(group: Group, arm: str, key: str) -> Html:
    value = group.spread(group.arms[arm], key)
    return value_cell(number(value.mean), plus_minus(value.over_cases))
