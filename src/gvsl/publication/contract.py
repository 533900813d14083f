"""The configs that are published: of a run's own, only what is known to name no person, no case and no path."""

import re
from collections.abc import Mapping
from typing import Any

from gvsl.backbones.provenance import LABELS, labels_seen
from gvsl.backbones.weights import FORMAT, PretrainedBackbone
from gvsl.datasets.tasks import TASKS
from gvsl.methods import METHODS
from gvsl.preprocessing import PRESETS, preprocessing_values
from gvsl.records.record import RECORDED_PACKAGES

PARTS = ("encoder", "decoder")
MODES = ("scratch", "linear", "finetune")
HEAD_FIELDS = ("format", "task", "kind", "labels", "colours", "kernel", "crop", "overlap", "precision")
"""The fields of head.json, which `gvsl.transfer.weights` has checked."""
HASH = re.compile(r"[0-9a-f]{6,64}")
VERSION = re.compile(r"[0-9][\w.+]{0,30}")
WORD = re.compile(r"[a-z][a-z0-9-]{0,30}")


def published_config(backbone: PretrainedBackbone, size: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json to publish.

    Args:
        backbone: the loaded network.
        size: the entry `backbone` of its own config.
    """
    contract = preprocessing_values(backbone.preprocessing)
    if contract["preset"] not in PRESETS:  # of a backbone that was made in memory
        contract["preset"] = ""
    return {
        "format": FORMAT,
        "method": known_method(backbone.method),
        "backbone": {name: value for name, value in size.items() if _is_of_size(name, value)},
        "preprocessing": contract,
        "provenance": published_provenance(backbone.provenance),
    }


def published_provenance(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the origin of weights without the store's name, the machine, and all that is not known here."""
    kept: dict[str, Any] = {name: found[name] for name in ("steps", "seed") if type(found.get(name)) is int}
    store = found.get("store")
    if isinstance(store, dict) and HASH.fullmatch(str(store.get("hash"))):
        kept["store"] = {"hash": store["hash"]}
    versions = found.get("versions")
    if isinstance(versions, dict):
        known = {name: str(versions.get(name)) for name in ("python", *RECORDED_PACKAGES)}
        kept["versions"] = {name: text for name, text in known.items() if VERSION.fullmatch(text)}
    if isinstance(found.get("pretrained"), list):
        kept["pretrained"] = [part for part in PARTS if part in found["pretrained"]]
    if found.get("mode") in MODES:
        kept["mode"] = found["mode"]
    seen = labels_seen(found)  # of all that came before too, since names of one stage would stand for another's
    if seen is None:
        kept[LABELS] = None
    elif seen:  # how many, so that a comparison over few labels refuses them
        kept[LABELS] = {f"case {number}": "not published" for number in range(1, 1 + len(seen))}
    elif LABELS in found:
        kept[LABELS] = {}
    if isinstance(found.get("weights"), dict):
        kept["weights"] = published_provenance(found["weights"])
    return kept


def published_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head.json to publish, of a run's own."""
    kept = {name: config[name] for name in HEAD_FIELDS if name in config}
    if kept.get("task") not in TASKS:
        kept["task"] = kept.get("kind", "segmentation")
    return kept


def known_method(name: str) -> str:
    """Return the name of a method of gvsl, `scratch` or `supervised`; `unknown` for any other."""
    return name if name in METHODS or name in ("scratch", "supervised") else "unknown"


def _is_of_size(name: str, value: Any) -> bool:
    """Return True for an entry that says how large a backbone is, or which one it is."""
    if name == "name":
        return isinstance(value, str) and WORD.fullmatch(value) is not None
    if name == "blocks":
        return isinstance(value, list) and all(type(count) is int for count in value)
    return WORD.fullmatch(name.replace("_", "-")) is not None and type(value) is int
