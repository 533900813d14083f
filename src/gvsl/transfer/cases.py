"""The cases of a store as tensors, and random draws of labelled cases and of boxes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.errors import UserError
from gvsl.inferers.windows import random_box, windows
from gvsl.io import Box
from gvsl.propagation.pool import OWN, CarriedLabels
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store, class_indices

DRAW_LABELS, DRAW_ORDER = 0, 1
"""Random streams of a run's seed, one for each use, so that neither draw depends on the other."""
DRAW_EXAMPLE = 3
"""Another, distinct from that of `gvsl.transfer.augmentation` too."""


@dataclass(frozen=True)
class Cases:
    """Images of a store as tensors."""

    store: Store
    device: torch.device

    def shape(self, case: str) -> tuple[int, ...]:
        """Return the sides of a case in voxels."""
        return tuple(self.store.cases[case].shape)

    def image(self, case: str, box: Box | None = None) -> Tensor:
        """Return a case's image, or a box of it: (1, C, D, H, W), float32 in [0, 1]."""
        return torch.from_numpy(self.store.channels(case, box))[None].to(self.device)


@dataclass(frozen=True)
class LabelledCases(Cases):
    """Images and label maps of a store, for one list of structures."""

    labels: dict[int, str]
    """Label value to the structure's name, by rising value, without the background; class i is the i-th."""

    carried: CarriedLabels | None = None
    """Carried label maps to train on; nothing is scored by them."""

    @property
    def values(self) -> NDArray[np.int64]:
        """The label value of each class, the background's 0 first."""
        return np.array([0, *self.labels], dtype=np.int64)

    def target(self, case: str, box: Box | None = None) -> Tensor:
        """Return a case's class indices, or a box of them: (1, 1, D, H, W), int64, with IGNORED voxels."""
        classes = class_indices(self.store.label(case, box), list(self.labels), self.store.ignored)
        return torch.from_numpy(classes)[None, None].to(self.device)

    def training_example(self, case: str, box: Box | None, seed: int, number: int) -> tuple[Tensor, Tensor]:
        """Return the image that a run's `number`-th example is trained on, (1, C, D, H, W), and its target.

        They are a case's own, or of its examples with carried labels, if it has some, one drawn at random. The target
        is class indices, (1, 1, D, H, W), int64, or weighted votes, (1, classes, D, H, W), float32.
        """
        if self.carried is None or case not in self.carried.examples:
            return self.image(case, box), self.target(case, box)
        choices = self.carried.examples[case]
        atlas = choices[int(np.random.default_rng([seed, DRAW_EXAMPLE, number]).integers(len(choices)))]
        if self.carried.soft:
            target = torch.from_numpy(self.carried.votes(case, atlas, box))[None]
        else:
            target = torch.from_numpy(self.carried.classes(case, atlas, box).astype(np.int64))[None, None]
        if atlas == OWN:
            return self.image(case, box), target.to(self.device)
        image = torch.from_numpy(self.carried.image(case, atlas, box))[None]
        return image.to(self.device), target.to(self.device)


def draw_labelled(
    cases: Sequence[str], count: int | None, seed: int, classes: Mapping[str, int | None] | None = None
) -> list[str]:
    """Draw `count` of the cases at random, sorted; the draws of one seed are nested (10 labels include the 5).

    Args:
        cases: the ids, in any order.
        count: how many; None for all.
        seed: of the draw.
        classes: each case's class, to draw the classes in turn for as long as they have cases.

    Raises:
        UserError: there are fewer than `count`.
    """
    if count is None:
        return sorted(cases)
    if count > len(cases):
        raise UserError(f"labels is {count}, but the training split has {len(cases)} labelled cases: give fewer")
    order = np.random.default_rng([seed, DRAW_LABELS]).permutation(len(cases))
    drawn = [sorted(cases)[index] for index in order]
    if classes is not None:
        rounds: Counter[int | None] = Counter()
        turns = {}
        for case in drawn:
            rounds[classes[case]] += 1
            turns[case] = rounds[classes[case]]
        drawn.sort(key=lambda case: turns[case])  # a stable sort: the seed decides who is first in each round
    return sorted(drawn[:count])


def draw_boxes(
    ids: Sequence[str], shapes: Mapping[str, Sequence[int]], settings: TransferSettings
) -> Iterator[tuple[str, Box]]:
    """Yield a case and a box of it without end, going through all ids in a new random order each time.

    With a frozen backbone the boxes are the windows of prediction, so that their features can be reused; otherwise
    they lie anywhere. A volume that fits the crop is taken whole.
    """
    generator = np.random.default_rng([settings.seed, DRAW_ORDER])
    ids = sorted(ids)
    while True:
        for index in generator.permutation(len(ids)):
            case = ids[index]
            if settings.mode == "linear":
                choices = windows(shapes[case], settings.crop, settings.overlap)
                yield case, choices[generator.integers(len(choices))]
            else:
                yield case, random_box(shapes[case], settings.crop, generator)
