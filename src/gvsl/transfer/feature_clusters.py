"""How local features cluster by structure (Figure 7): voxels drawn, t-SNE, silhouette and nearest neighbours.

Silhouette and neighbours are computed in the space of the features, which t-SNE's plane distorts. Neighbours are of
other cases: voxels of one case are alike whatever they show, and would tell each other's structure.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from gvsl.files import write_text
from gvsl.inferers import windows
from gvsl.store.arrays import Box
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.features import Represent
from gvsl.transfer.transfer_settings import TransferSettings

CLUSTERS_NAME = "clusters.json"
FORMAT = 1
BACKGROUND = "background near it"
"""The second group where there is one structure alone."""
DRAW_CASES, DRAW_VOXELS = 3, 4
"""Streams of a run's seed, apart from those of its training cases, their order and their changes."""
FLAT = 1e-6
"""A channel that deviates less says nothing, and isn't blown up."""
ITERATIONS = 500
"""Of t-SNE, half of what scikit-learn has by default, for the time."""
FEWEST = 4
"""Voxels below which a plane of them shows nothing."""
DECIMALS = 2

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Voxels of some cases, each with its group; all of one length."""

    cases: Indices
    """Index of each voxel's case."""
    groups: Indices
    """Index of each voxel's structure, or of the background near it."""
    places: Indices
    """Index of each voxel in its case's array, flattened."""


@dataclass
class Clusters:
    """What was found; the file beside the record holds these fields."""

    names: list[str]
    """The groups."""
    cases: list[str]
    points: list[list[float]] = field(default_factory=list)
    """Each voxel's place in t-SNE's plane; empty where there is none."""
    groups: list[int] = field(default_factory=list)
    """Each voxel's index in `names`."""
    of_cases: list[int] = field(default_factory=list)
    """Each voxel's index in `cases`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`silhouette` and `knn_accuracy`, where there is such a figure."""
    notes: list[str] = field(default_factory=list)
    """What is not there, or is not as usual, and why."""
    settings: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def find_clusters(
    represent: Represent, cases: LabelledCases, ids: Sequence[str], settings: TransferSettings
) -> Clusters:
    """Draw voxels of each structure from the cases, and see how their features cluster.

    Args:
        represent: a case's id and a box to its local features; of a frozen backbone, which may keep them.
        cases: with the structures' names.
        ids: the validation cases.
        settings: whose `clusters` say how many voxels, and whose seed draws them.
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
    """Write what was found as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(clusters), allow_nan=False) + "\n")


def near(classes: NDArray[Any], margin: int) -> Indices:
    """The background voxels at most `margin` steps from a structure, (N,), as indices of the flattened array.

    A step goes along one axis.

    Args:
        classes: (D, H, W), 0 for background.
        margin: 1 or more.
    """
    there = np.argwhere(classes > 0)
    if not there.size:
        return np.zeros(0, np.int64)
    low = np.maximum(there.min(axis=0) - margin, 0)
    box = tuple(slice(start, stop) for start, stop in zip(low, there.max(axis=0) + margin + 1, strict=True))
    inside = classes[box] > 0
    around = np.argwhere(binary_dilation(inside, iterations=margin) & ~inside) + low
    return np.asarray(np.ravel_multi_index(tuple(around.T), classes.shape), np.int64)


def draw(groups: Sequence[Sequence[Indices]], most: int, generator: np.random.Generator) -> Drawn:
    """Draw at most `most` voxels of each group, as evenly over the cases as what they have allows.

    Args:
        groups: for each group and case, the voxels that there are, (N,).
        most: of each group, all cases together.
        generator: draws the voxels, and which cases give one more.
    """
    of_cases, of_groups, places = [], [], []
    for number, voxels in enumerate(groups):
        for case, count in enumerate(shares([len(each) for each in voxels], most, generator)):
            rows = np.sort(generator.permutation(len(voxels[case]))[:count])
            places.append(voxels[case][rows])
            of_cases += [case] * count
            of_groups += [number] * count
    return Drawn(np.array(of_cases, np.int64), np.array(of_groups, np.int64), np.concatenate(places))


def shares(counts: Sequence[int], most: int, generator: np.random.Generator) -> list[int]:
    """How many to take of each so that together they are at most `most`, and the least of them are raised first."""
    taken = np.zeros(len(counts), np.int64)
    left = np.array(counts, np.int64)
    order = generator.permutation(len(counts))
    while most > 0 and left.any():
        open_ones = [index for index in order if left[index]]
        each = max(most // len(open_ones), 1)
        for index in open_ones:
            more = min(each, int(left[index]), most)
            taken[index] += more
            left[index] -= more
            most -= more
    return [int(count) for count in taken]


def standardise(features: Floats) -> Floats:
    """Each channel centred and brought to deviation 1 over the voxels; a flat one becomes zeros.

    Args:
        features: (N, channels).
    """
    spread = features.std(axis=0)
    scaled: Floats = np.where(spread > FLAT, (features - features.mean(axis=0)) / np.maximum(spread, FLAT), 0.0)
    return scaled


def knn_accuracy(features: Floats, groups: Indices, cases: Indices, neighbours: int) -> float:
    """The share of voxels whose group is that of most of their nearest neighbours of other cases.

    Args:
        features: (N, channels).
        groups: (N,).
        cases: (N,), two or more different ones.
        neighbours: that vote; all there are, where those are fewer.
    """
    right = 0
    for case in np.unique(cases):
        own = cases == case
        voters = KNeighborsClassifier(min(neighbours, int((~own).sum()))).fit(features[~own], groups[~own])
        right += int((voters.predict(features[own]) == groups[own]).sum())
    return right / len(cases)


def plane(features: Floats, perplexity: float, seed: int) -> Floats:
    """The voxels in t-SNE's plane, (N, 2); the same seed gives the same plane on the CPU.

    Args:
        features: (N, channels), not all rows one.
        perplexity: lowered to what so few voxels allow.
        seed: of t-SNE.
    """
    fitting = min(perplexity, (len(features) - 1) / 3)
    with threadpool_limits(1):  # threads add up in the order in which they come
        embedding = TSNE(init="pca", perplexity=fitting, max_iter=ITERATIONS, random_state=seed).fit_transform(features)
    return np.asarray(embedding, np.float64)


def _features(
    represent: Represent, cases: LabelledCases, ids: Sequence[str], drawn: Drawn, settings: TransferSettings
) -> Floats:
    """The features at the voxels drawn, (N, channels), each from the window that it lies deepest in."""
    rows: dict[int, Floats] = {}
    for number, case in enumerate(ids):
        boxes = windows(cases.shape(case), settings.crop, settings.overlap)
        mine = np.flatnonzero(drawn.cases == number)
        places = np.stack(np.unravel_index(drawn.places[mine], cases.shape(case)), axis=1)
        deepest = np.array([int(np.argmax([depth(place, box) for box in boxes])) for place in places])
        for chosen in np.unique(deepest):
            local = represent(case, boxes[chosen])[0].cpu().numpy()
            inside = deepest == chosen
            at = places[inside] - [side.start for side in boxes[chosen]]
            values = local[:, at[:, 0], at[:, 1], at[:, 2]].T.astype(np.float64)
            rows |= dict(zip(mine[inside].tolist(), values, strict=True))
    return np.stack([rows[index] for index in range(len(drawn.cases))])


def depth(place: Indices, box: Box) -> int:
    """How many voxels lie between a voxel and the window's nearest face; negative outside of it."""
    return min(min(int(at) - side.start, side.stop - 1 - int(at)) for at, side in zip(place, box, strict=True))


def _measure(found: Clusters, features: Floats, drawn: Drawn, settings: TransferSettings) -> None:
    """Fill in what can be had of points and figures, and a note for each that can't."""
    groups = len(np.unique(drawn.groups))
    if not features.any():
        found.notes.append("all voxels have the same features: there are no clusters to show")
        return
    if 1 < groups < len(features):
        found.metrics["silhouette"] = float(silhouette_score(features, drawn.groups))
    else:
        found.notes.append("no silhouette: it takes two groups, and more voxels than groups")
    if len(np.unique(drawn.cases)) > 1:
        found.metrics["knn_accuracy"] = knn_accuracy(features, drawn.groups, drawn.cases, settings.clusters.neighbours)
    else:
        found.notes.append("no accuracy of neighbours: it takes two cases, since those of a voxel's own don't vote")
    if len(features) < FEWEST:
        found.notes.append(f"no t-SNE: it takes {FEWEST} voxels")
        return
    found.points = np.round(plane(features, settings.clusters.perplexity, settings.seed), DECIMALS).tolist()
