"""What the contrastive pretexts minimise: NT-Xent (SimCLR) and the negative cosine (SimSiam, BYOL)."""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(
    first: Tensor,
    second: Tensor,
    keys: Tensor,
    temperature: float,
    *,
    others: tuple[Tensor, Tensor, Tensor] | None = None,
    begin: int = 0,
) -> Tensor:
    """The normalised, temperature-scaled cross entropy of finding each view's twin among all views.

    For a view i with twin j: -log(exp(s_ij / t) / sum over k of exp(s_ik / t)), s the cosine; k runs over all views but
    i itself and, beside j, those of the same subject, which are no negatives. The mean over both views of all volumes.
    In float32 at least.

    Args:
        first: embeddings of one view of each volume, (N, d).
        second: of the other view, (N, d).
        keys: which subject each volume is of, (N,) integers.
        temperature: t.
        others: first, second and keys of all processes, (M, d), (M, d) and (M,), where there are several.
        begin: where this process's rows begin among those.

    Raises:
        ValueError: there is one subject alone, so no negative.
    """
    dtype = torch.promote_types(first.dtype, torch.float32)
    all_first, all_second, all_keys = (first, second, keys) if others is None else others
    if bool((all_keys == all_keys[0]).all()):
        raise ValueError("NT-Xent needs views of two subjects or more in a batch, and there is one")
    with torch.autocast(first.device.type, enabled=False):
        anchors = functional.normalize(torch.cat([first, second]).to(dtype), dim=1)
        candidates = functional.normalize(torch.cat([all_first, all_second]).to(dtype), dim=1)
        logits = anchors @ candidates.T / temperature
    count, total = len(first), len(all_first)
    place = torch.arange(count, device=first.device) + begin
    itself, twin = torch.cat([place, place + total]), torch.cat([place + total, place])
    left_out = torch.cat([keys, keys])[:, None] == torch.cat([all_keys, all_keys])[None]
    left_out = left_out.scatter(1, twin[:, None], False).scatter(1, itself[:, None], True)
    return functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), twin)


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """-cos(prediction, target), the mean over rows, in float32 at least; the target gets no gradient.

    Args:
        prediction: (N, d).
        target: (N, d).

    Returns:
        a scalar in [-1, 1].
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return -functional.cosine_similarity(prediction.to(dtype), target.detach().to(dtype), dim=1).mean()
