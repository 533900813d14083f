"""Figure 8: the NCC loss over pre-training, with the restoration beside the matching and without."""

from collections.abc import Sequence
from statistics import fmean, stdev

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.curves import Line, curves_drawing
from gvsl.report.figures.panels import Block, Entry, Panel, block_html
from gvsl.report.numbers import MISSING, number, plus_minus
from gvsl.report.page import Html, element, table
from gvsl.report.run_figures import curve_end, held_out
from gvsl.report.runs import Run
from gvsl.report.sections.learning import left_out
from gvsl.report.sections.names import seed_links
from gvsl.report.studies import Study, studies
from gvsl.report.table1.table import OURS

WITHOUT = "gvsl-no-restoration"
LOOKS = {OURS: (SERIES[0], "solid", "with restoration"), WITHOUT: (SERIES[1], "dashed", "without restoration")}
LEAD = (
    "1 minus the local correlation of the matched images, which matching minimises; lower is more alike. A strong line "
    "is a run's mean over 4 % of its steps, a line for each seed. In the paper the loss does not come down without the "
    "restoration (Figure 8); whether it does here, the table says on held-out pairs."
)
HEADER = (
    "Method",
    "Seeds",
    "Held-out ncc",
    "Of each seed",
    "Held-out ncc without a warp",
    "ncc at the end of training",
    "Held-out label DSC",
)


def fundament(runs: Sequence[Run]) -> tuple[list[Block], list[Html]]:
    """The figure's blocks, and the same as parts of the page; nothing where not both were run on one store."""
    matched = [
        run
        for run in runs
        if run.record.kind == "pretrain"
        and run.record.status == "finished"
        and run.record.config.get("method") in LOOKS
        and "ncc" in run.curves
    ]
    found, alone = studies(matched, by_design=("pretext.restoration",))
    blocks, parts = [], []
    for study in found:
        shown = _block(study)
        blocks.append(shown)
        parts.append(block_html(shown, _table(study)))
    return blocks, parts + (left_out(alone, "with nothing of the same settings beside it") if found else [])


def _block(study: Study) -> Block:
    entries = [Entry(f"{name}, {LOOKS[name][2]}", *LOOKS[name][:2]) for name in study.sides]
    lines = [
        Line(run.curves["ncc"], *LOOKS[name][:2], series=place)
        for place, (name, runs) in enumerate(study.sides.items())
        for run in runs
    ]
    draw, _ = curves_drawing(lines, raw=False)
    alt = f"ncc over pre-training on {study.store}, {' and '.join(study.sides)}"
    means = {name: _mean([held_out(run, "ncc") for run in runs]) for name, runs in study.sides.items()}
    said = f"Held-out ncc: {', '.join(f'{name} {number(mean)}' for name, mean in means.items())}."
    return Block(study.title, study.notes, entries, [Panel("NCC loss", draw, alt, said)])


def _table(study: Study) -> Html:
    rows: list[list[Html | str]] = []
    for name, runs in study.sides.items():
        ends = [held_out(run, "ncc") for run in runs]
        rows.append(
            [
                name,
                seed_links(runs),
                _spread(ends),
                ", ".join(number(end) for end in ends),
                _spread([held_out(run, "ncc_identity") for run in runs]),
                _spread([curve_end(run.curves["ncc"]) for run in runs]),
                _spread([held_out(run, "dice_after") for run in runs]),
            ]
        )
    return table(HEADER, rows, 1, "Mean ± standard deviation over seeds.")


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def _spread(values: Sequence[float | None]) -> Html | str:
    there = [value for value in values if value is not None]
    if not there:
        return MISSING
    mean = element("b", number(fmean(there)))
    return mean if len(there) < 2 else Html(f"{mean.code} {element('small', plus_minus(stdev(there))).code}")
