"""Templates: unlabelled volumes that labels pass through on their way from a few atlases to an image.

A match is wrong in places. Matches by way of other volumes are wrong in other places, so that their votes make up for
part of it, also where there is but one atlas.

Source: M. M. Chakravarty, P. Steadman, M. C. van Eede, R. D. Calcott, V. Gu, P. Shaw, A. Raznahan, D. L. Collins and
J. P. Lerch. Performing label-fusion-based segmentation using multiple automatically generated templates (MAGeT Brain).
Human Brain Mapping 34(10), 2013.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gvsl.errors import UserError
from gvsl.io import UnusableFile
from gvsl.methods import GVSL
from gvsl.progress import progress
from gvsl.propagation.carry import Atlas, Teacher, carry, mean_similarity
from gvsl.propagation.match import Memory
from gvsl.settings.propagation import PropagationSettings
from gvsl.splits import some_of

CANDIDATES = 3
"""Volumes that get labels for each template that is kept."""


def candidates(ids: Sequence[str], settings: PropagationSettings) -> list[str]:
    """Return the ids of the volumes that templates are chosen from, drawn at random if there are many."""
    return some_of(ids, CANDIDATES * settings.templates)


def choose_templates(
    method: GVSL,
    atlases: Sequence[Atlas],
    ids: Sequence[str],
    read: Callable[[str], Tensor],
    settings: PropagationSettings,
    teacher: Teacher | None = None,
    option: str = "--templates",
) -> list[Atlas]:
    """Carry labels onto volumes, and return those that matched best as further atlases.

    The best are those with the highest DSC of labels carried back, or without that check the highest similarity.

    Args:
        method: with a matching head, on the atlases' device.
        atlases: one or more, with true labels.
        ids: of `candidates`.
        read: returns a volume, (1, C, D, H, W), in [0, 1], on the atlases' device; one that is not usable is left out.
        settings: of `carry`.
        teacher: of `carry`.
        option: that sets their number, for the message.

    Returns:
        At most `settings.templates` volumes that matched, the best first; none holds the image of another or an atlas.

    Raises:
        UserError: templates are asked for, and no volume matches.
    """
    if not settings.templates:
        return []
    found: list[tuple[float, Atlas]] = []
    memory = Memory()
    with progress(len(ids), "choosing templates", unit="volumes") as advance:
        for case in ids:
            image = _usable(read, case)
            voters = [*atlases, *(template for _, template in found)]
            if image is not None and len(other_than(image, voters)) == len(voters):
                carried = carry(method, atlases, image, settings, teacher=teacher, memory=memory)
                worth = mean_similarity(carried) if carried.reverse_dice is None else carried.reverse_dice
                if carried.matches(settings.least_dice):
                    found.append((worth, replace(atlases[0], id=case, image=image, classes=carried.classes)))
                    found = sorted(found, key=lambda each: -each[0])[: settings.templates]
            advance()
    if not found:
        raise UserError(
            f"none of {len(ids)} volumes matches an atlas, so that none can be a template: check the matching with "
            f"`gvsl inspect`, or leave out {option}"
        )
    return [template for _, template in found]


def _usable(read: Callable[[str], Tensor], case: str) -> Tensor | None:
    """Return a volume, or None if it can't be used, which is told where its own labels are asked for."""
    try:
        return read(case)
    except UnusableFile:
        return None


def other_than(image: Tensor, voters: Sequence[Atlas]) -> list[Atlas]:
    """Return the voters but for those that hold this image, (1, C, D, H, W), under whatever id."""
    return [each for each in voters if each.image.shape != image.shape or not torch.equal(each.image, image)]
