"""Where a backbone's weights come from, for a run's record."""

from typing import Any

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import PretrainedUNet3D
from gvsl.transfer.leakage import labels_seen


def method_of(backbone: UNet3D) -> str:
    """Return the method that pre-trained a backbone, or `scratch`."""
    return backbone.method if isinstance(backbone, PretrainedUNet3D) else "scratch"


def pretraining_of(backbone: UNet3D) -> dict[str, Any]:
    """Return steps, seed, store's hash and cases of labels seen of a backbone's pre-training, as far as recorded."""
    if not isinstance(backbone, PretrainedUNet3D):
        return {}
    past, store = backbone.provenance, backbone.provenance.get("store")
    found = {"steps": past.get("steps"), "seed": past.get("seed")}
    found["store"] = store.get("hash") if isinstance(store, dict) else None
    found["labels"] = list(labels_seen(backbone)) or None
    return {name: value for name, value in found.items() if value is not None}
