"""What any method's own step says of volumes that it never saw."""

from collections.abc import Sequence

import numpy as np
import torch

from gvsl.data import read_crop
from gvsl.data.crop import Shape
from gvsl.methods import Method
from gvsl.store import Store
from gvsl.types import PairBatch

PAIRS = 4
"""Pairs a step."""


@torch.no_grad()
def pretext_scores(method: Method, store: Store, ids: Sequence[str], crop: Shape) -> dict[str, float]:
    """The mean of what the method logs on held-out volumes, each drawn upon twice; the same at every call.

    Nothing is trained. What describes the embeddings of training, and the loss, which has another name beside it,
    are left out.
    """
    rows: list[dict[str, float]] = []
    shifted = [*ids[1:], *ids[:1]]
    for number, first in enumerate(range(0, len(ids), PAIRS)):
        moving, fixed = (list(names[first : first + PAIRS]) for names in (shifted, ids))
        images = [torch.stack([read_crop(store, case, crop) for case in side]) for side in (moving, fixed)]
        batch = PairBatch(images[0], images[1], moving, fixed)
        terms = method.training_step(batch, torch.Generator().manual_seed(number))
        rows.append({name: float(value) for name, value in terms.items() if name != "loss"})
    names = [name for name in rows[0] if not name.startswith("embedding_")] if rows else []
    return {name: float(np.mean([row[name] for row in rows])) for name in names}
