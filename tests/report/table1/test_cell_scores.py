"""Means of many draws at once."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gvsl.report.table1.cell_scores import Scores


def test_many_draws_at_once_equal_each_by_itself() -> None:
    generator = np.random.default_rng(1)
    targets = np.array([0.0, 1.0] * 6)
    values = generator.integers(4, size=(2, 12)).astype(float)  # with ties
    draws = [generator.integers(12, size=12) for _ in range(50)]
    counts = np.array([np.bincount(drawn, minlength=12) for drawn in draws], dtype=float)
    areas = Scores(values, targets, (0, 1)).means_of_draws(counts)
    means = Scores(values, None, (0, 1)).means_of_draws(counts, [1])
    for drawn, area, mean in zip(draws, areas, means, strict=True):
        assert area == pytest.approx(np.mean([roc_auc_score(targets[drawn], row[drawn]) for row in values]))
        assert mean == pytest.approx(values[1, drawn].mean())
    one_class = np.zeros((1, 12))
    one_class[0, 0] = 12
    assert np.isnan(Scores(values, targets, (0, 1)).means_of_draws(one_class)).all()


def test_several_runs_of_one_seed_are_as_much_as_one() -> None:
    targets = np.array([0.0, 1.0, 0.0, 1.0])
    values = np.array([[0.1, 0.9, 0.8, 0.2], [0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.8, 0.2]])
    areas = [roc_auc_score(targets, row) for row in values]
    found = Scores(values, targets, (0, 0, 1)).mean()
    assert found == pytest.approx((areas[0] / 2 + areas[1] / 2 + areas[2]) / 2)
