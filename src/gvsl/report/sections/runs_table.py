"""The table of runs, with all settings of each at a click."""

import json
from collections.abc import Sequence

from gvsl.report.numbers import MISSING, duration, number, plural
from gvsl.report.page import Html, chip, details, element, join, scrolling, section
from gvsl.report.runs import BrokenRun, Run, missing_files
from gvsl.report.sections.names import run_anchor

HEADER = ("Run", "Status", "Seed", "Steps", "Store", "Versions", "Hardware", "Began (UTC)", "Took")
SHOWN_AT_ONCE = 24
"""The number of runs up to which the table is shown unfolded."""
HARDWARE = {"processor": "{}", "cores": "{} cores"}
NUMERIC = ("Seed", "Steps", "Took")


def runs_table(runs: Sequence[Run], broken: Sequence[BrokenRun] = ()) -> Html:
    """Return the section: a row for each run, and under it its settings, environment and metrics."""
    lead = (
        "What the numbers above depend on. Open a run for all its settings; runs with the same store hash "
        "used the same data."
    )
    head = element("thead", element("tr", *(_cell("th", place, name) for place, name in enumerate(HEADER))))
    bodies = [element("tbody", _row(run), _more(run), id=run_anchor(run)) for run in runs]
    bodies += [element("tbody", _broken_row(run)) for run in broken]
    whole = scrolling(element("table", head, *bodies, css="runs sortable"), "Runs")
    missing = missing_files(runs)
    lacking = [element("p", missing, css="quiet")] if missing else []
    body = [whole] if len(runs) <= SHOWN_AT_ONCE else [details(f"all {plural(len(runs), 'run')}", whole)]
    return section("runs", "Runs", lead, *lacking, *body)


def _row(run: Run) -> Html:
    record, store, found = run.record, run.record.store, run.record.environment
    versions = [element("span", f"{name} {found[name]}") for name in ("gvsl", "torch") if name in found]
    hardware = [text.format(found[name]) for name, text in HARDWARE.items() if name in found]
    cells: list[Html | str] = [
        join([element("b", run.label), element("small", _kind(run))]),
        chip(record.status, record.status),
        str(record.seed),
        _last_step(run),
        join([element("span", store.get("name", MISSING)), element("code", store.get("hash", MISSING)[:12])]),
        join(versions) if versions else MISSING,
        ", ".join(hardware) or MISSING,
        record.created.replace("T", " ").replace("+00:00", "")[:16] or MISSING,
        duration(record.seconds),
    ]
    return element("tr", *(_cell("td", place, cell) for place, cell in enumerate(cells)))


def _broken_row(run: BrokenRun) -> Html:
    """Return the row of a run that can't be read."""
    reason = element("small", run.reason)
    cells: list[Html | str] = [join([element("b", run.folder.name), reason]), chip("broken", "broken")]
    cells += [MISSING] * (len(HEADER) - len(cells))
    return element("tr", *(_cell("td", place, cell) for place, cell in enumerate(cells)))


def _cell(tag: str, place: int, inner: Html | str) -> Html:
    """Return a cell of a run's row; on a phone the style sheet puts the column's name before it."""
    css = "figure" if HEADER[place] in NUMERIC else ""
    return element(tag, inner, css=css, data_label=HEADER[place])


def _kind(run: Run) -> str:
    config = run.record.config
    if run.record.kind == "pretrain":
        return f"pre-training, {config.get('method', 'method not recorded')}"
    return f"transfer, {config['mode']} on {config['weights']}"


def _last_step(run: Run) -> str:
    steps = [int(curve.steps[-1]) for curve in run.curves.values()]
    return f"{max(steps):,}" if steps else MISSING


def _more(run: Run) -> Html:
    record = run.record
    settings = element("pre", json.dumps(record.config, indent=2, sort_keys=True, default=str, ensure_ascii=False))
    lists = [
        _facts("Metrics", {name: number(value, 4) for name, value in record.metrics.items()}),
        _facts("Environment", record.environment),
        _facts("Location", {"folder": str(run.folder), "store hash": record.store.get("hash", MISSING)}),
    ]
    resolved = element("div", element("h4", "Resolved settings"), settings)
    body = element("div", resolved, element("div", *lists), css="more")
    cell = details("settings, versions and metrics", body)
    return element("tr", element("td", cell, colspan=str(len(HEADER))), css="more-row")


def _facts(title: str, values: dict[str, str]) -> Html:
    rows = [join([element("dt", name), element("dd", str(value))]) for name, value in values.items()]
    shown = element("dl", *rows, css="facts") if rows else element("p", "None recorded.")
    return join([element("h4", title), shown])
