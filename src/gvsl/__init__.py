"""Geometric visual similarity learning: pre-train 3D medical image networks by matching unlabelled scans."""

from typing import TYPE_CHECKING, Any

from gvsl.version import __version__

if TYPE_CHECKING:
    from gvsl.backbones.weights import load_backbone

__all__ = ["__version__", "load_backbone"]


def __getattr__(name: str) -> Any:
    """Import public names at their first use, so that `import gvsl` needs no torch."""
    if name == "load_backbone":
        from gvsl.backbones.weights import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
