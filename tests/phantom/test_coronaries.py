from functools import cache

import numpy as np
import pytest
from numpy.random import default_rng
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from gvsl.phantom.cohort import subject
from gvsl.phantom.coronaries import BEAD_MM, Beads, coronary_tree
from gvsl.phantom.heart import ASCENDING, chambers, tube, union

MORE_TREES = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]


@cache
def tree(seed: int) -> Beads:
    """Return one subject's coronary arteries, which the tests only read."""
    return coronary_tree(default_rng(seed))


def column(beads: Beads) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return beads[:, :3].T.astype(np.float32)[:, :, None, None]


@pytest.mark.parametrize("seed", MORE_TREES)
def test_every_artery_is_connected_to_the_aorta(seed: int) -> None:
    beads = tree(seed)
    near = cKDTree(beads[:, :3]).sparse_distance_matrix(cKDTree(beads[:, :3]), 4 * BEAD_MM)
    parts, which = connected_components(near)
    assert parts == 2  # left and right
    in_aorta = tube(column(beads), ASCENDING).ravel() < 0
    assert {int(part) for part in which[in_aorta]} == {0, 1}


@pytest.mark.parametrize("seed", MORE_TREES)
def test_arteries_lie_on_the_heart_and_not_in_it(seed: int) -> None:
    beads = tree(seed)
    points = column(beads)
    parts = chambers(points)
    to_muscle = union(parts["wall"], parts["right ventricle"]).ravel()
    to_heart = union(*parts.values()).ravel()
    outside_aorta = tube(points, ASCENDING).ravel() > 0
    assert (to_muscle > -1)[outside_aorta].all()
    assert np.mean((to_heart > 0)[outside_aorta]) > 0.98
    assert np.mean((to_heart < 8)[outside_aorta]) > 0.9


def test_arteries_taper() -> None:
    beads = tree(0)
    starts = np.flatnonzero(np.diff(beads[:, 3]) > 0.2) + 1
    for artery in np.split(beads, starts):
        assert (np.diff(artery[:, 3]) <= 1e-9).all()
    assert 0.8 < beads[:, 3].min() < 1.2
    assert 1.9 < beads[:, 3].max() < 3


@pytest.mark.slow
def test_trees_differ_in_branches_and_course() -> None:
    trees = [tree(seed) for seed in range(2)]
    assert len({int(np.sum(np.diff(beads[:, 3]) > 0.2)) for beads in trees}) > 1
    apart, _ = cKDTree(trees[0][:, :3]).query(trees[1][:, :3])
    assert apart.mean() > 0.5


@pytest.mark.slow
def test_128_voxels_per_side_show_two_connected_trees() -> None:
    image, label = subject(1, 0, (128, 128, 128), "sac")
    assert set(np.unique(label)) == {0, 1}
    _, pieces = ndimage.label(label, np.ones((3, 3, 3)))
    assert pieces == 2
    rim = ndimage.binary_dilation(label > 0, iterations=3) & ~ndimage.binary_dilation(label > 0, iterations=2)
    assert image[label > 0].mean() > image[rim].mean() + 100
    edge = label.copy()
    edge[1:-1, 1:-1, 1:-1] = 0
    assert not edge.any()
