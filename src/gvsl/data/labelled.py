"""Pairs of labelled cases, for a method that may learn from some labels."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gvsl.cases import HELD_OUT
from gvsl.data.crop import Shape, centre_crop, foreground_centre
from gvsl.data.subjects import subjects_to_pair
from gvsl.errors import UserError
from gvsl.store import Store, class_indices
from gvsl.text import few
from gvsl.types import LabelledPair

PAIR_STREAM = 0x6C6162656C73
"""Separates the random numbers of labelled pairs from those of other pairs."""


def check_labelled(store: Store, ids: Sequence[str], option: str) -> None:
    """Check that the labels of cases may be learnt from: two or more labelled cases of `train`, none held out.

    Args:
        store: of the cases.
        ids: of the cases.
        option: that names them, for the message.

    Raises:
        UserError: one is unknown, held out, of no labelled training case or named twice, or there is only one.
    """
    unknown = [case for case in ids if case not in store.cases]
    if unknown:
        raise UserError(f"{option} names {few(unknown)}, which {store.place} does not have: name cases of train")
    held_out = [case for case in ids if set(HELD_OUT) & set(store.cases[case].splits)]
    if held_out:
        raise UserError(f"{option} names {few(held_out)} of val or test, which is scored: name cases of train")
    others = [case for case in ids if "train" not in store.cases[case].splits or not store.has_label(case)]
    if others:
        raise UserError(f"{option} names {few(others)}, no labelled case of train: name labelled ones")
    if len(set(ids)) != len(ids) or len(ids) == 1:
        raise UserError(f"{option} is {', '.join(ids)}: name two cases or more, each once")


def labelled_pair(store: Store, ids: Sequence[str], crop: Shape, seed: int, number: int) -> LabelledPair:
    """Read the `number`-th pair of labelled cases of a run, about the centres of their foregrounds.

    They are of different subjects, unless all cases are of one.
    """
    order = np.random.default_rng([seed, PAIR_STREAM, number]).permutation(len(ids)).tolist()
    subjects = subjects_to_pair(store, ids)
    partner = next(index for index in order if subjects[index] != subjects[order[0]])
    (moving, moving_classes), (fixed, fixed_classes) = (_read(store, ids[index], crop) for index in (order[0], partner))
    return LabelledPair(moving, fixed, moving_classes, fixed_classes, 1 + len(store.label_names))


def _read(store: Store, case: str, crop: Shape) -> tuple[Tensor, Tensor]:
    """Return an image and its class indices, padded with air and background: (1, C, D, H, W) and (1, 1, D, H, W)."""
    stored = store.cases[case]
    values = sorted(store.label_names)
    image, label = (
        centre_crop(partial(read, case), stored.shape, crop, foreground_centre(stored))
        for read in (store.channels, store.label)
    )
    classes = class_indices(label, values, store.ignored)
    return torch.from_numpy(image)[None], torch.from_numpy(classes)[None, None]
