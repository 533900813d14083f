from dataclasses import replace

import numpy as np
import pytest

from gvsl.data import DataSettings, PairStream
from gvsl.data.labelled import check_labelled, labelled_pair
from gvsl.errors import UserError
from gvsl.store import Store

SETTINGS = DataSettings(split="train", batch_size=1, crop=(16, 16, 16), workers=0)


def test_a_pair_is_of_two_of_the_named_cases_with_their_labels(store: Store) -> None:
    shape = store.cases["s0"].shape
    images = {case: store.image(case) for case in ("s0", "s2", "s3")}
    values = np.array([0, *sorted(store.label_names)])
    drawn = set()
    for number in range(12):
        pair = labelled_pair(store, ["s0", "s2", "s3"], shape, 5, number)
        names = []
        for image, classes in ((pair.moving, pair.moving_classes), (pair.fixed, pair.fixed_classes)):
            (name,) = (case for case, whole in images.items() if np.array_equal(image[0, 0].numpy(), whole))
            assert np.array_equal(values[classes[0, 0].numpy()], store.label(name))
            names.append(name)
        assert names[0] != names[1]
        drawn.add(tuple(names))
    assert len(drawn) > 3
    assert pair.class_count == len(values)


def test_two_scans_of_a_subject_are_no_labelled_pair(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "subjects", lambda _, ids: [{"s2": "s0"}.get(case, case) for case in ids])
    third = store.image("s3")
    for number in range(12):
        pair = labelled_pair(store, ["s0", "s2", "s3"], store.cases["s0"].shape, 5, number)
        shown = [np.array_equal(image[0, 0].numpy(), third) for image in (pair.moving, pair.fixed)]
        assert shown.count(True) == 1


def test_a_stream_has_labelled_pairs_only_where_cases_are_named(store: Store) -> None:
    plain, labelled = (PairStream(store, SETTINGS, 1, labelled=ids) for ids in ((), ("s0", "s1")))
    assert plain.batch(3).labelled is None
    first, second = labelled.batch(3), plain.batch(3)
    assert first.labelled is not None
    assert first.labelled.fixed_classes.shape == (1, 1, 16, 16, 16)
    assert first.moving_ids == second.moving_ids
    again = PairStream(store, SETTINGS, 1, 3, labelled=("s0", "s1")).batch(3).labelled
    assert again is not None
    assert np.array_equal(again.moving, first.labelled.moving)
    assert PairStream(store, replace(SETTINGS, split="val"), 1, labelled=("s0", "s1")).learnt_from() == [
        *("s0", "s1", "s5", "s6")
    ]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["s0"], "name two cases or more"),
        (["s0", "s0"], "name two cases or more"),
        (["s0", "nobody"], "names nobody, which"),
        (["s0", "s5"], "names s5 of val or test"),
        (["s0", "s8"], "names s8 of val or test"),
    ],
)
def test_labels_that_may_not_be_learnt_from_are_refused(store: Store, ids: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=f"pretext.labels .*{reason}"):
        check_labelled(store, ids, "pretext.labels")
