"""Where a backbone's weights come from, for a run's record."""

from typing import Any

from gvsl.backbones import Backbone
from gvsl.backbones.provenance import NOT_KNOWN, labels_seen
from gvsl.backbones.weights import PretrainedBackbone

SCRATCH, SUPERVISED = "scratch", "supervised"


def method_of(backbone: Backbone) -> str:
    """Return the method that pre-trained a backbone, `scratch` for random weights, `supervised` for labels alone."""
    if not isinstance(backbone, PretrainedBackbone):
        return SCRATCH
    return SUPERVISED if backbone.method == SCRATCH else backbone.method


def pretraining_of(backbone: Backbone) -> dict[str, Any]:
    """Return steps, seed, store's hash and cases of labels seen of a backbone's pre-training, as far as recorded.

    Of labels, `not known` is recorded too: they count as none where nothing is.
    """
    if not isinstance(backbone, PretrainedBackbone):
        return {}
    past, store = backbone.provenance, backbone.provenance.get("store")
    found = {"steps": past.get("steps"), "seed": past.get("seed")}
    found["store"] = store.get("hash") if isinstance(store, dict) else None
    seen = labels_seen(past)
    found["labels"] = NOT_KNOWN if seen is None else list(seen) or None
    return {name: value for name, value in found.items() if value is not None}
