"""MONAI itself: its bundle commands check, run and export what is exported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.export.export import export
from gvsl.preprocessing import PRESETS
from gvsl.preprocessing.spec import preprocessing_values
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


@pytest.mark.parametrize("shape", [(19, 16, 22), (40, 48, 33)])
def test_a_prepared_image_fits_the_windows_and_the_network(shape: tuple[int, int, int]) -> None:
    from monai.data import MetaTensor  # slow to import

    from gvsl.export.monai_transforms import Prepared, Windows

    spec = preprocessing_values(replace(PRESETS["mr"], crop="none"))
    image = MetaTensor(torch.rand(1, *shape), affine=torch.eye(4))
    found = Prepared("image", spec)({"image": image})["image"]
    assert found.shape == (1, *shape)
    logits = Windows([32, 32, 32], 0.5)(found[None], lambda window: torch.cat([window, window], dim=1))
    torch.testing.assert_close(torch.as_tensor(logits), torch.as_tensor(found[None]).expand(1, 2, *shape))


EVIL = "$__import__('os').getpid()"


def strings(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in [*values, *values.values()] if isinstance(values, dict) else values:
            yield from strings(value)


def edit(path: Path, *keys: str, value: Any) -> None:
    config = json.loads(path.read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(config))


def test_a_stranger_s_preset_is_not_written_where_monai_would_evaluate_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("segmentation")
    edit(run / "weights" / "config.json", "preprocessing", "preset", value=EVIL)
    export(run, tmp_path / "out", "monai")
    for name in ("inference", "metadata"):
        found = list(strings(json.loads((tmp_path / "out" / "configs" / f"{name}.json").read_text())))
        assert len(found) > 30 and not any("getpid" in text for text in found)


@pytest.mark.parametrize("text", [EVIL, "@network", "%configs/other.json", "_target_", "a @::b"])
@pytest.mark.parametrize(("file", "keys"), [("head.json", ("labels", "7")), ("weights/config.json", ("method",))])
def test_a_text_that_monai_would_evaluate_is_refused(
    file: str, keys: tuple[str, ...], text: str, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("segmentation")
    edit(run / file, *keys, value=text)
    with pytest.raises(UserError, match="MONAI would evaluate"):
        export(run, tmp_path / "out", "monai")
    assert not (tmp_path / "out").exists()


def test_a_run_s_name_that_monai_would_evaluate_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("segmentation").rename(tmp_path / EVIL)
    with pytest.raises(UserError, match="MONAI would evaluate its folder"):
        export(run, tmp_path / "out", "monai")
