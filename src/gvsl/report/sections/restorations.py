"""Restorations before and after."""

from collections.abc import Sequence

import numpy as np

from gvsl.report.figures.slices import image_layer, window
from gvsl.report.numbers import number, plural
from gvsl.report.page import Html, details, element, section, unfolded
from gvsl.report.runs import AXES, Array, Picture, Run
from gvsl.report.sections.names import run_heading
from gvsl.report.sections.stages import Stage, stage_row

SHOWN_AT_ONCE, RUNS_AT_ONCE = 4, 3


def restorations(runs: Sequence[Run]) -> Html | None:
    """For each pre-training run its restored images; None where no run has any."""
    lead = (
        "The image is damaged as the run's method has it (shuffled voxels, bent grey values, noise), and the network "
        "restores it. Restored should look like original: watch the boxes and the fine texture. The error "
        "runs from 0 (black) to half the grey range (bright)."
    )
    shown = [run for run in runs if run.record.kind == "pretrain" and run.pictures_of("restoration")]
    blocks = unfolded([(run.label, _block(run)) for run in shown], RUNS_AT_ONCE)
    return section("restorations", "Restorations before and after", lead, *blocks) if blocks else None


def _block(run: Run) -> Html:
    drawn = [_restoration(picture) for picture in run.pictures_of("restoration")]
    body = [element("div", *drawn[:SHOWN_AT_ONCE], css="cards")]
    if drawn[SHOWN_AT_ONCE:]:
        more = element("div", *drawn[SHOWN_AT_ONCE:], css="cards")
        body.append(details(plural(len(drawn) - SHOWN_AT_ONCE, "more restoration"), more))
    return element("div", run_heading(run), *body)


def _restoration(picture: Picture) -> Html:
    original, damaged, restored = (
        [picture.arrays[f"{name}_{axis}"] for axis in AXES] for name in ("original", "damaged", "restored")
    )
    limits = window(original)
    shapes = [array.shape for array in original]
    errors = [np.abs(after - before) for after, before in zip(restored, original, strict=True)]
    half = (0.0, (limits[1] - limits[0]) / 2)
    stages = [
        Stage("original", "", [[image_layer(array, limits)] for array in original], shapes),
        Stage(
            "damaged",
            f"error {number(_mean_error(damaged, original))}",
            [[image_layer(array, limits)] for array in damaged],
            shapes,
        ),
        Stage(
            "restored",
            f"error {number(_mean_error(restored, original))}",
            [[image_layer(array, limits)] for array in restored],
            shapes,
        ),
        Stage("absolute error", "restored", [[image_layer(array, half, "magma")] for array in errors], shapes),
    ]
    caption = "Error: mean absolute difference from the original over the slices shown."
    return element(
        "article",
        element("h4", picture.title),
        stage_row(stages, picture.title),
        element("p", caption, css="caption"),
        css="card",
    )


def _mean_error(images: Sequence[Array], originals: Sequence[Array]) -> float:
    apart = [np.abs(image - original).ravel() for image, original in zip(images, originals, strict=True)]
    return float(np.concatenate(apart).mean())
