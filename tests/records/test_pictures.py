from pathlib import Path

import numpy as np

from gvsl.records.pictures import segmentation_slices, write_segmentations


def test_slices_go_through_the_most_of_the_truth() -> None:
    image = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6) / 120
    truth = np.zeros((4, 5, 6), np.int64)
    truth[2, 1:4, 1:5] = 9
    truth[1, 3, 4] = 9
    prediction = np.roll(truth, 1, axis=0)
    slices = segmentation_slices(image, truth, prediction)
    assert sorted(slices) == sorted(f"{name}_{axis}" for name in ("image", "truth", "prediction") for axis in range(3))
    assert np.array_equal(slices["truth_0"], truth[2])
    assert np.array_equal(slices["prediction_0"], prediction[2])
    assert np.array_equal(slices["truth_1"], truth[:, 3])
    assert np.array_equal(slices["truth_2"], truth[:, :, 4])
    assert np.allclose(slices["image_1"], image[:, 3], atol=1e-3)
    assert slices["truth_0"].dtype == np.uint8


def test_an_empty_truth_is_cut_in_the_middle_and_large_values_are_kept() -> None:
    empty, image = np.zeros((4, 5, 7), np.int64), np.zeros((4, 5, 7), np.float32)
    found = empty.copy()
    found[2, 2, 3] = 850
    slices = segmentation_slices(image, empty, found)
    assert [slices[f"prediction_{axis}"].max() for axis in range(3)] == [850] * 3


def test_best_median_and_worst_are_written(tmp_path: Path) -> None:
    scores = [0.4, 0.9, 0.1, 0.6, 0.5]
    rows = [{"id": f"s{index}", "dice": score} for index, score in enumerate(scores)]
    slices = [{"image_0": np.full((2, 2), index)} for index in range(5)]
    pictures = write_segmentations(tmp_path, rows, slices)
    assert [picture["kind"] for picture in pictures] == ["segmentation"] * 3
    assert [picture["title"] for picture in pictures] == [
        "best: s1, DSC 0.900",
        "median: s4, DSC 0.500",
        "worst: s2, DSC 0.100",
    ]
    assert [np.load(tmp_path / picture["file"])["image_0"][0, 0] for picture in pictures] == [1, 4, 2]


def test_label_values_below_0_keep_their_sign() -> None:
    truth = np.zeros((3, 4, 5), np.int16)
    truth[1, 2, 3] = -1
    slices = segmentation_slices(np.zeros((3, 4, 5), np.float32), truth, np.abs(truth))
    assert slices["truth_0"].min() == -1
    assert slices["prediction_0"].max() == 1
