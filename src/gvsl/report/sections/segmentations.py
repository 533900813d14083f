"""Segmentations over images: predictions of random and pre-trained features beside the truth."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from gvsl.report.figures.slices import fill_layer, image_layer, outline_layer, window
from gvsl.report.grouping import RANDOM, arm_of, protocol_of
from gvsl.report.numbers import number, plural
from gvsl.report.page import Html, details, element, outline_legend, patch_legend, section, text
from gvsl.report.runs import AXES, Picture, Run
from gvsl.report.sections.names import run_link, structure_colours, structure_names
from gvsl.report.sections.stages import Stage, stage_row
from gvsl.report.verdicts import feature_name

SHOWN_AT_ONCE = 4
STAGES_IN_HALF = 4
"""More columns than these need a card of the page's whole width."""
Shown = tuple[Run, Picture]


def segmentations(runs: Sequence[Run]) -> Html | None:
    """For each store its cases, each with the predictions of every run that wrote one; None where none did."""
    lead = (
        "Colour is the prediction, the white line the truth: colour should fill the line and stop at it. "
        "The first seed of each kind of features is shown; the other seeds open below."
    )
    found = [(run, picture) for run in runs for picture in run.pictures_of("segmentation")]
    stores = sorted({run.store for run, _ in found})
    blocks = [_store_block(name, [shown for shown in found if shown[0].store == name]) for name in stores]
    return section("segmentations", "Segmentations", lead, *blocks) if blocks else None


def _store_block(name: str, found: Sequence[Shown]) -> Html:
    names = structure_names([run for run, _ in found])
    values = {
        int(value) for _, picture in found for part in ("truth", "prediction") for value in _values(picture, part)
    }
    colours = structure_colours((values | names.keys()) - {0})
    legend = patch_legend([(names.get(value, f"label {value}"), colour) for value, colour in colours.items()])
    examples: dict[str, list[Shown]] = {}
    for run, picture in found:
        examples.setdefault(_same_slices(picture), []).append((run, picture))
    drawn = [_example(shown, colours) for shown in examples.values()]
    tools = element("div", legend, outline_legend([("truth", "truth")]), css="tools")
    body = [element("div", *drawn[:SHOWN_AT_ONCE], css="cards")]
    if drawn[SHOWN_AT_ONCE:]:
        more = element("div", *drawn[SHOWN_AT_ONCE:], css="cards")
        body.append(details(plural(len(drawn) - SHOWN_AT_ONCE, "more case"), more))
    return element("div", element("h3", name), tools, *body)


def _example(shown: Sequence[Shown], colours: dict[int, str]) -> Html:
    """One case: the image, its truth, and a prediction a run; further seeds of the same kind fold away."""
    ordered = sorted(shown, key=lambda item: (arm_of(item[0]) != RANDOM, arm_of(item[0]), item[0].record.seed))
    first: dict[str, Shown] = {}
    others: list[Shown] = []
    for item in ordered:
        name = f"{arm_of(item[0])} {item[0].record.config['mode']}"
        if name in first:
            others.append(item)
        else:
            first[name] = item
    picture = ordered[0][1]
    stages = [
        _image(picture),
        _truth(picture, colours),
        *(_prediction(*item, colours) for item in first.values()),
    ]
    parts = [element("h4", picture.title), stage_row(stages, picture.title)]
    if others:
        row = stage_row([_prediction(*item, colours) for item in others], picture.title, len(stages))
        parts.append(details(f"{plural(len(others), 'prediction')} of other seeds", row))
    return element("article", *parts, css="card whole" if len(stages) > STAGES_IN_HALF else "card")


def _image(picture: Picture) -> Stage:
    planes, layers = _background(picture)
    return Stage("image", "", [[layer] for layer in layers], planes)


def _truth(picture: Picture, colours: dict[int, str]) -> Stage:
    shapes, images = _background(picture)
    labels = [picture.arrays[f"truth_{axis}"] for axis in AXES]
    layers = [
        [image, fill_layer(label, colours), outline_layer(label, "truth")]
        for image, label in zip(images, labels, strict=True)
    ]
    return Stage("truth", "", layers, shapes)


def _prediction(run: Run, picture: Picture, colours: dict[int, str]) -> Stage:
    shapes, images = _background(picture)
    layers = [
        [
            images[axis],
            fill_layer(picture.arrays[f"prediction_{axis}"], colours),
            outline_layer(picture.arrays[f"truth_{axis}"], "truth"),
        ]
        for axis in AXES
    ]
    status = "" if run.record.status == "finished" else f", {run.record.status}"
    score = _case_score(run, picture.title)
    words = f"{status} · DSC {number(score)}" if score is not None else status
    note = Html(run_link(run, f"seed {run.record.seed}").code + text(words).code)
    return Stage(feature_name(arm_of(run), protocol_of(run)), note, layers, shapes)


def _background(picture: Picture) -> tuple[list[tuple[int, ...]], list[str]]:
    images = [picture.arrays[f"image_{axis}"] for axis in AXES]
    limits = window(images)
    return [image.shape for image in images], [image_layer(image, limits) for image in images]


def _values(picture: Picture, part: str) -> set[int]:
    return {int(value) for axis in AXES for value in np.unique(picture.arrays[f"{part}_{axis}"])}


def _same_slices(picture: Picture) -> str:
    """A mark that two pictures share when they show the same slices of the same case."""
    arrays = [picture.arrays[f"{name}_{axis}"] for name in ("image", "truth") for axis in AXES]
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return picture.title + hashlib.sha256(content).hexdigest()


def _case_score(run: Run, title: str) -> float | None:
    """The DSC of the case that a picture's title names as a word of its own, if the run's record has it."""
    words = {title, *re.split(r"[\s,;]+", title)}
    rows = [row for row in run.record.cases if str(row["id"]) in words and row.get("dice") is not None]
    return float(rows[0]["dice"]) if len(rows) == 1 else None
