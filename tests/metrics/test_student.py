import pytest

from gvsl.metrics.student import t_interval


def test_it_is_that_of_the_tables() -> None:
    half = 2.776 * (2.5 / 5) ** 0.5  # 2.776: 97.5 % of Student's t with 4 degrees of freedom; 2.5: the variance
    assert t_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert t_interval([0.25] * 6) == (0.25, 0.25)


def test_fewer_than_five_values_have_none() -> None:
    assert t_interval([1.0, 2.0, 3.0, 4.0]) is None
