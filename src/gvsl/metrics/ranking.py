"""How well scores rank cases of class 1 above those of class 0, fast enough for thousands of bootstrap draws.

A run's own figures are scikit-learn's; these equal them in a hundredth of the time, which goes into checking the input
there.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def auc(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """The area under the ROC curve: the share of pairs in which class 1 scores higher, ties a half.

    Args:
        truth: 0 or 1, (N,), both present.
        scores: higher for class 1, (N,).
    """
    ones = int(truth.sum())
    return float((rankdata(scores)[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * (truth.size - ones)))


def average_precision(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """The mean of the precisions at each threshold, weighted by the recall won there.

    Args:
        truth: 0 or 1, (N,), both present.
        scores: higher for class 1, (N,).
    """
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_ties]
    precision = hits / (np.flatnonzero(last_of_ties) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])
