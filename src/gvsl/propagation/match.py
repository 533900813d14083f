"""Match two prepared volumes of any sizes, for `gvsl propagate` and `gvsl register` alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from gvsl.geometry import spatial_shape
from gvsl.io import UnusableFile
from gvsl.methods import GVSL
from gvsl.refinement import RefinementSettings, refine
from gvsl.settings.propagation import MatchSettings

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Matched:
    """Two volumes laid on each other, centre on centre, and the field that aligns them."""

    moving: Tensor
    """(1, C, D, H, W), padded by `centred`."""
    fixed: Tensor
    """(1, C, D, H, W), padded by `centred`."""
    dvf: Tensor
    """(1, 3, D, H, W), in voxels, on the padded grid."""
    affine: Tensor
    """(1, 3, D, H, W), in voxels: the part of the field that is an affine map; zeros without the network."""


@dataclass(frozen=True)
class Memory:
    """The network's global features of volumes that are matched several times, forgotten with the volumes themselves.

    It serves one method, whose weights stay as they are.
    """

    kept: WeakIdKeyDictionary = field(default_factory=WeakIdKeyDictionary)
    """A volume to the features by the shape that it was padded to."""

    def features(self, method: GVSL, volumes: Sequence[Tensor], shape: Shape) -> list[Tensor]:
        """Return the features of volumes, (1, C, D, H, W), padded to a shape."""
        for volume in volumes:
            known = self.kept.setdefault(volume, {})
            if shape not in known:  # each by itself: in a batch they round otherwise, and depend on what came before
                known[shape] = method.backbone(centred(volume, shape)).global_
        return [self.kept[each][shape] for each in volumes]


@torch.no_grad()
def match_volumes(
    method: GVSL, moving: Tensor, fixed: Tensor, settings: MatchSettings, memory: Memory | None = None
) -> Matched:
    """Match a moving volume with a fixed one by a method, and refine the field on the pair.

    Args:
        method: with a matching head.
        moving: (1, C, D, H, W), in [0, 1], prepared like the method's training data.
        fixed: the same, of any other size.
        settings: start and steps of the refinement.
        memory: of the same method, where volumes are matched several times.

    Raises:
        UnusableFile: the network's field is not finite.
        UserError: the match starts from the affine part, and there is no affine head.
        ValueError: the method has no matching head.
    """
    method.check_start(settings.start)
    volumes = moving, fixed
    shape = common_shape([spatial_shape(moving), spatial_shape(fixed)], 2 ** (method.backbone.levels - 1))
    moving, fixed = centred(moving, shape), centred(fixed, shape)
    if settings.start == "field":
        found = method.match(moving, fixed)
        start, affine = found.dvf, found.affine
    elif settings.start == "affine":  # which takes neither local features nor the deformable head
        if method.matching is None:
            raise ValueError("this method was built without matching")
        ours, theirs = (memory or Memory()).features(method, volumes, shape)
        start = affine = method.matching.affine_part(ours, theirs, shape)
    else:  # the control needs no pass of the network
        start = affine = moving.new_zeros(len(moving), 3, *shape)
    if not bool(torch.isfinite(start).all()):
        raise UnusableFile("the network's field for it is not finite: are the weights damaged?")
    dvf = refine(start, moving, fixed, RefinementSettings(steps=settings.refine)) if settings.refine else start
    return Matched(moving, fixed, dvf, affine)


def common_shape(shapes: Sequence[Shape], multiple: int) -> Shape:
    """Return the smallest shape that holds all of these and whose sides are multiples of a number.

    >>> common_shape([(35, 51, 35), (36, 48, 30)], 8)
    (40, 56, 40)
    """
    first, second, third = (-(-max(sides) // multiple) * multiple for sides in zip(*shapes, strict=True))
    return first, second, third


def centred(volumes: Tensor, shape: Shape, *, edge: bool = True) -> Tensor:
    """Pad volumes on both sides to a shape, (B, C, D, H, W), by repeating the border, or with 0."""
    padding: list[int] = []
    for have, wanted in zip(reversed(volumes.shape[2:]), reversed(shape), strict=True):
        before = margin(have, wanted)
        padding += [before, wanted - have - before]
    return functional.pad(volumes.float(), padding, mode="replicate" if edge else "constant")


def uncentred(volumes: Tensor, shape: Shape) -> Tensor:
    """Cut volumes that `centred` padded to their shape before."""
    for axis, wanted in enumerate(shape, start=2):
        volumes = volumes.narrow(axis, margin(wanted, volumes.shape[axis]), wanted)
    return volumes


def margin(have: int, wanted: int) -> int:
    """Return the number of voxels that `centred` puts before a side of `have` voxels, to make it `wanted`."""
    return (wanted - have) // 2
