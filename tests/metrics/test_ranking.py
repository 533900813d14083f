import sys
from subprocess import run

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gvsl.metrics.bootstrap import draw_counts, draw_indices
from gvsl.metrics.ranking import auc, auc_of_draws, average_precision

DRAW = np.random.default_rng(1)
TRUTH, SCORES = DRAW.integers(0, 2, 40), DRAW.integers(0, 15, 40) / 15


@pytest.mark.parametrize("area", [roc_auc_score, auc])
def test_the_area_is_the_fraction_of_pairs_in_order(area: object) -> None:
    gaps = SCORES[TRUTH == 1][:, None] - SCORES[TRUTH == 0][None]
    assert callable(area)
    assert area(TRUTH, SCORES) == pytest.approx(float(((gaps > 0) + 0.5 * (gaps == 0)).mean()))


@pytest.mark.parametrize("precision", [average_precision_score, average_precision])
def test_average_precision_is_the_sum_over_thresholds_of_precision_times_the_recall_gained(precision: object) -> None:
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(SCORES), reverse=True):
        found = threshold <= SCORES
        now = float((TRUTH[found] == 1).sum() / (TRUTH == 1).sum())
        expected += (now - recall) * float((TRUTH[found] == 1).mean())
        recall = now
    assert callable(precision)
    assert precision(TRUTH, SCORES) == pytest.approx(expected)


def test_values_equal_those_of_scikit_learn() -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        truth, scores = np.append(draw.integers(0, 2, 30), [0, 1]), np.round(draw.normal(size=32), seed % 3)
        assert auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), rel=1e-12)
        assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores), rel=1e-12)


def test_the_area_of_a_draw_is_that_of_its_cases() -> None:
    runs = np.stack([SCORES, DRAW.random(40)])
    found = auc_of_draws(TRUTH, runs, np.array([0.25, 0.75]), draw_counts(40))
    for area, drawn in zip(found[:20], draw_indices(40), strict=False):
        one, other = (auc(TRUTH[drawn], scores[drawn]) for scores in runs)
        assert area == pytest.approx(0.25 * one + 0.75 * other)


def test_one_class_alone_has_no_value() -> None:
    assert np.isnan(auc(np.ones(3, np.int64), np.arange(3.0)))
    assert np.isnan(average_precision(np.zeros(3, np.int64), np.arange(3.0)))


def test_neither_module_imports_torch() -> None:
    code = "import sys, gvsl.metrics.bootstrap, gvsl.metrics.ranking; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
