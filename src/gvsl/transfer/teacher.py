"""A teacher: a segmenter of the same labelled cases, which votes on carried labels beside the atlases.

Its mistakes are others than those of the matching. Source of a second round between the two: Z. Xu and M. Niethammer.
DeepAtlas: Joint Semi-supervised Learning of Image Registration and Segmentation. MICCAI 2019; here neither is trained
anew, their probabilities are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.provenance import image_hashes, short_hash
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.errors import UserError
from gvsl.geometry import spatial_shape
from gvsl.inferers.sliding_window import sliding_window
from gvsl.io import Box
from gvsl.propagation.carry import Teacher
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.text import few
from gvsl.transfer.leakage import (
    LearntFrom,
    check_labels_seen,
    check_leakage,
    contents_of,
    describe_leakage,
    learnt_by,
)
from gvsl.transfer.weights import Segmenter, load_segmenter


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher with the origin of its weights."""

    votes: Teacher
    """Its probabilities and their share."""
    learnt_from: LearntFrom
    """What the whole network learnt from: a frozen backbone knows nothing of what its head was trained on."""
    leakage: str
    """What its images and those that the store holds out have in common, for the record."""


def load_teacher(
    run: Path,
    store: Store,
    train: Sequence[str],
    labels: Mapping[int, str],
    device: torch.device,
    share: float = 0.5,
    *,
    allow_preprocessing_mismatch: bool = False,
    allow_leakage: bool = False,
) -> LoadedTeacher:
    """Return a segmentation run as a teacher.

    Args:
        run: the folder of the run.
        store: whose images get labels.
        train: the labelled cases that are drawn; the run may have had no others.
        labels: label value to name, which the run must share.
        device: to compute on.
        share: its weight beside the votes, to 1.
        allow_preprocessing_mismatch: accept a run on volumes that were prepared otherwise.
        allow_leakage: accept a run that learnt from held-out images or from other labels.

    Raises:
        UserError: it is no segmentation, or does not fit the store, the labels or the labelled cases.
    """
    model = load_segmenter(run)
    if list(model.labels.items()) != list(labels.items()):  # in their order: probabilities have no names
        raise UserError(
            f"{run} segments {few(list(model.labels.values()))}, not {few(list(labels.values()))}: name "
            "a teacher of the same structures"
        )
    backbone = model.network.backbone
    assert isinstance(backbone, PretrainedBackbone)
    check_preprocessing(backbone, run, store, allow_preprocessing_mismatch)
    check_leakage(backbone, run, store, allow_leakage)
    _check_same_labels(run, store, train, allow_leakage)
    check_labels_seen(backbone, run, contents_of(store, train), allow_leakage)
    model.network.to(device)
    votes = Teacher(lambda image: probabilities(model, image), share)
    learnt_from = _learnt_by(run, backbone, store)
    return LoadedTeacher(votes, learnt_from, describe_leakage(learnt_from.images, store))


def _learnt_by(run: Path, backbone: PretrainedBackbone, store: Store) -> LearntFrom:
    """Return what a run's network learnt from, with the head of a frozen backbone."""
    record, learnt = read_record(run), learnt_by(backbone)
    if record.config.get("mode") != "linear":
        return learnt  # its backbone knows
    if record.store.get("hash") != store.hash:
        return LearntFrom(None, None)
    cases = {case: store.cases[case].content for case in record.config.get("train_cases", [])}
    shown = image_hashes(cases.values())
    images = None if learnt.images is None or shown is None else learnt.images | shown
    own = {case: short_hash(content) for case, content in cases.items()}
    return LearntFrom(images, None if learnt.labels is None else learnt.labels | own)


@torch.no_grad()
def probabilities(model: Segmenter, image: Tensor) -> Tensor:
    """Return a segmenter's class probabilities, (1, classes, D, H, W), of an image, (1, C, D, H, W), on its device."""
    found = image.new_empty(1, 1 + len(model.labels), *image.shape[2:])

    def logits(box: Box) -> Tensor:
        return model.network(image[(..., *box)]).float()

    def finish(box: Box, mean: Tensor) -> None:
        found[(0, slice(None), *box)] = mean.softmax(dim=0).to(found.device)

    sliding_window(logits, spatial_shape(image), model.crop, model.overlap, finish)
    return found


def _check_same_labels(run: Path, store: Store, train: Sequence[str], allow_leakage: bool) -> None:
    """Refuse a run that was trained on labels of other cases than those drawn, unless allowed."""
    record = read_record(run)
    others = sorted(set(record.config.get("train_cases", [])) - set(train))
    if record.store.get("hash") != store.hash:
        others, where = ["cases of another store"], f"{run} was trained on {record.store.get('name')}"
    else:
        where = f"{run} was trained on the labels of {few(others)}"
    if others and not allow_leakage:
        raise UserError(
            f"{where}, not among the {len(train)} labelled cases drawn here: name a teacher with the same --labels and "
            "--seed, or give --allow-leakage"
        )
