import numpy as np
import pytest

from gvsl.methods.kmeans import cluster, mutual_information, whiten


def blobs() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 12)
    return np.eye(3)[truth] * 50 + generator.normal(size=(36, 3)), truth


def test_clusters_that_are_there_are_found() -> None:
    features, truth = blobs()
    found = cluster(whiten(features, 2), 3, seed=0)
    assert mutual_information(found, truth) == pytest.approx(1)
    assert mutual_information(found, cluster(whiten(features, 2), 3, seed=0)) == 1
    assert np.bincount(found).tolist() == [12, 12, 12]


def test_whitened_rows_have_length_one_in_few_dimensions() -> None:
    features, _ = blobs()
    rows = whiten(features * [1, 100, 0.01], 2)
    assert rows.shape == (36, 2)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(36))
    assert whiten(features[:3], 16).shape == (3, 2)  # no more than N - 1


def test_rows_that_are_one_fall_into_one_cluster_without_a_fuss() -> None:
    rows = whiten(np.full((8, 4), 3.0), 2)
    assert np.isfinite(rows).all()
    assert set(cluster(rows, 3, seed=0)) == {0}


def test_fewer_different_rows_than_clusters_each_have_their_own() -> None:
    features = np.repeat(np.eye(2), 4, axis=0)
    assert cluster(features, 4, seed=0).tolist() == [1] * 4 + [0] * 4


def test_no_cluster_is_empty_where_rows_differ() -> None:
    features = np.concatenate([np.zeros((30, 2)) + np.arange(30)[:, None] * 1e-6, [[9.0, 0], [0, 9.0]]])
    assert np.bincount(cluster(features, 5, seed=0), minlength=5).min() > 0


def test_mutual_information_ignores_names() -> None:
    one = np.array([0, 0, 1, 1, 2, 2])
    assert mutual_information(one, (one + 1) % 3) == pytest.approx(1)
    assert mutual_information(one, np.array([0, 1, 0, 1, 0, 1])) == pytest.approx(0, abs=1e-9)
