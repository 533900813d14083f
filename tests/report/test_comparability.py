"""Which settings tell runs apart."""

from gvsl.report.comparability import NOT_RECORDED, deciding, flat_settings, labels_of, not_in_all, told_apart, usual


def test_nested_settings_are_flattened() -> None:
    assert flat_settings({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


def test_what_follows_from_weights_and_seed_or_decides_nothing_is_left_out() -> None:
    config = {
        "seed": 1,
        "weights": "w",
        "method": "gvsl",
        "clusters": {"points": 9},
        "trainer": {"workers": 2, "lr": 0.1},
    }
    assert deciding(config) == {"trainer.lr": "0.1"}
    assert deciding(config, by_design=["trainer.lr"]) == {}


def test_all_labels_are_as_many_as_there_were() -> None:
    assert labels_of({"labels": None, "train_cases": ["a", "b"]}) == labels_of({"labels": 2}) == 2
    assert labels_of({"labels": None}) is None
    assert deciding({"labels": None, "train_cases": ["a", "b"]}) == {"labels": "2"}
    assert deciding({"labels": None}) == {"labels": "all"}


def test_an_older_record_is_like_the_others_where_these_agree() -> None:
    older, first, second = {"steps": "5"}, {"steps": "5", "flip": "no"}, {"steps": "5", "flip": "yes"}
    assert told_apart([older, first]) == [{}, {}]
    assert told_apart([older, first, second]) == [{"flip": NOT_RECORDED}, {"flip": "no"}, {"flip": "yes"}]
    assert not_in_all([older, first]) == ["flip"]


def test_what_most_have_is_usual() -> None:
    assert usual([{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2"}]) == {"a": "1"}
