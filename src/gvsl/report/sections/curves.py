"""Loss curves: matching beside its two baselines, then every other logged value."""

from collections.abc import Sequence

from gvsl.report.figures.chart import DASHES, SERIES
from gvsl.report.figures.curves import Line, curves_chart
from gvsl.report.grouping import RANDOM, arm_of, protocol_of
from gvsl.report.page import Html, element, figure, legend, section, unfolded
from gvsl.report.panels import Entry, entry_key
from gvsl.report.run_metrics import better_of, title_of
from gvsl.report.runs import Run
from gvsl.report.sections.names import arm_colours, run_heading
from gvsl.report.verdicts import feature_name

SHOWN_AT_ONCE = 3
"""Number of pre-training runs whose curves are unfolded."""
LEAD = "The strong line is a running mean over 4 % of the logged values, the faint one the logged values themselves."
GRADIENTS = "gradient_norm_"
TOGETHER = (
    (
        "Matching",
        "1 minus the local correlation after the field, its affine part, and no warp. Blur alone lowers it too.",
        (("ncc", SERIES[0], "solid"), ("ncc_affine", SERIES[2], "dashed"), ("ncc_identity", SERIES[1], "dotted")),
    ),
    (
        "Restoration",
        "Mean squared error of the restored image; it must fall below that of returning the damaged image.",
        (("restoration", SERIES[0], "solid"), ("restoration_identity", SERIES[1], "dotted")),
    ),
    (
        "Cluster sizes",
        "Fraction of the volumes in the smallest and in the largest cluster, at each epoch's assignment.",
        (("cluster_smallest", SERIES[1], "dotted"), ("cluster_largest", SERIES[0], "solid")),
    ),
    (
        "Instance retrieval accuracy",
        "Fraction of views whose nearest neighbour in the batch is their positive pair; it should rise above chance.",
        (("twin_accuracy", SERIES[0], "solid"), ("twin_chance", SERIES[1], "dotted")),
    ),
)
"""Title, caption and lines of charts that show several logged values."""
CAPTIONS = {
    "smoothness": "The penalty on a displacement field that is not smooth (Eq. 2).",
    "folded": "Where the displacement field folds; it should stay below the dotted 1 %.",
    "accuracy": "Fraction of a batch's volumes that are classified correctly; it should rise.",
    "embedding_std": "Of the normalised embeddings, times the root of their size: 0 is a collapse.",
    "effective_rank": "Number of directions that the embeddings span: 1 or less is a collapse.",
    "clusters_used": "Number of clusters that have a volume; 1 is a collapse.",
    "nmi": "Mutual information of an epoch's clusters and the previous ones; 1 means that they are the same.",
    "loss": "The weighted sum that is minimised.",
}
"""Captions of logged values; others have the direction that their method declares."""
LOGARITHMIC = ("restoration", "loss")
TRANSFER = (
    ("loss", "Training loss", "The loss on the labelled cases, a line for each run."),
    ("val_dice", "Validation DSC", "The best of these selects the weights that are tested."),
    ("val_auc", "Validation AUC", "The best of these selects the weights that are tested."),
)
"""Logged value, title and caption of the charts of transfer runs; other logged values follow under their own names."""


def curves(runs: Sequence[Run]) -> Html | None:
    """Show a block for each pre-training run and for each set of transfer runs; None if no curve was logged."""
    logged = [run for run in runs if run.curves]
    blocks = unfolded(
        [
            (run.label, element("div", run_heading(run), element("div", *_panels(run), css="charts")))
            for run in logged
            if run.record.kind == "pretrain"
        ],
        SHOWN_AT_ONCE,
    )
    blocks += _transfer([run for run in logged if run.record.kind == "transfer"])
    return section("curves", "Loss curves", LEAD, *blocks) if blocks else None


def _panels(run: Run) -> list[Html]:
    """Draw the charts of all values that a pre-training run logged."""
    charts = [(title, caption, [line for line in lines if line[0] in run.curves]) for title, caption, lines in TOGETHER]
    together = {name for _, _, lines in TOGETHER for name, _, _ in lines}
    parts = [name for name in run.curves if name.startswith(GRADIENTS)]
    for name in run.curves:
        if name not in together and name not in parts:
            better = better_of(run, name)
            caption = CAPTIONS.get(name, f"{better.capitalize()} is better." if better else "")
            charts.append((title_of(run, name), caption, [(name, SERIES[0], "solid")]))
    dashes = list(DASHES)
    looks = [(name, SERIES[at % len(SERIES)], dashes[at % len(dashes)]) for at, name in enumerate(parts)]
    charts.append(("Gradient norms", "Norm of the gradient in each part; a part at zero is not trained.", looks))
    return [_panel(run, *chart) for chart in charts if chart[2]]


def _panel(run: Run, title: str, caption: str, entries: Sequence[tuple[str, str, str]]) -> Html:
    lines = [Line(run.curves[name], colour, dash) for name, colour, dash in entries]
    first = entries[0][0]
    svg, note = curves_chart(
        lines,
        f"{title} of {run.label} over the steps: {', '.join(name for name, _, _ in entries)}",
        may_be_logarithmic=first in LOGARITHMIC or first.startswith(GRADIENTS),
        as_percentage=first == "folded",
        limit=0.01 if first == "folded" else None,
    )
    keys = legend((entry_key(Entry(*line)), line[0].removeprefix(GRADIENTS)) for line in entries)
    return figure(svg, f"{caption} {note}".strip(), title, keys if len(entries) > 1 else None)


def _transfer(runs: Sequence[Run]) -> list[Html]:
    """Show a block for each store and protocol: every run a line, coloured by its features."""
    blocks = []
    for store, mode in sorted({(run.store, protocol_of(run)) for run in runs}):
        members = [run for run in runs if (run.store, protocol_of(run)) == (store, mode)]
        colours = arm_colours({arm_of(run) for run in members})
        looks = [Entry(feature_name(name, mode), colour, _dash(name)) for name, colour in colours.items()]
        keys = legend((entry_key(entry), entry.name) for entry in looks)
        panels = []
        known = {column for column, _, _ in TRANSFER}
        others = sorted({column for run in members for column in run.curves} - known)
        for column, title, caption in (*TRANSFER, *((name, name, "") for name in others)):
            shown = [run for run in members if column in run.curves]
            if shown:
                lines = [Line(run.curves[column], colours[arm_of(run)], _dash(arm_of(run))) for run in shown]
                svg, note = curves_chart(lines, f"{title} of {len(shown)} runs on {store}")
                panels.append(figure(svg, f"{caption} {note}".strip(), title, keys))
        if panels:
            heading = element("h3", f"{store}: transfer, {mode}")
            blocks.append(element("div", heading, element("div", *panels, css="charts")))
    return blocks


def _dash(name: str) -> str:
    return "dashed" if name == RANDOM else "solid"
