from itertools import islice, pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preprocessing import Preprocessing
from gvsl.store import Store
from gvsl.transfer import TransferSettings
from gvsl.transfer.cases import LabelledCases, draw_boxes, draw_labelled

IDS = [f"case{number:02d}" for number in range(12)]
LABELS = {3: "left", 200: "right"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    generator = np.random.default_rng(0)
    image = generator.random((9, 8, 7), dtype=np.float32)
    label = generator.choice(np.array([0, 3, 200], dtype=np.uint8), size=image.shape)
    for name, array in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii")
    cases = [Case("a", tmp_path / "image.nii", tmp_path / "label.nii", ("train",))]
    return prepare(cases, tmp_path / "store", Preprocessing(crop="none"), label_names=LABELS, source="made")


def test_tensors_are_the_stores_arrays_with_classes_for_values(store: Store) -> None:
    cases = LabelledCases(store, torch.device("cpu"), LABELS)
    box = (slice(1, 5), slice(0, 8), slice(2, 4))
    image, target = cases.image("a", box), cases.target("a", box)
    assert (image.shape, target.shape, cases.shape("a")) == ((1, 1, 4, 8, 2), (1, 1, 4, 8, 2), (9, 8, 7))
    assert np.array_equal(image[0, 0].numpy(), store.image("a")[box])
    assert np.array_equal(cases.values[target[0, 0].numpy()], store.label("a")[box])
    assert target.unique().tolist() == [0, 1, 2]
    assert cases.target("a").shape == (1, 1, 9, 8, 7)


def test_draws_of_one_seed_are_nested_and_do_not_go_by_the_order_given() -> None:
    draws = [draw_labelled(IDS, count, seed=4) for count in range(1, 13)]
    for fewer, more in pairwise(draws):
        assert set(fewer) < set(more)
    assert [len(draw) for draw in draws] == list(range(1, 13))
    assert draw_labelled(IDS[::-1], 5, seed=4) == draws[4] == sorted(draws[4])
    assert draw_labelled(IDS, None, seed=4) == IDS


def test_seeds_draw_different_cases() -> None:
    assert len({tuple(draw_labelled(IDS, 4, seed)) for seed in range(10)}) > 5


def test_the_classes_come_in_turn_as_far_as_they_go() -> None:
    classes = {case: int(number < 3) for number, case in enumerate(IDS)}  # three of class 1, nine of class 0
    firsts = set()
    for seed in range(10):
        draws = [draw_labelled(IDS, count, seed, classes) for count in range(1, 13)]
        for fewer, more in pairwise(draws):
            assert set(fewer) < set(more)
        ones = [sum(classes[case] for case in draw) for draw in draws]
        assert ones[1:7:2] == [1, 2, 3]
        assert ones[5:] == [3] * 7
        firsts.add(classes[draws[0][0]])
        assert draw_labelled(IDS[::-1], 5, seed, classes) == draws[4]
    assert firsts == {0, 1}
    assert len({tuple(draw_labelled(IDS, 4, seed, classes)) for seed in range(10)}) > 5


def test_draws_without_classes_are_those_of_earlier_runs() -> None:
    assert draw_labelled(IDS, 4, seed=4) == ["case00", "case01", "case02", "case08"]


def test_more_labels_than_cases_are_refused() -> None:
    with pytest.raises(UserError, match="labels is 13, but the training split has 12"):
        draw_labelled(IDS, 13, seed=0)


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_every_case_comes_once_a_round_in_an_order_of_the_seeds(mode: str) -> None:
    shapes = dict.fromkeys(IDS, (20, 8, 8))

    def draw(seed: int, count: int) -> list[tuple[str, int]]:
        settings = TransferSettings(mode=mode, seed=seed, crop=(8, 8, 8))  # type: ignore[arg-type]
        return [(case, box[0].start) for case, box in islice(draw_boxes(sorted(shapes), shapes, settings), count)]

    first = draw(0, 36)
    rounds = [[case for case, _ in first[start : start + 12]] for start in (0, 12, 24)]
    assert [sorted(cases) for cases in rounds] == [IDS] * 3
    assert rounds[0] != rounds[1]
    assert first == draw(0, 36) != draw(1, 36)
    starts = {start for _, start in draw(0, 600)}
    assert starts == ({0, 4, 8, 12} if mode == "linear" else set(range(13)))


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    list(islice(draw_boxes(["a"], {"a": (9, 9, 9)}, TransferSettings(mode="scratch", crop=(4, 4, 4))), 5))
    draw_labelled(IDS, 3, seed=0)
    after = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
