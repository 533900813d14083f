import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.io import Box
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.transfer import ClusterSettings, TransferSettings, run_task
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.feature_clusters import (
    BACKGROUND,
    Clusters,
    depth,
    draw,
    find_clusters,
    knn_accuracy,
    near,
    plane,
    spread_evenly,
)
from gvsl.transfer.feature_clusters import standardise as standardised

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SETTINGS = TransferSettings(mode="linear", width=8, levels=3, clusters=ClusterSettings(points=60, neighbours=3))
SHORT = replace(SETTINGS, max_steps=2, validate_every=1, learning_rate=1e-2)


def labelled(store: Store) -> LabelledCases:
    return LabelledCases(store, torch.device("cpu"), {1: "ball", 7: "box"})


def looks(cases: LabelledCases, noise: float = 0.02) -> Callable[[str, Box], torch.Tensor]:
    """Features of a made-up backbone: the grey value, its square, and what each voxel draws, which tells nothing."""

    def represent(case: str, box: Box) -> torch.Tensor:
        image = cases.image(case)
        generator = torch.Generator().manual_seed(int(case[1:]))
        drawn = noise * torch.randn(image.shape, generator=generator)
        whole = torch.cat([image, image.square(), drawn], dim=1)
        return whole[(..., *box)]

    return represent


def plain_silhouette(features: Floats, groups: Indices) -> float:
    """The mean over voxels of (b - a) / max(a, b): mean distance to the nearest other group, and within its own."""
    values = []
    for one, group in zip(features, groups, strict=True):
        away = np.sqrt(((features - one) ** 2).sum(axis=1))
        own = groups == group
        if own.sum() == 1:
            values.append(0.0)  # a group of one has no inside
            continue
        inside = away[own].sum() / (own.sum() - 1)
        outside = min(away[groups == other].mean() for other in set(groups.tolist()) - {group})
        values.append((outside - inside) / max(inside, outside))
    return float(np.mean(values))


def plain_knn(features: Floats, groups: Indices, cases: Indices, neighbours: int) -> float:
    right = 0
    for index, one in enumerate(features):
        others = np.flatnonzero(cases != cases[index])
        nearest = others[np.argsort(((features[others] - one) ** 2).sum(axis=1))[:neighbours]]
        votes = np.bincount(groups[nearest])
        right += int(votes.argmax() == groups[index])
    return right / len(features)


def test_the_figures_are_those_of_a_plain_recomputation(store: Store) -> None:
    cases = labelled(store)
    represent = looks(cases, noise=0.3)
    found = find_clusters(represent, cases, store.split("val"), SETTINGS)
    assert (found.names, found.cases, found.notes) == (["ball", "box"], ["s5", "s6"], [])
    groups, of_cases = np.array(found.groups), np.array(found.of_cases)
    assert np.bincount(groups).tolist() == [30, 30]
    assert len(found.points) == 60
    drawn = draw_again(cases, found)
    rows = []
    for case, place in zip(of_cases, drawn, strict=True):
        whole = represent(found.cases[case], (slice(None), slice(None), slice(None)))
        rows.append(whole[0].flatten(1)[:, place].double().numpy())
    features = np.stack(rows)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    assert found.metrics["silhouette"] == pytest.approx(plain_silhouette(scaled, groups), abs=1e-9)
    assert found.metrics["knn_accuracy"] == pytest.approx(plain_knn(scaled, groups, of_cases, 3), abs=1e-12)
    assert 0 < found.metrics["knn_accuracy"] <= 1


def draw_again(cases: LabelledCases, found: Clusters) -> Indices:
    """The voxels drawn, by the same seed; each is of the structure and the case that the file says."""
    maps = [cases.target(case)[0, 0].numpy().ravel() for case in found.cases]
    groups = [[np.flatnonzero(each == number) for each in maps] for number in (1, 2)]
    drawn = draw(groups, 30, np.random.default_rng([0, 5]))
    assert (drawn.groups.tolist(), drawn.cases.tolist()) == (found.groups, found.of_cases)
    for case, group, place in zip(drawn.cases, drawn.groups, drawn.indices, strict=True):
        assert maps[case][place] == group + 1
    return drawn.indices


def test_neighbours_of_the_same_case_do_not_vote() -> None:
    # Each case is a tight cloud far from the others, of one group that no case near it has.
    generator = np.random.default_rng(0)
    cases = np.repeat(np.arange(4), 10)
    groups = cases % 2
    centres = np.array([[0.0, 0], [1, 0], [100, 0], [101, 0]])
    features = centres[cases] + generator.normal(0, 1e-3, (40, 2))
    assert knn_accuracy(features, groups, cases, 5) == 0.0
    assert knn_accuracy(features, groups, np.arange(40), 5) == 1.0  # were each voxel a case, they would agree


def test_fewer_voters_than_asked_for_all_vote() -> None:
    features = np.array([[0.0], [0.1], [5.0], [5.1]])
    groups, cases = np.array([0, 0, 1, 0]), np.array([0, 1, 0, 1])
    assert knn_accuracy(features, groups, cases, 50) == plain_knn(features, groups, cases, 2)


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ([100, 100], 10, [5, 5]),
        ([2, 100], 10, [2, 8]),
        ([1, 2, 3], 50, [1, 2, 3]),
        ([0, 0], 5, [0, 0]),
        ([0, 9], 5, [0, 5]),
    ],
)
def test_voxels_are_taken_evenly_where_there_are_enough(counts: list[int], most: int, expected: list[int]) -> None:
    assert spread_evenly(counts, most, np.random.default_rng(0)) == expected


def test_what_is_left_over_goes_to_cases_that_the_seed_draws() -> None:
    found = [spread_evenly([9] * 7, 3, np.random.default_rng(seed)) for seed in range(20)]
    assert all(sum(each) == 3 and max(each) == 1 for each in found)
    assert len({tuple(each) for each in found}) > 1


def test_no_voxel_is_drawn_twice() -> None:
    drawn = draw([[np.arange(20), np.arange(3)]], 15, np.random.default_rng(1))
    assert len(set(zip(drawn.cases.tolist(), drawn.indices.tolist(), strict=True))) == 15
    assert np.bincount(drawn.cases).tolist() == [12, 3]


def test_a_flat_channel_is_not_blown_up() -> None:
    features = np.array([[1.0, 5.0], [3.0, 5.0 + 1e-9], [5.0, 5.0]])
    np.testing.assert_allclose(standardised(features)[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5))
    np.testing.assert_array_equal(standardised(features)[:, 1], 0)


def test_near_is_the_background_within_so_many_steps() -> None:
    classes = np.zeros((7, 8, 9), np.int16)
    classes[1, 1, 1] = classes[5, 6, 7] = 1
    points = np.indices(classes.shape)
    steps = np.minimum(
        sum(abs(points[axis] - 1) for axis in range(3)),
        sum(abs(points[axis] - place) for axis, place in enumerate((5, 6, 7))),
    )
    expected = np.flatnonzero((steps <= 3) & (steps > 0))
    np.testing.assert_array_equal(near(classes, 3), expected)
    assert near(np.zeros((3, 3, 3)), 2).size == 0


def test_a_voxel_is_read_from_the_window_that_it_lies_deepest_in(store: Store) -> None:
    cases = labelled(store)
    boxes = []

    def watched(case: str, box: Box) -> torch.Tensor:
        boxes.append(box)
        return looks(cases)(case, box)

    whole = find_clusters(looks(cases), cases, store.split("val"), SETTINGS)
    parts = find_clusters(watched, cases, store.split("val"), replace(SETTINGS, crop=(8, 8, 8)))
    assert len(boxes) > 2
    assert parts.metrics == whole.metrics  # these features don't depend on the window, only on where they are read
    assert depth(np.array([4, 4, 4]), boxes[0]) == min(min(4 - side.start, side.stop - 5) for side in boxes[0])


def test_one_structure_is_set_against_the_background_near_it(build_store: Callable[..., Store]) -> None:
    store = build_store(lambda _, label: np.where(label == 1, 1, 0).astype(np.uint8))
    cases = LabelledCases(store, torch.device("cpu"), {1: "ball"})
    found = find_clusters(looks(cases), cases, store.split("val"), SETTINGS)
    assert found.names == ["ball", BACKGROUND]
    assert np.bincount(found.groups).tolist() == [30, 30]
    assert "background within 5 voxels" in found.notes[0]
    assert found.metrics["knn_accuracy"] > 0.9


def test_a_structure_that_no_validation_case_has_is_named(build_store: Callable[..., Store]) -> None:
    store = build_store(lambda number, label: label * (label == 1) if number in (5, 6) else label)
    found = find_clusters(looks(labelled(store)), labelled(store), store.split("val"), SETTINGS)
    assert found.names == ["ball", BACKGROUND]
    assert "box is in none of the cases drawn from" in found.notes


def test_no_structure_at_all_gives_a_note_and_nothing_else(build_store: Callable[..., Store]) -> None:
    store = build_store(lambda number, label: np.zeros_like(label) if number in (5, 6) else label)
    found = find_clusters(looks(labelled(store)), labelled(store), store.split("val"), SETTINGS)
    assert (found.names, found.points, found.metrics) == ([], [], {})
    assert found.notes == ["ball is in none of the cases drawn from", "box is in none of the cases drawn from"]


def test_a_single_voxel_and_a_single_case_are_taken_as_they_are(build_store: Callable[..., Store]) -> None:
    def lone(number: int, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        kept = label * (label == 1)
        if number == 5:
            kept[0, 0, 0] = 7
        return kept.astype(np.uint8)

    store = build_store(lone)
    cases = labelled(store)
    found = find_clusters(looks(cases), cases, ["s5", "s6"], SETTINGS)
    assert np.bincount(found.groups).tolist() == [30, 1]
    assert -1 <= found.metrics["silhouette"] <= 1
    assert found.metrics["knn_accuracy"] <= 30 / 31  # the lone voxel has no like in another case
    alone = find_clusters(looks(cases), cases, ["s5"], SETTINGS)
    assert set(alone.metrics) == {"silhouette"}
    assert "it takes two cases" in alone.notes[0]


def test_features_that_are_all_one_give_a_note_and_no_figures(store: Store) -> None:
    def dead(case: str, box: Box) -> torch.Tensor:
        return torch.zeros_like(labelled(store).image(case, box))

    found = find_clusters(dead, labelled(store), store.split("val"), SETTINGS)
    assert (found.points, found.metrics) == ([], {})
    assert "the same features" in found.notes[0]


def test_the_same_seed_gives_the_same_plane_and_another_does_not(store: Store) -> None:
    cases = labelled(store)
    one, two = (find_clusters(looks(cases), cases, ["s6", "s5"], SETTINGS) for _ in range(2))
    other = find_clusters(looks(cases), cases, ["s5", "s6"], replace(SETTINGS, seed=1))
    assert one == two
    assert one.points != other.points
    assert one.metrics != other.metrics


def test_the_plane_keeps_far_groups_apart() -> None:
    groups = np.repeat([0, 1], 20)
    features = np.random.default_rng(0).normal(size=(40, 5)) + 40 * groups[:, None]
    points = plane(features, 30.0, 0)
    assert points.shape == (40, 2)
    assert plain_silhouette(points, groups) > 0.5


def test_a_linear_run_writes_its_clusters_and_others_do_not(tmp_path: Path, store: Store) -> None:
    record = run_task("segmentation", store, None, tmp_path / "run", SHORT)
    again = run_task("segmentation", store, None, tmp_path / "again", replace(SHORT, cache_gigabytes=0.0))
    assert read_record(tmp_path / "run").clusters == "clusters.json"
    said = json.loads((tmp_path / "run" / "clusters.json").read_text(encoding="utf-8"))
    assert said == json.loads((tmp_path / "again" / "clusters.json").read_text(encoding="utf-8"))
    assert {name: record.metrics[name] for name in ("silhouette", "knn_accuracy")} == said["metrics"]
    assert len(said["points"]) == len(said["groups"]) == len(said["of_cases"]) == 60
    assert again.metrics == record.metrics
    off = run_task("segmentation", store, None, tmp_path / "off", replace(SHORT, clusters=ClusterSettings(points=0)))
    whole = run_task("segmentation", store, None, tmp_path / "whole", replace(SHORT, mode="scratch"))
    for other, name in ((off, "off"), (whole, "whole")):
        assert other.clusters is None
        assert "silhouette" not in other.metrics
        assert not (tmp_path / name / "clusters.json").exists()
    assert off.cases == record.cases  # looking at the features changes no score


@pytest.mark.parametrize(
    "wrong", [{"points": -1}, {"cases": 0}, {"neighbours": 0}, {"margin": 0}, {"perplexity": float("nan")}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=f"clusters.{name}"):
        ClusterSettings(**wrong)  # type: ignore[arg-type]
