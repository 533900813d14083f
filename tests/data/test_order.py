from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvsl.data.order import EpochPairs, epoch_order, independent_pairs


def seen_by(order: EpochPairs, batch: int, steps: range, rank: int, world: int) -> list[int]:
    """The volumes of some steps of one process, in order."""
    return [volume for step in steps for pair in order.pairs(batch, step, rank, world) for volume in pair]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 40), batch=st.integers(1, 4), world=st.integers(1, 4), seed=st.integers(0, 2**70))
def test_an_epoch_shows_each_volume_once_whoever_shares_it(count: int, batch: int, world: int, seed: int) -> None:
    order = EpochPairs(range(count), seed)
    steps = range(-(-3 * count // (2 * batch * world)))
    run = [
        volume
        for step in steps
        for rank in range(world)
        for volume in seen_by(order, batch, range(step, step + 1), rank, world)
    ]
    for epoch in range(3):
        assert sorted(run[epoch * count : (epoch + 1) * count]) == list(range(count))
        assert run[epoch * count : (epoch + 1) * count] == epoch_order(range(count), seed, epoch)
    assert all(moving != fixed for moving, fixed in zip(run[::2], run[1::2], strict=True))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 30), batch=st.integers(1, 4), world=st.integers(1, 3), step=st.integers(0, 10**6))
def test_a_step_is_the_same_wherever_a_run_begins(count: int, batch: int, world: int, step: int) -> None:
    gone_on = EpochPairs(range(count), 7)
    for before in range(max(0, step - 3), step):
        gone_on.pairs(batch, before, 0, world)
    for rank in range(world):
        assert gone_on.pairs(batch, step, rank, world) == EpochPairs(range(count), 7).pairs(batch, step, rank, world)


def test_two_processes_never_meet_in_an_epoch() -> None:
    order = EpochPairs(range(100), seed=3)
    steps = range(25)  # of two pairs: 100 volumes
    shares = [set(seen_by(order, 1, steps, rank, 2)) for rank in (0, 1)]
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(range(100))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(range(20), seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_every_pair_of_an_epoch_is_as_likely() -> None:
    counts = Counter(
        pair for seed in range(50) for epoch in range(12) for pair in EpochPairs(range(4), seed).pairs(2, epoch)
    )
    assert len(counts) == 12
    assert min(counts.values()) > 65  # 100 in the mean
    assert max(counts.values()) < 135


def test_only_one_epoch_and_the_last_are_held() -> None:
    order = EpochPairs(range(1000), seed=0)
    for step in range(2000):
        order.pairs(2, step)
    assert len(order.orders) <= 2


def test_one_process_draws_what_it_always_drew() -> None:
    # Recorded results depend on it: pairs of one generator by seed and step, each by one choice of two.
    for seed, step in ((0, 0), (5, 123), (2**40, 7)):
        generator = np.random.default_rng([seed, step])
        expected = [tuple(generator.choice(9, size=2, replace=False).tolist()) for _ in range(3)]
        assert independent_pairs(range(9), 3, seed, step) == expected


@pytest.mark.parametrize("count", [6, 24, 1000])
def test_processes_share_the_pairs_that_one_would_draw(count: int) -> None:
    for step in range(30):
        shares = [independent_pairs(range(count), 3, 1, step, rank, world=4) for rank in range(4)]
        assert [pair for share in shares for pair in share] == independent_pairs(range(count), 12, 1, step)
        assert all(moving != fixed for share in shares for moving, fixed in share)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 6), batch=st.integers(1, 9), seed=st.integers(0, 2**70), step=st.integers(0, 10**7))
def test_the_two_of_a_pair_are_always_different(count: int, batch: int, seed: int, step: int) -> None:
    pairs = independent_pairs(range(count), batch, seed, step)
    assert len(pairs) == batch
    for moving, fixed in pairs:
        assert moving != fixed
        assert {moving, fixed} <= set(range(count))
    assert pairs == independent_pairs(range(count), batch, seed, step)


def test_every_ordered_pair_is_as_likely() -> None:
    counts = Counter(pair for step in range(1200) for pair in independent_pairs(range(4), 2, seed=0, step=step))
    assert len(counts) == 12
    assert min(counts.values()) > 150  # 200 in the mean
    assert max(counts.values()) < 250


def test_seeds_and_steps_have_pairs_of_their_own() -> None:
    drawn = {tuple(independent_pairs(range(100), 3, seed, step)) for seed in range(10) for step in range(10)}
    assert len(drawn) == 100


@st.composite
def cohorts(draw: st.DrawFn) -> list[int]:
    """The subject of each volume, none of more than half of them."""
    half = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    sizes = [*half, sum(half)] if draw(st.booleans()) else [*half, *half]
    volumes = [subject for subject, size in enumerate(sizes) for _ in range(size)]
    if draw(st.booleans()):
        volumes.append(len(sizes))  # an odd number
    return draw(st.permutations(volumes))


@settings(max_examples=100, deadline=None)
@given(subjects=cohorts(), seed=st.integers(0, 2**70))
def test_an_epoch_pairs_subjects_and_shows_each_volume_once(subjects: list[int], seed: int) -> None:
    count = len(subjects)
    pairs = [pair for step in range(2 * count) for pair in EpochPairs(subjects, seed).pairs(1, step)]
    assert all(subjects[moving] != subjects[fixed] for moving, fixed in pairs)
    run = [volume for pair in pairs for volume in pair]
    assert [sorted(run[start : start + count]) for start in range(0, 4 * count, count)] == 4 * [list(range(count))]


@settings(max_examples=50, deadline=None)
@given(subjects=cohorts(), seed=st.integers(0, 2**70))
def test_independent_pairs_are_of_two_subjects(subjects: list[int], seed: int) -> None:
    pairs = independent_pairs(subjects, 20, seed, 0)
    assert all(subjects[moving] != subjects[fixed] for moving, fixed in pairs)


def test_every_pair_of_two_subjects_is_as_likely() -> None:
    counts = Counter(pair for step in range(900) for pair in independent_pairs([0, 0, 1, 2], 2, seed=0, step=step))
    assert len(counts) == 10  # 12, but for both ways of the first two
    assert min(counts.values()) > 130  # 180 in the mean
    assert max(counts.values()) < 230
