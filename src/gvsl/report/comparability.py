"""Which of a run's settings decide its figures, and in which of them runs differ."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

EXPECTED_TO_DIFFER = (
    *("weights", "weights_keys", "method", "mode", "seed", "train_cases", "out", "name", "resume"),
    "clusters",  # says how features are looked at, and decides no score
    *("allow_leakage", "leakage"),  # follow from the weights
)
"""Settings that differ between the two sides of a comparison, or its seeds, by design."""
FREE = (
    *("device", "accelerator", "cache_gigabytes", "checkpoint_every", "log_every", "clusters", "workers"),
    *("val_cases", "test_cases"),
)
"""Settings, by the last or the first part of their names, that decide nothing about a run's figures."""
LABELS = "labels"
NOT_RECORDED = "not recorded"


def deciding(config: Mapping[str, Any], by_design: Sequence[str] = ()) -> dict[str, str]:
    """The settings that decide a run's figures, as text, nested names joined by dots.

    `labels` is the number of labelled cases, also where the run was told to take all of them.

    Args:
        config: a record's.
        by_design: more settings that may differ.
    """
    found = {}
    for name, value in flat_settings(config).items():
        first, last = name.split(".")[0], name.split(".")[-1]
        if first not in (*EXPECTED_TO_DIFFER, *FREE) and last not in FREE and name not in by_design:
            found[name] = json.dumps(value, default=str).strip('"').replace("null", "none")
    count = labels_of(config)
    if LABELS not in by_design and (count is not None or LABELS in config):
        found[LABELS] = "all" if count is None else str(count)
    return found


def labels_of(config: Mapping[str, Any]) -> int | None:
    """How many labelled cases a transfer run learnt from, or None where its record doesn't say."""
    drawn, cases = config.get(LABELS), config.get("train_cases")
    if isinstance(drawn, int):
        return drawn
    return len(cases) if isinstance(cases, list) else None


def told_apart(settings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of each run's settings, those that tell it apart from another.

    A record made before a setting was there lacks it. Where all others agree, so will that run, which had what is
    now the default; where they don't, it stands by itself.
    """
    names = sorted({name for one in settings for name in one})
    values = {name: {one[name] for one in settings if name in one} for name in names}
    varying = [name for name in names if len(values[name]) > 1]
    return [{name: one.get(name, NOT_RECORDED) for name in varying} for one in settings]


def not_in_all(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings that some of the runs record and others don't."""
    return sorted({name for one in settings for name in one if not all(name in other for other in settings)})


def differing(settings: Iterable[Mapping[str, str]]) -> list[str]:
    """The names of the settings in which runs are not alike, or which one of them lacks."""
    flat = list(settings)
    names = sorted({name for one in flat for name in one})
    return [name for name in names if len({one.get(name) for one in flat}) > 1]


def usual(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The value that more of the runs record than any other, for each setting that has one."""
    found = {}
    for name in sorted({name for one in settings for name in one}):
        counts = Counter(one[name] for one in settings if one.get(name, NOT_RECORDED) != NOT_RECORDED).most_common(2)
        if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            found[name] = counts[0][0]
    return found


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
