import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.prediction import PredictSettings, find_images, predict
from gvsl.prediction.predict import _resource_error
from gvsl.store import Store
from gvsl.transfer import SegmentationNetwork, TransferSettings, save_adapted
from gvsl.transfer.weights import segmenter_config


def test_only_a_lack_is_taken_for_one() -> None:
    with pytest.raises(RuntimeError) as torch_says:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as numpy_says:
        np.empty(2**60, dtype=np.uint8)
    for error in (torch_says.value, numpy_says.value):
        assert "does not fit the memory there is; end other programs" in str(_resource_error(error, Path("out")))
    assert "disk of out; make room" in str(
        _resource_error(OSError(errno.ENOSPC, "No space left on device"), Path("out"))
    )
    for other in (RuntimeError("shapes don't match"), OSError(errno.EIO, "Input/output error")):
        assert _resource_error(other, Path("out")) is None


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from gvsl.prediction import find_images, predict

torch.set_num_threads(1)
run, folder, out = map(Path, sys.argv[1:])
predict(run, find_images([folder / "a.nii"]), out)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))
outcome = predict(run, find_images([folder]), out)
print(*(case.id for case in outcome.done), [reason for _, reason in outcome.failed], len(outcome.present))
"""


@pytest.mark.slow
def test_an_image_that_does_not_fit_memory_is_listed_and_the_rest_is_done(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a", 16), ("b", 128), ("c", 16)):
        image = np.random.default_rng(0).random((side,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii")
    (tmp_path / "run").mkdir()
    save_adapted(
        tmp_path / "run",
        SegmentationNetwork(UNet3D(width=8, levels=3), 3),
        segmenter_config({1: "ball", 7: "box"}, kernel=3),
        settings=TransferSettings(width=8),
        method="x",
        preprocessing=store.preprocessing,
        provenance={},
    )
    words = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "run"), str(folder), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    reason = "does not fit the memory there is; end other programs, or predict it on a machine with more"
    assert done.stdout.split("\n")[0] == f"c ['{reason}'] 1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_a_full_disk_is_listed_and_leaves_nothing_half_written(
    wide_run: Path, tmp_path: Path, small_disk: Path, output: str
) -> None:
    folder, settings = tmp_path / "in", PredictSettings(output=output)  # type: ignore[arg-type]
    folder.mkdir()
    for name, side in (("a", 12), ("b", 64), ("c", 12)):
        image = np.random.default_rng(0).random((side,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii")
    predict(wide_run, find_images([folder / "a.nii"]), small_disk, settings)
    if output == "labels":  # whose map of b is small itself
        free = shutil.disk_usage(small_disk).free
        (small_disk / "others").write_bytes(bytes(free - 5 * 4096))
    outcome = predict(wide_run, find_images([folder]), small_disk, settings)
    assert [case.id for case in outcome.done] == ["c"]
    ((case, reason),) = outcome.failed
    assert case.id == "b"
    assert reason == f"its result does not fit the disk of {small_disk}; make room and give the same command again"
    known = {"labels.json", "predicted.json", "others"}
    assert {path.name[0] for path in small_disk.iterdir() if path.name not in known} == {"a", "c"}
    if output == "labels":
        (small_disk / "others").unlink()
        assert [case.id for case in predict(wide_run, find_images([folder]), small_disk, settings).done] == ["b"]
