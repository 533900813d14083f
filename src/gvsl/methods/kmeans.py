"""Clustering of features for DeepCluster: whitening, scaling to length 1, k-means."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

MIN_DEVIATION = 1e-6
"""A component whose deviation is below this fraction of the largest one's is noise, and is dropped by whitening."""
STARTS = 5
"""Runs of k-means, of which the one with the lowest inertia is taken."""


def whiten(features: Array, components: int) -> Array:
    """Project features to at most `components` principal components of deviation 1, and scale each row to length 1.

    Args:
        features: (N, d).
        components: fewer are kept if N - 1 or d is smaller, or for components without variance.

    >>> whiten(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0], [6.0, 1.0]]), components=2).shape
    (4, 1)
    """
    from sklearn.decomposition import PCA  # takes a second to import, here and below, and one method alone uses it

    if not np.ptp(features, axis=0).any():  # all rows are equal
        return np.zeros((len(features), 1))
    kept = min(components, features.shape[1], len(features) - 1)
    projected = PCA(kept, svd_solver="full").fit_transform(features)
    deviation = projected.std(axis=0)
    varying = deviation > MIN_DEVIATION * deviation.max()
    whitened = projected[:, varying] / deviation[varying]
    rows: Array = whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-12)
    return rows


def cluster(features: Array, clusters: int, seed: int) -> Labels:
    """Assign each row to a cluster, (N,).

    No cluster is empty, unless there are fewer distinct rows than clusters: each of them is then a cluster.

    >>> first, second, third = cluster(np.array([[0.0], [0.1], [9.0]]), clusters=2, seed=0)
    >>> bool(first == second != third)
    True
    """
    from sklearn.cluster import KMeans

    if len(np.unique(features, axis=0)) < clusters:  # k-means can't find more clusters than there are points
        return np.unique(features, axis=0, return_inverse=True)[1].astype(np.int64).reshape(-1)
    labels: Labels = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(features).astype(np.int64)
    return labels


def mutual_information(first: Labels, second: Labels) -> float:
    """Return the normalised mutual information of two assignments: 1 if equal up to names, 0 if independent.

    >>> mutual_information(np.array([0, 0, 1]), np.array([1, 1, 0]))
    1.0
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(first, second))
