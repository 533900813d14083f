from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.weights import PretrainedUNet3D, load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.hardware import find_device
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.store import Store
from gvsl.transfer import TransferSettings
from gvsl.transfer.preflight import check_mode, check_structures

ONE_MM = Preprocessing(crop="none")


def pretrained(folder: Path, contract: Preprocessing, in_channels: int = 1) -> PretrainedUNet3D:
    backbone = UNet3D(in_channels, width=8, levels=3)
    save_weights(folder, backbone, method="gvsl", preprocessing=contract, provenance={})
    return load_backbone(folder)


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("contract", "theirs", "ours", "options"),
    [
        (Preprocessing(spacing=2.0), "spacing 2", "spacing 1", "--preset mr --spacing 2"),
        (
            PRESETS["ct"],
            "intensity window, lower -1024, upper 1024",
            "intensity percentiles, lower 0.5, upper 99.5",
            "--preset ct",
        ),
        (
            replace(PRESETS["ct"], upper=600.0, crop="none"),
            "intensity window, lower -1024, upper 600",
            "intensity percentiles, lower 0.5, upper 99.5",
            "--preset ct --upper 600 --crop none",
        ),
    ],
)
def test_another_contract_is_refused_with_both_and_the_command(
    tmp_path: Path, store: Store, contract: Preprocessing, theirs: str, ours: str, options: str
) -> None:
    backbone = pretrained(tmp_path / "run", contract)
    message = refusal(lambda: check_preprocessing(backbone, tmp_path / "run", store))
    assert f"{tmp_path / 'run'} was trained on volumes with {theirs}, but {store.path}" in message
    assert f"was prepared with {ours}: " in message
    assert message.endswith(f"`gvsl prepare SOURCE NEW_STORE {options}`, or give --allow-preprocessing-mismatch")
    check_preprocessing(backbone, tmp_path / "run", store, allow_mismatch=True)


@pytest.mark.parametrize("contract", [ONE_MM, Preprocessing(crop="foreground", margin=9)])
def test_how_much_was_cut_away_does_not_matter(tmp_path: Path, store: Store, contract: Preprocessing) -> None:
    check_preprocessing(pretrained(tmp_path, contract), tmp_path, store)


def test_another_number_of_channels_is_refused(tmp_path: Path, store: Store) -> None:
    backbone = pretrained(tmp_path, ONE_MM, in_channels=2)
    assert "takes 2 channels" in refusal(lambda: check_preprocessing(backbone, tmp_path, store))


def test_modes_and_weights_that_do_not_go_together_are_refused() -> None:
    finetune, scratch = TransferSettings(mode="finetune"), TransferSettings(mode="scratch")
    assert "finetune needs weights" in refusal(lambda: check_mode(None, finetune))
    assert "leave out run" in refusal(lambda: check_mode(Path("run"), scratch))
    for weights, settings in ((None, scratch), (Path("run"), finetune)):
        check_mode(weights, settings)
        check_mode(weights, TransferSettings(mode="linear"))


def test_structures_are_those_of_the_store(store: Store) -> None:
    assert check_structures(store, store.split("train"), store.split("test")) == {1: "ball", 7: "box"}


def test_a_structure_without_a_training_voxel_is_refused(build_store: Callable[..., Store]) -> None:
    store = build_store(lambda number, label: np.where((label == 7) & (number < 5), 0, label).astype(np.uint8))
    message = refusal(lambda: check_structures(store, store.split("train"), store.split("test")))
    assert "box (7) has no voxel in the 5 training cases" in message


def test_cases_without_a_label_map_are_refused(build_store: Callable[..., Store]) -> None:
    store = build_store(lambda number, label: None if number in (3, 8) else label)
    message = refusal(lambda: check_structures(store, store.split("train"), store.split("test")))
    assert "no label map for s3, s8" in message


def test_devices() -> None:
    assert find_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    else:
        assert find_device("auto") == torch.device("cpu")
        assert "choose cpu or auto" in refusal(lambda: find_device("cuda"))
