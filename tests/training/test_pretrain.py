import json
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gvsl.augment import AppearanceSettings, ViewSettings
from gvsl.backbones import UNet3D
from gvsl.backbones.weights import load_backbone
from gvsl.datasets import Dataset
from gvsl.errors import UserError
from gvsl.methods import GVSL, METHODS, GVSLSettings, Method
from gvsl.methods.byol import BYOLSettings
from gvsl.methods.deepcluster import DeepClusterSettings
from gvsl.methods.load_method import load_method
from gvsl.methods.simclr import SimCLRSettings
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.records import RunRecord, read_record, write_record
from gvsl.store import Store
from gvsl.training import PretrainSettings, build_method, pretrain
from gvsl.training.metrics_logger import read_curves
from gvsl.types import PairBatch

HANDLER = signal.getsignal(signal.SIGINT)
"""What Ctrl-C did before any run: nothing, where a shell started the tests in the background."""


def weights(run: Path) -> dict[str, Tensor]:
    folder = run / "weights"
    return load_file(folder / "model.safetensors") | load_file(folder / "heads.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


class Interrupted(GVSL):
    """GVSL whose user presses Ctrl-C in the fifth step."""

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 5:
            raise KeyboardInterrupt
        return super().training_step(batch, generator)


class OutOfMemory(GVSL):
    """GVSL that fails in its second step."""

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2:
            raise MemoryError("no more")
        return super().training_step(batch, generator)


@pytest.fixture
def stopped(phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was interrupted in its fifth step, one step after its last checkpoint."""
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "gvsl", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(phantom_store, out, tiny)
    return out


def test_a_run_leaves_what_is_documented(finished: Path, phantom_store: Store, tiny: PretrainSettings) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        *("checkpoints", "curves.csv", "record.json", "tensorboard", "weights"),
    ]
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["last.ckpt"]
    assert sorted(path.name for path in (finished / "weights").iterdir()) == [
        *("config.json", "heads.safetensors", "learnt_from.txt", "model.safetensors"),
    ]
    record = read_record(finished)
    assert (record.kind, record.name, record.status, record.seed) == ("pretrain", "run", "finished", 1)
    assert record.store == {"name": "phantoms", "hash": phantom_store.hash}
    assert record.config["method"] == "gvsl"
    assert record.config["data"]["crop"] == [16, 16, 16]
    assert record.config["trainer"] == asdict(tiny.trainer)
    assert record.config["pretext"] == json.loads(json.dumps(asdict(GVSLSettings())))  # every default written out
    assert record.seconds > 0
    assert record.environment["torch"] == torch.__version__
    assert record.environment.keys() >= {"device", "cores", "memory"}
    assert record.curves == "curves.csv"
    assert record.logged == [asdict(metric) for metric in GVSL.logs]
    assert record.logged[1] == {"name": "ncc", "title": "NCC loss", "better": "lower"}


def test_the_record_ends_with_the_mean_of_the_last_steps(finished: Path) -> None:
    rows = read_curves(finished / "curves.csv")
    metrics = read_record(finished).metrics
    assert metrics.keys() == {f"train/{name}" for name in rows[0] if name != "step"}
    for name in ("loss", "ncc", "folded"):
        assert metrics[f"train/{name}"] == pytest.approx(sum(row[name] for row in rows) / len(rows))


def test_the_weights_load_with_where_they_came_from(finished: Path, phantom_store: Store) -> None:
    backbone = load_backbone(finished)
    assert (backbone.width, backbone.method) == (8, "gvsl")
    assert backbone.preprocessing == phantom_store.preprocessing
    assert (backbone.provenance["steps"], backbone.provenance["seed"]) == (5, 1)
    assert backbone.provenance["store"]["hash"] == phantom_store.hash
    images = frozenset(phantom_store.cases[case].content[:16] for case in phantom_store.split("pretrain"))
    assert backbone.learnt_from == images
    assert (finished / "weights" / "learnt_from.txt").read_text(encoding="ascii").split() == sorted(images)


def test_training_changes_every_weight(finished: Path, tiny: PretrainSettings) -> None:
    trained = weights(finished)
    for name, before in build_method("gvsl", tiny).state_dict().items():
        assert not torch.equal(trained[name.removeprefix("backbone.")], before), name


def test_the_same_seed_gives_the_same_weights(
    finished: Path, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    torch.manual_seed(99)  # whatever was drawn before
    again = replace(tiny, data=replace(tiny.data, workers=1))
    pretrain(phantom_store, tmp_path / "again", again)
    assert same(tmp_path / "again", finished)
    assert read_curves(tmp_path / "again" / "curves.csv") == read_curves(finished / "curves.csv")


def test_another_seed_gives_other_weights(tiny: PretrainSettings) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (build_method("gvsl", replace(tiny, seed=seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("0.weight"))


def test_a_stopped_run_says_so_and_keeps_its_curves(stopped: Path) -> None:
    assert signal.getsignal(signal.SIGINT) is HANDLER  # the next Ctrl-C counts again
    record = read_record(stopped)
    assert record.status == "stopped"
    assert record.seconds > 0
    assert [row["step"] for row in read_curves(stopped / "curves.csv")] == [0, 1, 2, 3]
    assert not (stopped / "weights").exists()


def test_a_resumed_run_ends_as_an_unbroken_one(
    stopped: Path, finished: Path, phantom_store: Store, tiny: PretrainSettings
) -> None:
    before = read_record(stopped)
    record = pretrain(phantom_store, stopped, tiny, resume=True)
    assert same(stopped, finished)
    assert read_curves(stopped / "curves.csv") == read_curves(finished / "curves.csv")
    assert record.metrics == read_record(finished).metrics
    assert record.status == read_record(stopped).status == "finished"
    assert record.created == before.created
    assert record.seconds > before.seconds


def test_a_chosen_crop_is_resumed_too(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = replace(tiny, data=replace(tiny.data, crop=None, most_voxels=16**3))
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "gvsl", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(phantom_store, tmp_path / "run", free)
    assert pretrain(phantom_store, tmp_path / "run", free, resume=True).status == "finished"


def test_only_a_stopped_run_with_the_same_settings_is_resumed(
    stopped: Path, finished: Path, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    def refusal(out: Path, settings: PretrainSettings) -> str:
        with pytest.raises(UserError) as caught:
            pretrain(phantom_store, out, settings, resume=True)
        return str(caught.value)

    assert "is finished; there is nothing to resume" in refusal(finished, tiny)
    assert "holds no record.json" in refusal(tmp_path / "nowhere", tiny)
    assert "was begun with seed 1, now 2" in refusal(stopped, replace(tiny, seed=2))
    gentle = replace(tiny, pretext=GVSLSettings(appearance=AppearanceSettings(shuffle_rate=0.1)))
    assert "was begun with pretext.appearance.shuffle_rate 0.8, now 0.1" in refusal(stopped, gentle)
    larger = replace(tiny, data=replace(tiny.data, crop=(32, 16, 16)))
    assert "was begun with data.crop [16, 16, 16], now [32, 16, 16]" in refusal(stopped, larger)
    often = replace(tiny, trainer=replace(tiny.trainer, log_every=7, checkpoint_every=3))
    unlogged = tmp_path / "copy"
    shutil.copytree(stopped, unlogged)
    assert pretrain(phantom_store, unlogged, often, resume=True).status == "finished"
    begun = read_record(stopped)
    write_record(replace(begun, store={"name": "another", "hash": "0" * 64}), stopped)
    assert f"was begun with store 000000, now {phantom_store.hash[:6]}" in refusal(stopped, tiny)
    trainer = {name: value for name, value in begun.config["trainer"].items() if name != "nodes"}
    write_record(replace(begun, config=begun.config | {"trainer": trainer | {"devices": 2}}), stopped)
    assert "was begun in several processes by an earlier gvsl" in refusal(stopped, tiny)
    write_record(begun, stopped)
    shutil.rmtree(stopped / "checkpoints")
    assert "to resume from; remove" in refusal(stopped, tiny)
    assert read_record(stopped).status == "stopped"


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_with_the_pairs_of_both(
    phantom_store: Store,
    tiny: PretrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = replace(tiny, data=replace(tiny.data, batch_size=2))
    pretrain(phantom_store, tmp_path / "whole", both)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "gvsl", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(phantom_store, out, both)
    begun = read_record(out)  # as two processes would have left it
    shared = {"data": begun.config["data"] | {"batch_size": 1}, "trainer": begun.config["trainer"] | {"devices": 2}}
    write_record(replace(begun, config=begun.config | shared), out)
    with pytest.raises(UserError, match=r"trainer\.devices 2, now 1"):
        pretrain(phantom_store, out, tiny, resume=True)
    pretrain(phantom_store, out, both, resume=True)
    assert "data.batch_size 1, now 2; trainer.devices 2, now 1: the same pairs a step" in capsys.readouterr().err
    assert same(out, tmp_path / "whole")


def test_a_run_that_fails_says_so_and_passes_the_error_on(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "gvsl", OutOfMemory)
    with pytest.raises(MemoryError, match="no more"):
        pretrain(phantom_store, tmp_path / "run", tiny)
    assert read_record(tmp_path / "run").status == "failed"
    assert not (tmp_path / "run" / "weights").exists()


def test_mistakes_leave_nothing_behind(
    phantom_store: Store, phantom_cohort: Dataset, tiny: PretrainSettings, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def refusal(store: Store, out: Path, settings: PretrainSettings, method: str = "gvsl") -> str:
        with pytest.raises(UserError) as caught:
            pretrain(store, out, settings, method)
        message = str(caught.value)
        assert "\n" not in message
        return message

    single = prepare(phantom_cohort.cases[:1], tmp_path / "single", PRESETS["ct"], label_names=None, source="one")
    before = list(tmp_path.iterdir())
    assert "there is no method guess: choose one of gvsl" in refusal(phantom_store, out, tiny, "guess")
    assert "a pair needs two" in refusal(single, out, tiny)
    unlearnable = replace(tiny, pretext=GVSLSettings(matching=False, restoration=False))
    assert "nothing to learn" in refusal(phantom_store, out, unlearnable)
    empty = replace(tiny, data=replace(tiny.data, split="test"))
    assert "test" in refusal(phantom_store, out, empty)
    by_crop = replace(empty, backbone=replace(tiny.backbone, levels="auto"), data=replace(empty.data, crop=None))
    assert "no case in the split 'test'" in refusal(phantom_store, out, by_crop)
    with pytest.raises(UserError, match=r"backbone\.levels is auto, but there is no crop"):
        build_method("gvsl", by_crop)
    assert list(tmp_path.iterdir()) == before
    curves = (finished / "curves.csv").read_bytes()
    assert "exists already" in refusal(phantom_store, finished, tiny)
    assert (finished / "curves.csv").read_bytes() == curves


@pytest.mark.bf16
def test_bf16_with_checkpointed_activations_trains_and_saves_float32(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    settings = replace(
        tiny,
        backbone=replace(tiny.backbone, checkpoint_activations=True),
        data=replace(tiny.data, crop=(32, 16, 16)),
        trainer=replace(tiny.trainer, max_steps=3, precision="bf16"),
    )
    record: RunRecord = pretrain(phantom_store, tmp_path / "run", settings)
    assert record.status == "finished"
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights(tmp_path / "run").values())
    assert len(read_curves(tmp_path / "run" / "curves.csv")) == 3


# --- methods that need more of training than GVSL -----------------------------------------------------------

RESUMED: dict[str, object] = {
    "deepcluster": DeepClusterSettings(clusters=2, components=2, least_epoch=2),
    "byol": BYOLSettings(momentum=0.9),
}


@pytest.mark.parametrize("name", RESUMED)
def test_assignments_and_targets_are_resumed_exactly(
    name: str, phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(tiny, pretext=RESUMED[name])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(phantom_store, whole, settings, name)
    factory = METHODS[name]

    def interrupted(backbone: UNet3D, pretext: object) -> Method:
        method = factory(backbone, pretext)
        taken: list[int] = []
        step = method.training_step

        def training_step(batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
            taken.append(1)
            if len(taken) == 5:
                raise KeyboardInterrupt
            return step(batch, generator)

        monkeypatch.setattr(method, "training_step", training_step)
        return method

    with monkeypatch.context() as patch:
        patch.setitem(METHODS, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(phantom_store, broken, settings, name)
    pretrain(phantom_store, broken, settings, name, resume=True)
    assert same(whole, broken)
    rows = read_curves(whole / "curves.csv")
    assert read_curves(broken / "curves.csv") == rows
    if name == "deepcluster":  # four volumes, two a step: an assignment every second step
        assert [row["step"] for row in rows if "clusters_used" in row] == [0, 2, 4]
        assert [row["step"] for row in rows if "nmi" in row] == [2, 4]
        assert "train/nmi" in read_record(whole).metrics


def test_a_crop_that_nobody_gave_is_a_cube_where_the_method_needs_one_and_decides_the_levels(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = replace(
        tiny,
        backbone=replace(tiny.backbone, levels="auto"),
        data=replace(tiny.data, crop=None),
        trainer=replace(tiny.trainer, max_steps=1),
    )
    record = pretrain(phantom_store, tmp_path / "run", free, "rotation")
    assert record.config["data"]["crop"] == [16, 16, 16]
    assert read_record(tmp_path / "run").config["backbone"]["levels"] == load_backbone(tmp_path / "run").levels == 3
    assert "pre-training 1/1 steps, " in capsys.readouterr().err


def test_what_a_method_cannot_learn_from_is_refused_at_the_start(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    def refusal(settings: PretrainSettings, method: str) -> str:
        with pytest.raises(UserError) as caught:
            pretrain(phantom_store, tmp_path / "run", settings, method)
        assert not list(tmp_path.iterdir())
        return str(caught.value)

    box = replace(tiny, data=replace(tiny.data, crop=(32, 16, 16)))
    assert "give --data.crop [16, 16, 16]" in refusal(box, "rotation")
    assert "give --pretext.clusters 2 or less" in refusal(tiny, "deepcluster")
    views = SimCLRSettings(views=ViewSettings(least_overlap=0.9))
    assert "give 0.512 or less" in refusal(replace(tiny, pretext=views), "simclr")
    compiled = replace(tiny, trainer=replace(tiny.trainer, compile=True))
    assert "leave it out" in refusal(compiled, "byol")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, by which torch.compile makes code for a CPU")
def test_a_compiled_run_has_the_curve_of_a_plain_one(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path
) -> None:
    """Of a method without correlation, whose code takes a CPU's compiler many minutes."""
    tiny = replace(tiny, backbone=replace(tiny.backbone, levels=2))
    compiled = replace(tiny, trainer=replace(tiny.trainer, compile=True))
    torch._dynamo.utils.counters.clear()
    for name, settings in (("plain", tiny), ("compiled", compiled)):
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
        pretrain(phantom_store, tmp_path / name, settings, "gvsl-no-matching")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    rows, expected = (read_curves(tmp_path / name / "curves.csv") for name in ("compiled", "plain"))
    for row, values in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(values["loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_train_one_network_on_pairs_of_their_own(
    phantom_store: Store, tiny: PretrainSettings, tmp_path: Path, finished: Path
) -> None:
    trainer = replace(tiny.trainer, devices=2, max_steps=4)
    two = replace(tiny, trainer=trainer, data=replace(tiny.data, order="epoch"))
    record = pretrain(phantom_store, tmp_path / "two", two)
    assert record.status == "finished"
    rows = read_curves(tmp_path / "two" / "curves.csv")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert record.metrics["train/loss"] == pytest.approx(sum(row["loss"] for row in rows) / 4)
    checkpoint = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    trained, before = weights(tmp_path / "two"), build_method("gvsl", tiny).state_dict()
    assert all(not torch.equal(trained[name.removeprefix("backbone.")], before[name]) for name in before)
    # Another process alone takes other steps: the second one's gradients count.
    one = replace(two, trainer=replace(trainer, devices=1))
    pretrain(phantom_store, tmp_path / "one", one)
    assert not same(tmp_path / "two", tmp_path / "one")


def test_labels_that_are_learnt_from_are_on_record(store: Store, tiny: PretrainSettings, tmp_path: Path) -> None:
    settings = replace(
        tiny,
        data=replace(tiny.data, split="train"),
        trainer=replace(tiny.trainer, max_steps=2),
        pretext=GVSLSettings(labels=("s1", "s3")),
    )
    with pytest.raises(UserError, match=r"pretext\.labels names s5 of val or test"):
        pretrain(store, tmp_path / "leaky", replace(settings, pretext=GVSLSettings(labels=("s1", "s5"))))
    assert not (tmp_path / "leaky").exists()
    record = pretrain(store, tmp_path / "run", settings)
    assert 0 < record.metrics["train/carried_labels"] <= 1
    assert read_record(tmp_path / "run").config["pretext"]["labels"] == ["s1", "s3"]
    hashes = {case: store.cases[case].content[:16] for case in ("s1", "s3")}
    assert load_backbone(tmp_path / "run").provenance["labels"] == hashes
    method = load_method(tmp_path / "run")
    assert isinstance(method, GVSL)
    assert tuple(method.settings.labels) == ("s1", "s3")
