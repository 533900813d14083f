"""MONAI itself: its bundle commands check, run and export what is exported."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.cli import main
from gvsl.export.export import export
from gvsl.preprocessing import PRESETS
from gvsl.transfer import load_adapted

from .conftest import SHAPES, MakeRun

CONFIGS = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json")


def bundle(folder: Path, *words: str) -> str:
    """Run a command of monai.bundle in a bundle's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words], cwd=folder, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_monai_checks_runs_and_exports_the_bundle(make_run: MakeRun, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("fire", reason="the extra gvsl[monai] is not installed")
    pytest.importorskip("ignite", reason="the extra gvsl[monai] is not installed")
    run, out = make_run("segmentation", PRESETS["mr"]), tmp_path / "out"
    export(run, out, "monai")

    bundle(out, "verify_net_in_out", "network_def", *CONFIGS)
    bundle(out, "ckpt_export", "network_def", "--filepath", "models/model.ts", *CONFIGS)
    image = torch.rand(1, 1, 19, 16, 22)
    with torch.no_grad():
        scripted = torch.jit.load(str(out / "models" / "model.ts"))(image)
        torch.testing.assert_close(scripted, load_adapted(run).network(image))

    bundle(out, "run", *CONFIGS, "--dataset_dir", str(images), "--output_dir", str(tmp_path / "theirs"))
    assert main(["predict", str(run), str(images), "--out", str(tmp_path / "ours")]) == 0
    compared = sorted((tmp_path / "ours").glob("*.nii.gz"))
    assert len(compared) == len(SHAPES)
    for path in compared:
        ours, theirs = nib.load(path), nib.load(tmp_path / "theirs" / path.name)
        assert np.array_equal(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
        assert np.array_equal(ours.affine, theirs.affine)
        assert len(np.unique(np.asanyarray(ours.dataobj))) == 3  # else nothing is compared
