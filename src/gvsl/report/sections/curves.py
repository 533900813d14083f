"""Loss curves: matching beside its two baselines, then every other logged figure."""

from collections.abc import Sequence

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.curves import Line, curves_chart
from gvsl.report.grouping import RANDOM, arm_of, protocol_of
from gvsl.report.page import Html, element, figure, line_legend, section, unfolded
from gvsl.report.runs import Run
from gvsl.report.sections.names import arm_colours, run_heading
from gvsl.report.verdicts import feature_name

SHOWN_AT_ONCE = 3
"""Pre-training runs whose curves are unfolded."""
MATCHING_LINES = (
    ("ncc", SERIES[0], "solid"),
    ("ncc_affine", SERIES[2], "dashed"),
    ("ncc_identity", SERIES[1], "dotted"),
)
RESTORATION_LINES = (("restoration", SERIES[0], "solid"), ("restoration_identity", SERIES[1], "dotted"))
CLUSTER_LINES = (("cluster_smallest", SERIES[1], "dotted"), ("cluster_largest", SERIES[0], "solid"))
GRADIENTS = "gradient_norm_"
SINGLE = {
    "smoothness": ("Smoothness", "The penalty on a displacement field that is not smooth (Eq. 2)."),
    "folded": (
        "Folded voxels",
        "The share of voxels where the displacement field folds; it should stay under the dotted 1 %.",
    ),
    "accuracy": ("Accuracy", "The share of a batch's volumes that are classified rightly; it should rise."),
    "twin_accuracy": ("Twins found", "The share of views whose nearest neighbour in the batch is their twin."),
    "embedding_std": (
        "Spread of the embeddings",
        "Their standard deviation at length 1, times the root of their size: 0 where all are one, a collapse.",
    ),
    "effective_rank": ("Effective rank", "How many directions the embeddings spread over: 1 or less is a collapse."),
    "clusters_used": ("Clusters in use", "How many clusters have a volume; 1 is a collapse."),
    "nmi": (
        "Agreement of assignments",
        "Mutual information of an epoch's clusters with the last ones': 1 is no change.",
    ),
    "loss": ("Whole loss", "The weighted sum that is minimised."),
}


def curves(runs: Sequence[Run]) -> Html | None:
    """A block for each pre-training run, one for each set of transfer runs; None where no curve was logged."""
    lead = "The strong line is a running mean over 4 % of the logged values, the faint one is what was logged."
    logged = [run for run in runs if run.curves]
    named = [(run.label, _pretraining(run)) for run in logged if run.record.kind == "pretrain"]
    blocks = unfolded(named, SHOWN_AT_ONCE)
    blocks += _transfer([run for run in logged if run.record.kind == "transfer"])
    return section("curves", "Loss curves", lead, *blocks) if blocks else None


def _pretraining(run: Run) -> Html:
    return element("div", run_heading(run), element("div", *_panels(run), css="charts"))


def _panels(run: Run) -> list[Html]:
    panels = []
    matching = [entry for entry in MATCHING_LINES if entry[0] in run.curves]
    if matching:
        lines = [Line(run.curves[name], colour, dash) for name, colour, dash in matching]
        svg, note = curves_chart(lines, f"ncc of {run.label} over the steps, beside its two baselines")
        caption = "1 minus the local correlation: ncc must end lowest, affine alone between, no warp on top."
        panels.append(figure(Html(svg), _with(caption, note), "Matching", line_legend(matching), "chart"))
    restoring = [entry for entry in RESTORATION_LINES if entry[0] in run.curves]
    if restoring:
        lines = [Line(run.curves[name], colour, dash) for name, colour, dash in restoring]
        svg, note = curves_chart(lines, f"restoration error of {run.label} over the steps", may_be_logarithmic=True)
        caption = "Mean squared error of the restored image; it must fall below that of returning the damaged one."
        legend = line_legend(restoring) if len(restoring) > 1 else None
        panels.append(figure(Html(svg), _with(caption, note), "Restoration", legend, "chart"))
    sizes = [entry for entry in CLUSTER_LINES if entry[0] in run.curves]
    if sizes:
        lines = [Line(run.curves[name], colour, dash) for name, colour, dash in sizes]
        svg, note = curves_chart(lines, f"cluster sizes of {run.label} over the steps")
        caption = "The smallest and the largest cluster's share of the volumes, an assignment each epoch."
        panels.append(figure(Html(svg), _with(caption, note), "Cluster sizes", line_legend(sizes), "chart"))
    for name, (title, caption) in SINGLE.items():
        if name in run.curves:
            svg, note = curves_chart(
                [Line(run.curves[name], SERIES[0])],
                f"{name} of {run.label} over the steps",
                may_be_logarithmic=name == "loss",
                share=name == "folded",
                limit=0.01 if name == "folded" else None,
            )
            panels.append(figure(Html(svg), _with(caption, note), title, css="chart"))
    parts = [name for name in run.curves if name.startswith(GRADIENTS)]
    if parts:
        dashes = ("solid", "dashed", "dotted", "dashed", "solid", "dotted")
        entries = [(name, SERIES[place % len(SERIES)], dashes[place % len(dashes)]) for place, name in enumerate(parts)]
        lines = [Line(run.curves[name], colour, dash) for name, colour, dash in entries]
        svg, note = curves_chart(lines, f"Gradient norms of {run.label}", may_be_logarithmic=True)
        legend = line_legend([(name.removeprefix(GRADIENTS), colour, dash) for name, colour, dash in entries])
        caption = "The gradient's norm in each part: one at zero is a part that is not trained."
        panels.append(figure(Html(svg), _with(caption, note), "Gradient norms", legend, "chart"))
    return panels


def _transfer(runs: Sequence[Run]) -> list[Html]:
    """One block for each store and protocol: every run a line, coloured by its features."""
    blocks = []
    for key in sorted({(run.store, protocol_of(run)) for run in runs}):
        members = [run for run in runs if (run.store, protocol_of(run)) == key]
        colours = arm_colours({arm_of(run) for run in members})
        legend = line_legend([(feature_name(name, key[1]), colour, _dash(name)) for name, colour in colours.items()])
        panels = []
        for name, title, caption in (
            ("loss", "Training loss", "The loss on the labelled cases, a line for each run."),
            ("val_dice", "Validation DSC", "The best of these picks the weights that are tested."),
        ):
            shown = [run for run in members if name in run.curves]
            if shown:
                lines = [Line(run.curves[name], colours[arm_of(run)], _dash(arm_of(run))) for run in shown]
                svg, note = curves_chart(lines, f"{title} of {len(shown)} runs on {key[0]}")
                panels.append(figure(Html(svg), _with(caption, note), title, legend, "chart"))
        heading = element("h3", f"{key[0]}: transfer, {key[1]}")
        if panels:
            blocks.append(element("div", heading, element("div", *panels, css="charts")))
    return blocks


def _dash(name: str) -> str:
    return "dashed" if name == RANDOM else "solid"


def _with(caption: str, note: str) -> str:
    return f"{caption} {note}".strip()
