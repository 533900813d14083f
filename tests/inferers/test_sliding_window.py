import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from gvsl.inferers import sliding_window as sliding
from gvsl.inferers.sliding_window import likeliest, sliding_window
from gvsl.io import Box

SHAPES = [((21, 9, 14), (8, 8, 8)), ((30, 17, 11), (12, 10, 16)), ((9, 26, 33), (9, 10, 12))]


def positioned(classes: int) -> Callable[[Box], Tensor]:
    """Logits that depend on the window as well as on the voxel, so that no two windows agree."""

    def logits(box: Box) -> Tensor:
        generator = torch.Generator().manual_seed(int(sum(10**axis * side.start for axis, side in enumerate(box))))
        return torch.randn(1, classes, *(side.stop - side.start for side in box), generator=generator)

    return logits


def gathered(shape: Sequence[int], crop: Sequence[int], overlap: float, scratch: Path | None = None) -> Tensor:
    whole = torch.full((5, *shape), torch.nan)

    def finish(box: Box, mean: Tensor) -> None:
        assert whole[:, *box].isnan().all()
        whole[:, *box] = mean

    sliding_window(positioned(5), shape, crop, overlap, finish, scratch)
    return whole


@pytest.mark.parametrize(("shape", "crop"), SHAPES)
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
def test_the_mean_is_that_of_monai(shape: tuple[int, ...], crop: tuple[int, ...], overlap: float) -> None:
    def predictor(_: Tensor, places: list[list[slice]]) -> Tensor:
        depth, height, width = places[0][2:]
        return positioned(5)((depth, height, width))

    roi = [min(side, limit) for side, limit in zip(shape, crop, strict=True)]
    expected = sliding_window_inference(
        torch.zeros(1, 1, *shape), roi, 1, predictor, overlap=overlap, mode="gaussian", with_coord=True
    )
    torch.testing.assert_close(gathered(shape, crop, overlap), expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "crop"), SHAPES)
def test_what_waits_on_disk_comes_back_unchanged(
    shape: tuple[int, ...], crop: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = gathered(shape, crop, 0.5)
    files = []

    def logits(box: Box) -> Tensor:
        files.append(len(list(tmp_path.rglob("*-*-*"))))
        return positioned(5)(box)

    monkeypatch.setattr(sliding, "MIN_HELD_BYTES", 0)
    assert torch.equal(gathered(shape, crop, 0.5, tmp_path), held)
    assert np.array_equal(likeliest(logits, shape, crop, 0.5, tmp_path), held.argmax(0).numpy())
    assert max(files) > 0
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_volume_times_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding, "MIN_HELD_BYTES", 0)
    classes, side, window_bytes = 24, 8, 4 * 24 * 8**3
    most = 0

    class Counted(sliding._Sums):
        def limit(self, window_bytes: int) -> None:
            super().limit(window_bytes)
            nonlocal most
            most = max(most, self.bytes)

    monkeypatch.setattr(sliding, "_Sums", Counted)
    likeliest(positioned(classes), (40, 24, 24), (side, side, side), 0.5, tmp_path)
    assert 0 < most <= window_bytes


PEAK = """
import resource, sys
import torch
from gvsl.inferers.sliding_window import likeliest

classes, window = int(sys.argv[1]), 64
torch.set_num_threads(1)
logits = torch.randn(1, classes, window, window, window)
likeliest(lambda box: logits, (256, 256, 160), (window,) * 3, 0.5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_the_process_s_memory_hardly_grows_with_the_classes() -> None:
    peaks = {}
    for classes in (8, 29):
        done = subprocess.run([sys.executable, "-c", PEAK, str(classes)], capture_output=True, text=True, check=True)
        peaks[classes] = 1024 * int(done.stdout)
    whole = 4 * 256 * 256 * 160  # bytes of one class over the volume, of which plain sums would hold 21 more
    assert peaks[29] - peaks[8] < 21 * whole / 2  # a good part of it the 256 MiB of sums that never go to disk


def test_a_small_receptive_field_gives_the_whole_volumes_prediction_away_from_rims() -> None:
    image = torch.rand(1, 1, 40, 30, 26, generator=torch.Generator().manual_seed(1))
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 6, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv3d(6, 4, 1))
    crop, reach = (16, 16, 16), 1
    whole = torch.full((4, 40, 30, 26), torch.nan)
    with torch.no_grad():
        expected = network(image)[0]

        def logits(box: Box) -> Tensor:
            # A window's own rim sees zeros where the volume goes on: it is left as the whole volume has it, so that
            # only the windows' insides are compared.
            found: Tensor = network(image[..., *box])
            rims = torch.ones(found.shape[2:], dtype=torch.bool)
            rims[reach:-reach, reach:-reach, reach:-reach] = False
            found[0, :, rims] = expected[:, *box][:, rims]
            return found

        sliding_window(logits, (40, 30, 26), crop, 0.5, lambda box, mean: whole[:, *box].copy_(mean))  # type: ignore[arg-type]
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
