"""Atlases from stores, and the pre-trained method that matches them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.weights import CONFIG_NAME, HEADS_NAME, MODEL_NAME, PretrainedBackbone, find_weights
from gvsl.errors import UserError
from gvsl.files import sha256_of_all
from gvsl.methods import GVSL, GVSLSettings
from gvsl.methods.load_method import load_method
from gvsl.propagation.carry import Atlas
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.propagation import Start
from gvsl.store import Store, class_indices
from gvsl.text import few


@dataclass(frozen=True)
class AtlasSet:
    """Atlases with the structures that they label."""

    atlases: list[Atlas]
    labels: dict[int, str]
    """Label value to name by rising value, without the background; class i is the i-th."""
    lacking: list[tuple[str, str]]
    """Atlas and structure for every structure that an atlas has no voxel of: it votes for background there."""

    @property
    def ignoring(self) -> list[str]:
        """Ids of the atlases with ignored voxels, where they have no vote."""
        return [atlas.id for atlas in self.atlases if not bool(atlas.known.all())]


def matches(method: str) -> bool:
    """Return True if a method, a key of PRETEXTS, learns to match volumes by its default settings."""
    settings = PRETEXTS[method].settings
    return isinstance(settings, GVSLSettings) and settings.matching


def load_matcher(run: Path, start: Start | None = None, option: str = "--start") -> GVSL:
    """Load the method of a pre-training run that learnt to match, in eval mode, on the CPU.

    Args:
        run: its folder.
        start: what its matches start from, if that is known.
        option: that sets it, for messages.

    Raises:
        UserError: `run` is not the folder of a finished pre-training, its method has no matching head, or matches start
            from an affine part that it lacks.
    """
    method = load_method(run)
    if not isinstance(method, GVSL) or method.matching is None:
        name = method.backbone.method if isinstance(method.backbone, PretrainedBackbone) else "another method"
        raise UserError(
            f"{run} was pre-trained by {name}, which does not match volumes: name a run of gvsl, gvsl-no-restoration "
            f"or, with {option} field, gvsl-no-affine"
        )
    if start is not None:
        method.check_start(start, str(run), option)
    return method


def matcher_fingerprint(run: Path) -> str:
    """Return the SHA-256 of all files that decide what a run matches, in hex."""
    weights = find_weights(run)
    return sha256_of_all(weights / name for name in (MODEL_NAME, CONFIG_NAME, HEADS_NAME))


def check_matcher(method: GVSL, run: Path, store: Store, allow_mismatch: bool = False) -> None:
    """Check that a store was prepared like a method's training data.

    Raises:
        UserError: it wasn't, unless a mismatch is allowed.
    """
    assert isinstance(method.backbone, PretrainedBackbone)
    check_preprocessing(method.backbone, run, store, allow_mismatch)


def read_atlases(sources: Mapping[Store, Sequence[str]]) -> AtlasSet:
    """Read labelled cases of one or several stores.

    Args:
        sources: the ids of each store's atlases.

    Raises:
        UserError: a case has no label map, no structure has a voxel, or two stores name a label value differently.
    """
    names: dict[int, str] = {}
    ignored = {value for store in sources for value in store.ignored}
    for store in sources:
        for value, name in store.label_names.items():
            if value in ignored:
                raise UserError(f"label {value} is {name} in {store.place}, but ignored in another atlas: correct one")
            if names.setdefault(value, name) != name:
                raise UserError(
                    f"label {value} is {names[value]} in one atlas's labels.json, but {name} in that of {store.place}: "
                    "correct one"
                )
    unlabelled = [case for store, cases in sources.items() for case in cases if not store.has_label(case)]
    if unlabelled:
        raise UserError(f"{few(unlabelled)} has no label map: add it to labels/, or leave out the case")
    present = {
        (store, case): {*(store.cases[case].label_values or ())} - {*store.ignored}
        for store, cases in sources.items()
        for case in cases
    }
    if not present:
        raise UserError("there is no atlas: name a store or a folder with labelled volumes")
    labels = {value: names[value] for value in sorted(set().union(*present.values()))}
    if not labels:
        raise UserError(f"{few([case for _, case in present])} has no labelled voxel: correct its label map")
    atlases = [_read_atlas(store, case, labels) for store, case in present]
    lacking = [
        (case, name) for (_, case), values in present.items() for value, name in labels.items() if value not in values
    ]
    return AtlasSet(atlases, labels, lacking)


def _read_atlas(store: Store, case: str, labels: Mapping[int, str]) -> Atlas:
    classes = torch.from_numpy(class_indices(store.label(case), list(labels), store.ignored))[None, None]
    image = torch.from_numpy(store.channels(case))[None]
    return Atlas(case, image, classes, 1 + len(labels), store.preprocessing.voxel)
