"""Names and forms of options: hyphens, short names, flags, crops, choices, and earlier names with a note."""

import re
from collections.abc import Callable
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gvsl.arguments import add_path, add_settings, new_parser, parse, settings_of
from gvsl.cli import COMMANDS, main
from gvsl.cli.data import prepare
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options
from gvsl.errors import UserError
from gvsl.methods import METHODS
from gvsl.preprocessing import Preprocessing
from gvsl.settings.pretrain import PretrainSettings, TrainerSettings
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer.augmentation import SPATIAL

CaptureFixture = pytest.CaptureFixture[str]
Complaint = Callable[..., str]


def pretrain(*argv: str) -> PretrainSettings:
    found: PretrainSettings = pretrain_options(["store", "--out", "run", *argv]).settings
    return found


def transfer(*argv: str) -> TransferSettings:
    found: TransferSettings = transfer_options(["store", "--out", "run", "--weights", "scratch", *argv]).settings
    return found


SHARED = ["--max-steps", "600", "--batch-size", "4", "--device", "cpu", "--precision", "bf16", "--seed", "3"]


def test_both_commands_are_driven_by_the_same_words(capsys: CaptureFixture) -> None:
    for method in METHODS:
        before = pretrain("--method", method, *SHARED)
        assert (before.trainer.max_steps, before.data.batch_size, before.seed) == (600, 4, 3), method
        assert (before.trainer.device, before.trainer.precision) == ("cpu", "bf16"), method
    after = transfer(*SHARED)
    assert (after.max_steps, after.batch_size, after.device, after.precision, after.seed) == (600, 4, "cpu", "bf16", 3)
    assert capsys.readouterr().err == ""


def test_full_names_have_hyphens_and_take_their_value_either_way(capsys: CaptureFixture) -> None:
    found = pretrain("--trainer.max-steps", "7", "--trainer.log-every=9", "--optimiser.learning-rate", "1e-3")
    assert (found.trainer.max_steps, found.trainer.log_every, found.optimiser.learning_rate) == (7, 9, 1e-3)
    assert transfer("--cache-gigabytes", "2").cache_gigabytes == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "argv", "name", "value", "notes"),
    [
        (
            pretrain,
            ["--trainer.max_steps", "7"],
            "trainer.max_steps",
            7,
            ["--trainer.max_steps is now --trainer.max-steps"],
        ),
        (pretrain, ["--max_steps=7"], "trainer.max_steps", 7, ["--max_steps is now --max-steps"]),
        (
            pretrain,
            ["--trainer.accelerator", "gpu"],
            "trainer.device",
            "cuda",
            ["--trainer.accelerator is now --trainer.device"],
        ),
        (
            pretrain,
            ["--pretext.affine", "false"],
            "pretext.affine",
            False,
            ["--pretext.affine false is now --pretext.no-affine"],
        ),
        (
            pretrain,
            ["--trainer.compile=true"],
            "trainer.compile",
            True,
            ["--trainer.compile true is now --trainer.compile"],
        ),
        (transfer, ["--batch", "2"], "batch_size", 2, ["--batch is now --batch-size"]),
        (transfer, ["--augmentation", "none"], "augment.rate", 0, ["--augmentation is now --augment.rate"]),
        (transfer, ["--augment.rate", "none"], "augment.rate", 0, []),
        (transfer, ["--augment.spatial.rotation=30"], "augment.spatial", replace(SPATIAL, rotation=30), []),
        (transfer, ["--augment.mirror", "[0, 2]", "--mode", "scratch"], "augment.mirror", (0, 2), []),
        (
            transfer,
            ["--any_contract", "true"],
            "allow_preprocessing_mismatch",
            True,
            ["--any_contract true is now --allow-preprocessing-mismatch"],
        ),
        (transfer, ["--allow_leakage", "true"], "allow_leakage", True, ["--allow_leakage true is now --allow-leakage"]),
        (
            transfer,
            ["--allow_leakage", "false"],
            "allow_leakage",
            False,
            ["--allow_leakage false is now --no-allow-leakage"],
        ),
        (
            transfer,
            ["--kernel", "1", "--max_steps", "3", "--max_steps", "4"],
            "max_steps",
            4,
            ["--max_steps is now --max-steps"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_earlier_names_and_forms_work_with_one_note(
    command: Callable[..., object], argv: list[str], name: str, value: object, notes: list[str], capsys: CaptureFixture
) -> None:
    found: Any = command(*argv)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value
    assert capsys.readouterr().err == "".join(f"gvsl: note: {note}\n" for note in notes)


def test_earlier_names_in_a_recipe_work_with_a_note(tmp_path: Path, capsys: CaptureFixture) -> None:
    recipe = tmp_path / "mine.yaml"
    text = "pretrain: {trainer: {accelerator: gpu}}\ntransfer: {linear: {batch: 3}, any_contract: true, crop: 32}\n"
    recipe.write_text(text, encoding="utf-8")
    found = transfer("--recipe", str(recipe))
    assert (found.batch_size, found.allow_preprocessing_mismatch, found.crop) == (3, True, (32, 32, 32))
    assert capsys.readouterr().err.splitlines() == [
        f"gvsl: note: recipe {recipe}: any_contract is now allow_preprocessing_mismatch",
        f"gvsl: note: recipe {recipe}: batch is now batch_size",
    ]
    assert pretrain("--recipe", str(recipe)).trainer == TrainerSettings(device="cuda")
    assert capsys.readouterr().err == f"gvsl: note: recipe {recipe}: trainer.accelerator is now trainer.device\n"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], True),
        (["--pretext.no-mask-outside"], False),
        (["--no-mask-outside"], False),
        (["--no-mask-outside", "--mask-outside"], True),
        (["--pretext.mask-outside"], True),
    ],
)
def test_booleans_are_flags(argv: list[str], expected: bool, capsys: CaptureFixture) -> None:
    assert pretrain(*argv).pretext.mask_outside is expected
    assert capsys.readouterr().err == ""


def test_booleans_of_a_transfer_are_flags(capsys: CaptureFixture) -> None:
    assert transfer("--allow-leakage").allow_leakage is True
    assert transfer().allow_leakage is False
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(argv, marks=pytest.mark.slow if argv in (["[64, 64, 64]"], ["64,64,64"]) else [])
        for argv in (["64"], ["64", "64", "64"], ["[64,64,64]"], ["[64, 64, 64]"], ["[64,", "64,", "64]"], ["64,64,64"])
    ],
    ids=" ".join,
)
def test_a_crop_is_one_side_or_three(argv: list[str]) -> None:
    assert pretrain("--data.crop", *argv).data.crop == (64, 64, 64)
    assert pretrain("--crop", *argv, "--seed", "1").data.crop == (64, 64, 64)
    assert transfer("--crop", *argv).crop == (64, 64, 64)
    assert transfer(f"--crop={' '.join(argv)}").crop == (64, 64, 64)


def test_a_crop_has_three_sides_or_is_left_out() -> None:
    assert pretrain("--crop", "16", "24", "20").data.crop == (16, 24, 20)
    assert pretrain("--crop", "null").data.crop is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--precision", "bf15"], "no trainer.precision bf15 (did you mean bf16?): choose one of fp32, bf16, auto"),
        (
            ["--data.order=epochs"],
            "there is no data.order epochs (did you mean epoch?): choose one of independent, epoch",
        ),
        (["--method", "gvls"], "there is no method gvls (did you mean gvsl?): choose one of gvsl, "),
        (["--crop", "16", "17"], "--data.crop is 16 17: give one side of a cube in voxels, or three sides"),
        (["--crop", "all"], "--data.crop is all: give one side"),
        (["--max-steps", "-1"], "trainer.max_steps is -1: give 1 or more"),
        (["--max-steps"], "--trainer.max-steps: expected one argument"),
        (["--max-steps", "--seed", "1"], "--trainer.max-steps: expected one argument"),
        (["--clip-norm", "big"], "--optimiser.clip-norm is big: give a number"),
        (["--compile=maybe"], "--trainer.compile is maybe: give true or false"),
        (["--no-seed"], "no setting --no-seed"),
        (["--trainer", "settings.yaml"], "no setting --trainer"),
        (["--pretext", "settings.yaml"], "no setting --pretext"),
        (["--config", "settings.yaml"], "no setting --config"),
        (["--print_config"], "no setting --print_config"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_names_the_option_and_the_fix(argv: list[str], expected: str, complaint: Complaint) -> None:
    assert expected in complaint("pretrain", "store", "--out", "run", *argv)


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--mode", "scratch, linear, finetune"),
        ("--task", "segmentation, classification, shc, sac, sbm, ccc"),
        ("--loss", "dice, dice_ce"),
    ],
)
def test_a_mistyped_choice_lists_the_choices(option: str, choices: str, complaint: Complaint) -> None:
    said = complaint("transfer", "store", "--out", "run", "--weights", "scratch", option, "nothing")
    assert f"there is no {option[2:]} nothing: choose one of {choices}" in said.replace(" (did you mean none?)", "")


def test_a_short_name_of_several_settings_lists_them() -> None:
    one = make_dataclass("One", [("rate", float, 0.5)])
    both = make_dataclass(
        "Both", [("first", one, field(default_factory=one)), ("second", one, field(default_factory=one))]
    )
    parser = new_parser(COMMANDS["methods"], "")
    add_settings(parser, both)
    with pytest.raises(UserError, match=r"has several settings --rate: choose one of --first\.rate, --second\.rate"):
        parse(parser, ["--rate", "1"])
    assert parse(parser, ["--second.rate", "1"]).second.rate == 1


@pytest.mark.parametrize("command", ["prepare", "pretrain", "transfer", "predict", "benchmark"])
def test_help_shows_today_s_forms_alone(command: str, capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    options = [word for line in shown.splitlines() for word in line.split() if word.startswith("--")]
    assert options
    assert [option for option in options if "_" in option] == []
    for hidden in ("CONFIG", "--print", "{true,false}", "configuration file"):
        assert hidden not in shown


@pytest.mark.parametrize(
    ("argv", "spacing"),
    [
        (["--spacing", "0.8", "0.8", "3"], (0.8, 0.8, 3.0)),
        (["--spacing=0.8 0.8 3"], (0.8, 0.8, 3.0)),
        (["--spacing", "[0.8, 0.8, 3]"], (0.8, 0.8, 3.0)),
        (["--spacing", "2"], 2.0),
        (["--spacing", "2", "2", "2"], 2.0),
        ([], 1.0),
    ],
)
def test_a_spacing_is_one_number_or_three(argv: list[str], spacing: object) -> None:
    parser = new_parser(prepare, "SOURCE STORE")
    add_path(parser, "store", "STORE", "the store")
    add_settings(parser, Preprocessing)
    options = parse(parser, [*argv, "out"])
    assert settings_of(Preprocessing, options).spacing == spacing
    assert str(options.store) == "out"


@pytest.mark.parametrize("value", ["x", "1 2", "1 2 3 4", "[1, 2]"])
def test_another_number_of_spacings_is_refused(value: str) -> None:
    parser = new_parser(prepare, "")
    add_settings(parser, Preprocessing)
    with pytest.raises(UserError, match=re.escape(f"--spacing is {value}: give one spacing in mm, or three")):
        parse(parser, ["--spacing", value])
