"""Clustering of local features by structure (Figure 7): t-SNE, silhouette and nearest neighbours of random voxels.

Silhouette and neighbours are computed in feature space, which t-SNE's plane distorts. Neighbours belong to other
cases: voxels of one case resemble each other whatever they show.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from threadpoolctl import threadpool_limits

from gvsl.files import write_text
from gvsl.inferers import windows
from gvsl.io import Box
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.features import Represent

CLUSTERS_NAME = "clusters.json"
FORMAT = 1
BACKGROUND = "background near it"
"""The second group if there is one structure only."""
DRAW_CASES, DRAW_VOXELS = 4, 5
"""Random streams of a run's seed, distinct from those of `cases.py` and `augmentation.py`."""
DEVIATION_EPS = 1e-6
"""A channel with a smaller standard deviation becomes zeros when standardised."""
ITERATIONS = 500
"""Iterations of t-SNE: half of scikit-learn's default, to save time."""
MIN_VOXELS = 4
"""Number of voxels below which t-SNE is left out."""
DECIMALS = 2

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Voxels:
    """Random voxels of some cases with their groups, (N,) each."""

    cases: Indices
    """Index of each voxel's case."""
    groups: Indices
    """Index of each voxel's structure, or of the background near it."""
    indices: Indices
    """Index of each voxel in its case's flattened array."""


@dataclass
class Clusters:
    """Contents of clusters.json, which the report reads."""

    names: list[str]
    """Names of the groups."""
    cases: list[str]
    """Ids of the cases."""
    points: list[list[float]] = field(default_factory=list)
    """Each voxel's position in t-SNE's plane; empty without t-SNE."""
    groups: list[int] = field(default_factory=list)
    """Each voxel's index in `names`."""
    of_cases: list[int] = field(default_factory=list)
    """Each voxel's index in `cases`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`silhouette` and `knn_accuracy`, unless they are undefined."""
    notes: list[str] = field(default_factory=list)
    """Notes on results that are missing or unusual, and why."""
    settings: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def find_clusters(
    represent: Represent, cases: LabelledCases, ids: Sequence[str], settings: TransferSettings
) -> Clusters:
    """Draw voxels of each structure from the cases, and measure how their features cluster.

    Args:
        represent: maps a case's id and a box to its local features, by a frozen backbone.
        cases: with the names of the structures.
        ids: of the validation cases.
        settings: number of voxels and cases in `clusters`, and the seed that draws them.
    """
    chosen = settings.clusters
    generator = np.random.default_rng([settings.seed, DRAW_CASES])
    some = sorted(generator.permutation(sorted(ids))[: chosen.cases].tolist())
    maps = [cases.target(case)[0, 0].cpu().numpy().astype(np.int16) for case in some]
    seen = [number for number in range(1, 1 + len(cases.labels)) if any((classes == number).any() for classes in maps)]
    names = [list(cases.labels.values())[number - 1] for number in seen]
    found = Clusters(names, some, settings=asdict(chosen))
    found.notes += [f"{name} is in none of the cases drawn from" for name in cases.labels.values() if name not in names]
    if not seen:
        return found
    groups: list[list[Indices]] = [[np.flatnonzero(classes == number) for classes in maps] for number in seen]
    if len(seen) == 1:
        found.names.append(BACKGROUND)
        found.notes.append(
            f"one structure alone, so that background within {chosen.margin} voxels of it is the second group"
        )
        groups.append([near(classes, chosen.margin) for classes in maps])
    drawn = draw(groups, chosen.points // len(groups), np.random.default_rng([settings.seed, DRAW_VOXELS]))
    found.groups, found.of_cases = drawn.groups.tolist(), drawn.cases.tolist()
    features = standardise(_features(represent, cases, some, drawn, settings))
    _measure(found, features, drawn, settings)
    return found


def write_clusters(path: Path, clusters: Clusters) -> None:
    """Write clusters as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(clusters), allow_nan=False) + "\n")


def near(classes: NDArray[Any], margin: int) -> Indices:
    """Return the background voxels at most `margin` steps along the axes from a structure: flat indices, (N,).

    Args:
        classes: (D, H, W), 0 for background, which IGNORED voxels are not.
        margin: 1 or more.
    """
    there = np.argwhere(classes > 0)
    if not there.size:
        return np.zeros(0, np.int64)
    low = np.maximum(there.min(axis=0) - margin, 0)
    box = tuple(slice(start, stop) for start, stop in zip(low, there.max(axis=0) + margin + 1, strict=True))
    inside = classes[box] > 0
    around = np.argwhere(binary_dilation(inside, iterations=margin) & (classes[box] == 0)) + low
    return np.asarray(np.ravel_multi_index(tuple(around.T), classes.shape), np.int64)


def draw(groups: Sequence[Sequence[Indices]], limit: int, generator: np.random.Generator) -> Voxels:
    """Draw up to `limit` voxels of each group, as evenly over the cases as their numbers allow.

    Args:
        groups: the voxels of each group and case as flat indices, (N,).
        limit: number of voxels of a group, all cases together.
        generator: draws the voxels, and the cases that give one more.
    """
    of_cases, of_groups, indices = [], [], []
    for number, voxels in enumerate(groups):
        for case, count in enumerate(spread_evenly([len(each) for each in voxels], limit, generator)):
            rows = np.sort(generator.permutation(len(voxels[case]))[:count])
            indices.append(voxels[case][rows])
            of_cases += [case] * count
            of_groups += [number] * count
    return Voxels(np.array(of_cases, np.int64), np.array(of_groups, np.int64), np.concatenate(indices))


def spread_evenly(counts: Sequence[int], limit: int, generator: np.random.Generator) -> list[int]:
    """Return how many to take of each count, `limit` in total if there are as many, as evenly as possible."""
    taken = np.zeros(len(counts), np.int64)
    left = np.array(counts, np.int64)
    order = generator.permutation(len(counts))
    while limit > 0 and left.any():
        open_ones = [index for index in order if left[index]]
        each = max(limit // len(open_ones), 1)
        for index in open_ones:
            more = min(each, int(left[index]), limit)
            taken[index] += more
            left[index] -= more
            limit -= more
    return [int(count) for count in taken]


def standardise(features: Floats) -> Floats:
    """Return each channel with mean 0 and standard deviation 1 over the voxels; a constant one becomes zeros.

    Args:
        features: (N, channels).
    """
    spread = features.std(axis=0)
    scaled: Floats = np.where(
        spread > DEVIATION_EPS, (features - features.mean(axis=0)) / np.maximum(spread, DEVIATION_EPS), 0.0
    )
    return scaled


def knn_accuracy(features: Floats, groups: Indices, cases: Indices, neighbours: int) -> float:
    """Return the fraction of voxels whose group is the majority of their nearest neighbours in other cases.

    Args:
        features: (N, channels).
        groups: (N,).
        cases: (N,), at least two different ones.
        neighbours: number that vote; all if there are fewer.
    """
    from sklearn.neighbors import KNeighborsClassifier  # takes a second to import, here and below

    right = 0
    for case in np.unique(cases):
        own = cases == case
        voters = KNeighborsClassifier(min(neighbours, int((~own).sum()))).fit(features[~own], groups[~own])
        right += int((voters.predict(features[own]) == groups[own]).sum())
    return right / len(cases)


def plane(features: Floats, perplexity: float, seed: int) -> Floats:
    """Return the voxels' positions in t-SNE's plane, (N, 2), reproducible by the seed on the CPU.

    Args:
        features: (N, channels), not all rows equal.
        perplexity: reduced if there are too few voxels for it.
        seed: of t-SNE.
    """
    from sklearn.manifold import TSNE

    perplexity = min(perplexity, (len(features) - 1) / 3)
    with threadpool_limits(1):  # sums over threads depend on their timing
        embedding = TSNE(init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=seed).fit_transform(
            features
        )
    return np.asarray(embedding, np.float64)


def _features(
    represent: Represent, cases: LabelledCases, ids: Sequence[str], drawn: Voxels, settings: TransferSettings
) -> Floats:
    """Return the features at the voxels, (N, channels), each from the window in which it lies deepest."""
    rows: dict[int, Floats] = {}
    for number, case in enumerate(ids):
        boxes = windows(cases.shape(case), settings.crop, settings.overlap)
        mine = np.flatnonzero(drawn.cases == number)
        positions = np.stack(np.unravel_index(drawn.indices[mine], cases.shape(case)), axis=1)
        deepest = np.array([int(np.argmax([depth(position, box) for box in boxes])) for position in positions])
        for chosen in np.unique(deepest):
            local = represent(case, boxes[chosen])[0].cpu().numpy()
            inside = deepest == chosen
            at = positions[inside] - [side.start for side in boxes[chosen]]
            values = local[:, at[:, 0], at[:, 1], at[:, 2]].T.astype(np.float64)
            rows |= dict(zip(mine[inside].tolist(), values, strict=True))
    return np.stack([rows[index] for index in range(len(drawn.cases))])


def depth(position: Indices, box: Box) -> int:
    """Return the number of voxels between a voxel and the window's nearest face; negative outside of it."""
    return min(min(int(at) - side.start, side.stop - 1 - int(at)) for at, side in zip(position, box, strict=True))


def _measure(found: Clusters, features: Floats, drawn: Voxels, settings: TransferSettings) -> None:
    """Set metrics and points, and a note for each that is undefined."""
    groups = len(np.unique(drawn.groups))
    if not features.any():
        found.notes.append("all voxels have the same features: there are no clusters to show")
        return
    if 1 < groups < len(features):
        from sklearn.metrics import silhouette_score

        found.metrics["silhouette"] = float(silhouette_score(features, drawn.groups))
    else:
        found.notes.append("no silhouette: it takes two groups, and more voxels than groups")
    if len(np.unique(drawn.cases)) > 1:
        found.metrics["knn_accuracy"] = knn_accuracy(features, drawn.groups, drawn.cases, settings.clusters.neighbours)
    else:
        found.notes.append("no accuracy of neighbours: it takes two cases, since those of a voxel's own don't vote")
    if len(features) < MIN_VOXELS:
        found.notes.append(f"no t-SNE: it takes {MIN_VOXELS} voxels")
        return
    found.points = np.round(plane(features, settings.clusters.perplexity, settings.seed), DECIMALS).tolist()
