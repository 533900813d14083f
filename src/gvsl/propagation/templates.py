"""Templates: unlabelled volumes that labels pass through on their way from a few atlases to an image.

A match is wrong in places. Matches by way of other volumes are wrong in other places, so that their votes make up for
part of it, also where there is but one atlas.

Source: M. M. Chakravarty, P. Steadman, M. C. van Eede, R. D. Calcott, V. Gu, P. Shaw, A. Raznahan, D. L. Collins and
J. P. Lerch. Performing label-fusion-based segmentation using multiple automatically generated templates (MAGeT Brain).
Human Brain Mapping 34(10), 2013.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gvsl.io import UnusableFile
from gvsl.methods import GVSL
from gvsl.propagation.carry import Atlas, Teacher, carry, mean_similarity
from gvsl.propagation.match import Memory
from gvsl.settings.propagation import PropagationSettings

CANDIDATES = 3
"""Volumes that get labels for each template that is kept."""


def candidates(ids: Sequence[str], settings: PropagationSettings) -> list[str]:
    """Return the ids of the volumes that templates are chosen from, drawn at random if there are many."""
    return drawn(ids, CANDIDATES * settings.templates)


def choose_templates(
    method: GVSL,
    atlases: Sequence[Atlas],
    ids: Sequence[str],
    read: Callable[[str], Tensor],
    settings: PropagationSettings,
    advance: Callable[[], None] = lambda: None,
    teacher: Teacher | None = None,
) -> list[Atlas]:
    """Carry labels onto volumes, and return those that matched best as further atlases.

    The best are those with the highest DSC of labels carried back, or without that check the highest similarity.

    Args:
        method: with a matching head, on the atlases' device.
        atlases: one or more, with true labels.
        ids: of `candidates`.
        read: returns a volume, (1, C, D, H, W), in [0, 1], on the atlases' device; one that is not usable is left out.
        settings: of `carry`.
        advance: called after each volume.
        teacher: of `carry`.

    Returns:
        At most `settings.templates` volumes that matched, the best first; none holds the image of another or an atlas.
    """
    found: list[tuple[float, Atlas]] = []
    memory = Memory()
    for case in ids:
        try:
            image = read(case)
        except UnusableFile:
            advance()
            continue  # which is told where its own labels are asked for
        if len(other_than(image, [*atlases, *(each for _, each in found)])) < len(atlases) + len(found):
            advance()
            continue
        carried = carry(method, atlases, image, settings, teacher=teacher, memory=memory)
        worth = mean_similarity(carried) if carried.reverse_dice is None else carried.reverse_dice
        if carried.matches(settings.least_dice):
            found.append((worth, Atlas(case, image, carried.classes, atlases[0].count)))
            found = sorted(found, key=lambda each: -each[0])[: settings.templates]
        advance()
    return [template for _, template in found]


def other_than(image: Tensor, voters: Sequence[Atlas]) -> list[Atlas]:
    """Return the voters but for those that hold this image, (1, C, D, H, W), under whatever id."""
    return [each for each in voters if each.image.shape != image.shape or not torch.equal(each.image, image)]


def drawn(ids: Sequence[str], count: int | None) -> list[str]:
    """Return at most `count` ids, drawn at random and sorted: the same ones in every call, whatever their order.

    >>> drawn(["c", "a", "b"], 2)
    ['b', 'c']
    """
    if count is None or count >= len(ids):
        return sorted(ids)
    return sorted(sorted(ids, key=lambda case: hashlib.sha256(case.encode()).digest())[:count])
