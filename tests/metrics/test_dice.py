import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gvsl.metrics.dice import dice_per_structure


def reference(prediction: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    scores = []
    for value in range(1, classes):
        first, second = prediction == value, truth == value
        size = first.sum() + second.sum()
        scores.append(2 * (first & second).sum() / size if size else 1.0)
    return scores


def measure(prediction: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    return dice_per_structure(torch.from_numpy(prediction)[None, None], torch.from_numpy(truth)[None, None], classes)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), present=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_equals_a_plain_reference(seed: int, classes: int, present: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 6, size=3))
    truth = generator.integers(0, min(present, classes), size=shape)
    prediction = generator.integers(0, classes, size=shape)
    assert measure(prediction, truth, classes) == pytest.approx(reference(prediction, truth, classes), abs=1e-6)


def test_empty_cases_follow_the_stated_convention() -> None:
    none, some = np.zeros((3, 3, 3), np.int64), np.zeros((3, 3, 3), np.int64)
    some[1, 1, 1] = 1
    assert measure(none, none, 3) == [1.0, 1.0]
    assert measure(some, none, 3) == [0.0, 1.0]
    assert measure(none, some, 3) == [0.0, 1.0]
    assert measure(some, some, 3) == [1.0, 1.0]


def test_ignored_voxels_do_not_count() -> None:
    draw = np.random.default_rng(0)
    truth, prediction = draw.integers(-1, 3, (2, 6, 5, 4))
    prediction[0, 0, 0] = -1
    kept = (truth >= 0) & (prediction >= 0)
    assert measure(prediction, truth, 3) == pytest.approx(reference(prediction[kept], truth[kept], 3))
    assert measure(prediction.clip(0), np.full_like(truth, -1), 3) == [1.0, 1.0]
