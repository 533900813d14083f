"""Carry the labels of a few labelled volumes onto images, each in its own geometry."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.backbones.weights import PretrainedBackbone
from gvsl.cases import HELD_OUT, Case
from gvsl.datasets import folder
from gvsl.errors import UserError
from gvsl.files import claimed, real_path
from gvsl.hardware import find_device
from gvsl.io import UnusableFile
from gvsl.methods import GVSL
from gvsl.prediction.carried import CarriedMaps, Truth
from gvsl.prediction.ledger import open_ledger
from gvsl.prediction.outcome import Predicted
from gvsl.prediction.predict import TellCase, find_images, say_nothing, write_results
from gvsl.prediction.targets import Targets, files_targets, is_store, store_targets
from gvsl.preparation import prepare
from gvsl.preprocessing import Preprocessing
from gvsl.propagation import Atlas
from gvsl.propagation.atlases import AtlasSet, check_matcher, load_matcher, matcher_fingerprint, read_atlases
from gvsl.propagation.carry import decided_by
from gvsl.propagation.templates import candidates, choose_templates
from gvsl.settings.propagation import PropagateSettings as PropagateSettings
from gvsl.store import Store, class_indices
from gvsl.text import few
from gvsl.transfer.leakage import check_labels_seen, check_leakage, contents_of

NO_EFFECT = ("device", "allow_preprocessing_mismatch", "allow_leakage", "grid")
"""Settings that change no result, and that of its layout, which counts for a store alone."""


@dataclass(frozen=True)
class Propagated:
    """The outcome of `propagate`."""

    images: Predicted
    atlases: AtlasSet


def propagate(
    sources: Sequence[Path],
    images: Sequence[Path],
    weights: Path,
    out: Path,
    settings: PropagateSettings | None = None,
    *,
    cases: Sequence[str] = (),
    split: str = "pretrain",
    tell: TellCase = say_nothing,
) -> Propagated:
    """Carry the labels of atlases onto images, and write the maps into `out`.

    Each image gets `out`/NAME.nii.gz, its label map, and NAME_confidence.nii.gz, from 0 to 1, on its own grid; of a
    store's cases, on the store's or their sources'. `out`/propagated.csv has a row per image, with the expected DSC
    and, where a store has true labels, the DSC. An image that doesn't match is listed with the reason and gets no map.
    Results of an earlier call are kept if their images hold the same.

    Args:
        sources: stores, or folders of images/ and labels/.
        images: one store, or files and folders as for `gvsl.prediction.find_images`.
        weights: the folder of a pre-training run that learnt to match.
        out: a folder, created if need be.
        settings: the defaults if not given.
        cases: ids of the atlases; if not given, all labelled cases of a folder, and of a store those in `train`.
        split: of the store whose images get labels.
        tell: takes an image and a line for all that `gvsl prepare` would note about it, before its labels are written.

    Raises:
        UserError: an input is missing or does not fit the others, or `out` holds other results.
    """
    settings = settings or PropagateSettings()
    method = load_matcher(weights, settings.start)
    with claimed(out, "gvsl propagate", inside=True):
        chosen, atlases = _read(sources, cases, method, weights, out, settings)
        truth: Truth | None = None
        if len(images) == 1 and is_store(images[0]):
            store = Store.open(images[0])
            targets = _in_store(store, split, chosen, atlases.labels, method, weights, settings)
            unlabelled = store_targets(store, _unlabelled(store, split, chosen), "store")
            truth = partial(_truth, store, structures=list(atlases.labels))
        else:
            assert isinstance(method.backbone, PretrainedBackbone)
            targets = unlabelled = files_targets(find_images(images), method.backbone.preprocessing)
        known = {case.id: case for case in unlabelled.images if not case.unusable}
        ids = candidates(list(known), settings)
        how = _deciding(settings, targets, atlases.atlases)
        if ids:
            how["templates_of"] = _hash(_contents(unlabelled, [known[case] for case in ids]))
        ledger = open_ledger(out, {"weights": matcher_fingerprint(weights), "atlases": _fingerprint(chosen), **how})
        device = find_device(settings.device)
        method.to(device)
        moved = [atlas.to(device) for atlas in atlases.atlases]
        results = CarriedMaps(
            method,
            moved,
            atlases.labels,
            targets,
            out,
            settings,
            truth=truth,
            listed=bool(ledger.images),
        )
        usable = [image for image in targets.images if not image.unusable]
        if any(not results.has(name) for image in usable for name in results.names(image)):
            results.templates = _templates(method, moved, unlabelled, [known[case] for case in ids], settings)
        return Propagated(write_results(results, ledger, targets, out, tell), atlases)


def _deciding(settings: PropagateSettings, targets: Targets, atlases: Sequence[Atlas]) -> dict[str, str]:
    """Return the settings that decide the results, as ledgers of every version of gvsl have them."""
    how = {name: str(value) for name, value in vars(settings).items() if name not in NO_EFFECT}
    if not targets.from_files and settings.grid == "source":
        how["grid"] = settings.grid
    if not settings.templates:  # a setting that ledgers of an earlier gvsl lack
        del how["templates"]
    if settings.voting != "local" or len(atlases) + settings.templates == 1:  # it has no effect
        del how["sharpness"]
    return how | decided_by(atlases, settings)


def _templates(
    method: GVSL, atlases: Sequence[Atlas], unlabelled: Targets, images: Sequence[Case], settings: PropagateSettings
) -> list[Atlas]:
    """Return the templates among some images, see `choose_templates`."""
    known = {case.id: case for case in images}

    def read(case: str) -> Tensor:
        ready = unlabelled.prepare(unlabelled.read(known[case]), lambda _: None)  # told when labels are written
        return torch.from_numpy(ready.array)[None].to(atlases[0].image.device)

    return choose_templates(method, atlases, list(known), read, settings)


def _contents(targets: Targets, images: Sequence[Case]) -> list[str]:
    """Return the sorted hashes of what images hold, but for those that can't be read."""
    found = []
    for image in images:
        try:
            found.append(targets.content(image))
        except UnusableFile:
            continue  # which is no template, and told where its own labels are asked for
    return sorted(found)


def _in_store(
    store: Store,
    split: str,
    atlases: Mapping[Store, Sequence[str]],
    structures: Mapping[int, str],
    method: GVSL,
    weights: Path,
    settings: PropagateSettings,
) -> Targets:
    """Return the cases of a split but for the atlases.

    Raises:
        UserError: there are none, the store was prepared unlike the method's training data, or held-out cases would be
            scored that the method was trained on, or with labels that it saw.
    """
    check_matcher(method, weights, store, settings.allow_preprocessing_mismatch)
    for value, name in structures.items():
        if store.label_names.get(value, name) != name:
            raise UserError(
                f"label {value} is {name} in the atlases, but {store.label_names[value]} in {store.place}: correct one"
            )
    ids = _without(store, store.split(split), atlases)
    if not ids:
        raise UserError(f"{store.place} has no case in the split {split!r} besides the atlases: name another split")
    if any(store.has_label(case) and set(HELD_OUT) & set(store.cases[case].splits) for case in ids):
        contents = [content for source, cases in atlases.items() for content in contents_of(source, cases)]
        check_leakage(method.backbone, weights, store, settings.allow_leakage)
        check_labels_seen(method.backbone, weights, contents, settings.allow_leakage)
    return store_targets(store, ids, settings.grid)


def _unlabelled(store: Store, split: str, atlases: Mapping[Store, Sequence[str]]) -> list[str]:
    """Return the cases of a split and of `pretrain`, but for the atlases."""
    splits = [split, "pretrain"] if store.table.of_split("pretrain").size else [split]
    return _without(store, sorted({case for name in splits for case in store.split(name)}), atlases)


def _without(store: Store, ids: Sequence[str], atlases: Mapping[Store, Sequence[str]]) -> list[str]:
    """Return those cases whose image is not an atlas's, under any id."""
    known = {_image_of(source, case) for source, cases in atlases.items() for case in cases}
    return [case for case in ids if _image_of(store, case) not in known]


def _image_of(store: Store, case: str) -> str:
    """Return what identifies an image under any id: the hash of its source's voxels, or of the stored ones."""
    known = store.cases[case]
    return known.content or known.hash


def _truth(store: Store, case: str, structures: Sequence[int]) -> NDArray[np.int64] | None:
    """Return the classes of a case, (D, H, W), of which structures that no atlas has are background."""
    if not store.has_label(case):
        return None
    others = [value for value in store.label_names if value not in structures]
    classes = class_indices(store.label(case), [*structures, *others], store.ignored)
    return np.where(classes > len(structures), 0, classes)


def _read(
    sources: Sequence[Path],
    cases: Sequence[str],
    method: GVSL,
    weights: Path,
    out: Path,
    settings: PropagateSettings,
) -> tuple[dict[Store, list[str]], AtlasSet]:
    """Return the ids of each store's atlases, and the atlases; folders are prepared into stores in `out` for it."""
    assert isinstance(method.backbone, PretrainedBackbone)
    preprocessing = method.backbone.preprocessing
    unique = list({real_path(path): path for path in sources}.values())
    with tempfile.TemporaryDirectory(prefix=".gvsl-", dir=out) as scratch:
        stores = [_open(path, preprocessing, Path(scratch) / str(number)) for number, path in enumerate(unique)]
        for store in stores:
            check_matcher(method, weights, store, settings.allow_preprocessing_mismatch)
        chosen = _choose(stores, list(dict.fromkeys(cases)))
        return chosen, read_atlases(chosen)


def _open(path: Path, preprocessing: Preprocessing, scratch: Path) -> Store:
    """Open a store, or prepare a folder's labelled volumes into one.

    Raises:
        UserError: nothing in it is labelled, or a volume can't be used.
    """
    if is_store(path):
        return Store.open(path)
    dataset = folder(path, taken=preprocessing.channels)
    labelled = [replace(case, splits=("train",)) for case in dataset.cases if case.label is not None]
    if not labelled:
        raise UserError(f"{path} has no label maps: put them into {path / 'labels'} under their images' names")
    store = prepare(labelled, scratch, preprocessing, label_names=dataset.label_names, source=dataset.name)
    if store.refused:
        file, reason = store.refused[0]
        raise UserError(f"{path / file}: {reason}")
    return store


def _choose(stores: Sequence[Store], cases: Sequence[str]) -> dict[Store, list[str]]:
    """Return the ids of each store's atlases.

    Raises:
        UserError: one that was asked for is in none of them.
    """
    if not cases:
        return {store: [case for case in store.split("train") if store.has_label(case)] for store in stores}
    missing = [case for case in cases if not any(case in store.cases for store in stores)]
    if missing:
        raise UserError(
            f"there is no case {few(missing)} in {few([store.place for store in stores])}; "
            "`gvsl inspect` lists what they hold"
        )
    return {store: [case for case in cases if case in store.cases] for store in stores}


def _fingerprint(chosen: Mapping[Store, Sequence[str]]) -> str:
    """Return the SHA-256 of the atlases' voxels, in hex."""
    hashes = sorted(store.cases[case].hash for store, cases in chosen.items() for case in cases)
    return _hash(hashes)


def _hash(names: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(names).encode()).hexdigest()
