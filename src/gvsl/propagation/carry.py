"""Carry the labels of atlases onto an image by matching each with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.cases import IGNORED
from gvsl.geometry import spatial_shape, warp
from gvsl.methods import GVSL
from gvsl.metrics.dice import dice_per_structure
from gvsl.propagation.match import Matched, Memory, Shape, centred, match_volumes, uncentred
from gvsl.propagation.pose import ISOTROPIC, turned
from gvsl.propagation.vote import fuse
from gvsl.settings.propagation import PropagationSettings


@dataclass(frozen=True)
class Atlas:
    """A labelled volume."""

    id: str
    image: Tensor
    """(1, C, D, H, W), in [0, 1], prepared like the method's training data."""
    classes: Tensor
    """(1, 1, D, H, W), class indices, 0 the background, `IGNORED` where the class is not known."""
    count: int
    """Number of classes of all atlases, background included."""
    voxel: tuple[float, float, float] = ISOTROPIC
    """Edges of a voxel along each axis, in mm; those of the image that it is matched with are the same."""

    @property
    def known(self) -> Tensor:
        """True where the class is known, (1, 1, D, H, W)."""
        return self.classes != IGNORED

    def to(self, device: torch.device) -> "Atlas":
        """Return the atlas on a device."""
        return replace(self, image=self.image.to(device), classes=self.classes.to(device))


CHECK = "labels carried back by the atlases alone, poses and mirror images in mm; features of each volume by itself"
"""What `Carried.matches` is decided by, for the identity of kept results: another text once that changes."""
NO_VOTE = "no vote"
"""What an atlas says where its labels are ignored, for the same identity."""


def decided_by(atlases: Sequence[Atlas], settings: PropagationSettings) -> dict[str, str]:
    """Return what decides carried labels besides atlases and settings, for the identity of kept results."""
    found = {"check": CHECK} if settings.least_dice else {}
    if not all(bool(atlas.known.all()) for atlas in atlases):  # other results are those of an earlier gvsl
        found["ignored"] = NO_VOTE
    return found


class Warped(NamedTuple):
    """An atlas on the grid of an image that it was matched with; its image and labels fit whatever the match."""

    image: Tensor
    """(1, 1, D, H, W); outside the atlas its border is repeated."""
    labels: Tensor
    """Class probabilities, (1, classes, D, H, W), background outside the atlas."""
    known: Tensor
    """(1, 1, D, H, W), True where the atlas has a known class: not outside of it, nor where its labels are ignored."""
    votes: Tensor
    """(1, 1, D, H, W), True where the atlas votes: all but where its labels are ignored."""
    affine: Tensor | None = None
    """(1, 3, D, H, W), in voxels about both centres: the network's affine part of the match."""


class Teacher(NamedTuple):
    """A segmenter whose class probabilities are averaged with the votes of atlases and templates."""

    segment: Callable[[Tensor], Tensor]
    """Returns the class probabilities, (1, classes, D, H, W), of an image, (1, C, D, H, W)."""
    share: float = 0.5
    """Its weight in the average, to 1."""


@dataclass(frozen=True)
class Carried:
    """Labels carried onto an image, on its grid."""

    votes: Tensor
    """(1, classes, D, H, W), not negative, summing to 1 at each voxel, or to 0 where no voter knows the class."""
    similarity: Tensor
    """(1, 1, D, H, W), in [0, 1]: squared local correlation of the image with the warped atlases."""
    reverse_dice: float | None = None
    """DSC of an atlas's labels with those carried back onto it; None if nothing was carried back."""
    checked_on: str = ""
    """Id of that atlas."""
    turned: str = ""
    """How the image seems to be turned or mirrored against that atlas, as of `gvsl.propagation.pose`; else empty."""

    @property
    def classes(self) -> Tensor:
        """The class with most votes at each voxel, (1, 1, D, H, W), `IGNORED` where no voter knows it."""
        return self.shown.where(self.votes.sum(dim=1, keepdim=True) > 0, IGNORED)

    @property
    def shown(self) -> Tensor:
        """The same with background instead of `IGNORED`, as label maps and scores have it."""
        return self.votes.argmax(dim=1, keepdim=True)

    def matches(self, least_dice: float) -> bool:
        """Return False if the labels, carried back, agree too little, or the image seems to be turned or mirrored."""
        return not self.turned and (self.reverse_dice is None or self.reverse_dice >= least_dice)

    @property
    def confidence(self) -> Tensor:
        """The winning votes times the similarity, (1, 1, D, H, W), in [0, 1]."""
        return self.votes.amax(dim=1, keepdim=True) * self.similarity


@torch.no_grad()
def carry(
    method: GVSL,
    atlases: Sequence[Atlas],
    image: Tensor,
    settings: PropagationSettings | None = None,
    templates: Sequence[Atlas] = (),
    teacher: Teacher | None = None,
    memory: Memory | None = None,
) -> Carried:
    """Carry the labels of atlases onto an image.

    Each atlas is matched with the image by the method, and refined; `gvsl.propagation.vote.fuse` combines their labels.
    Unless `least_dice` is 0, the result is carried back onto the atlas that voted most, and compared with its labels
    (reverse classification: V. V. Valindria et al. Reverse Classification Accuracy. IEEE TMI 36(8), 2017); and their
    poses are compared (`gvsl.propagation.pose`), mirror images among them.

    Args:
        method: with a matching head.
        atlases: one or more, of any sizes.
        image: (1, C, D, H, W), in [0, 1], of any size.
        settings: by default `PropagationSettings()`.
        templates: further voters with labels that were carried themselves (`gvsl.propagation.templates`); the check is
            made without them.
        teacher: a segmenter whose probabilities are averaged with the votes.
        memory: of the same method, for calls that share atlases or templates.

    Raises:
        ValueError: there is no atlas, or the method has no matching head.
    """
    settings = settings or PropagationSettings()
    if not atlases:
        raise ValueError("there is no atlas to carry labels from")
    memory = memory or Memory()
    warped = [warped_onto(method, each, image, settings, memory) for each in (*atlases, *templates)]
    return combine(method, atlases, warped, image, settings, teacher, memory)


@torch.no_grad()
def combine(
    method: GVSL,
    atlases: Sequence[Atlas],
    warped: Sequence[Warped],
    image: Tensor,
    settings: PropagationSettings,
    teacher: Teacher | None = None,
    memory: Memory | None = None,
) -> Carried:
    """Combine labels that were warped onto an image, those of atlases first, and check the match, as `carry` does."""
    taught = None if teacher is None else (teacher.segment(image), teacher.share)
    carried = _fused(warped, image, settings, taught)
    if not settings.least_dice:
        return carried
    # Templates vote, but it is the atlases' match that is checked: through templates labels lead back less exactly.
    own = warped[: len(atlases)]
    judged = carried if len(own) == len(warped) else _fused(own, image, settings, taught)
    best = max(range(len(atlases)), key=lambda number: _agreement(own[number].labels[0], judged))
    return replace(
        carried,
        reverse_dice=carried_back(method, judged, image, atlases[best], settings, memory),
        checked_on=atlases[best].id,
        turned=turned(atlases[best].image, image, warped[best].affine, atlases[best].voxel),
    )


def _fused(
    warped: Sequence[Warped], image: Tensor, settings: PropagationSettings, taught: tuple[Tensor, float] | None
) -> Carried:
    """Return the votes of warped labels, averaged with a teacher's probabilities by their share if there are any."""
    images, labels, known = (
        torch.cat(parts) for parts in zip(*((each.image, each.labels, each.votes) for each in warped), strict=True)
    )
    votes, similarity = fuse(image, images, labels, settings.voting, settings.sharpness, known)
    if taught is not None:
        votes = votes.where(known.any(dim=0), taught[0]).lerp(*taught)  # a teacher knows everywhere
    return Carried(votes, similarity)


def carried_back(
    method: GVSL,
    carried: Carried,
    image: Tensor,
    atlas: Atlas,
    settings: PropagationSettings,
    memory: Memory | None = None,
) -> float:
    """Return the DSC of an atlas's labels with those that an image, labelled by `carry`, carries back onto it."""
    labelled = Atlas("", image, carried.classes, atlas.count)
    labels = warped_onto(method, labelled, atlas.image, settings, memory).labels
    scores = dice_per_structure(labels.argmax(dim=1, keepdim=True), atlas.classes, atlas.count)
    present = [score for number, score in enumerate(scores, start=1) if bool((atlas.classes == number).any())]
    return float(np.mean(present)) if present else 0.0


def warped_onto(
    method: GVSL, atlas: Atlas, image: Tensor, settings: PropagationSettings, memory: Memory | None = None
) -> Warped:
    """Return an atlas warped onto an image."""
    return warped_by(match_volumes(method, atlas.image, image, settings, memory), atlas, spatial_shape(image))


def warped_by(matched: Matched, atlas: Atlas, wanted: Shape) -> Warped:
    """Return an atlas warped as it was matched with an image of a shape, (D, H, W)."""
    warped = labels_by(matched.dvf, atlas, matched.moving, wanted)
    return warped._replace(affine=uncentred(matched.affine, wanted))


def labels_by(dvf: Tensor, atlas: Atlas, moving: Tensor, wanted: Shape) -> Warped:
    """Return an atlas warped by a field and cut to a shape.

    Args:
        dvf: (1, 3, D, H, W), in voxels, on a padded grid.
        atlas: of the labels.
        moving: its image, padded to that grid by `centred`.
        wanted: (D, H, W) of the image that it is warped onto, before its padding.
    """
    shape = spatial_shape(moving)
    classes = centred(atlas.classes, shape, edge=False)[:, 0].long()
    shares = functional.one_hot(classes - IGNORED, atlas.count - IGNORED).movedim(-1, 1).float()
    parts = warp(torch.cat([shares, centred(atlas.known, shape, edge=False)], dim=1), dvf)
    ignored, labels, known = parts[:, :1], parts[:, 1:-1], parts[:, -1:] > 0.5
    labels[:, :1] += 1 - ignored - labels.sum(dim=1, keepdim=True)  # outside the atlas is background
    labels = labels / (1 - ignored).clamp(min=0.5)  # where more is ignored it has no vote
    warped = warp(moving, dvf, padding="border"), labels, known, ignored <= 0.5
    return Warped(*(uncentred(each, wanted) for each in warped))


def mean_similarity(carried: Carried) -> float:
    """Return the mean local similarity over the carried structures, 0 without any."""
    structures = carried.votes[:, 1:].sum(dim=1, keepdim=True)
    weight = float(structures.sum())
    return float((carried.similarity * structures).sum()) / weight if weight else 0.0


def _agreement(labels: Tensor, carried: Carried) -> float:
    """Return how far an atlas's labels, (classes, D, H, W), agree with the fused ones on the structures."""
    return float((labels[1:] * carried.votes[0, 1:]).sum())
