"""Clustering of features for DeepCluster: whiten, bring to length 1, k-means."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

FLAT = 1e-6
"""A component with less than this share of the largest one's deviation is noise, and isn't blown up by whitening."""
STARTS = 5
"""Runs of k-means, of which the tightest is taken."""


def whiten(features: Array, components: int) -> Array:
    """PCA to at most `components` dimensions, each brought to deviation 1, and every row to length 1.

    Args:
        features: (N, d).
        components: fewer are kept where N - 1 or d is smaller, or where a component is flat.
    """
    if not np.ptp(features, axis=0).any():  # all one: nothing to whiten
        return np.zeros((len(features), 1))
    kept = min(components, features.shape[1], len(features) - 1)
    projected = PCA(kept, svd_solver="full").fit_transform(features)
    deviation = projected.std(axis=0)
    real = deviation > FLAT * deviation.max()
    whitened = projected[:, real] / deviation[real]
    rows: Array = whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-12)
    return rows


def cluster(features: Array, clusters: int, seed: int) -> Labels:
    """The cluster of each row, (N,); fewer clusters where there are fewer different rows; none is empty else."""
    if len(np.unique(features, axis=0)) < clusters:  # k-means can't find more clusters than there are points
        return np.unique(features, axis=0, return_inverse=True)[1].astype(np.int64).reshape(-1)
    found: Labels = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(features).astype(np.int64)
    return found


def agreement(first: Labels, second: Labels) -> float:
    """Normalised mutual information of two assignments: 1 where they are the same up to names, 0 where unrelated."""
    return float(normalized_mutual_info_score(first, second))
