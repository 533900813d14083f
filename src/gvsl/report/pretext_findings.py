"""Findings on pretexts other than matching: collapsed, at chance, or no better than doing nothing."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gvsl.report.finding import Problem
from gvsl.report.numbers import number, percent

COLLAPSED_STD = 0.01
"""The standard deviation of embeddings, at most 1, below which a run has collapsed; random weights give about 0.1."""
COLLAPSED_RANK = 1.5
"""The effective rank of embeddings below which they lie on a line."""
COLLAPSED_CLUSTER = 0.9
"""The fraction of volumes in one cluster above which a run has collapsed."""
MIN_SKILL = 0.1
"""The fraction of the way from chance to perfect below which a pretext counts as at chance."""
MIN_NMI = 0.1
"""The mutual information of two successive assignments, 0 to 1, below which clusters are drawn anew each time."""
ROTATIONS = 10
"""Classes of the method `rotation`."""
SIMILARITY = ("simsiam", "byol")
"""Methods whose loss is the negative similarity of a volume's two views: 0 for unrelated ones, -1 for equal ones."""
PRETEXT_METRICS = (
    *("loss", "accuracy", "nmi", "twin_accuracy", "twin_chance", "embedding_std", "effective_rank"),
    *("clusters_used", "cluster_largest", "restoration", "restoration_identity"),
)
BATCH = "--batch-size"
STEPS = "--max-steps"
RATE = "--learning-rate"
PRECISION = "--precision fp32"
WEIGHTS = {"restoration": "restoration_weight", "deformable": "ncc_weight", "affine": "affine_ncc_weight"}
"""The setting that weighs a part's own loss, where a method has one."""


def pretext_problems(where: str, found: Mapping[str, float], config: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the metrics of a pretext.

    Args:
        where: the text on when they were measured, such as "on held-out volumes".
        found: metrics by name, those that were measured.
        config: the run's, as its record has it.
    """
    yield from _collapse(where, found)
    yield from _chance(where, found, config)
    nmi = found.get("nmi")
    if nmi is not None and nmi < MIN_NMI:
        text, fix = "clusters are drawn anew at each pass", f"lower {RATE}, or fewer --pretext.clusters"
        yield "caution", f"{where} {text} (NMI {number(nmi)}): {fix}", f"{text}: {fix}"
    restored, untouched = found.get("restoration"), found.get("restoration_identity")
    if restored is not None and untouched is not None and restored >= untouched:
        text, fix = "no better than returning the damage", f"more {STEPS}, or another {RATE}"
        values = f"restoring ({number(restored, 4)}) is {text} ({number(untouched, 4)})"
        yield "caution", f"{where} {values}: {fix}", f"{where} restoring is {text}: {fix}"


def untrained_part(part: str, config: Mapping[str, Any]) -> Problem:
    """Return the finding that a part of the network never had a gradient, with what gives it one.

    Args:
        part: of `Method.parts`.
        config: the run's, as its record has it.
    """
    weight, fix = WEIGHTS.get(part, ""), f"{PRECISION}, or a lower {RATE}"
    if (config.get("pretext") or {}).get(weight) == 0:
        fix = f"raise --pretext.{weight.replace('_', '-')} from 0"
    text = "never had a gradient, and was not trained"
    return "broken", f"the {part} part {text}: {fix}", f"a part that {text}: {fix}"


def _collapse(where: str, found: Mapping[str, float]) -> Iterator[Problem]:
    collapsed = []
    change = f"larger {BATCH}, or lower {RATE}"
    if found.get("embedding_std", 1.0) < COLLAPSED_STD:
        collapsed.append(f"all embeddings are nearly one (spread {number(found['embedding_std'], 4)} of 1): {change}")
    elif found.get("effective_rank", 9.0) < COLLAPSED_RANK:
        collapsed.append(f"the embeddings spread over {number(found['effective_rank'], 2)} directions: {change}")
    fewer = f"fewer --pretext.clusters, or lower {RATE}"
    if found.get("clusters_used", 9.0) < 2:
        collapsed.append(f"all volumes are in one cluster: {fewer}")
    elif found.get("cluster_largest", 0.0) > COLLAPSED_CLUSTER:
        collapsed.append(f"one cluster holds {percent(found['cluster_largest'], 0)} of the volumes: {fewer}")
    for text in collapsed:
        yield "broken", f"the run has collapsed: {where} {text}", f"collapsed: {change}"


def _chance(where: str, found: Mapping[str, float], config: Mapping[str, Any]) -> Iterator[Problem]:
    for name, measures in _measures(found, config).items():
        skills = [
            (value - chance) / (perfect - chance) for _, value, chance, perfect in measures if perfect != chance
        ]  # of one pair a step, chance is perfect
        if skills and max(skills) < MIN_SKILL:
            values = ", ".join(
                f"{word} {number(value)}, chance {number(chance)}" for word, value, chance, _ in measures
            )
            change = f"larger {BATCH}, more {STEPS}, or another {RATE}"
            yield "broken", f"{where} {name} is at chance ({values}): {change}", f"{name} at chance: {change}"


def _measures(
    found: Mapping[str, float], config: Mapping[str, Any]
) -> dict[str, list[tuple[str, float, float, float]]]:
    """Return the name, value, chance level and best value of each measure of skill, by what it measures."""
    method, pretext = config.get("method"), config.get("pretext") or {}
    measures: dict[str, list[tuple[str, float, float, float]]] = {}
    if method == "deepcluster" and pretext.get("clusters", 0) > 1:
        clusters = pretext["clusters"]
        chances = {"accuracy": (1 / clusters, 1.0), "loss": (math.log(clusters), 0.0)}
        measures["cluster classification"] = [
            (name, found[name], *ends) for name, ends in chances.items() if name in found
        ]
    elif method == "rotation" and "accuracy" in found:
        measures["rotation classification"] = [("accuracy", found["accuracy"], 1 / ROTATIONS, 1.0)]
    elif method in SIMILARITY and "loss" in found:
        measures["the prediction of one view from another"] = [("loss", found["loss"], 0.0, -1.0)]
    chance = _retrieval_chance(found, config)
    if chance is not None and "twin_accuracy" in found:
        measures["instance retrieval"] = [("accuracy", found["twin_accuracy"], chance, 1.0)]
    return {name: of for name, of in measures.items() if of}


def _retrieval_chance(found: Mapping[str, float], config: Mapping[str, Any]) -> float | None:
    """Return the chance level: as recorded on held-out volumes, in training that of a batch of pairs."""
    pairs = (config.get("data") or {}).get("batch_size")
    return found.get("twin_chance", 1 / (4 * pairs - 1) if pairs else None)
