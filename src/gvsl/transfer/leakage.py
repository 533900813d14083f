"""Train/test overlap: detect weights trained on images that a store holds out, by content rather than name."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gvsl.backbones import Backbone
from gvsl.backbones.provenance import image_hashes, labels_seen, short_hash
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.cases import HELD_OUT
from gvsl.errors import UserError
from gvsl.store import Store
from gvsl.text import few
from gvsl.transfer.networks import AdaptedNetwork


class LearntFrom(NamedTuple):
    """What a network learnt from."""

    images: frozenset[str] | None
    """Hashes of the images' contents; None if unknown."""
    labels: dict[str, str] | None
    """Id to short hash of the cases whose labels it saw; None if unknown."""


def learnt_by(backbone: PretrainedBackbone) -> LearntFrom:
    """Return what a backbone learnt from."""
    seen = labels_seen(backbone.provenance)
    return LearntFrom(backbone.learnt_from, None if seen is None else dict(seen))


def images_of(backbone: Backbone) -> frozenset[str] | None:
    """Return the hashes of the images that a backbone was trained on: none if it is random, None if unknown."""
    return backbone.learnt_from if isinstance(backbone, PretrainedBackbone) else frozenset()


def leaked_cases(images: frozenset[str] | None, store: Store) -> list[str] | None:
    """Return the cases of a store's val and test splits that are among images by their hashes; None if unknown."""
    if images is not None and not images:
        return []
    contents = {case.id: case.content for case in store.cases.values() if not set(case.splits).isdisjoint(HELD_OUT)}
    if images is None or "" in contents.values():
        return None
    return [case for case, content in contents.items() if short_hash(content) in images]


def check_leakage(backbone: Backbone, weights: str | Path, store: Store, allow_leakage: bool = False) -> None:
    """Refuse weights trained on held-out images, unless allowed; weights of unknown training images pass.

    Raises:
        UserError: the weights were trained on images of val or test.
    """
    leaked = leaked_cases(images_of(backbone), store)
    if leaked and not allow_leakage:
        raise UserError(
            f"{weights} was trained on images that {store.place} holds out in val or test: {few(leaked)}; "
            "remove them from its pre-training, or from val and test, or give --allow-leakage"
        )


def check_labels_seen(
    backbone: Backbone, weights: str | Path, contents: Sequence[str], allow_leakage: bool = False
) -> None:
    """Refuse weights that saw labels of other cases than those drawn, unless allowed: a run says how many it had.

    Weights of which it is not known pass; the run's record says so.

    Args:
        backbone: with the weights.
        weights: their name.
        contents: hashes of the images of the labelled cases that were drawn.
        allow_leakage: let them pass.

    Raises:
        UserError: the weights were trained on labels of cases that are not among those drawn.
    """
    drawn = {short_hash(content) for content in contents}
    seen = labels_seen(backbone.provenance) if isinstance(backbone, PretrainedBackbone) else {}
    others = [case for case, content in (seen or {}).items() if content not in drawn]
    if others and not allow_leakage:
        raise UserError(
            f"{weights} saw the labels of {few(others)}, not among the {len(contents)} cases labelled "
            "here: draw those too, pre-train with --pretext.labels on the drawn ones, or give --allow-leakage"
        )


def describe_leakage(images: frozenset[str] | None, store: Store) -> str:
    """Describe for a run's record what images that were trained on, and those that a store holds out, have in common.

    Args:
        images: hashes of those trained on, as of `images_of`; None if unknown.
        store: with its held-out cases.
    """
    leaked = leaked_cases(images, store)
    if leaked is None:
        return "not checked: it isn't known which images the weights were trained on, or those of the store"
    return f"held out but trained on: {few(leaked)}" if leaked else "no held-out image was trained on"


def contents_of(store: Store, ids: Sequence[str]) -> list[str]:
    """Return the hashes of what the images of cases hold."""
    return [store.cases[case].content for case in ids]


def labels_learnt_from(
    network: AdaptedNetwork, store: Store, train: Sequence[str], carriers: Sequence[LearntFrom] = ()
) -> dict[str, str] | None:
    """Return the cases whose labels a run's backbone learnt from beside its initial weights, id to short hash.

    They are none if it is frozen, else the training cases and what the networks that made carried labels, `carriers`,
    saw; None if that is unknown.
    """
    if network.frozen:
        return {}
    found: dict[str, str] = {}
    for carrier in carriers:
        if carrier.labels is None:
            return None
        found |= carrier.labels
    return found | {case: short_hash(store.cases[case].content) for case in train}


def images_learnt_from(
    network: AdaptedNetwork, store: Store, train: Sequence[str], carriers: Sequence[LearntFrom] = ()
) -> frozenset[str] | None:
    """Return the images that a run's backbone was trained on, by content hash; None if unknown.

    They are those of its initial weights and, unless it is frozen, the training cases, and what the networks that made
    carried labels, `carriers`, were trained on.
    """
    known = [images_of(network.backbone)]
    if not network.frozen:
        known.append(image_hashes(store.cases[case].content for case in train))
        known += [carrier.images for carrier in carriers]
    found: frozenset[str] = frozenset()
    for hashes in known:
        if hashes is None:
            return None
        found |= hashes
    return found
