"""Checks before a transfer starts; each error is one line that names the fix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gvsl.errors import UserError
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.text import few, note


def check_mode(weights: str | Path | None, settings: TransferSettings, *, resume: bool = False) -> None:
    """Check that the mode fits the weights.

    Raises:
        UserError: random weights would be fine-tuned or match volumes, pre-trained weights were given for a run from
            scratch, or a run that trains nothing is to be resumed.
    """
    if settings.mode == "carried" and weights is None and settings.carrying.start != "none":
        raise UserError(
            "mode carried matches volumes by the network of --weights: name the folder of a pre-training run, or give "
            "--carrying.start none for the control from no network"
        )
    if settings.mode == "carried" and resume:
        raise UserError("mode carried trains nothing and keeps no checkpoint: leave out --resume")
    if weights is None and settings.mode == "finetune":
        raise UserError("mode finetune needs weights: name the folder of a pre-training run, or choose mode scratch")
    if weights is not None and settings.mode == "scratch":
        raise UserError(f"mode scratch starts from random weights: leave out {weights}, or choose mode finetune")


def check_splits(store: Store, needed: Sequence[str] = ("train", "val", "test")) -> None:
    """Check that a store has the splits that a run needs.

    Raises:
        UserError: one of them has no case.
    """
    present = {split for case in store.cases.values() for split in case.splits}
    for split in needed:
        if split not in present:
            raise UserError(
                f"{store.place} has no case in the split {split!r}: list some under {split} in splits.json, and "
                "prepare it again"
            )


def check_choice(store: Store, val: Sequence[str], settings: TransferSettings) -> None:
    """Check that without validation cases there is nothing to choose, and tell what that means.

    Raises:
        UserError: there are several learning rates.
    """
    if val:
        return
    if settings.optimiser == "adam" and len(settings.learning_rates) > 1:
        raise UserError(
            f"{store.place} has no case in the split 'val' to choose a learning_rate by: give one, such as "
            f"--learning-rate {settings.learning_rates[-1]:g}, or list cases under val in splits.json"
        )
    note(
        f"{store.place} has no case in the split 'val': nothing is validated, and the weights of the last step are kept"
    )


def check_structures(store: Store, train: Sequence[str], others: Sequence[str]) -> dict[int, str]:
    """Return the structures to segment, label value to name, by rising value.

    Args:
        store: with their label values and names.
        train: the training cases that were drawn.
        others: the cases of the validation and test splits.

    Raises:
        UserError: a case has no label map, there is no structure, or one has no voxel in any training case.
    """
    bare = [case for case in (*train, *others) if not store.has_label(case)]
    if bare:
        raise UserError(
            f"{store.place} has no label map for {few(bare)}: add labels, or take the cases out of train, "
            "val and test, and prepare it again"
        )
    labels = {value: store.label_names[value] for value in sorted(store.label_names)}
    if not labels:
        raise UserError(f"{store.place} has no labelled voxel: add label maps, and prepare it again")
    seen = {value for case in train for value in store.cases[case].label_values or ()}
    unseen = [f"{name} ({value})" for value, name in labels.items() if value not in seen]
    if unseen:
        rest = {value for case in store.split("train") for value in store.cases[case].label_values or ()} - seen
        more = "use more labels or another seed, or " if rest.intersection(labels) else ""
        raise UserError(
            f"{few(unseen)} has no voxel in the {len(train)} training cases of {store.place}: "
            f"{more}take it out of the label maps and their names, and prepare it again"
        )
    return labels


def check_targets(store: Store, splits: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the class of every case that a classification is trained or scored on.

    Args:
        store: with the classes of its cases.
        splits: the cases of each split, the training cases as drawn.

    Raises:
        UserError: a case has no class, or a split has cases of one class only.
    """
    targets = {case: store.cases[case].target for cases in splits.values() for case in cases}
    bare = [case for case, target in targets.items() if target is None]
    if bare:
        raise UserError(
            f"{store.place} has no class for {few(bare)}: add it to classes.json, or take the cases out of "
            "train, val and test, and prepare it again"
        )
    known = {case: target for case, target in targets.items() if target is not None}
    for split, cases in splits.items():
        present = {known[case] for case in cases}
        if len(present) < 2:
            fix = "use more labels or another seed" if split == "train" else f"move a case of the other to {split}"
            raise UserError(f"{store.place} has only class {present.pop()} in the {len(cases)} cases of {split}: {fix}")
    return known
