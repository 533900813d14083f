"""The clusters that a run wrote are checked before anything is made of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.errors import UserError
from gvsl.report.feature_clusters import read_feature_clusters

WHOLE: dict[str, Any] = {
    "format": 1,
    "names": ["a", "b"],
    "cases": ["s1", "s2"],
    "points": [[0.0, 1], [2, 3.5], [4, 5]],
    "groups": [0, 1, 1],
    "of_cases": [0, 0, 1],
    "notes": [],
    "metrics": {},
    "settings": {},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "clusters.json"
    path.write_text(json.dumps(WHOLE | changes), encoding="utf-8")
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = read_feature_clusters(write(tmp_path))
    np.testing.assert_array_equal(found.points, WHOLE["points"])
    assert (found.groups.tolist(), found.of_cases.tolist(), found.names) == ([0, 1, 1], [0, 0, 1], ["a", "b"])
    assert found.largest_fraction == pytest.approx(2 / 3)
    empty = read_feature_clusters(write(tmp_path, points=[], groups=[], of_cases=[], notes=["nothing"]))
    assert empty.points.shape == (0, 2)
    assert np.isnan(empty.largest_fraction)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"names": "ab"},
        {"names": [1, 2]},
        {"notes": [None]},
        {"groups": [0, 1, 2]},
        {"groups": [0, 1, -1]},
        {"groups": [0, 1, True]},
        {"of_cases": [0, 0]},
        {"points": [[0, 1]]},
        {"points": [[0, 1], [2, 3], [4, float("nan")]]},
        {"points": [[0, 1], [2, 3], [4, 5, 6]]},
        {"points": [[0, 1], [2, 3], ["4", 5]]},
        {"points": None},
    ],
    ids=str,
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"clusters\.json (is a broken file|can\'t be read as clusters)"):
        read_feature_clusters(write(tmp_path, **changes))


def test_what_is_no_such_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "clusters.json"
    with pytest.raises(UserError, match=r"clusters\.json is named by its run's record but can't be read"):
        read_feature_clusters(path)
    for text in (b"\xff\xfe", b"{", b"[" * 100_000):
        path.write_bytes(text)
        with pytest.raises(UserError, match=r"clusters\.json can't be read as clusters"):
            read_feature_clusters(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="it must have the lists"):
        read_feature_clusters(path)
