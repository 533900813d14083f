"""Pairs before and after matching: numbers over the held-out pairs, then the pairs themselves."""

from collections.abc import Sequence

import numpy as np

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.dots import Column, common_limits, dots_chart
from gvsl.report.figures.slices import grid_layer, image_layer, outline_layer, window
from gvsl.report.numbers import MINUS, number, plural
from gvsl.report.page import Html, details, element, figure, outline_legend, section, unfolded
from gvsl.report.runs import AXES, Array, Picture, Run
from gvsl.report.scores import scores
from gvsl.report.sections.names import run_heading
from gvsl.report.sections.stages import Stage, stage_row

SHOWN_AT_ONCE, RUNS_AT_ONCE = 3, 3
CAPTION = (
    "The moving image should come to look like the fixed one, stage by stage, and the difference after "
    "matching should be darker than before. The grid is the fixed image's, drawn where it looks in the "
    "moving image: smooth and without crossings is good. Differences run from 0 (black) to the whole "
    "grey range (bright); two subjects differ in brightness too, so they never vanish."
)


def pairs(runs: Sequence[Run]) -> Html | None:
    """For each pre-training run its charts over held-out pairs, and its pictures; None where no run has either."""
    lead = (
        "Moving and fixed are different subjects. The displacement field (DVF) says for every voxel of "
        "the fixed image where to look in the moving one. The patient's right is on the right, the front "
        "on the right of sagittal slices."
    )
    drawn = [(run.label, _run_block(run)) for run in runs if run.record.kind == "pretrain"]
    blocks = unfolded([(name, block) for name, block in drawn if block is not None], RUNS_AT_ONCE)
    return section("pairs", "Pairs before and after matching", lead, *blocks) if blocks else None


def _run_block(run: Run) -> Html | None:
    pictures = run.pictures_of("pair")
    drawn = [_pair(picture) for picture in pictures]
    body: list[Html] = []
    if drawn:
        switches = [_switch("t-outlines", "label outlines"), _switch("t-grid", "grid")]
        keys = outline_legend([("label of the moving image", "moved"), ("label of the fixed image", "truth")])
        labelled = any(picture.planes("fixed_label") for picture in pictures)
        body.append(element("div", *([keys] if labelled else []), *switches, css="tools"))
        body += drawn[:SHOWN_AT_ONCE]
        if drawn[SHOWN_AT_ONCE:]:
            body.append(details(f"{plural(len(drawn) - SHOWN_AT_ONCE, 'more pair')}", *drawn[SHOWN_AT_ONCE:]))
        body.append(element("p", CAPTION, css="caption"))
    charts = _charts(run)
    return element("div", run_heading(run), *charts, *body, css="switched") if charts or body else None


def _charts(run: Run) -> list[Html]:
    """Dots over the held-out pairs: ncc by stage, and label overlap before and after."""
    cases = [str(row["id"]) for row in run.record.cases]
    ncc = [scores([run], cases, key) for key in ("ncc_identity", "ncc_affine", "ncc")]
    dice = [scores([run], cases, key) for key in ("dice_before", "dice_after")]
    charts = []
    if any(np.isfinite(table).any() for table in ncc):
        names = ("no matching", "affine", "affine and local")
        columns = [
            Column(name, colour, table)
            for name, colour, table in zip(names, (SERIES[1], SERIES[2], SERIES[0]), ncc, strict=True)
        ]
        svg = dots_chart(columns, common_limits(ncc), f"ncc of {len(cases)} held-out pairs by stage")
        caption = f"ncc of {plural(len(cases), 'held-out pair')}, a dot each: every line should fall."
        charts.append(figure(Html(svg), caption, "Likeness", css="chart"))
    if any(np.isfinite(table).any() for table in dice):
        columns = [
            Column(name, colour, table)
            for name, colour, table in zip(("before", "after"), (SERIES[1], SERIES[0]), dice, strict=True)
        ]
        svg = dots_chart(columns, common_limits(dice), f"Label overlap of {len(cases)} held-out pairs")
        caption = "DSC of labels carried across by the DVF, which training never saw: every line should rise."
        charts.append(figure(Html(svg), caption, "Label overlap", css="chart"))
    return [element("div", *charts, css="charts")] if charts else []


def _pair(picture: Picture) -> Html:
    arrays = {name: _planes(picture, name) for name in ("moving", "affine", "warped", "fixed", "grid")}
    limits = window([*arrays["moving"], *arrays["fixed"]])
    contrast = (0.0, limits[1] - limits[0])
    outlines = {name: picture.planes(f"{name}_label") for name in ("moving", "warped", "fixed")}
    same_grid = all(a.shape == b.shape for a, b in zip(arrays["moving"], arrays["fixed"], strict=True))

    def shown(name: str, moved: str | None, with_fixed: bool) -> list[list[str]]:
        layers = []
        for axis in AXES:
            over = [image_layer(arrays[name][axis], limits)]
            fixed, other = outlines["fixed"], outlines[moved] if moved else None
            over += [outline_layer(fixed[axis], "truth")] if fixed and with_fixed else []
            over += [outline_layer(other[axis], "moved")] if other else []
            layers.append(over)
        return layers

    def apart(name: str) -> list[list[str]]:
        return [[image_layer(np.abs(arrays[name][axis] - arrays["fixed"][axis]), contrast, "magma")] for axis in AXES]

    grids = [
        [image_layer(moving, limits), grid_layer(positions, moving.shape)]
        for moving, positions in zip(arrays["moving"], arrays["grid"], strict=True)
    ]
    shapes = {name: [array.shape for array in planes] for name, planes in arrays.items()}
    stages = [
        Stage(
            "moving",
            _note(picture, "ncc_identity", "dice_before"),
            shown("moving", "moving", same_grid),
            shapes["moving"],
        ),
        Stage("after affine", _note(picture, "ncc_affine"), shown("affine", None, True), shapes["affine"]),
        Stage(
            "after the whole DVF",
            _note(picture, "ncc", "dice_after"),
            shown("warped", "warped", True),
            shapes["warped"],
        ),
        Stage("fixed", "where to get to", shown("fixed", None, True), shapes["fixed"]),
        Stage("grid", "on the moving image", grids, shapes["moving"]),
    ]
    if same_grid:
        stages.append(Stage(f"|moving {MINUS} fixed|", "difference before", apart("moving"), shapes["fixed"]))
    stages.append(Stage(f"|matched {MINUS} fixed|", "difference after", apart("warped"), shapes["fixed"]))
    return element("article", element("h4", picture.title), stage_row(stages, picture.title), css="card")


def _planes(picture: Picture, name: str) -> list[Array]:
    return [picture.arrays[f"{name}_{axis}"] for axis in AXES]


def _note(picture: Picture, ncc: str, dice: str = "") -> str:
    parts = [
        f"{word} {number(picture.scalars[key])}"
        for word, key in (("ncc", ncc), ("DSC", dice))
        if key in picture.scalars
    ]
    return " · ".join(parts)


def _switch(css: str, name: str) -> Html:
    """A tick box; the style sheet hides what it names where it is not ticked."""
    box = Html(f'<input type="checkbox" class="{css}" checked>')
    return element("label", box, f" {name}")
