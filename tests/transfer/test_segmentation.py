import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from gvsl.augment import AcquisitionSettings, SpatialSettings
from gvsl.backbones import UNet3D
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.cases import IGNORED
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.inferers import predict_classes
from gvsl.io import Volume
from gvsl.metrics.dice import dice_per_structure
from gvsl.prediction import find_images, predict, segment_volume
from gvsl.records import RunRecord, read_record
from gvsl.report import read_report, write_report
from gvsl.settings.carrying import CarrySettings
from gvsl.store import Store
from gvsl.store.store import image_path
from gvsl.store.table import CaseTable
from gvsl.transfer import ClusterSettings, TransferSettings, load_segmenter, run_task
from gvsl.transfer.augmentation import AugmentSettings
from gvsl.transfer.cases import LabelledCases
from gvsl.transfer.segmentation import segmentation_loss

transfer = partial(run_task, "segmentation")

LINEAR = TransferSettings(
    mode="linear",
    width=8,
    levels=3,
    max_steps=20,
    validate_every=5,
    learning_rate=1e-2,
    crop=(16, 24, 16),
    clusters=ClusterSettings(points=0),
)

TRAINED = replace(
    LINEAR,
    mode="scratch",
    labels=3,
    batch_size=2,
    max_steps=6,
    validate_every=3,
    checkpoint_every=2,
)
CONVERGED = replace(LINEAR, optimiser="lbfgs", loss="dice_ce", max_steps=10, validate_every=4, checkpoint_every=3)


@pytest.fixture
def weights(tmp_path: Path, store: Store) -> Path:
    torch.manual_seed(3)
    provenance = {"store": {"name": "made", "hash": "x"}}
    backbone = UNet3D(width=16, levels=3)
    save_weights(tmp_path / "gvsl", backbone, method="gvsl", preprocessing=store.preprocessing, provenance=provenance)
    return tmp_path / "gvsl"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Callable[[TransferSettings], Path]:
    """Train from scratch, once for the same settings, and return the run's folder."""

    @cache
    def train(settings: TransferSettings) -> Path:
        out = tmp_path_factory.mktemp("trained") / "run"
        transfer(store, None, out, settings)
        return out

    return train


@pytest.fixture(scope="module")
def plain(trained: Callable[[TransferSettings], Path]) -> Path:
    return trained(LINEAR)


def scores(record: RunRecord) -> list[float]:
    return [row["dice"] for row in record.cases]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "head.safetensors") | load_file(run / "weights" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = tensors(one), tensors(other)
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_folder_holds_what_the_report_reads(tmp_path: Path, store: Store) -> None:
    out = tmp_path / "run"
    record = transfer(store, None, out, replace(LINEAR, labels=3))
    assert asdict(read_record(out)) == {**asdict(record), "config": json.loads(json.dumps(record.config))}
    assert (record.kind, record.name, record.status, record.seed) == ("transfer", "run", "finished", 0)
    assert (record.config["mode"], record.config["weights"], record.config["method"]) == (
        "linear",
        "scratch",
        "scratch",
    )
    assert (record.config["labels"], len(record.config["train_cases"])) == (3, 3)
    assert record.store == {"name": "store", "hash": store.hash}
    assert record.labels == {"1": "ball", "7": "box"}
    assert [row["id"] for row in record.cases] == ["s7", "s8", "s9"]
    for row in record.cases:
        assert row["dice"] == pytest.approx((row["dice/ball"] + row["dice/box"]) / 2)
    assert record.metrics["test/dice"] == pytest.approx(np.mean(scores(record)))
    assert "test/dice_low" not in record.metrics  # three cases have no interval
    for name in ("dice/ball", "hd95", "hd95/box"):
        assert record.metrics[f"test/{name}"] == pytest.approx(np.mean([row[name] for row in record.cases]))
    assert record.config["task"] == "segmentation"
    assert record.metrics["test/dice_std"] == pytest.approx(np.std(scores(record), ddof=1))
    lines = (out / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss,val_dice"
    best = max(lines[1:], key=lambda line: float(line.split(",")[2]))
    assert best.split(",")[::2] == [str(record.metrics["best_step"]), str(record.metrics["val/dice"])]
    assert [picture["kind"] for picture in record.pictures] == ["segmentation"] * 3
    for picture in record.pictures:
        truth = np.load(out / picture["file"])["truth_0"]
        assert np.unique(truth).tolist() in ([0, 1, 7], [0, 1], [0, 7])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_it_learns(tmp_path: Path, store: Store) -> None:
    settings = replace(LINEAR, learning_rate=3e-2, max_steps=60, validate_every=30)
    record = transfer(store, None, tmp_path / "run", settings)
    assert record.metrics["test/dice"] > 0.55


def test_linear_leaves_the_backbone_as_it_was_and_finetune_does_not(
    tmp_path: Path, store: Store, weights: Path
) -> None:
    before = load_file(weights / "weights" / "model.safetensors")
    modes: tuple[Literal["linear", "finetune"], ...] = ("linear", "finetune")
    for mode in modes:
        settings = replace(LINEAR, mode=mode, max_steps=2)
        record = transfer(store, weights, tmp_path / mode, settings)
        after = load_file(tmp_path / mode / "weights" / "model.safetensors")
        assert all(torch.equal(before[key], after[key]) for key in before) is (mode == "linear")
        assert (record.config["weights"], record.config["method"]) == (str(weights), "gvsl")
        assert record.config["width"] == 16
    assert load_backbone(tmp_path / "linear").provenance["weights"]["store"]["name"] == "made"
    assert read_record(tmp_path / "linear").pretraining == {"store": "x"}


@pytest.mark.parametrize("mode", ["linear", pytest.param("scratch", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_scores_and_weights(
    tmp_path: Path, store: Store, mode: Literal["linear", "scratch"]
) -> None:
    settings = replace(LINEAR, mode=mode, labels=3, max_steps=3 if mode == "scratch" else 10)
    first = transfer(store, None, tmp_path / "a", settings)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - what must not matter
    second = transfer(store, None, tmp_path / "b", settings)
    other = transfer(store, None, tmp_path / "c", replace(settings, seed=1))
    assert first.cases == second.cases
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")
    assert first.config["train_cases"] != other.config["train_cases"]


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        pytest.param(TRAINED, 5, id="all"),
        pytest.param(replace(CONVERGED, labels=3, max_steps=8), 7, id="lbfgs", marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_and_resumed_ends_where_an_unbroken_one_does(
    tmp_path: Path,
    store: Store,
    settings: TransferSettings,
    stop: int,
    stop_after: Callable[[int | None], None],
    trained: Callable[[TransferSettings], Path],
) -> None:
    whole = trained(settings)
    stop_after(stop)
    with pytest.raises(KeyboardInterrupt):
        transfer(store, None, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
    stop_after(None)
    resumed = transfer(store, None, tmp_path / "run", settings, resume=True)
    assert resumed.cases == read_record(whole).cases
    assert (tmp_path / "run" / "curves.csv").read_text(encoding="utf-8") == (whole / "curves.csv").read_text(
        encoding="utf-8"
    )
    assert same(tmp_path / "run", whole)
    assert not (tmp_path / "run.part").exists()


def test_a_mistake_on_resuming_keeps_the_state_and_a_diverged_loss_does_not(
    tmp_path: Path,
    build_store: Callable[..., Store],
    stop_after: Callable[[int | None], None],
    trained: Callable[[TransferSettings], Path],
) -> None:
    store = build_store()
    whole = read_record(trained(TRAINED))
    stop_after(5)
    with pytest.raises(KeyboardInterrupt):
        transfer(store, None, tmp_path / "run", TRAINED)
    stop_after(None)
    damaged = image_path(store.path, "s5")
    kept = damaged.read_bytes()
    damaged.write_bytes(kept[:100])
    with pytest.raises(UserError, match="s5"):
        transfer(store, None, tmp_path / "run", TRAINED, resume=True)
    assert (tmp_path / "run.part" / "state.json").is_file()
    damaged.write_bytes(kept)
    assert transfer(store, None, tmp_path / "run", TRAINED, resume=True).cases == whole.cases
    diverging = replace(TRAINED, learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(UserError, match="no longer a number at step 3: give a lower learning_rate"):
        transfer(store, None, tmp_path / "other", diverging)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "run"]


def test_what_is_kept_and_what_is_computed_anew_give_the_same(tmp_path: Path, store: Store, plain: Path) -> None:
    anew = transfer(store, None, tmp_path / "anew", replace(LINEAR, cache_gigabytes=0.0))
    assert read_record(plain).cases == anew.cases
    assert same(plain, tmp_path / "anew")


def test_test_labels_have_no_say_in_what_is_chosen(
    tmp_path: Path, plain: Path, build_store: Callable[..., Store]
) -> None:
    def scramble(number: int, label: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).permutation(label.ravel()).reshape(label.shape) if number >= 7 else label

    scrambled = build_store(scramble)
    other = transfer(scrambled, None, tmp_path / "other", LINEAR)
    assert same(plain, tmp_path / "other")
    assert (plain / "curves.csv").read_text(encoding="utf-8") == (tmp_path / "other" / "curves.csv").read_text(
        encoding="utf-8"
    )
    assert read_record(plain).metrics["test/dice"] > other.metrics["test/dice"]


def test_validation_labels_have_a_say(tmp_path: Path, plain: Path, build_store: Callable[..., Store]) -> None:
    emptied = build_store(lambda number, label: np.zeros_like(label) if number in (5, 6) else label)
    transfer(emptied, None, tmp_path / "other", LINEAR)
    assert not same(plain, tmp_path / "other")


def test_the_saved_network_gives_the_recorded_scores(store: Store, plain: Path) -> None:
    record, saved = read_record(plain), load_segmenter(plain)
    cases = LabelledCases(store, torch.device("cpu"), saved.labels)
    for row in record.cases:
        case = row["id"]
        with torch.no_grad():
            prediction = predict_classes(
                lambda box, case=case: saved.network(cases.image(case, box)),  # type: ignore[misc]
                cases.shape(case),
                saved.crop,
                saved.overlap,
                torch.device("cpu"),
            )
        # The run rounds frozen features to float16; a voxel on the fence may fall on the other side.
        found = np.mean(dice_per_structure(prediction, cases.target(case), 3))
        assert found == pytest.approx(row["dice"], abs=0.01)


def test_an_output_that_is_there_is_refused_and_kept(tmp_path: Path, store: Store) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(UserError, match="exists already"):
        transfer(store, None, tmp_path / "run", LINEAR)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def test_mistakes_leave_nothing_behind(tmp_path: Path, store: Store, weights: Path) -> None:
    for settings, start in (
        (replace(LINEAR, mode="finetune"), None),
        (replace(LINEAR, labels=6), None),
        (replace(LINEAR, mode="scratch", learning_rate=1e30, max_steps=3), None),
        (LINEAR, tmp_path / "nowhere"),
    ):
        with pytest.raises(UserError) as caught:
            transfer(store, start, tmp_path / "run", settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"^/proc/none can't be written: .*; name another folder, or make it"):
        transfer(store, None, Path("/proc/none/run"), LINEAR)
    assert [path.name for path in tmp_path.iterdir()] == ["gvsl"]


def test_another_contract_is_refused_before_training(
    tmp_path: Path, weights: Path, build_store: Callable[..., Store]
) -> None:
    coarse = build_store(spacing=2.0)
    with pytest.raises(UserError, match=r"spacing 1, .* spacing 2: .*gvsl prepare SOURCE NEW_STORE"):
        transfer(coarse, weights, tmp_path / "run", LINEAR)
    assert not (tmp_path / "run").exists()


def without(store: Store, *splits: str) -> Store:
    lines = store.table.lines.splitlines(keepends=True)
    kept = [line for line in lines if not any(f'"{split}"'.encode() in line for split in splits)]
    return replace(store, table=CaseTable.parse(b"".join(kept)))


def test_a_missing_split_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match="no case in the split 'train'"):
        transfer(without(store, "train"), None, tmp_path / "run", LINEAR)
    carried = replace(LINEAR, mode="carried", carrying=CarrySettings(start="none"))
    with pytest.raises(UserError, match="no case in the split 'val'"):
        transfer(without(store, "val"), None, tmp_path / "run", carried)
    with pytest.raises(
        UserError, match=r"'val' to choose a learning_rate by: give one, such as --learning-rate 0\.001"
    ):
        transfer(without(store, "val"), None, tmp_path / "run", replace(TRAINED, learning_rate=(1e-4, 1e-3)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_without_validation_the_last_weights_are_kept(
    tmp_path: Path, store: Store, ema_decay: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are those of a run that validates at its last step alone, which then has no choice."""
    settings = replace(TRAINED, learning_rate=1e-3, ema_decay=ema_decay, patience=1)
    record = transfer(without(store, "val", "test"), None, tmp_path / "alone", settings)
    assert "nothing is validated, and the weights of the last step are kept" in capsys.readouterr().err
    assert (record.status, record.cases, record.config["val_cases"]) == ("finished", [], 0)
    assert (record.training["best_step"], record.training["stopped_by"]) == (6, "max_steps")
    assert record.metrics == {"best_step": 6}
    transfer(store, None, tmp_path / "validated", replace(settings, validate_every=6))
    one, other = (load_segmenter(tmp_path / name).network.state_dict() for name in ("alone", "validated"))
    torch.testing.assert_close(one, other)
    found = read_report([tmp_path / "alone"]).findings
    kinds = {(one.level, one.kind.partition(",")[0]) for one in found if "nothing" in one.kind}
    assert kinds == {("caution", "nothing was validated"), ("caution", "nothing was tested")}
    assert not any(one.level == "broken" for one in found)
    assert "alone" in write_report([tmp_path / "alone"], tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_probe_without_validation_ends_at_its_last_step(tmp_path: Path, store: Store, weights: Path) -> None:
    record = transfer(without(store, "val"), weights, tmp_path / "run", replace(CONVERGED, clusters=ClusterSettings()))
    assert record.training["best_step"] == record.training["steps"]
    assert record.metrics["test/dice"] > 0 and "val/dice" not in record.metrics


def test_where_no_test_case_has_labels_nothing_is_tested(
    tmp_path: Path, plain: Path, build_store: Callable[..., Store]
) -> None:
    kept_back = build_store(lambda number, label: label if number < 7 else None)
    out = tmp_path / "run"
    record = transfer(kept_back, None, out, LINEAR)
    assert (record.cases, record.pictures) == ([], [])
    assert not any(name.startswith("test/") for name in record.metrics)
    assert record.metrics["val/dice"] == read_record(plain).metrics["val/dice"]
    assert same(out, plain)
    images = find_images([kept_back.path.parent / kept_back.cases[case].source for case in kept_back.split("test")])
    assert not predict(out, images, tmp_path / "maps").failed
    page = write_report([out, plain], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "run" in page
    assert read_report([out]).table1.columns == []


def test_a_test_case_without_labels_among_others_is_refused(tmp_path: Path, build_store: Callable[..., Store]) -> None:
    partly = build_store(lambda number, label: label if number < 8 else None)
    with pytest.raises(UserError, match="has no label map for s8, s9"):
        transfer(partly, None, tmp_path / "other", LINEAR)


def test_augmentation_changes_what_is_learnt_the_same_way_each_time(tmp_path: Path, store: Store) -> None:
    settings = replace(LINEAR, mode="scratch", max_steps=2)
    transfer(store, None, tmp_path / "a", settings)
    transfer(store, None, tmp_path / "b", settings)
    transfer(store, None, tmp_path / "c", replace(settings, augment=AugmentSettings(rate=0)))
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")
    nothing = AugmentSettings(spatial=SpatialSettings(rate=0), intensity=AcquisitionSettings(rate=0, curve_rate=0))
    transfer(store, None, tmp_path / "d", replace(settings, augment=nothing))
    assert same(tmp_path / "c", tmp_path / "d")
    for run, rate in (("a", 1), ("c", 0)):
        assert read_record(tmp_path / run).config["augment"]["rate"] == rate


@pytest.mark.parametrize("loss", ["dice", "dice_ce"])
def test_voxels_of_no_class_count_in_no_loss(loss: Literal["dice", "dice_ce"]) -> None:
    criterion = segmentation_loss(replace(LINEAR, loss=loss))
    logits = torch.randn(1, 3, 6, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.randint(3, (1, 1, 6, 5, 4), generator=torch.Generator().manual_seed(1))
    hidden = target.clone()
    hidden[:, :, 4:] = IGNORED
    found = criterion(logits, hidden)
    expected = criterion(logits.detach()[:, :, :4], target[:, :, :4])
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient[:, :, :4].abs().min() > 0
    assert not gradient[:, :, 4:].any()
    nothing = criterion(logits, torch.full_like(target, IGNORED))
    assert float(nothing.detach()) == 0
    assert nothing.requires_grad


def test_labels_that_are_not_the_tasks_are_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match=r"the label 'ball' \(1\), which is not in the list of task shc .*labels.json"):
        run_task("shc", store, None, tmp_path / "run", LINEAR)
    for task in ("sac", "sbm"):
        with pytest.raises(UserError, match=rf"the label 'ball' \(1\), which is not in the list of task {task}"):
            run_task(task, store, None, tmp_path / "run", LINEAR)
    assert not (tmp_path / "run").exists()


def test_a_stray_label_is_not_asked_to_be_learnt(tmp_path: Path, build_store: Callable[..., Store]) -> None:
    def strew(number: int, label: np.ndarray) -> np.ndarray:
        if number == 7:
            label[0, 0, 0] = 3
        return label

    stray = build_store(strew, names={1: "ball", 3: "label 3", 7: "box"})
    with pytest.raises(UserError, match=r"label 3 \(3\) has no voxel in the 5 training cases of .*: take it out of"):
        transfer(stray, None, tmp_path / "run", LINEAR)
    with pytest.raises(UserError, match="not in the list of task shc"):
        run_task("shc", stray, None, tmp_path / "run", LINEAR)


def test_a_width_beside_weights_of_another_is_refused_and_a_recipe_s_is_not(
    tmp_path: Path, store: Store, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("transfer: {width: 8, max_steps: 1, clusters: {points: 0}}", encoding="utf-8")
    words = ["transfer", str(store.path), "--weights", str(weights), "--out", str(tmp_path / "run")]
    words += ["--recipe", str(recipe)]
    assert main([*words, "--width", "32"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"gvsl: error: width is 32, but {weights} has width 16: leave out --width, or name other weights"
    assert main(words) == 0
    assert read_record(tmp_path / "run").config["width"] == 16


@pytest.mark.parametrize("name", ["dice", "dice_ce"])
def test_the_loss_leaves_out_ignored_voxels(name: Literal["dice", "dice_ce"]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 6, 5, 4, generator=generator, requires_grad=True)
    target = torch.randint(-1, 3, (1, 1, 6, 5, 4), generator=generator)
    loss = segmentation_loss(TransferSettings(loss=name))
    found = loss(logits, target)
    kept = target[0, 0] >= 0
    one_hot = torch.eye(3)[target[0, 0][kept]].T
    likely = logits[0].softmax(0)[:, kept]
    overlap, size = (likely * one_hot).sum(1), (likely + one_hot).sum(1)
    expected = (1 - 2 * overlap / size)[1:].mean()
    if name == "dice_ce":
        expected = expected - (one_hot * likely.log()).sum(0).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[0][:, ~kept].any()
    assert gradient[0][:, kept].any()
    (gradient,) = torch.autograd.grad(loss(logits, torch.full_like(target, -1)), logits)
    assert not gradient.any()


def renumbered(number: int, label: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the box as -3, and a slab of every map as voxels that nobody labelled."""
    changed = np.where(label == 7, -3, label.astype(np.int16)).astype(np.int16)
    changed[-2:] = -9
    return changed


def test_negative_and_ignored_values_are_trained_and_scored_as_what_they_are(
    tmp_path: Path, build_store: Callable[..., Store]
) -> None:
    store = build_store(renumbered, names={1: "ball", -3: "box", -9: "Ignore"})
    assert (store.label_names, store.ignored) == ({-3: "box", 1: "ball"}, (-9,))
    target = LabelledCases(store, torch.device("cpu"), {-3: "box", 1: "ball"}).target("s0")[0, 0].numpy()
    truth = store.label("s0")
    for value, number in {0: 0, -3: 1, 1: 2, -9: IGNORED}.items():
        np.testing.assert_array_equal(target == number, truth == value)
    record = transfer(
        store, None, tmp_path / "run", replace(CONVERGED, max_steps=8, clusters=ClusterSettings(points=30))
    )
    assert record.labels == {"-3": "box", "1": "ball"}
    assert record.metrics["test/dice"] > 0.6
    model = load_segmenter(tmp_path / "run")
    for row in record.cases:
        case = str(row["id"])
        found, truth = segment_volume(model, Volume(store.image(case), np.eye(4))), store.label(case)
        known = truth != -9
        for name, value in (("ball", 1), ("box", -3)):
            one, other = (found == value) & known, truth == value
            assert 2 * (one & other).sum() / (one.sum() + other.sum()) == pytest.approx(row[f"dice/{name}"], abs=0.05)
    with np.load(tmp_path / "run" / record.pictures[0]["file"]) as picture:
        assert set(np.unique(picture["truth_0"])) <= {-3, 0, 1}
