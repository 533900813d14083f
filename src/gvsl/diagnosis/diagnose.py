"""The diagnosis of a run: one list of findings, of its record by `gvsl.report`, of its weights by this package."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gvsl.backbones.weights import FOLDER_NAME, find_weights, load_backbone
from gvsl.diagnosis.weights_findings import (
    at_limits,
    not_finite,
    of_features,
    of_segmentation,
    unchanged_norms,
    unchanged_since_start,
)
from gvsl.errors import UserError
from gvsl.methods.load_method import load_method
from gvsl.report.finding import SEVERITY, Finding, Problem
from gvsl.report.run_findings import run_findings
from gvsl.report.runs import Run, read_run
from gvsl.text import one_line
from gvsl.transfer.weights import Segmenter, load_adapted


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what was found, most severe first."""

    run: Run
    has_weights: bool
    own_volumes: int | None
    """How many volumes of its own the network was given, beside noise; None if it was not run."""
    findings: list[Finding]


def diagnose(folder: Path) -> Diagnosis:
    """Look for faults in a run's record and weights; nothing is written.

    Raises:
        UserError: `folder` is no run's, or a file in it is broken.
    """
    run = read_run(folder)
    found = run_findings(run)
    if not (folder / FOLDER_NAME).is_dir():
        return Diagnosis(run, False, None, _sorted(found))
    problems = list(not_finite(folder, find_weights(folder)))
    own = None
    if not problems:
        backbone = load_backbone(folder)
        problems, own = of_features(run, backbone)
        problems += _of_pretraining(run) if run.record.kind == "pretrain" else _of_transfer(run)
    found += [Finding(level, run.label, text, kind) for level, text, kind in problems]
    return Diagnosis(run, True, own, _sorted(found))


def _of_pretraining(run: Run) -> Iterator[Problem]:
    yield from at_limits(run)
    try:
        yield from unchanged_since_start(run, load_method(run.folder))
    except (UserError, KeyError, TypeError) as error:  # an earlier gvsl's settings, or files that were not copied
        text = "not checked if each part was trained"
        yield "caution", f"{text}: {one_line(str(error))}", text


def _of_transfer(run: Run) -> Iterator[Problem]:
    model = load_adapted(run.folder)
    segments = isinstance(model, Segmenter)
    if run.record.config.get("mode") != "linear":
        yield from unchanged_norms(model.network.backbone, ("encoder", "decoder") if segments else ("encoder",))
    if isinstance(model, Segmenter):
        yield from of_segmentation(run, model)


def _sorted(found: list[Finding]) -> list[Finding]:
    """Return findings most severe first, each text once."""
    once = {finding.text: finding for finding in found}
    return sorted(once.values(), key=lambda finding: SEVERITY[finding.level])
