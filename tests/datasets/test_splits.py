import pytest
from hypothesis import given
from hypothesis import strategies as st

from gvsl.datasets.splits import drawn, one_fold
from gvsl.errors import UserError

IDS = [f"case{number:03d}" for number in range(103)]


def sizes(splits: dict[str, tuple[str, ...]]) -> dict[str, int]:
    return {name: sum(name in found for found in splits.values()) for name in ("pretrain", "train", "val", "test")}


def test_the_paper_s_counts_are_drawn_and_trained_on_is_pre_trained_on() -> None:
    splits = drawn(IDS, {"train": 40, "val": 20, "test": 43})
    assert sizes(splits) == {"pretrain": 40, "train": 40, "val": 20, "test": 43}
    assert all(found in (("pretrain", "train"), ("val",), ("test",)) for found in splits.values())


def test_the_set_of_ids_decides() -> None:
    assert drawn(IDS[::-1], {"train": 3, "val": 1}) == drawn(IDS, {"train": 3, "val": 1})
    assert one_fold(IDS[::-1], 2, 5) == one_fold(IDS, 2, 5)
    # Written down: another NumPy or another machine must not draw otherwise.
    small = drawn(["a", "b", "c", "d", "e"], {"train": 3, "val": 1, "test": 1})
    assert {name: found[-1] for name, found in small.items()} == {
        **dict.fromkeys("cde", "train"),
        "a": "val",
        "b": "test",
    }


@given(st.integers(3, 60), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_part_of_a_download_is_split_in_proportion_and_no_split_is_empty(
    count: int, train: int, val: int, test: int
) -> None:
    found = sizes(drawn(IDS[:count], {"train": train, "val": val, "test": test}))
    assert found["train"] + found["val"] + found["test"] == count
    assert min(found.values()) >= 1


@given(st.integers(5, 40))
def test_every_case_is_tested_in_one_fold_and_validated_in_another(count: int) -> None:
    folds = [one_fold(IDS[:count], number, 5) for number in range(5)]
    for case_id in IDS[:count]:
        assert sorted(found[case_id][-1] for found in folds) == ["test", "train", "train", "train", "val"]


def test_what_can_t_be_split_is_said() -> None:
    with pytest.raises(UserError, match="2 cases can't be split into train, val, test"):
        drawn(IDS[:2], {"train": 1, "val": 1, "test": 1})
    with pytest.raises(UserError, match="there is no fold 5: the folds are 0 to 4"):
        one_fold(IDS, 5, 5)
    with pytest.raises(UserError, match="4 cases can't be split into 5 folds"):
        one_fold(IDS[:4], 0, 5)
