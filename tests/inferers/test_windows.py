import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from gvsl.inferers import random_box, window_size, windows


def places(box: tuple[slice, slice, slice]) -> tuple[tuple[int, int], ...]:
    return tuple((side.start, side.stop) for side in box)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_are_those_of_monais_sliding_window(overlap: float) -> None:
    shape, crop = (21, 9, 16), (8, 12, 5)
    seen = []

    def remember(window: torch.Tensor, coordinates: list[list[slice]]) -> torch.Tensor:
        seen.append(places(tuple(coordinates[0][2:])))  # type: ignore[arg-type]
        return window

    size = window_size(shape, crop)
    sliding_window_inference(torch.zeros(1, 1, *shape), size, 1, remember, overlap=overlap, with_coord=True)
    assert [places(box) for box in windows(shape, crop, overlap)] == seen
    assert len(seen) > 1


def test_a_volume_that_fits_is_one_window() -> None:
    whole = ((0, 5), (0, 8), (0, 3))
    assert [places(box) for box in windows((5, 8, 3), (8, 8, 8), 0.5)] == [whole]
    assert places(random_box((5, 8, 3), (8, 8, 8), np.random.default_rng(0))) == whole


def test_random_boxes_reach_both_ends_and_stay_inside() -> None:
    generator = np.random.default_rng(0)
    boxes = [places(random_box((7, 4, 9), (5, 4, 2), generator)) for _ in range(300)]
    assert {box[0] for box in boxes} == {(0, 5), (1, 6), (2, 7)}
    assert {box[1] for box in boxes} == {(0, 4)}
    assert {box[2] for box in boxes} == {(start, start + 2) for start in range(8)}
