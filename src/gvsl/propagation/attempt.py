"""Labels carried onto one volume, with whether it matched and how long that took."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from gvsl.methods import GVSL
from gvsl.propagation.carry import Atlas, Carried, Teacher, carry, mean_similarity
from gvsl.propagation.match import Memory
from gvsl.settings.propagation import PropagationSettings


@dataclass(frozen=True)
class Attempt:
    """Labels carried onto a volume."""

    carried: Carried
    failed: bool
    """True if the labels, carried back, agree less than `least_dice`, or the image seems to be turned or mirrored."""
    similarity: float
    """Mean local similarity with the warped atlases, over the structures, 0 to 1."""
    seconds: float
    """Wall time."""


def attempt(
    method: GVSL,
    atlases: Sequence[Atlas],
    image: NDArray[Any],
    settings: PropagationSettings,
    templates: Sequence[Atlas] = (),
    teacher: Teacher | None = None,
    memory: Memory | None = None,
) -> Attempt:
    """Carry the labels of atlases onto a volume.

    Args:
        method: with a matching head, on the atlases' device.
        atlases: one or more.
        image: (C, D, H, W), float32 in [0, 1], prepared like the method's training data.
        settings: of `carry`.
        templates: of `carry`.
        teacher: of `carry`.
        memory: of `carry`.
    """
    began = time.perf_counter()
    volume = torch.from_numpy(image)[None].to(atlases[0].image.device)
    carried = carry(method, atlases, volume, settings, templates, teacher, memory)
    similarity = mean_similarity(carried)  # which waits for the device
    return Attempt(carried, not carried.matches(settings.least_dice), similarity, time.perf_counter() - began)
