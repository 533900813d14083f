"""Carried labels for a transfer: which volumes get them, from which atlases, and how often they are drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gvsl.backbones.provenance import labels_seen
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.cases import HELD_OUT
from gvsl.errors import UserError
from gvsl.methods import GVSL
from gvsl.progress import progress
from gvsl.propagation import Atlas, PoolSettings, PropagationSettings
from gvsl.propagation.atlases import check_matcher, load_matcher, matcher_fingerprint, read_atlases
from gvsl.propagation.carry import Teacher
from gvsl.propagation.pool import CarriedLabels, carry_onto
from gvsl.propagation.templates import candidates, choose_templates
from gvsl.settings.carrying import CarrySettings, moot_settings
from gvsl.settings.transfer import TransferSettings
from gvsl.splits import some_of
from gvsl.store import Store
from gvsl.transfer.leakage import (
    LearntFrom,
    check_labels_seen,
    check_leakage,
    contents_of,
    describe_leakage,
    images_of,
    learnt_by,
)
from gvsl.transfer.teacher import LoadedTeacher, load_teacher
from gvsl.transfer.weights import fingerprint

FOLDER_NAME = "carried"
"""Folder of the carried labels beside a run's checkpoint."""
TABLE_NAME = "carried.csv"


@dataclass(frozen=True)
class CarriedPool:
    """The volumes with carried labels that a run trains on besides its labelled cases."""

    labels: CarriedLabels
    run: Path
    """The pre-training that matched."""
    matcher: PretrainedBackbone
    """Its backbone, with the images that it was trained on."""
    carriers: list[LearntFrom]
    """What the networks that decided the labels learnt from: a run that learns from these labels does so too."""
    leakage: dict[str, str]
    """What the images of each and those that are held out have in common, for the record."""

    def drawn_from(self, train: Sequence[str], real_share: float) -> list[str]:
        """Return the ids to draw examples from, each labelled case so often that their share is reached."""
        return mixed(train, self.labels.used, real_share)

    def config(self) -> dict[str, Any]:
        """Return what a run's record says about it."""
        return {
            "carry": self.matcher.method,
            "carry_steps": self.matcher.provenance.get("steps"),
            "carry_run": str(self.run),
            **self.leakage,
            "carry_labels": list(labels_seen(self.matcher.provenance) or ()),
            "carried": len({case.id for case in self.labels.cases}),
            "carry_failed": self.labels.failed,
            "carry_templates": self.labels.templates,
        }


def mixed(train: Sequence[str], carried: Sequence[str], real_share: float) -> list[str]:
    """Return labelled and carried ids, the labelled ones repeated so that they make up `real_share` or more.

    >>> mixed(["a"], ["b", "c"], 0.5)
    ['a', 'a', 'b', 'c']
    """
    repeats = ceil(real_share / (1 - real_share) * len(carried) / len(train))
    return sorted([*list(train) * max(1, repeats), *carried])


def check_carry(run: Path | None, settings: TransferSettings) -> None:
    """Check that a mode trains on carried labels, and that each setting of carrying has an effect.

    Raises:
        UserError: the mode is `linear`, which uses its examples at once, or `carried`, which trains nothing; or a
            setting that has no effect is not its default.
    """
    mode, carrying, default = settings.mode, settings.carrying, CarrySettings()
    if run is not None and mode == "carried":
        raise UserError("mode carried matches by the network of --weights and trains nothing: leave out --carry")
    if run is not None and mode == "linear":
        raise UserError("mode linear trains a head on the labelled cases: leave out --carry, or choose another mode")
    for name in moot_settings(mode, run is not None):
        if getattr(carrying, name) != getattr(default, name):
            why = "in mode carried, which trains nothing" if mode == "carried" else "without --carry"
            fix = "" if mode == "carried" else ", or name a pre-training with --carry"
            raise UserError(f"carrying.{name} is {getattr(carrying, name)}, but has no effect {why}: leave it out{fix}")


def carry_labels(
    run: Path,
    store: Store,
    train: Sequence[str],
    labels: Mapping[int, str],
    folder: Path,
    settings: TransferSettings,
    device: torch.device,
) -> CarriedPool:
    """Carry the labels of a run's training cases onto the store's unlabelled volumes.

    Args:
        run: a pre-training that learnt to match.
        store: its `pretrain` split gets the labels.
        train: ids of the atlases.
        labels: label value to name of the task's structures.
        folder: where the label maps are kept until the run is complete.
        settings: those of the run; `carrying` says how, and `seed` is that of random fields.
        device: to compute on.

    Raises:
        UserError: `run` is refused by `load_checked_matcher`, there is no volume to carry onto, or none matches.
    """
    method = load_checked_matcher(run, store, train, settings)
    assert isinstance(method.backbone, PretrainedBackbone)
    targets = volumes_to_label(store, train, settings.carrying)
    atlases = read_atlases({store: list(train)})
    assert atlases.labels == dict(labels)
    method.to(device)
    moved = [atlas.to(device) for atlas in atlases.atlases]
    taught = teacher_of(store, train, labels, settings, device)
    teacher = None if taught is None else taught.votes
    about: dict[str, Any] = {"matcher": matcher_fingerprint(run), "store": store.hash, "atlases": list(train)}
    if settings.carrying.teacher is not None:
        about |= {"teacher": fingerprint(Path(settings.carrying.teacher)), "share": settings.carrying.teacher_share}
    how = PoolSettings(**{item.name: getattr(settings.carrying, item.name) for item in fields(PoolSettings)})

    def templates() -> list[Atlas]:
        return templates_of(store, train, method, moved, how, device, teacher)

    with progress(len(targets), "carrying labels", unit="volumes") as advance:
        found = carry_onto(
            method, moved, store, targets, folder, how, about, advance, templates, teacher, settings.seed
        )
    if not found.used:
        raise UserError(
            f"none of the {len(targets)} volumes of {store.place} matches the labelled cases: check the matching of "
            f"{run} with `gvsl inspect`, or leave out --carry"
        )
    matcher = method.backbone.cpu()
    carriers = [learnt_by(matcher)] if taught is None else [learnt_by(matcher), taught.learnt_from]
    leakage = {"carry_leakage": describe_leakage(images_of(matcher), store), **teacher_leakage(taught)}
    return CarriedPool(found, run, matcher, carriers, leakage)


def volumes_to_label(store: Store, train: Sequence[str], settings: CarrySettings) -> list[str]:
    """Return the ids of the volumes that get carried labels: unlabelled ones for training, a fixed sample if limited.

    Raises:
        UserError: there are none.
    """
    held_out = {case for split in HELD_OUT for case in store.members(split)}
    found = set(store.members("pretrain")) - held_out
    if settings.transductive:
        found |= held_out
    targets = sorted(found - set(train))
    if not targets:
        raise UserError(
            f"{store.place} has no volume to carry labels onto: list unlabelled ones under pretrain in splits.json, "
            "and prepare it again"
        )
    return some_of(targets, settings.volumes)


def load_checked_matcher(run: Path, store: Store, train: Sequence[str], settings: TransferSettings) -> GVSL:
    """Return the method of a pre-training that may match a store's volumes with the labelled cases `train`.

    Raises:
        UserError: `run` can't match or does not fit the store; or, unless the settings allow it, it was trained on
            images that the store holds out, or saw labels of other cases than `train`.
    """
    method = load_matcher(run, settings.carrying.start, "--carrying.start")
    check_matcher(method, run, store, settings.allow_preprocessing_mismatch)
    check_leakage(method.backbone, run, store, settings.allow_leakage)
    check_labels_seen(method.backbone, run, contents_of(store, train), settings.allow_leakage)
    return method


def teacher_of(
    store: Store, train: Sequence[str], labels: Mapping[int, str], settings: TransferSettings, device: torch.device
) -> LoadedTeacher | None:
    """Return the teacher that the settings name, None if they name none; see `load_teacher` for what it must be."""
    if settings.carrying.teacher is None:
        return None
    return load_teacher(
        Path(settings.carrying.teacher),
        store,
        train,
        labels,
        device,
        settings.carrying.teacher_share,
        allow_preprocessing_mismatch=settings.allow_preprocessing_mismatch,
        allow_leakage=settings.allow_leakage,
    )


def teacher_leakage(teacher: LoadedTeacher | None) -> dict[str, str]:
    """Return what a record says of the images that a teacher was trained on; nothing if there is no teacher."""
    return {} if teacher is None else {"teacher_leakage": teacher.leakage}


def templates_of(
    store: Store,
    train: Sequence[str],
    method: GVSL,
    atlases: Sequence[Atlas],
    settings: PropagationSettings,
    device: torch.device,
    teacher: Teacher | None = None,
) -> list[Atlas]:
    """Return the templates of a store's unlabelled volumes, see `choose_templates`.

    Raises:
        UserError: templates are asked for, and there is no such volume, or none matches.
    """
    if not settings.templates:
        return []
    ids = candidates(volumes_to_label(store, train, CarrySettings()), settings)

    def read(case: str) -> Tensor:
        return torch.from_numpy(store.channels(case))[None].to(device)

    return choose_templates(method, atlases, ids, read, settings, teacher, "--carrying.templates")
