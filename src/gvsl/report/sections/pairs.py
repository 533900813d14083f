"""Pairs before and after matching: charts over the evaluated pairs, then the pairs themselves."""

from collections.abc import Sequence

import numpy as np

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.dots import Column, common_limits, dots_chart
from gvsl.report.figures.slices import grid_layer, outline_layer, window
from gvsl.report.numbers import MINUS, number, plural
from gvsl.report.page import Html, element, figure, legend, outline_key, section, shown_first, unfolded
from gvsl.report.run_arrays import AXES, Array, Picture
from gvsl.report.run_metrics import evaluated
from gvsl.report.runs import Run
from gvsl.report.scores import scores
from gvsl.report.sections.names import run_heading
from gvsl.report.sections.pictures import Stage, stage_row, view_switch

SHOWN_AT_ONCE, RUNS_AT_ONCE = 3, 3
LEAD = (
    "Moving and fixed image are of different subjects. The displacement field (DVF) gives, for every voxel of the "
    "fixed image, the position to sample in the moving one."
)
CAPTION = (
    "The moving image should come to look like the fixed one, stage by stage, and the difference after matching should "
    "be darker than before. The grid is the fixed image's, drawn where it samples the moving image: it should be "
    "smooth and without crossings. Differences run from 0 (black) to the whole grey range (bright); since two subjects "
    "differ in brightness too, they never vanish."
)
CHARTS = (
    (
        ("ncc_identity", "ncc_affine", "ncc"),
        ("no matching", "affine", "affine and local"),
        (SERIES[1], SERIES[2], SERIES[0]),
        "NCC loss",
        "1 minus the local correlation of {pairs}, a dot each: every line should fall.",
    ),
    (
        ("smooth_ncc_blurred", "smooth_ncc_mean_field", "smooth_ncc_swapped", "smooth_ncc"),
        ("blurred", "mean", "another's", "own"),
        (SERIES[1], SERIES[3], SERIES[2], SERIES[0]),
        "NCC loss and its controls",
        "The same of {pairs} after equal smoothing: a pair's own field must be below the mean field of the others, a "
        "field of another pair, and the moving image blurred as much but not moved.",
    ),
    (
        ("dice_before", "dice_affine", "dice_after"),
        ("before", "affine", "after"),
        (SERIES[1], SERIES[2], SERIES[0]),
        "Label overlap",
        "DSC of labels warped by the DVF, which training never saw: every line should rise.",
    ),
    (
        ("dice_mean_field", "dice_swapped", "dice_after"),
        ("mean", "another's", "own"),
        (SERIES[3], SERIES[2], SERIES[0]),
        "Label overlap and its controls",
        "DSC after the mean field of the other pairs, another pair's field, and the own field, which must be above.",
    ),
)
"""Keys of the cases' rows, names and colours of the columns, title and caption of each chart."""


def pairs(runs: Sequence[Run]) -> Html | None:
    """Show the charts and pictures of the evaluated pairs of each pre-training run; None if no run has either."""
    drawn = [(run.label, _run_block(run)) for run in runs if run.record.kind == "pretrain"]
    blocks = unfolded([(name, block) for name, block in drawn if block is not None], RUNS_AT_ONCE)
    switch = [view_switch()] if any(run.pictures_of("pair") for run in runs) else []
    return section("pairs", "Pairs before and after matching", LEAD, *switch, *blocks) if blocks else None


def _run_block(run: Run) -> Html | None:
    pictures = run.pictures_of("pair")
    body: list[Html] = []
    if pictures:
        switches = [_switch("t-outlines", "label outlines"), _switch("t-grid", "grid")]
        classes = {"label of the moving image": "moving", "label of the fixed image": "truth"}
        keys = [(outline_key(css), name) for name, css in classes.items()]
        labelled = any(picture.planes("fixed_label") for picture in pictures)
        body.append(element("div", *([legend(keys)] if labelled else []), *switches, css="tools"))
        body += shown_first([_pair(picture) for picture in pictures], SHOWN_AT_ONCE, "pair", "cards")
        body.append(element("p", CAPTION, css="caption"))
    charts = _charts(run)
    return element("div", run_heading(run), *charts, *body, css="switched") if charts or body else None


def _charts(run: Run) -> list[Html]:
    """Draw dots over the evaluated pairs: the NCC loss by stage, and label overlap before and after."""
    cases = [str(row["id"]) for row in run.record.cases]
    count = plural(len(cases), evaluated([run], "pair"))
    charts = []
    for keys, names, colours, title, caption in CHARTS:
        tables = [scores([run], cases, key) for key in keys]
        shown = [column for column in zip(names, colours, tables, strict=True) if np.isfinite(column[-1]).any()]
        if len(shown) > 1:  # older records lack the controls
            columns = [Column(*column) for column in shown]
            alt = f"{title} of {count}: {', '.join(column.name for column in columns)}"
            svg = dots_chart(columns, common_limits([column.table for column in columns]), alt)
            charts.append(figure(svg, caption.format(pairs=count), title))
    return [element("div", *charts, css="charts")] if charts else []


def _pair(picture: Picture) -> Html:
    moving, affine, warped, fixed, grid = (picture[name] for name in ("moving", "affine", "warped", "fixed", "grid"))
    limits = window([*moving, *fixed])
    contrast = (0.0, limits[1] - limits[0])
    same_grid = all(one.shape == other.shape for one, other in zip(moving, fixed, strict=True))
    grids = [grid_layer(positions, image.shape) for positions, image in zip(grid, moving, strict=True)]

    def outlines(name: str | None, with_fixed: bool = True) -> list[str]:
        drawn = ([("fixed", "truth")] if with_fixed else []) + ([(name, "moving")] if name else [])
        labels = [(picture.planes(f"{part}_label"), css) for part, css in drawn]
        return ["".join(outline_layer(planes[axis], css) for planes, css in labels if planes) for axis in AXES]

    def difference(images: Sequence[Array]) -> list[Array]:
        return [np.abs(image - target) for image, target in zip(images, fixed, strict=True)]

    before = _note(picture, "ncc_identity", "dice_before")
    stages = [
        Stage("moving", moving, limits, before, outlines("moving", same_grid)),
        Stage("after affine", affine, limits, _note(picture, "ncc_affine", "dice_affine"), outlines(None)),
        Stage("after full DVF", warped, limits, _note(picture, "ncc", "dice_after"), outlines("warped")),
        Stage("fixed", fixed, limits, "the target", outlines(None)),
        Stage("grid", moving, limits, "on the moving image", grids),
    ]
    if same_grid:
        stages.append(
            Stage(f"|moving {MINUS} fixed|", difference(moving), contrast, "difference before", colours="magma")
        )
    stages.append(Stage(f"|matched {MINUS} fixed|", difference(warped), contrast, "difference after", colours="magma"))
    row = stage_row(stages, picture.title, picture.spacing)
    return element("article", element("h4", picture.title), row, css="card whole")


def _note(picture: Picture, ncc: str, dice: str = "") -> str:
    names = (("ncc", ncc), ("DSC", dice))
    return " · ".join(f"{name} {number(picture.scalars[key])}" for name, key in names if key in picture.scalars)


def _switch(css: str, name: str) -> Html:
    """Return a check box; the style sheet hides what it names while it is not checked."""
    return element("label", Html(f'<input type="checkbox" class="{css}" checked>'), f" {name}")
