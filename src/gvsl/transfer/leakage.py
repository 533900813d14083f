"""Whether weights were learnt from images that the store of a transfer holds out: by content, not by name."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.backbones import UNet3D
from gvsl.backbones.learnt import learnt_from, shortened
from gvsl.backbones.weights import PretrainedUNet3D
from gvsl.errors import UserError
from gvsl.store import Store
from gvsl.transfer.adapted import AdaptedNetwork

HELD_OUT = ("val", "test")
NAMED = 3
"""How many of many cases a message names."""


def seen_cases(backbone: UNet3D, store: Store) -> list[str] | None:
    """The cases of a store's val and test splits that the weights were learnt from; None if that can't be told."""
    if not isinstance(backbone, PretrainedUNet3D):
        return []
    contents = {case.id: case.content for case in store.cases.values() if not set(case.splits).isdisjoint(HELD_OUT)}
    if backbone.learnt_from is None or "" in contents.values():
        return None
    return [case for case, content in contents.items() if shortened(content) in backbone.learnt_from]


def check_leakage(backbone: UNet3D, weights: str | Path, store: Store, allow_leakage: bool = False) -> None:
    """Refuse weights that were learnt from what is to be tested, unless asked for; those of which it isn't known pass.

    Raises:
        UserError: images of val or test were learnt from.
    """
    seen = seen_cases(backbone, store)
    if seen and not allow_leakage:
        raise UserError(
            f"{weights} was learnt from images that {store.path} holds out in val or test: {_few(seen)}; take them out "
            "of what it is pre-trained on, or of val and test, or give --allow-leakage"
        )


def told_leakage(backbone: UNet3D, store: Store) -> str:
    """What is known of it, for records."""
    seen = seen_cases(backbone, store)
    if seen is None:
        return "not checked: it isn't known which images the weights were learnt from, or those of the store"
    return f"held out and learnt from: {_few(seen)}" if seen else "no image that is held out was learnt from"


def learnt_by(network: AdaptedNetwork, store: Store, train: Sequence[str]) -> frozenset[str] | None:
    """What a transfer's backbone was learnt from: what its weights were, and unless it is frozen the training cases."""
    backbone = network.backbone
    before = backbone.learnt_from if isinstance(backbone, PretrainedUNet3D) else frozenset()
    if network.frozen:
        return before
    now = learnt_from(store.cases[case].content for case in train)
    return None if before is None or now is None else before | now


def _few(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
