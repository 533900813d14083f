"""What nnU-Net has trained, taken back: the same network, and nothing from a stranger's checkpoint is executed."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gvsl.backbones.provenance import labels_seen
from gvsl.backbones.weights import load_backbone
from gvsl.errors import UserError
from gvsl.export import gvsl_unet
from gvsl.export.export import export
from gvsl.export.result import ExportSettings
from gvsl.preprocessing import PRESETS
from gvsl.publication.contract import published_provenance
from gvsl.store import Store
from gvsl.transfer import load_segmenter
from gvsl.transfer.leakage import check_labels_seen, contents_of
from gvsl.transfer.origin import pretraining_of

from .conftest import CROP, prepare_of, save_run, spread, write_images

NAME = "Dataset901_Made"
Fold = tuple[Path, gvsl_unet.ForNNUNet]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Fold:
    """Lay out results as nnU-Net does, with random weights, and return the fold and its network."""
    root = tmp_path_factory.mktemp("nnunet")
    out, store = root / "out", prepare_of(write_images(root / "source"), root / "store", PRESETS["mr"])
    export(save_run(root, "pretrain"), out, "nnunet", ExportSettings(store.path, NAME))
    results = root / "results"
    (results / "fold_0").mkdir(parents=True)
    shutil.copy(out / "preprocessed" / NAME / "gvslPlans.json", results / "plans.json")
    shutil.copy(out / "preprocessed" / NAME / "dataset.json", results / "dataset.json")
    plans = json.loads((results / "plans.json").read_text())
    torch.manual_seed(5)
    chosen = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network = gvsl_unet.ForNNUNet(1, 3, **chosen).eval()
    spread(network)
    save(results / "fold_0", network_weights=network.state_dict())
    return results / "fold_0", network


@pytest.fixture
def fold(laid_out: Fold, tmp_path: Path) -> Fold:
    """A copy of the results and of their network, to change."""
    folder, network = laid_out
    shutil.copytree(folder.parent, tmp_path / "results")
    return tmp_path / "results" / folder.name, copy.deepcopy(network)


def save(folder: Path, **entries: Any) -> None:
    curves = {"logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)]}, "init_args": {"device": "cpu"}}
    torch.save({**curves, **entries}, folder / "checkpoint_final.pth")


def test_the_run_computes_what_the_fold_does(fold: Fold, tmp_path: Path) -> None:
    folder, network = fold
    export(folder, tmp_path / "back", "gvsl")
    model = load_segmenter(tmp_path / "back")
    image = torch.rand(1, 1, 17, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), network(image))
    assert model.labels == {1: "ball", 7: "box"}  # nnU-Net has 1 and 2
    assert model.preprocessing == PRESETS["mr"]
    plans = json.loads((folder.parent / "plans.json").read_text())
    assert list(model.crop) == plans["configurations"]["3d_fullres"]["patch_size"] and model.overlap == 0.5


def test_deep_supervision_returns_every_level_from_the_finest_on(fold: Fold) -> None:
    _, network = fold
    image = torch.rand(1, 1, *CROP)
    with torch.no_grad():
        whole = network(image)
        network.decoder.deep_supervision = True
        levels = network(image)
    assert torch.equal(levels[0], whole)
    assert [tuple(level.shape) for level in levels] == [(1, 3, 16, 16, 16), (1, 3, 8, 8, 8)]


def test_labels_that_the_pre_training_saw_come_back(fold: Fold, store: Store, tmp_path: Path) -> None:
    folder, _ = fold
    plans = json.loads((folder.parent / "plans.json").read_text())
    contract = plans["gvsl"]
    train = store.split("train")
    seen = {case: store.cases[case].content[:16] for case in train[:2]}
    first, last = ({case: seen[case]} for case in reversed(seen))
    told = {
        "none": {"provenance": {"steps": 3}},
        ", ".join(seen): {"provenance": {"mode": "finetune", "labels": last, "weights": {"labels": first}}},
        "not known": {},
    }
    del contract["provenance"]  # as an earlier gvsl wrote them
    for expected, entries in told.items():
        plans["gvsl"] = contract | entries
        (folder.parent / "plans.json").write_text(json.dumps(plans))
        back = tmp_path / expected.replace(", ", "-")
        assert export(folder, back, "gvsl")[-1] == f"labels seen in training: {expected}"
        assert json.loads((back / "export.json").read_text())["labels_seen"] == expected
        backbone = load_backbone(back)
        found = pretraining_of(backbone).get("labels")
        assert found == {"none": None, "not known": "not known"}.get(expected, list(seen))
        again = export(back, tmp_path / f"again-{back.name}", "torchscript")
        assert again[-1] == f"labels seen in training: {expected}"
        published = published_provenance(backbone.provenance)
        assert len(labels_seen(published) or ()) == (2 if found == list(seen) else 0)
        assert (labels_seen(published) is None) == (expected == "not known")
        check_labels_seen(backbone, back, contents_of(store, train))
    with pytest.raises(UserError, match=f"saw the labels of {train[1]}, not among the 1 cases labelled here"):
        check_labels_seen(load_backbone(tmp_path / "-".join(seen)), back, contents_of(store, train[:1]))


class Executed:
    """What runs a function where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


def test_nothing_in_a_checkpoint_is_executed(fold: Fold, tmp_path: Path) -> None:
    folder, network = fold
    save(folder, network_weights=network.state_dict(), logging=Executed(tmp_path / "executed"))
    with pytest.raises(UserError, match="no whole checkpoint of nnU-Net"):
        export(folder, tmp_path / "back", "gvsl")
    assert not (tmp_path / "executed").exists() and not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("plans.json", lambda plans: plans.pop("gvsl"), "no plans of gvsl export --to nnunet"),
        ("plans.json", lambda plans: plans["gvsl"].update(labels=["x"]), "no plans of gvsl export"),
        ("plans.json", lambda plans: plans["gvsl"].update(provenance=["x"]), "no plans of gvsl export"),
        ("plans.json", lambda plans: plans.pop("configurations"), "no plans of gvsl export"),
        ("dataset.json", lambda listing: listing["labels"].update(box=5), "its labels are not 1, 2"),
        ("dataset.json", lambda listing: listing["labels"].update(third=3), "its labels are not the 2 of its plans"),
    ],
)
def test_results_of_other_plans_are_refused(
    name: str, change: Callable[[dict[str, Any]], object], expected: str, fold: Fold, tmp_path: Path
) -> None:
    folder, _ = fold
    values = json.loads((folder.parent / name).read_text())
    change(values)
    (folder.parent / name).write_text(json.dumps(values))
    with pytest.raises(UserError, match=expected):
        export(folder, tmp_path / "back", "gvsl")
    assert not (tmp_path / "back").exists()


def test_weights_that_are_not_finite_or_not_all_there_are_refused(fold: Fold, tmp_path: Path) -> None:
    folder, network = fold
    weights = network.state_dict()
    save(folder, network_weights={name: value for name, value in weights.items() if "decoder.1" not in name})
    with pytest.raises(UserError, match="does not fit its plans"):
        export(folder, tmp_path / "back", "gvsl")
    weights["encoder.0.0.0.weight"][0, 0, 0, 0, 0] = torch.nan
    save(folder, network_weights=weights)
    with pytest.raises(UserError, match="NaN or infinite values"):
        export(folder, tmp_path / "back", "gvsl")
