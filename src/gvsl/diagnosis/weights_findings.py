"""Findings on a run's weights: not finite, unchanged, dead, saturated, blind, collapsed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gvsl.backbones import Backbone
from gvsl.backbones.tensor_file import count_not_finite
from gvsl.backbones.weights import HEADS_NAME, MODEL_NAME, PretrainedBackbone, parse_size
from gvsl.diagnosis.activity import Activity, effective_rank, largest_difference, layer_title, observe
from gvsl.diagnosis.probes import probes
from gvsl.heads.affine import ROTATION_LIMIT, SCALE_LIMIT, SHEAR_LIMIT
from gvsl.methods import Method
from gvsl.report.finding import Problem
from gvsl.report.numbers import plural
from gvsl.report.pretext_findings import COLLAPSED_RANK, PRECISION, RATE, STEPS, untrained_part
from gvsl.report.run_metrics import measured
from gvsl.report.runs import Run
from gvsl.text import few
from gvsl.training import PretrainSettings
from gvsl.training.pretrain import build_method
from gvsl.transfer.weights import HEAD_NAME, Segmenter

DEAD = 1e-3
"""A channel is constant if its standard deviation is at most this part of its layer's size; in the sound
runs of docs/doctor.md the smallest is about a tenth."""
SATURATED = 0.9
"""The part of a layer's channels that never cross 0 from which it counts as saturated; there it is at most a sixth."""
BLIND = 1e-3
"""The relative difference of features below which the input doesn't matter; there it is 0.05 and more."""
AT_LIMIT = 0.95
"""The part of the pooled affine head's limit from which a mean absolute value counts as at the limit."""
LESS_RATE = f"lower {RATE}"
BLIND_FIX = f"{LESS_RATE}, or more {STEPS}"


def not_finite(run: Path, weights: Path) -> Iterator[Problem]:
    """Check all tensors of a run's folder for NaN and infinite values, reading no more than the files.

    Raises:
        UserError: a file can't be read.
    """
    for path in (weights / MODEL_NAME, weights / HEADS_NAME, run / HEAD_NAME):
        counts = count_not_finite(path) if path.is_file() else {}
        if counts:
            values = plural(sum(counts.values()), "value")
            text = f"{values} of {path.name} not finite, in {few(list(counts))}"
            fix = f"{LESS_RATE}, or {PRECISION}"
            yield "broken", f"{text}: {fix}", f"weights that are not finite: {fix}"


def unchanged_since_start(run: Run, method: Method) -> Iterator[Problem]:
    """Check that every trained part of a pre-training has left the values that its seed draws.

    Only weights are compared: a bias may rightly have no gradient, such as one before a normalisation.
    """
    config = run.record.config
    sizes = parse_size(method.backbone.size)
    name = str(config["method"])
    initial = build_method(name, PretrainSettings(seed=run.record.seed, backbone=sizes, pretext=method.settings))
    first = initial.parts()
    for part, module in method.parts().items():
        before = dict(first[part].named_parameters())
        now = {
            key: value
            for key, value in module.named_parameters()
            if key.endswith("weight") and (part != "backbone" or key.partition(".")[0] in method.pretrained)
        }
        same = [key for key, value in now.items() if torch.equal(value, before[key])]
        if same and len(same) == len(now):
            yield untrained_part(part, config)
        elif same:
            yield _unchanged(f"{len(same)} of {plural(len(now), 'weight')} of the {part} part", same)


def unchanged_norms(backbone: Backbone, parts: Sequence[str]) -> Iterator[Problem]:
    """Check that normalisations of trained parts have left the scale and the shift of 0 that they begin with.

    The scale is 1; 0 for the last of a residual block.
    """
    norms = {
        name: module
        for name, module in backbone.named_modules()
        if isinstance(module, nn.GroupNorm | nn.InstanceNorm3d) and name.partition(".")[0] in parts
    }
    starts = (torch.ones_like, torch.zeros_like)
    same = [
        name
        for name, norm in norms.items()
        if not norm.bias.any() and any(torch.equal(norm.weight, start(norm.weight)) for start in starts)
    ]
    if same:
        yield _unchanged(f"{len(same)} of {plural(len(norms), 'normalisation')}", same)


def of_features(run: Run, backbone: PretrainedBackbone) -> tuple[list[Problem], int]:
    """Check what the backbone computes; return the problems, and how many of the run's own volumes it was given."""
    volumes, own = probes(run, backbone)
    layers, features = observe(backbone, volumes)
    known = backbone.provenance.get("pretrained")
    trained = known if isinstance(known, list) else ["encoder", "decoder"]
    problems = [*_dead(layers, trained), *_saturated(layers, trained)]
    kinds = {"global": [each.global_ for each in features]}
    if "decoder" in trained and run.record.config.get("task") != "classification":
        kinds["local"] = [each.local for each in features]
    for kind, values in kinds.items():
        problems += _blind(f"{kind} features", values) or _collapsed(kind, values)
    return problems, own


@torch.no_grad()
def of_segmentation(run: Run, model: Segmenter) -> Iterator[Problem]:
    """Check that a segmenter finds more than one class in the run's own volumes; nothing without such volumes."""
    volumes, own = probes(run, model.network.backbone)
    classes = {int(value) for volume in volumes[:own] for value in model.network(volume).argmax(1).unique()}
    if len(classes) == 1:
        name = ["background", *model.labels.values()][classes.pop()]
        fix = f"more {STEPS}, or another {RATE}"
        text = f"blind: it finds nothing but {name} in {plural(own, 'volume')} of its own"
        yield "broken", f"{text}: {fix}", f"blind: one class everywhere: {fix}"


def at_limits(run: Run) -> Iterator[Problem]:
    """Check that the pooled affine head is not at the limits of its values, where tanh has no gradient."""
    if (run.record.config.get("pretext") or {}).get("affine_head") != "pooled":
        return
    limits = {"rotation": ROTATION_LIMIT * 180 / torch.pi, "scale": SCALE_LIMIT, "shear": SHEAR_LIMIT}
    for name, limit in limits.items():
        value = measured(run, f"affine_{name}")
        if value is not None and value >= AT_LIMIT * limit:
            fix = f"{LESS_RATE}, or --pretext.affine-head keypoints, which has no limits"
            text = f"saturated: the affine head's {name} is at its limit"
            yield "caution", f"{text} ({value:.3g} of {limit:.3g}): {fix}", f"{text}: {fix}"


def _unchanged(what: str, names: Sequence[str]) -> Problem:
    fix = f"{PRECISION}, or a higher {RATE}"
    text = "as initialised, and were not trained"
    return "broken", f"{what} are {text} ({few(list(names))}): {fix}", f"weights {text}: {fix}"


def _dead(layers: Mapping[str, Activity], trained: Sequence[str]) -> Iterator[Problem]:
    counts: dict[str, tuple[int, int]] = {}
    for name, layer in layers.items():
        title = layer_title(name)
        if title.partition(".")[0] not in trained and "." in title and title.startswith(("encoder", "decoder")):
            continue
        dead = int((layer.deviation <= DEAD * layer.size).sum())
        before = counts.get(title, (0, 0))
        counts[title] = before[0] + dead, before[1] + len(layer.total)
    found = [f"{dead} of {every} in {title}" for title, (dead, every) in counts.items() if dead]
    if found:
        text = "dead: channels that are constant, whatever the input"
        yield "broken", f"{text} ({', '.join(found)}): {LESS_RATE}", f"{text}: {LESS_RATE}"


def _saturated(layers: Mapping[str, Activity], trained: Sequence[str]) -> Iterator[Problem]:
    found = []
    for name, layer in layers.items():
        moving = layer.deviation > DEAD * layer.size
        stuck = int((layer.one_sided & moving).sum())
        if stuck > SATURATED * int(moving.sum()):
            found.append(f"{stuck} of {len(layer.total)} in {layer_title(name)}")
    if found:
        text = "saturated: channels whose activation never changes its side, so that the layer is linear"
        yield "caution", f"{text} ({', '.join(found)}): {LESS_RATE}", f"{text}: {LESS_RATE}"


def _blind(what: str, features: Sequence[Tensor]) -> list[Problem]:
    difference = largest_difference(features)
    if difference >= BLIND:
        return []
    text = f"blind: the {what} do not depend on the input"
    values = f"they differ by {difference:.1g} of their size at most"
    return [("broken", f"{text} ({values}): {BLIND_FIX}", f"{text}: {BLIND_FIX}")]


def _collapsed(kind: str, features: Sequence[Tensor]) -> list[Problem]:
    rank = effective_rank(features)
    if rank >= COLLAPSED_RANK:
        return []
    text = f"collapsed: the channels of the {kind} features are nearly one"
    values = f"effective rank {rank:.2f} of {features[0].shape[1]}"
    return [("broken", f"{text} ({values}): {LESS_RATE}", f"{text}: {LESS_RATE}")]
