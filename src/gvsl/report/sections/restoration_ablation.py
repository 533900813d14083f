"""Figure 8: the NCC loss over pre-training, with the restoration beside the matching and without."""

from collections.abc import Sequence

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.curves import Line, curves_drawing
from gvsl.report.grouping import OURS, Group, chart_groups
from gvsl.report.numbers import mean_of, number
from gvsl.report.page import Html, mean_and_spread, table
from gvsl.report.panels import Block, Entry, Panel
from gvsl.report.run_metrics import curve_end, evaluated, measured
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links

WITHOUT = "gvsl-no-restoration"
LOOKS = {OURS: (SERIES[0], "solid", "with restoration"), WITHOUT: (SERIES[1], "dashed", "without restoration")}
ABLATION_LEAD = (
    "1 minus the local correlation of the matched images, which matching minimises; lower is more alike. A strong line "
    "is a run's mean over 4 % of its steps, a line for each seed. In the paper the loss does not come down without the "
    "restoration (Figure 8); the table has the loss on the pairs that were evaluated."
)
HEADER = (
    *("Method", "Seeds", "ncc of {pairs}", "Of each seed", "ncc of {pairs} without a warp"),
    *("ncc at the end of training", "Label DSC of {pairs}"),
)
"""With a place for what the pairs are."""


def restoration_ablation(runs: Sequence[Run]) -> tuple[list[tuple[Block, Html]], list[Run]]:
    """Return the figure's blocks with their tables, for stores with runs of both kinds, and the other runs."""
    found, alone = chart_groups(runs, _is_shown, vary=("pretext.restoration",))
    return [(_block(group), _table(group)) for group in found], alone


def _is_shown(run: Run) -> bool:
    record = run.record
    finished = record.kind == "pretrain" and record.status == "finished"
    return finished and record.config.get("method") in LOOKS and "ncc" in run.curves


def _block(group: Group) -> Block:
    entries = [Entry(f"{name}, {LOOKS[name][2]}", *LOOKS[name][:2]) for name in group.arms]
    lines = [
        Line(run.curves["ncc"], *LOOKS[name][:2], series=index)
        for index, (name, runs) in enumerate(group.arms.items())
        for run in runs
    ]
    draw, _ = curves_drawing(lines, raw=False)
    alt = f"ncc over pre-training on {group.store}, {' and '.join(group.arms)}"
    held = {name: mean_of(measured(run, "ncc") for run in runs) for name, runs in group.arms.items()}
    means = ", ".join(f"{name} {number(mean)}" for name, mean in held.items())
    panel = Panel("NCC loss", draw, alt, f"ncc of {evaluated(group.runs, 'pairs')}: {means}.")
    return Block(group.title, group.notes, entries, [panel])


def _table(group: Group) -> Html:
    rows: list[list[Html | str]] = [
        [
            name,
            seed_links(runs),
            mean_and_spread(measured(run, "ncc") for run in runs),
            ", ".join(number(measured(run, "ncc")) for run in runs),
            mean_and_spread(measured(run, "ncc_identity") for run in runs),
            mean_and_spread(curve_end(run.curves["ncc"]) for run in runs),
            mean_and_spread(measured(run, "dice_after") for run in runs),
        ]
        for name, runs in group.arms.items()
    ]
    pairs = evaluated(group.runs, "pairs")
    return table([head.format(pairs=pairs) for head in HEADER], rows, "Mean ± standard deviation over seeds.")
