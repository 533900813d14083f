import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.provenance import image_hashes, labels_seen
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.store.table import CaseTable, row_line
from gvsl.transfer.cases import draw_labelled
from gvsl.transfer.leakage import check_leakage, describe_leakage, images_of, leaked_cases


def pretrained(folder: Path, store: Store, cases: list[str] | None) -> Path:
    """Weights learnt from these cases of a store; None for weights of before that was noted."""
    torch.manual_seed(0)
    images = None if cases is None else image_hashes(store.cases[case].content for case in cases)
    contract = store.preprocessing
    backbone = UNet3D(width=8, levels=3)
    save_weights(folder, backbone, method="gvsl", preprocessing=contract, provenance={}, learnt_from=images)
    return folder


def words(store: Store, weights: Path, out: Path, mode: str = "linear") -> list[str]:
    few = ["--max-steps", "1", "--validate-every", "1", "--clusters.points", "0", "--crop", "[16, 16, 16]"]
    return ["transfer", str(store.path), "--weights", str(weights), "--mode", mode, "--out", str(out), *few]


def test_weights_that_saw_what_is_held_out_are_refused_unless_asked_for(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pretrained(tmp_path / "leaky", store, ["s0", "s6", "s8"])  # s6 is in val, s8 in test
    assert main(words(store, weights, tmp_path / "run")) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{weights} was trained on images that {store.path} holds out in val or test: s6, s8; remove them" in said
    assert said.endswith("or give --allow-leakage")
    assert not (tmp_path / "run").exists()
    assert main([*words(store, weights, tmp_path / "run"), "--allow-leakage"]) == 0
    assert f"{weights}: held out but trained on: s6, s8" in capsys.readouterr().out.splitlines()
    config = read_record(tmp_path / "run").config
    assert (config["leakage"], config["allow_leakage"]) == ("held out but trained on: s6, s8", True)
    # What is transferred on from there is no better.
    with pytest.raises(UserError, match="s6, s8"):
        check_leakage(load_backbone(tmp_path / "run"), tmp_path / "run", store)


def test_weights_that_saw_nothing_of_it_pass_and_the_record_says_so(tmp_path: Path, store: Store) -> None:
    weights = pretrained(tmp_path / "clean", store, ["s0", "s1"])
    assert main(words(store, weights, tmp_path / "run", mode="finetune")) == 0
    assert read_record(tmp_path / "run").config["leakage"] == "no held-out image was trained on"
    train = frozenset(store.cases[case].content[:16] for case in store.split("train"))
    assert load_backbone(tmp_path / "run").learnt_from == train  # s0 and s1 are among them


def test_what_is_not_known_is_not_checked_and_said(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pretrained(tmp_path / "old", store, None)
    assert main(words(store, weights, tmp_path / "run", mode="finetune")) == 0
    assert f"{weights}: not checked: it isn't known" in capsys.readouterr().out
    assert read_record(tmp_path / "run").config["leakage"].startswith("not checked")
    assert load_backbone(tmp_path / "run").learnt_from is None
    # Nor is it known of stores of before there were hashes.
    rows = [json.loads(line) for line in store.table.lines.splitlines()]
    unknown = b"".join(row_line({name: value for name, value in row.items() if name != "content"}) for row in rows)
    before = replace(store, table=CaseTable.parse(unknown))
    backbone = load_backbone(pretrained(tmp_path / "leaky", store, ["s6"]))
    assert leaked_cases(images_of(backbone), before) is None
    assert describe_leakage(images_of(backbone), before).startswith("not checked")
    assert leaked_cases(images_of(backbone), store) == ["s6"]


def test_random_weights_saw_nothing(tmp_path: Path, store: Store) -> None:
    narrow = ["--width", "8", "--levels", "3"]
    assert main([*words(store, Path("scratch"), tmp_path / "run", mode="scratch"), *narrow]) == 0
    assert read_record(tmp_path / "run").config["leakage"] == "no held-out image was trained on"
    train = frozenset(store.cases[case].content[:16] for case in store.split("train"))
    assert load_backbone(tmp_path / "run").learnt_from == train


def test_weights_that_saw_labels_of_other_cases_than_those_drawn_are_refused_unless_asked_for(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {case: store.cases[case].content[:16] for case in ("s0", "s1")}
    images, weights = frozenset(contents.values()), tmp_path / "informed"
    save_weights(
        weights,
        UNet3D(width=8, levels=3),
        method="gvsl",
        preprocessing=store.preprocessing,
        provenance={"labels": contents},
        learnt_from=images,
    )
    (drawn,) = draw_labelled(store.split("train"), 1, 0)
    missing = ", ".join(case for case in contents if case != drawn)
    assert main([*words(store, weights, tmp_path / "one"), "--labels", "1"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{weights} saw the labels of {missing}, not among the 1 cases labelled here" in said
    assert not (tmp_path / "one").exists()
    assert main(words(store, weights, tmp_path / "all")) == 0
    assert read_record(tmp_path / "all").pretraining["labels"] == ["s0", "s1"]
    assert main([*words(store, weights, tmp_path / "one"), "--labels", "1", "--allow-leakage"]) == 0


def test_a_network_that_learnt_from_labels_is_not_taken_for_one_without(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = ["--width", "8", "--levels", "3"]
    trained = tmp_path / "trained"
    assert main([*words(store, Path("scratch"), trained, mode="scratch"), *narrow]) == 0
    train = {case: store.cases[case].content[:16] for case in store.split("train")}
    assert labels_seen(load_backbone(trained).provenance) == train
    assert main([*words(store, trained, tmp_path / "one", mode="finetune"), "--labels", "1"]) == 2
    assert f"{trained} saw the labels of" in capsys.readouterr().err
    assert main(words(store, trained, tmp_path / "probe")) == 0
    record = read_record(tmp_path / "probe")
    assert (record.config["method"], record.pretraining["labels"]) == ("supervised", sorted(train))
    assert labels_seen(load_backbone(tmp_path / "probe").provenance) == train  # by those that it began from
    clean = pretrained(tmp_path / "clean", store, ["s0"])
    assert main(words(store, clean, tmp_path / "frozen")) == 0
    assert labels_seen(load_backbone(tmp_path / "frozen").provenance) == {}


@pytest.mark.parametrize(("mode", "seen"), [("scratch", None), ("finetune", None), ("linear", {})])
def test_labels_of_weights_of_before_they_were_recorded(mode: str, seen: dict[str, str] | None) -> None:
    assert labels_seen({"mode": mode}) == seen
    assert labels_seen({"weights": {"mode": mode}}) == seen
    assert labels_seen({"mode": mode, "labels": {"a": "0"}}) == {"a": "0"}
