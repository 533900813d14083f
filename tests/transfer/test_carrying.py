import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.backbones.provenance import read_hashes, short_hash
from gvsl.cases import Case
from gvsl.cli import main
from gvsl.cli.transfer import transfer_options, without_moot_recipe
from gvsl.errors import DivergedError, UserError
from gvsl.io import Volume
from gvsl.prediction import segment_volume
from gvsl.preparation import prepare
from gvsl.preprocessing import Preprocessing
from gvsl.records import read_record
from gvsl.records.comparability import deciding, differences
from gvsl.settings.carrying import CarrySettings, without_moot_settings
from gvsl.store import Store
from gvsl.transfer import Task, TransferSettings, load_segmenter, run_task
from gvsl.transfer.carrying import carry_labels, check_carry, mixed, volumes_to_label
from gvsl.transfer.cases import draw_labelled
from gvsl.transfer.segmentation import Segmentation

from ..conftest import NAMES, subject
from ..matcher import train_matcher

Mode = Literal["scratch", "linear", "finetune", "carried"]
SPLITS = [("pretrain", "train")] * 2 + [("pretrain",)] * 3 + [("val",)] * 2 + [("test",)] * 2
CARRYING = CarrySettings(refine=3, start="none", least_dice=0, real_share=0.5)
SETTINGS = TransferSettings(
    mode="scratch",
    width=8,
    levels=2,
    max_steps=4,
    validate_every=2,
    labels=1,
    crop=(16, 16, 16),
    carrying=CARRYING,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two labelled training cases, three unlabelled ones, two of validation and two of test."""
    folder = tmp_path_factory.mktemp("pool")
    cases = []
    for number, splits in enumerate(SPLITS):
        image, label = subject(number)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"image{number}.nii")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"label{number}.nii")
        truth = None if splits == ("pretrain",) else folder / f"label{number}.nii"
        cases.append(Case(f"s{number}", folder / f"image{number}.nii", truth, splits))
    return prepare(cases, folder / "store", Preprocessing(crop="none"), label_names=NAMES, source="made")


@pytest.fixture(scope="module")
def matcher(pool: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_matcher(pool, tmp_path_factory.mktemp("matcher") / "run")


@pytest.fixture(scope="module")
def student(pool: Store, matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student") / "run"
    run_task("segmentation", pool, None, out, SETTINGS, carry=matcher)
    return out


def test_held_out_volumes_get_no_labels_unless_asked_for(pool: Store) -> None:
    assert volumes_to_label(pool, ["s0"], CARRYING) == ["s1", "s2", "s3", "s4"]
    assert volumes_to_label(pool, ["s0", "s1"], replace(CARRYING, transductive=True)) == [f"s{n}" for n in range(2, 9)]
    few = volumes_to_label(pool, ["s0"], replace(CARRYING, volumes=2))
    assert len(few) == 2
    assert set(few) < {"s1", "s2", "s3", "s4"}


def test_scores_are_by_the_true_labels(pool: Store, matcher: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_steps=1, validate_every=1, carrying=replace(CARRYING, transductive=True))
    run_task("segmentation", pool, None, tmp_path / "run", settings, carry=matcher)
    segmenter = load_segmenter(tmp_path / "run")
    for row in read_record(tmp_path / "run").cases:
        case = str(row["id"])
        found = segment_volume(segmenter, Volume(pool.image(case), np.eye(4)))
        truth = pool.label(case)
        both = [2 * ((found == v) & (truth == v)).sum() / ((found == v).sum() + (truth == v).sum()) for v in NAMES]
        assert row["dice"] == pytest.approx(np.mean(both), abs=0.02)


def test_the_record_tells_what_was_carried(student: Path, pool: Store, matcher: Path) -> None:
    record = read_record(student)
    (atlas,) = record.config["train_cases"]
    with (student / "carried.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == sorted({"s0", "s1", "s2", "s3", "s4"} - {atlas})
    assert record.config["carry"] == "gvsl"
    assert record.config["carry_run"] == str(matcher)
    assert record.config["carried"] == 4
    assert record.config["carry_leakage"] == "no held-out image was trained on"
    learnt = read_hashes(student / "weights")
    assert learnt == frozenset(short_hash(pool.cases[f"s{number}"].content) for number in range(5))
    assert not student.with_name("run.part").exists()


def test_templates_are_unlabelled_volumes_and_chosen_once(pool: Store, matcher: Path, tmp_path: Path) -> None:
    how = replace(SETTINGS, carrying=replace(CARRYING, templates=2))
    chosen = [
        carry_labels(matcher, pool, ["s0"], NAMES, tmp_path / "labels", how, torch.device("cpu")).config()
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]  # the second is read from the folder
    templates = chosen[0]["carry_templates"]
    assert len(templates) == 2
    assert set(templates) < {"s1", "s2", "s3", "s4"}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").rglob("*") if path.suffix == ".npy"}
    carry_labels(matcher, pool, ["s0"], NAMES, tmp_path / "labels", how, torch.device("cpu"))
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    without = carry_labels(matcher, pool, ["s0"], NAMES, tmp_path / "without", SETTINGS, torch.device("cpu"))
    assert without.config()["carry_templates"] == []
    alike = [
        np.array_equal(np.load(path), np.load(tmp_path / "without" / path.relative_to(tmp_path / "labels")))
        for path in stamps
    ]
    assert not any(alike)


def test_it_is_not_taken_for_a_run_without(student: Path, pool: Store, tmp_path: Path) -> None:
    plain = run_task("segmentation", pool, None, tmp_path / "plain", replace(SETTINGS, carrying=CarrySettings()))
    record = read_record(student)
    assert "carry" in {change.name for change in differences(plain, record)}
    assert deciding(plain)["carry"] == "none"
    older = replace(plain, config={key: value for key, value in plain.config.items() if not key.startswith("carry")})
    assert differences(older, plain) == []


def test_labelled_cases_are_drawn_as_often_as_asked_for() -> None:
    for share in (0.0, 0.25, 0.5, 0.9):
        drawn = mixed(["a", "b"], [str(number) for number in range(30)], share)
        assert set(drawn) == {"a", "b", *map(str, range(30))}
        real = sum(case in ("a", "b") for case in drawn)
        assert real / len(drawn) >= share
        assert drawn.count("a") == drawn.count("b")


def test_carried_labels_are_the_targets(pool: Store, matcher: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, augment=replace(SETTINGS.augment, rate=0.0))
    task = Segmentation(pool, settings, "segmentation")
    task.carried = carry_labels(
        matcher, pool, task.train, task.labels, tmp_path / "carried", SETTINGS, torch.device("cpu")
    )
    task.start(task.build(UNet3D(width=8, levels=2)))
    box = (slice(2, 18), slice(0, 16), slice(1, 16))
    assert set(task.drawn_from()) == {"s0", "s1", "s2", "s3", "s4"}
    for case in task.drawn_from():
        _, target = task.example(case, box, 0)
        own = (
            np.searchsorted([0, *NAMES], pool.label(case)) if case in task.train else task.carried.labels.classes(case)
        )
        assert np.array_equal(target[0, 0].numpy(), own[box])


def test_atlases_are_trained_on_with_their_own_labels(pool: Store, matcher: Path, tmp_path: Path) -> None:
    both = replace(SETTINGS, labels=2, carrying=replace(CARRYING, images="both"))
    task = Segmentation(pool, both, "segmentation")
    task.carried = carry_labels(matcher, pool, task.train, task.labels, tmp_path / "carried", both, torch.device("cpu"))
    labels = task.carried.labels
    assert labels.examples == {case: ["", "s0", "s1"] for case in ("s2", "s3", "s4")}
    assert task.carried.config()["carried"] == 3  # volumes, not examples
    task.start(task.build(UNet3D(width=8, levels=2)))
    box = (slice(2, 18), slice(0, 16), slice(1, 16))
    choices = {atlas: labels.image("s2", atlas, box)[0] for atlas in ("s0", "s1")} | {"": pool.image("s2", box)}
    drawn = []
    for number in range(30):
        image, classes = (each[0, 0].numpy() for each in task.cases.training_example("s2", box, 0, number))
        (found,) = (atlas for atlas, choice in choices.items() if np.array_equal(image, choice))
        assert np.array_equal(classes, labels.classes("s2", found, box))
        drawn.append(found)
    assert min(drawn.count(atlas) for atlas in choices) >= 4


def test_soft_targets_are_trained_on_and_scores_are_by_true_labels(pool: Store, matcher: Path, tmp_path: Path) -> None:
    soft = replace(SETTINGS, carrying=replace(CARRYING, targets="soft", transductive=True))
    task = Segmentation(pool, soft, "segmentation")
    task.carried = carry_labels(matcher, pool, task.train, task.labels, tmp_path / "carried", soft, torch.device("cpu"))
    task.start(task.build(UNet3D(width=8, levels=2)))
    case = task.val[0]
    assert case in task.drawn_from()
    box = (slice(2, 18), slice(0, 16), slice(1, 16))
    features, target = task.example(case, box, 1)
    assert target.shape == (1, 3, 16, 16, 15)
    weight = target.sum(dim=1)
    assert ((weight >= 0) & (weight <= 1.01)).all()
    assert 0.1 < weight.mean() < 0.9
    loss = task.loss(task.network.head(features), target)
    loss.backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in task.network.parameters())
    _, real = task.example(task.train[0], box, 1)
    assert real.dtype == torch.int64
    assert np.array_equal(task.cases.target(case)[0, 0], np.searchsorted([0, *NAMES], pool.label(case)))


def test_a_resumed_run_ends_alike(
    pool: Store, matcher: Path, student: Path, tmp_path: Path, stop_after: Callable[[int | None], None]
) -> None:
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        run_task("segmentation", pool, None, tmp_path / "run", SETTINGS, carry=matcher)
    kept = sorted(path.name for path in (tmp_path / "run.part" / "carried").rglob("*.npy"))
    assert len(kept) == 4
    stop_after(None)
    run_task("segmentation", pool, None, tmp_path / "run", SETTINGS, carry=matcher, resume=True)
    for name in ("weights/model.safetensors", "head.safetensors", "carried.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (student / name).read_bytes()


def test_what_cannot_be_carried_is_told(pool: Store, matcher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mode linear trains a head on the labelled cases"):
        run_task("segmentation", pool, None, tmp_path / "a", replace(SETTINGS, mode="linear"), carry=matcher)
    strict = replace(SETTINGS, carrying=replace(CARRYING, least_dice=1.0, refine=1))
    with pytest.raises(UserError, match="none of the 4 volumes"):
        run_task("segmentation", pool, None, tmp_path / "b", strict, carry=matcher)


def test_labels_outlive_a_divergence(pool: Store, matcher: Path, tmp_path: Path) -> None:
    part = tmp_path / "run.part"
    diverging = replace(SETTINGS, learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(DivergedError):
        run_task("segmentation", pool, None, tmp_path / "run", diverging, carry=matcher)
    assert [path.name for path in part.iterdir()] == ["carried"]
    stamps = {path: path.stat().st_mtime_ns for path in part.rglob("*.npy")}
    assert len(stamps) == 4
    train = draw_labelled(pool.split("train"), 1, SETTINGS.seed)
    carry_labels(matcher, pool, train, NAMES, part / "carried", SETTINGS, torch.device("cpu"))
    assert {path: path.stat().st_mtime_ns for path in part.rglob("*.npy")} == stamps
    run_task("segmentation", pool, None, tmp_path / "run", replace(SETTINGS, max_steps=2), carry=matcher)
    assert not part.exists()


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("scratch", {"teacher": "run"}, r"carrying\.teacher is run, but has no effect without --carry: leave it out"),
        ("scratch", {"templates": 3}, r"carrying\.templates is 3, but has no effect without --carry"),
        ("linear", {"transductive": True}, r"carrying\.transductive is True, but has no effect without --carry"),
        ("carried", {"volumes": 3}, r"carrying\.volumes is 3, but has no effect in mode carried"),
        ("carried", {"images": "both"}, r"carrying\.images is both, but has no effect in mode carried"),
        ("carried", {"real_share": 0.5}, r"carrying\.real_share is 0\.5, but has no effect in mode carried"),
    ],
)
def test_a_setting_of_carrying_without_effect_is_refused(mode: Mode, change: dict[str, Any], message: str) -> None:
    settings = TransferSettings(mode=mode, carrying=CarrySettings(**change))
    with pytest.raises(UserError, match=message):
        check_carry(None, settings)
    effective = without_moot_settings(settings.carrying, mode, carries=False)
    check_carry(None, replace(settings, carrying=effective))
    assert effective == CarrySettings()
    assert without_moot_settings(settings.carrying, "scratch", carries=True) == settings.carrying
    check_carry(Path("run"), replace(settings, mode="scratch"))


def test_a_recipe_may_be_for_runs_with_carried_labels_and_without(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("transfer: {carrying: {templates: 2, volumes: 3}}", encoding="utf-8")
    words = ["STORE", "--weights", "scratch", "--out", "RUN", "--recipe", str(recipe)]

    def settings(*more: str) -> TransferSettings:
        options = transfer_options([*words, *more])
        return without_moot_recipe(options.settings, options.carry is not None, more)

    assert settings("--mode", "scratch").carrying == CarrySettings()
    assert settings("--mode", "scratch", "--carry", "OTHER").carrying.templates == 2
    scored = settings("--mode", "carried").carrying
    assert (scored.templates, scored.volumes) == (2, None)
    for option in ("--carrying.volumes=4", "--carrying.transductive", "--carrying.real-share=0.5"):
        with pytest.raises(UserError, match="has no effect without --carry"):
            check_carry(None, settings("--mode", "scratch", option))


def test_settings_of_a_match_have_an_effect_where_carried_labels_are_scored() -> None:
    carrying = CarrySettings(refine=3, templates=2, teacher="run", teacher_share=1.0)
    check_carry(None, TransferSettings(mode="carried", carrying=carrying))
    assert without_moot_settings(carrying, "carried", carries=False) == carrying


def test_a_task_without_label_maps_is_refused_before_anything_is_written(
    pool: Store, matcher: Path, tmp_path: Path
) -> None:
    def open_task(store: Store, settings: TransferSettings, task: str) -> Task:
        return cast(Task, SimpleNamespace(val=["a"]))

    with pytest.raises(UserError, match="--carry carries label maps, and this task has none"):
        run_task("other", pool, None, tmp_path / "run", SETTINGS, carry=matcher, open_task=open_task)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_how_many_matched(
    pool: Store, matcher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"transfer {pool.path} --weights scratch --mode scratch --carry {matcher} --out {tmp_path / 'run'}"
    how = "--labels 1 --width 8 --levels 2 --max-steps 1 --validate-every 1 --crop 16"
    code = main(
        [*words.split(), *how.split(), "--carrying.refine", "1", "--carrying.start", "none", "--least-dice", "0"]
    )
    assert code == 0
    assert "labels on 4 volumes, 0 of which did not match" in capsys.readouterr().out
