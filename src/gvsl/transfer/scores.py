"""Scores of predicted label maps by the true ones, with pictures of the best and the worst."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.metrics.bootstrap import mean_with_interval
from gvsl.metrics.dice import dice_per_structure
from gvsl.metrics.hausdorff import hd95_per_structure
from gvsl.progress import progress
from gvsl.records.pictures import Slices, segmentation_slices, write_segmentations
from gvsl.records.volumes import BestAndWorst
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.task import Outcome


class Prediction(NamedTuple):
    """A predicted label map."""

    classes: Tensor
    """Class indices, (1, 1, D, H, W)."""
    confidence: NDArray[Any] | None = None
    """(D, H, W), in [0, 1], if the prediction has one."""


Predict = Callable[[str], Prediction]
"""Returns the prediction of a case by its id."""


def dice_of(cases: LabelledCases, case: str, prediction: Prediction) -> list[float]:
    """Return the DSC of each structure of a case."""
    return dice_per_structure(prediction.classes, cases.target(case), 1 + len(cases.labels))


def mean_dice(cases: LabelledCases, ids: Sequence[str], predict: Predict) -> float:
    """Return the DSC, a mean over structures and cases."""
    return float(np.mean([np.mean(dice_of(cases, case, predict(case))) for case in ids]))


def score_cases(cases: LabelledCases, ids: Sequence[str], predict: Predict, folder: Path) -> Outcome:
    """Return DSC and HD95 of each case; write pictures of three cases, and volumes of two, into a folder."""
    structures = list(cases.labels.values())
    tested = Outcome([], {}, fields={"labels": {str(value): name for value, name in cases.labels.items()}})
    slices, shown = [], BestAndWorst()
    with torch.no_grad(), progress(len(ids), "testing", unit="cases") as advance:
        for case in ids:
            row, picture = _score_case(cases, case, predict(case), shown)
            tested.cases.append(row)
            slices.append(picture)
            advance()
    if tested.cases:
        tested.metrics = _metrics(tested.cases, structures)
        tested.fields["pictures"] = write_segmentations(folder, tested.cases, slices)
    tested.fields["volumes"] = shown.write(folder)
    return tested


def _score_case(
    cases: LabelledCases, case: str, prediction: Prediction, shown: BestAndWorst
) -> tuple[dict[str, Any], Slices]:
    """Return the scores and slices of a case, and offer it to the volumes that are kept."""
    store, classes = cases.store, prediction.classes
    scores = dice_of(cases, case, prediction)
    distances = hd95_per_structure(classes, cases.target(case), 1 + len(cases.labels), store.preprocessing.voxel)
    row: dict[str, Any] = {"id": case}
    for metric, found in (("dice", scores), ("hd95", distances)):
        row[metric] = float(np.mean(found))
        row |= {f"{metric}/{name}": value for name, value in zip(cases.labels.values(), found, strict=True)}
    values = cases.values[classes[0, 0].cpu().numpy()]
    image, truth = store.channels(case)[0], store.label(case)
    unscored = np.isin(truth, store.ignored)
    truth, values = np.where(unscored, 0, truth), np.where(unscored, 0, values)
    shown.add(case, row["dice"], image, truth, values)
    return row, segmentation_slices(image, truth, values, prediction.confidence)


def _metrics(rows: Sequence[dict[str, Any]], structures: Sequence[str]) -> dict[str, float]:
    """Return means over the test cases with their intervals.

    `test/dice_std` is the sample standard deviation over the test cases, 0 for one case.
    """
    scores = [row["dice"] for row in rows]
    metrics = mean_with_interval("test/dice", scores)
    metrics["test/dice_std"] = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    metrics |= mean_with_interval("test/hd95", [row["hd95"] for row in rows])
    for name in structures:
        for metric in ("dice", "hd95"):
            metrics |= mean_with_interval(f"test/{metric}/{name}", [row[f"{metric}/{name}"] for row in rows])
    return metrics
