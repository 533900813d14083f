"""Restorations: images before and after damage, and restored."""

from collections.abc import Sequence

import numpy as np

from gvsl.report.figures.slices import window
from gvsl.report.numbers import number
from gvsl.report.page import Html, element, section, shown_first, unfolded
from gvsl.report.run_arrays import Array, Picture
from gvsl.report.runs import Run
from gvsl.report.sections.names import run_heading
from gvsl.report.sections.pictures import Stage, stage_row, view_switch

SHOWN_AT_ONCE, RUNS_AT_ONCE = 4, 3
LEAD = (
    "The run's method damages the image (boxes of noise, shuffled voxels, altered grey values or noise), and the "
    "network restores it. "
    "The restored image should look like the original: check the boxes and the fine texture. The error runs from 0 "
    "(black) to half the grey range (bright)."
)


def restorations(runs: Sequence[Run]) -> Html | None:
    """Show the restored images of each pre-training run; None if no run has any."""
    shown = [run for run in runs if run.record.kind == "pretrain" and run.pictures_of("restoration")]
    blocks = unfolded([(run.label, _block(run)) for run in shown], RUNS_AT_ONCE)
    return section("restorations", "Restorations", LEAD, view_switch(), *blocks) if blocks else None


def _block(run: Run) -> Html:
    cards = [_restoration(picture) for picture in run.pictures_of("restoration")]
    return element("div", run_heading(run), *shown_first(cards, SHOWN_AT_ONCE, "restoration", "cards"))


def _restoration(picture: Picture) -> Html:
    original, damaged, restored = (picture[name] for name in ("original", "damaged", "restored"))
    limits = window(original)
    errors = _errors(restored, original)
    stages = [
        Stage("original", original, limits),
        Stage("damaged", damaged, limits, _mean_error(_errors(damaged, original))),
        Stage("restored", restored, limits, _mean_error(errors)),
        Stage("absolute error", errors, (0.0, (limits[1] - limits[0]) / 2), "restored", colours="magma"),
    ]
    caption = element("p", "Error: mean absolute difference to the original over the slices shown.", css="caption")
    return element(
        "article", element("h4", picture.title), stage_row(stages, picture.title, picture.spacing), caption, css="card"
    )


def _errors(images: Sequence[Array], originals: Sequence[Array]) -> list[Array]:
    return [np.abs(image - original) for image, original in zip(images, originals, strict=True)]


def _mean_error(errors: Sequence[Array]) -> str:
    return f"error {number(float(np.concatenate([error.ravel() for error in errors]).mean()))}"
