import pytest

from gvsl.datasets.tasks import TASKS, check_labels
from gvsl.errors import UserError
from gvsl.phantom.cohort import ANATOMIES

LISTED = {name: task.structures for name, task in TASKS.items() if task.structures is not None}


def test_the_paper_s_segmentations_have_lists() -> None:
    assert {name: len(structures) for name, structures in LISTED.items()} == {"shc": 7, "sac": 1, "sbm": 28}


@pytest.mark.parametrize("name", LISTED)
def test_labels_must_match_the_list_exactly(name: str) -> None:
    labels = dict(enumerate(LISTED[name], 1))
    check_labels(name, labels, "the store")
    check_labels(name, ANATOMIES[name].labels, "the phantom's")
    with pytest.raises(UserError, match=rf"has the label 'spleen' \(99\), which is not in the list of task {name} "):
        check_labels(name, labels | {99: "spleen"}, "the store")
    last = labels.popitem()[1]
    with pytest.raises(UserError, match=rf"lacks 1 of the \d+ structures of task {name} \({last}\): add them to"):
        check_labels(name, labels, "the store")


@pytest.mark.parametrize("name", ["sac", "sbm"])
def test_a_heart_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="which is not in the list of task"):
        check_labels(name, ANATOMIES["shc"].labels, "the store")


@pytest.mark.parametrize("name", ["segmentation", "shc"])
def test_label_values_with_the_same_name_are_refused(name: str) -> None:
    labels = ANATOMIES["shc"].labels | {421: "left atrium"}
    with pytest.raises(UserError, match=r"has two labels called 'left atrium' \(\d+ and 421\): make them one value"):
        check_labels(name, labels, "the store")


def test_general_segmentation_accepts_any_labels() -> None:
    check_labels("segmentation", {1: "spleen", 40: "liver"}, "the store")
