import pytest
from hypothesis import given
from hypothesis import strategies as st

from gvsl.datasets.splits import drawn, one_fold
from gvsl.errors import UserError

IDS = [f"case{number:03d}" for number in range(103)]


def sizes(splits: dict[str, tuple[str, ...]]) -> dict[str, int]:
    return {name: sum(name in found for found in splits.values()) for name in ("pretrain", "train", "val", "test")}


def test_counts_are_the_paper_s_and_train_is_in_pretrain() -> None:
    splits = drawn(IDS, {"train": 40, "val": 20, "test": 43})
    assert sizes(splits) == {"pretrain": 40, "train": 40, "val": 20, "test": 43}
    assert all(found in (("pretrain", "train"), ("val",), ("test",)) for found in splits.values())


def test_the_order_of_ids_makes_no_difference() -> None:
    assert drawn(IDS[::-1], {"train": 3, "val": 1}) == drawn(IDS, {"train": 3, "val": 1})
    assert one_fold(IDS[::-1], 2, 5) == one_fold(IDS, 2, 5)
    # Fixed, since the draw must not depend on NumPy's version or the machine.
    small = drawn(["a", "b", "c", "d", "e"], {"train": 3, "val": 1, "test": 1})
    assert {name: found[-1] for name, found in small.items()} == {
        **dict.fromkeys("cde", "train"),
        "a": "val",
        "b": "test",
    }


@given(st.integers(3, 60), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_part_of_a_dataset_is_split_in_proportion(count: int, train: int, val: int, test: int) -> None:
    found = sizes(drawn(IDS[:count], {"train": train, "val": val, "test": test}))
    assert found["train"] + found["val"] + found["test"] == count
    assert min(found.values()) >= 1


@given(st.integers(5, 40))
def test_every_case_is_tested_in_one_fold_and_validated_in_another(count: int) -> None:
    folds = [one_fold(IDS[:count], number, 5) for number in range(5)]
    for case_id in IDS[:count]:
        assert sorted(found[case_id][-1] for found in folds) == ["test", "train", "train", "train", "val"]


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(UserError, match="2 cases can't be split into train, val, test"):
        drawn(IDS[:2], {"train": 1, "val": 1, "test": 1})
    with pytest.raises(UserError, match="there is no fold 5: the folds are 0 to 4"):
        one_fold(IDS, 5, 5)
    with pytest.raises(UserError, match="4 cases can't be split into 5 folds"):
        one_fold(IDS[:4], 0, 5)
