"""Mode `carried`: nothing is trained; carried labels are scored like a segmenter's, by the true ones."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gvsl.backbones import UNet3D
from gvsl.methods import GVSL
from gvsl.propagation import PropagationSettings
from gvsl.propagation.atlases import read_atlases
from gvsl.propagation.attempt import attempt
from gvsl.propagation.match import Memory
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.transfer.carrying import load_checked_matcher, teacher_leakage, teacher_of, templates_of
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.scores import Prediction, mean_dice, score_cases
from gvsl.transfer.segmentation import Segmentation
from gvsl.transfer.task import Outcome

UNTRAINED_WIDTH = 8
"""Width of the control's network, which is never called: the smallest."""


def load_carrier(run: Path | None, store: Store, train: Sequence[str], settings: TransferSettings) -> GVSL:
    """Return the method that matches: that of a pre-training or, for the control, an untrained one that isn't called.

    Raises:
        UserError: `run` is refused by `load_checked_matcher`.
    """
    if run is not None:
        return load_checked_matcher(run, store, train, settings)
    # the number of levels decides how volumes are padded, with a network or without
    return GVSL(UNet3D(width=UNTRAINED_WIDTH, levels=int(settings.levels))).eval()


def score_carried(
    task: Segmentation, method: GVSL, settings: TransferSettings, folder: Path, device: torch.device
) -> tuple[Outcome, dict[str, Any]]:
    """Carry the labels of a task's training cases onto its validation and test cases, and score them.

    Every case is scored by its carried labels, also one whose match failed, which `gvsl propagate` gives no map, so
    that arms are compared on the same cases.

    Returns:
        The scores, as of a segmenter, with `similarity`, `seconds` and, if labels were carried back, `reverse_dice` of
        each case; and for the record the ids of the cases, of test and val, whose match failed, those of the templates,
        and a teacher's `teacher_leakage`.
    """
    atlases = read_atlases({task.store: task.train})
    assert atlases.labels == task.labels
    moved, how = [atlas.to(device) for atlas in atlases.atlases], propagation_settings(settings)
    taught = teacher_of(task.store, task.train, task.labels, settings, device)
    teacher = None if taught is None else taught.votes
    templates = templates_of(task.store, task.train, method, moved, how, device, teacher)
    cases = LabelledCases(task.store, device, task.labels)
    facts: dict[str, dict[str, float]] = {}
    failed = []
    memory = Memory()

    def predict(case: str) -> Prediction:
        found = attempt(method, moved, task.store.channels(case), how, templates, teacher, memory)
        facts[case] = {"similarity": found.similarity, "seconds": found.seconds}
        if found.carried.reverse_dice is not None:
            facts[case]["reverse_dice"] = found.carried.reverse_dice
        if found.failed:
            failed.append(case)
        return Prediction(found.carried.shown, found.carried.confidence[0, 0].cpu().numpy())

    tested = score_cases(cases, task.test_cases, predict, folder)
    tested.cases = [row | facts[row["id"]] for row in tested.cases]
    tested.other_metrics["val/dice"] = mean_dice(cases, task.val, predict)
    tested.other_metrics["seconds_per_volume"] = median(each["seconds"] for each in facts.values())
    rest: dict[str, Any] = {"carry_failed": failed, "carry_templates": [template.id for template in templates]}
    return tested, rest | teacher_leakage(taught)


def propagation_settings(settings: TransferSettings) -> PropagationSettings:
    """Return those of a transfer's settings that decide how labels are carried."""
    return PropagationSettings(
        **{item.name: getattr(settings.carrying, item.name) for item in fields(PropagationSettings)}
    )


def carried_config(settings: TransferSettings, levels: int) -> dict[str, Any]:
    """Return the settings of such a run that have an effect, for its record, with the levels of its network."""
    taught = {name: getattr(settings.carrying, name) for name in ("teacher", "teacher_share")}
    kept = ("mode", "seed", "labels", "device", "allow_preprocessing_mismatch", "allow_leakage")
    return {
        **{name: getattr(settings, name) for name in kept},
        "levels": levels,  # which decide how volumes are padded, also those of the control
        "carrying": asdict(propagation_settings(settings)) | taught,
    }
