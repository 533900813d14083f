"""Segmentations over images: predictions from random and pre-trained features beside the truth."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gvsl.records.comparability import LABELS, labels_of
from gvsl.report.figures.slices import fill_layer, outline_layer, window
from gvsl.report.grouping import RANDOM, arm_of, protocol_of
from gvsl.report.numbers import number, plural
from gvsl.report.page import Html, details, element, legend, outline_key, patch_key, section, shown_first, text
from gvsl.report.run_arrays import Picture
from gvsl.report.runs import Run
from gvsl.report.sections.names import run_link, structure_colours, structure_names
from gvsl.report.sections.pictures import Stage, stage_row, view_switch
from gvsl.report.verdicts import feature_name

SHOWN_AT_ONCE = 4
STAGES_IN_HALF = 4
"""Maximum number of columns in a card of half the page's width."""
LEAD = (
    "Colour is the prediction, the white line the truth: colour should fill the line and stop at it. Carried labels "
    "have their confidence beside them, from 0 (black) to 1 (light yellow): where it is dark inside a white line, the "
    "match is not to be trusted. The first run of each arm, of the fewest labels, is shown; the others open below."
)
Shown = tuple[Run, Picture]


def segmentations(runs: Sequence[Run]) -> Html | None:
    """Show the cases of each store with the predictions of every run that wrote one; None if none did."""
    found = [(run, picture) for run in runs for picture in run.pictures_of("segmentation")]
    stores = sorted({run.store for run, _ in found})
    blocks = [_store_block(name, [shown for shown in found if shown[0].store == name]) for name in stores]
    return section("segmentations", "Segmentations", LEAD, view_switch(), *blocks) if blocks else None


def _store_block(name: str, found: Sequence[Shown]) -> Html:
    names = structure_names([run for run, _ in found])
    planes = [plane for _, picture in found for part in ("truth", "prediction") for plane in picture[part]]
    values = {int(value) for plane in planes for value in np.unique(plane)}
    colours = structure_colours((values | names.keys()) - {0})
    keys = [(patch_key(colour), names.get(value, f"label {value}")) for value, colour in colours.items()]
    examples: dict[str, dict[Path, Shown]] = {}
    for run, picture in found:  # a run's median case may be its worst too
        examples.setdefault(_slices_key(picture), {}).setdefault(run.folder, (run, picture))
    cards = [_example(list(shown.values()), colours) for shown in examples.values()]
    tools = element("div", legend([*keys, (outline_key("truth"), "truth")]), css="tools")
    return element("div", element("h3", name), tools, *shown_first(cards, SHOWN_AT_ONCE, "case", "cards"))


def _example(shown: Sequence[Shown], colours: dict[int, str]) -> Html:
    """Show one case: the image, the truth, and a prediction of each arm; those of other runs are folded away."""
    ordered = sorted(shown, key=_place)
    first: dict[tuple[str, str], Shown] = {}
    others: list[Shown] = []
    for item in ordered:
        arm = arm_of(item[0]), protocol_of(item[0])
        if arm in first:
            others.append(item)
        else:
            first[arm] = item
    picture = ordered[0][1]
    images, title = picture["image"], _title([picture.title for _, picture in shown])
    stages = [
        Stage("image", images, window(images)),
        Stage("truth", images, window(images), overlays=_overlays(picture, "truth", colours)),
        *(stage for item in first.values() for stage in _predicted(*item, colours)),
    ]
    parts = [element("h4", title), stage_row(stages, title, picture.spacing)]
    if others:
        rest = [stage for item in others for stage in _predicted(*item, colours)]
        row = stage_row(rest, title, picture.spacing, len(stages))
        parts.append(details(f"{plural(len(others), 'prediction')} of other runs", row))
    return element("article", *parts, css="card whole" if len(stages) > STAGES_IN_HALF else "card")


def _place(shown: Shown) -> tuple[bool, str, str, int, int]:
    """Return what a case's predictions are sorted by: random features first, and the fewest labels."""
    run = shown[0]
    return arm_of(run) != RANDOM, arm_of(run), protocol_of(run), labels_of(run.record) or 0, run.record.seed


def _title(titles: Sequence[str]) -> str:
    """Return the title that pictures of one case share, or the case's name, which all of them have."""
    if len(set(titles)) == 1:
        return titles[0]
    return re.sub(r"^\w+: |, DSC [\d.]+$", "", titles[0])


def _predicted(run: Run, picture: Picture, colours: dict[int, str]) -> list[Stage]:
    """Return the stage of a prediction, and of its confidence if it has one."""
    stages = [_prediction(run, picture, colours)]
    confidence = picture.planes("confidence")
    if confidence is not None:
        outlines = [outline_layer(truth, "truth") for truth in picture["truth"]]
        stages.append(Stage("its confidence", confidence, (0.0, 1.0), overlays=outlines, colours="magma"))
    return stages


def _prediction(run: Run, picture: Picture, colours: dict[int, str]) -> Stage:
    images = picture["image"]
    status = "" if run.record.status == "finished" else f", {run.record.status}"
    score = _case_score(run, picture.title)
    result = status if score is None else f"{status} · DSC {number(score)}"
    count = labels_of(run.record) if isinstance(run.record.config.get(LABELS), int) else None
    seed = f"seed {run.record.seed}" if count is None else f"{plural(count, 'label')}, seed {run.record.seed}"
    note = Html(run_link(run, seed).code + text(result).code)
    name = feature_name(arm_of(run), protocol_of(run))
    return Stage(name, images, window(images), note, _overlays(picture, "prediction", colours))


def _overlays(picture: Picture, filled: str, colours: dict[int, str]) -> list[str]:
    """Fill the structures of a label map, and outline those of the truth."""
    planes = zip(picture[filled], picture["truth"], strict=True)
    return [fill_layer(labels, colours) + outline_layer(truth, "truth") for labels, truth in planes]


def _slices_key(picture: Picture) -> str:
    """Return a key that is equal for pictures of the same slices of the same case."""
    content = b"".join(plane.tobytes() for name in ("image", "truth") for plane in picture[name])
    return hashlib.sha256(content).hexdigest()


def _case_score(run: Run, title: str) -> float | None:
    """Return the DSC of the case whose id occurs as a word in a picture's title, or None."""
    words = {title, *re.split(r"[\s,;]+", title)}
    rows = [row for row in run.record.cases if str(row["id"]) in words and row.get("dice") is not None]
    return float(rows[0]["dice"]) if len(rows) == 1 else None
