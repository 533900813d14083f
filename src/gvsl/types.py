"""The tensors that pass between data, backbones and methods, and the legend of their shapes.

Shapes: B batch, C channels, D H W the volume's axes in RAS+ order (indices grow to the patient's right, front and
head), d h w the same axes at the bottleneck.
"""

from typing import NamedTuple

from torch import Tensor


class LabelledPair(NamedTuple):
    """A pair of labelled volumes of different subjects."""

    moving: Tensor
    """(1, C, D, H, W), float32 in [0, 1]."""
    fixed: Tensor
    """(1, C, D, H, W), float32 in [0, 1]."""
    moving_classes: Tensor
    """(1, 1, D, H, W), class indices, 0 the background, `gvsl.cases.IGNORED` where the class is not known."""
    fixed_classes: Tensor
    """(1, 1, D, H, W), like `moving_classes`."""
    class_count: int
    """Number of classes, background included."""


class PairBatch(NamedTuple):
    """A batch of pairs of volumes of different subjects."""

    moving: Tensor
    """A: (B, C, D, H, W), float32 in [0, 1]."""
    fixed: Tensor
    """B: (B, C, D, H, W), float32 in [0, 1], of another subject than `moving` at the same index."""
    moving_ids: list[str]
    fixed_ids: list[str]
    labelled: LabelledPair | None = None
    """A pair whose labels may be learnt from, for a method that names labelled cases."""
    subjects: list[str] | None = None
    """Subjects of the moving volumes, then of the fixed ones; None if each id is a subject of its own."""


class Features(NamedTuple):
    """Output of a backbone for a batch of volumes."""

    global_: Tensor
    """Bottleneck features: (B, global_channels, d, h, w)."""
    local: Tensor
    """Features of the last layer: (B, local_channels, D, H, W)."""
