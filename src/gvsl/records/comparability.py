"""Which runs may be compared, and if not, why: the settings that decide a result, from a run's own record."""

import json
import re
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from gvsl.records.record import RunRecord
from gvsl.settings import NO_RESULT, current_names, effect_of, flatten

HASH_DIGITS = 6
"""Digits of a hash in messages."""
LABELS = "labels"
"""The number of labelled training cases, as drawn."""
NOT_RECORDED = "not recorded"
"""The value of a setting that a record lacks and that `ADDED_LATER` doesn't know."""
EARLIER_EFFECTS: Mapping[str, str] = {
    "backbone.checkpoint_activations": "nothing",
    "data.workers": "nothing",
    "data.on_device": "nothing",
    "trainer.device": "nothing",
    "trainer.checkpoint_every": "nothing",
    "trainer.log_every": "nothing",
    "trainer.loggers": "nothing",
    "device": "nothing",
    "cache_gigabytes": "nothing",
    "checkpoint_every": "nothing",
    "allow_preprocessing_mismatch": "nothing",
    "allow_leakage": "nothing",
    "clusters": "extras",
    "mode": "arm",
    "seed": "arm",
}
"""Effects of the settings in records that don't carry them, written before 2026-11-27."""
ADDED_LATER: Mapping[str, Any] = {
    "augment.rate": 0.0,
    "carry": "none",
    "carrying.images": "own",
    "carrying.fields": "matched",
    "carrying.appearance": 0.0,
    "carrying.targets": "hard",
    "carrying.templates": 0,
    "carrying.sharpness": 4.0,
    "carrying.teacher": None,
    "carrying.teacher_share": 0.5,
    "patience": None,
    "ema_decay": 0.0,
    "whiten": False,
    "data.order": "independent",
    "data.pairing": "whole",
    "data.jitter": 0.05,
    "levels": 5,
    "backbone.levels": 5,
    "backbone.name": "unet",
    "backbone.blocks": [],
    "backbone.max_width": 320,
    "pretext.affine_head": "pooled",
    "pretext.deformable_head": "direct",
    "pretext.symmetric": False,
    "pretext.affine_ncc_weight": 0.0,
    "pretext.ncc_sigma": 0.0,
    "pretext.damage": "appearance",
    "pretext.independent_poses": False,
    "pretext.labels": [],
    "pretext.labels_weight": 1.0,
    "trainer.nodes": 1,
}
"""Values that held before these settings existed, for records without them."""
AUGMENT = "augment."
"""The group of settings of which only the rate decides where that is 0."""
CARRY, NOT_CARRIED = "carry", "none"
"""In a record's config: the method that carried labels to train on, or that none did."""
NO_CARRY: Mapping[str, Any] = {CARRY: NOT_CARRIED}
"""What a run without carried labels records."""
CARRY_LABELS = "carry_labels"
"""In a record's config: the cases whose labels the network that carried has seen; none if the record lacks it."""
CARRYING = "carrying."
"""The group of settings that decide where labels are carried."""
TEACHER = "carrying.teacher"
"""The segmenter that votes on carried labels."""
PRETEXT_LABELS = "pretext.labels"
"""The cases whose labels a pre-training sees; with a suffix, their weight."""
CARRIED = "carried"
"""The mode of a run that trains nothing: labels are carried onto the cases that are scored."""
PRETRAINING = ("data.", "backbone.levels", "pretext.", "trainer.")
"""The settings and groups of settings that only pre-trainings have."""
NETWORK = ("backbone.name", "backbone.blocks", "backbone.max_width")
"""Which network the backbone is, of pre-trainings and transfers; `ADDED_LATER` has what it was without a choice."""
NODES = "trainer.nodes"
"""The number of machines of a pre-training."""
SHARING = ("data.batch_size", "trainer.devices", NODES)
"""Settings whose product is the number of pairs of a step: pairs in a process, processes on a machine, machines."""
MATCHING = "pretext.matching"
"""A setting that all records of gvsl and its ablations have; the pretext settings of `ADDED_LATER` are theirs."""
NOT_SETTINGS = (
    # of the arm that carries labels
    *("carry_run", "carry_leakage", "teacher_leakage", "carried", "carry_failed", "carry_templates"),
    *("method", "weights", "weights_keys"),  # the arm of a comparison
    *("task", "train_cases", "val_cases", "test_cases", "leakage"),  # follow from the store, the labels and the weights
    *("reason", "traceback"),  # of a run that failed
)
"""Entries of a record's config that are no settings of the run."""


class Change(NamedTuple):
    """A setting in which two runs differ; `NOT_RECORDED` where one of them doesn't record it."""

    name: str
    earlier: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} {_shorten(_text(self.earlier))}, now {_shorten(_text(self.now))}"


def changes(
    earlier: Mapping[str, Any], now: Mapping[str, Any], effects: Mapping[str, str], *, by_volume: bool = False
) -> list[Change]:
    """Return the differences between two configs that keep a run from being resumed, sorted by name.

    Args:
        earlier: of the run that was stopped, nested or flat.
        now: of the run that is to resume it, nested or flat.
        effects: of the settings (`gvsl.settings.effects_of`); those without effect on the result may differ.
        by_volume: a step may be shared out to another number of processes, if it keeps its number of pairs.
    """
    before, after = (without_moot({**ADDED_LATER, **_plain(config)}) for config in (earlier, now))
    if by_volume and _pairs_of_step(before) == _pairs_of_step(after):
        after |= {name: before[name] for name in SHARING if name in before}
    return [
        Change(name, before.get(name, NOT_RECORDED), after.get(name, NOT_RECORDED))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and effect_of(name, effects) not in NO_RESULT
    ]


def deciding(record: RunRecord) -> dict[str, str]:
    """Return the settings that must agree for two runs to be compared, as text by dotted name.

    Settings in which arms and seeds differ by design are left out. `labels` is the number of labelled training cases,
    also where all of them were taken, or "all" if the record does not list them.
    """
    effects = record.effects or EARLIER_EFFECTS
    recorded = {name: value for name, value in flatten(record.config).items() if name not in NOT_SETTINGS}
    settings = {
        name: value
        for name, value in without_moot(_before_they_existed(record.kind, recorded) | recorded).items()
        if name != LABELS and effect_of(name, effects) is None
    }
    if record.config.get("mode") == CARRIED and record.config.get("weights") == "scratch":
        settings.pop(f"{CARRYING}start", None)  # the control has none, in which it differs by design
    count = labels_of(record)
    if settings.get(TEACHER) is not None:
        settings[TEACHER] = "a run of the same labels"  # each draw has its own
    if settings.get(CARRY, NOT_CARRIED) != NOT_CARRIED:
        settings[CARRY_LABELS] = describe_seen(record, settings.get(CARRY_LABELS))
    found = {name: _text(value) for name, value in settings.items()}
    if count is not None or LABELS in record.config:
        found[LABELS] = "all" if count is None else str(count)
    return found


def describe_seen(record: RunRecord, seen: Any) -> str:
    """Describe the labels that a network saw before a transfer, so that draws of other labelled cases agree.

    Args:
        record: of the transfer.
        seen: ids of cases, or a text if they are not known; none where a record has nothing.
    """
    if not seen:
        return "none"
    if not isinstance(seen, list | tuple):
        return str(seen)
    ids, own = {str(case) for case in seen}, record.config.get("train_cases")
    if isinstance(own, list) and ids <= {str(case) for case in own}:
        return f"{len(ids)} of its own labelled cases"
    return ", ".join(sorted(ids))


def _before_they_existed(kind: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `ADDED_LATER` that apply to a run; none if it recorded no settings, as one that failed."""
    if recorded.keys() <= {LABELS, "seed", "mode"}:
        return {}
    pretrains = kind == "pretrain"
    found = {
        name: value
        for name, value in ADDED_LATER.items()
        if name in NETWORK or name.startswith(PRETRAINING) == pretrains
    }
    if recorded.get("mode") == CARRIED:
        found.pop("levels", None)  # it depended on the weights, and was not recorded
    if MATCHING not in recorded:
        found = {name: value for name, value in found.items() if not name.startswith("pretext.")}
    return found


def _pairs_of_step(settings: Mapping[str, Any]) -> int | None:
    """Return the number of pairs of a step, by flat settings; None if one is no number."""
    factors = [settings.get(name, 1) for name in SHARING]
    return prod(factors) if all(isinstance(factor, int) for factor in factors) else None


def drew_by_process(config: Mapping[str, Any]) -> bool:
    """Return True for a pre-training in several processes by a gvsl of before there were nodes.

    Each of its processes drew random numbers of its own.
    """
    found = _plain(config)
    return NODES not in found and found.get("trainer.devices", 1) != 1


def labels_of(record: RunRecord) -> int | None:
    """Return the number of labelled cases that a transfer run was trained on; None if its record doesn't state it."""
    drawn, cases = record.config.get(LABELS), record.config.get("train_cases")
    if isinstance(cases, list):
        return len(cases)
    return drawn if isinstance(drawn, int) else None


def differences(first: RunRecord, second: RunRecord) -> list[Change]:
    """Return why two runs may not be compared: the deciding settings in which both records disagree.

    A setting that only one of them records is taken to agree.
    """
    one, other = deciding(first), deciding(second)
    return [
        Change(name, one[name], other[name]) for name in sorted(one.keys() & other.keys()) if one[name] != other[name]
    ]


def without_moot(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings without those that have no effect in this run.

    They are the ranges of an augmentation or of a carrying of labels that is off, the weight of labels that none are
    named for and, where nothing is trained, all settings of training. The names of a benchmark's runs depend on it.
    """
    found = dict(settings)
    if found.get("mode") == CARRIED:
        kept = ("mode", "seed", LABELS, "levels", "allow_preprocessing_mismatch", "allow_leakage", "device")
        return {name: value for name, value in found.items() if name in kept or name.startswith(CARRYING)}
    if found.get(f"{AUGMENT}rate") == 0:
        found = {
            name: value for name, value in found.items() if name == f"{AUGMENT}rate" or not name.startswith(AUGMENT)
        }
    if found.get(PRETEXT_LABELS) in ((), []):
        found.pop(f"{PRETEXT_LABELS}_weight", None)
    if found.get(CARRY) == NOT_CARRIED:
        found = {name: value for name, value in found.items() if not name.startswith(CARRYING)}
    return found


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config with today's names, of the types that JSON gives back."""
    plain: dict[str, Any] = json.loads(json.dumps(flatten(current_names(config)), default=str))
    return plain


def _shorten(text: str) -> str:
    """Return the first digits of a hash, and any other text as it is."""
    return text[:HASH_DIGITS] if re.fullmatch("[0-9a-f]{64}", text) else text


def _text(value: Any) -> str:
    return json.dumps(value, default=str).strip('"').replace("null", "none")
