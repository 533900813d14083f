import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gvsl.backbones import UNet3D
from gvsl.backbones.weights import save_weights
from gvsl.datasets import folder
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.records import read_record
from gvsl.report import write_report
from gvsl.store import Store
from gvsl.store.store import image_path
from gvsl.transfer import TransferSettings, load_classifier, load_segmenter, run_task
from gvsl.transfer.augmentation import AugmentSettings

classify = partial(run_task, "classification")

SPLITS = ["train"] * 6 + ["val"] * 4 + ["test"] * 6
LINEAR = TransferSettings(
    mode="linear",
    width=8,
    levels=3,
    max_steps=60,
    validate_every=10,
    learning_rate=3e-2,
    crop=(16, 16, 24),
    batch_size=2,
)
CONVERGED = replace(LINEAR, optimiser="lbfgs", weight_penalty=1e-4, max_steps=20, validate_every=5)
TRAINED = replace(LINEAR, mode="scratch", max_steps=8, validate_every=4, checkpoint_every=3)
Change = Callable[[dict[str, int]], dict[str, int]]


def write_source(root: Path, change: Change = lambda classes: classes) -> Path:
    """Images of noise, every other one with bright spots strewn over it, and their classes."""
    (root / "images").mkdir(parents=True)
    classes: dict[str, int] = {}
    splits: dict[str, list[str]] = {}
    for number, split in enumerate(SPLITS):
        draw = np.random.default_rng(number)
        image = draw.normal(-100, 100, (16, 16, 20)).astype(np.float32)
        name = f"p{number:02d}"
        classes[name] = number % 2
        if classes[name]:
            image[draw.random(image.shape) < 0.15] = 1000
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / "images" / f"{name}.nii.gz")
        splits.setdefault(split, []).append(name)
    (root / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    (root / "classes.json").write_text(json.dumps(change(classes)), encoding="utf-8")
    return root


def make_store(root: Path, change: Change = lambda classes: classes) -> Store:
    found = folder(write_source(root / "source", change))
    return prepare(found.cases, root / "store", PRESETS["ct"], source="phantom")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("classified"))


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "head.safetensors") for run in (one, other))
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("settings", [LINEAR, CONVERGED], ids=["adam", "lbfgs"])
def test_it_tells_the_classes_and_a_folder_holds_all_of_it(
    tmp_path: Path, store: Store, settings: TransferSettings
) -> None:
    record = run_task("ccc", store, None, tmp_path / "run", settings)
    assert record.metrics["test/auc"] > 0.85
    assert record.metrics["test/auc_low"] <= record.metrics["test/auc"] <= record.metrics["test/auc_high"]
    assert read_record(tmp_path / "run").cases == record.cases
    assert [row["target"] for row in record.cases] == [store.cases[str(row["id"])].target for row in record.cases]
    assert record.config["task"] == "ccc"
    lines = (tmp_path / "run" / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss,val_auc"
    best = max(lines[1:], key=lambda line: float(line.split(",")[2] or -1))
    assert best.split(",")[0] == str(record.metrics["best_step"])

    saved = load_classifier(tmp_path / "run")
    for row in record.cases:
        with torch.no_grad():
            logit = saved.network(torch.from_numpy(store.image(str(row["id"])))[None, None])
        assert float(torch.sigmoid(logit)) == pytest.approx(row["score"], abs=1e-5)
    with pytest.raises(UserError, match="holds a run of classification, not of segmentation"):
        load_segmenter(tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "report.html")


def test_kept_and_uncached_features_give_the_same(tmp_path: Path, store: Store) -> None:
    settings = replace(LINEAR, crop=(12, 16, 16), max_steps=4, validate_every=2)  # several windows a case
    first = classify(store, None, tmp_path / "a", settings)
    second = classify(store, None, tmp_path / "b", replace(settings, cache_gigabytes=0.0))
    assert first.cases == second.cases
    assert same(tmp_path / "a", tmp_path / "b")


def test_linear_leaves_the_backbone_and_finetune_trains_the_encoder_alone(tmp_path: Path, store: Store) -> None:
    torch.manual_seed(3)
    backbone = UNet3D(width=8, levels=3)
    save_weights(tmp_path / "w", backbone, method="gvsl", preprocessing=store.preprocessing, provenance={})
    before = load_file(tmp_path / "w" / "weights" / "model.safetensors")
    for mode in ("linear", "finetune"):
        settings = replace(LINEAR, mode=mode, max_steps=2)
        record = classify(store, tmp_path / "w", tmp_path / mode, settings)
        assert record.config["method"] == "gvsl"
        after = load_file(tmp_path / mode / "weights" / "model.safetensors")
        changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
        assert changed == (set() if mode == "linear" else {"encoder"})


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(TRAINED, id="all", marks=pytest.mark.slow),
        pytest.param(replace(CONVERGED, checkpoint_every=3), id="lbfgs"),
    ],
)
def test_a_run_stopped_and_resumed_ends_where_an_unbroken_one_does(
    tmp_path: Path, store: Store, settings: TransferSettings, stop_after: Callable[[int | None], None]
) -> None:
    whole = classify(store, None, tmp_path / "whole", settings)
    stop_after(7)
    with pytest.raises(KeyboardInterrupt):
        classify(store, None, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
    stop_after(None)
    resumed = classify(store, None, tmp_path / "run", settings, resume=True)
    assert resumed.cases == whole.cases
    assert (tmp_path / "run" / "curves.csv").read_text(encoding="utf-8") == (
        tmp_path / "whole" / "curves.csv"
    ).read_text(encoding="utf-8")
    assert same(tmp_path / "run", tmp_path / "whole")
    assert not (tmp_path / "run.part").exists()


def test_a_mistake_on_resuming_keeps_the_state(tmp_path: Path, stop_after: Callable[[int | None], None]) -> None:
    store = make_store(tmp_path / "own")
    stop_after(7)
    with pytest.raises(KeyboardInterrupt):
        classify(store, None, tmp_path / "run", TRAINED)
    stop_after(None)
    damaged = image_path(store.path, "p06")
    kept = damaged.read_bytes()
    damaged.write_bytes(kept[:100])
    with pytest.raises(UserError, match="p06"):
        classify(store, None, tmp_path / "run", TRAINED, resume=True)
    damaged.write_bytes(kept)
    assert classify(store, None, tmp_path / "run", TRAINED, resume=True).metrics["best_step"] > 0
    assert not (tmp_path / "run.part").exists()


def test_the_same_seed_gives_the_same_scores(tmp_path: Path, store: Store) -> None:
    settings = replace(LINEAR, mode="scratch", max_steps=1)
    records = [classify(store, None, tmp_path / name, settings) for name in "ab"]
    other = classify(store, None, tmp_path / "c", replace(settings, augment=AugmentSettings(rate=0)))
    assert records[0].cases == records[1].cases != other.cases


def test_mistakes_are_one_line(tmp_path: Path, store: Store) -> None:
    unclassed = make_store(tmp_path / "a", lambda classes: {key: classes[key] for key in classes if key != "p15"})
    alike = make_store(
        tmp_path / "b", lambda classes: {key: 0 if int(key[1:]) in range(6, 10) else classes[key] for key in classes}
    )
    for broken, message in (
        (unclassed, "has no class for p15: add it to classes.json"),
        (alike, "has only class 0 in the 4 cases of val: move a case"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            classify(broken, None, tmp_path / "run", LINEAR)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"has only class . in the 1 cases of train: use more labels"):
        classify(store, None, tmp_path / "run", replace(LINEAR, labels=1))
    with pytest.raises(UserError, match=r"no task cccc .did you mean ccc"):
        run_task("cccc", store, None, tmp_path / "run", LINEAR)
    assert not (tmp_path / "run").exists()
