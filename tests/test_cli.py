"""The command line: help, mistakes, recipes, and the way from a folder to a report."""

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from gvsl.arguments import default_settings
from gvsl.cli import COMMANDS, main
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options
from gvsl.methods import METHODS
from gvsl.recipes import RECIPE_COMMANDS, recipe_names
from gvsl.records import read_record, write_record
from gvsl.transfer.transfer_settings import MODES, TransferSettings

SHAPE = (24, 20, 22)
CaptureFixture = pytest.CaptureFixture[str]
Complaint = Callable[..., str]


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def make_image(seed: int) -> np.ndarray:
    """A bright ball with its own grain in a dark box."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    ball = 800.0 * (np.linalg.norm(grid + generator.uniform(-0.2, 0.2, (3, 1, 1, 1)), axis=0) < 0.6)
    return (ball + generator.normal(100, 20, SHAPE)).astype(np.float32)


def make_folder(root: Path, count: int = 4) -> Path:
    """Images with labels, the first half to train on, the next to validate, the last to test."""
    ids = [f"case_{index}" for index in range(count)]
    for seed, name in enumerate(ids):
        image = make_image(seed)
        write_volume(root / "images" / f"{name}.nii.gz", image)
        write_volume(root / "labels" / f"{name}.nii.gz", (image > 500).astype(np.uint8))
    splits = {"pretrain": ids[:-2], "train": ids[:-2], "val": [ids[-2]], "test": [ids[-1]]}
    (root / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    (root / "labels.json").write_text(json.dumps({"1": "ball"}), encoding="utf-8")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    assert main(["prepare", str(make_folder(tmp_path / "source")), str(tmp_path / "store")]) == 0
    return tmp_path / "store"


@pytest.fixture
def complaint(capsys: CaptureFixture) -> Complaint:
    """Run a command that must fail as a user's mistake does, and return its one line."""

    def run(*words: object) -> str:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 2
        *progress, last = said.err.splitlines()
        assert re.fullmatch(r"gvsl: error: .+", last), said.err
        assert all(re.match(r"Prepare \d+/\d+ ", line) for line in progress), said.err
        assert "Traceback" not in said.out + said.err
        return said.err

    return run


# --- help ---------------------------------------------------------------------------------------------------


def test_overview_names_every_command(capsys: CaptureFixture) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == shown
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].+\.$", shown, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_exits_well_and_explains_every_option(name: str, capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: gvsl {name} ")
    options = re.split(r"^  (?=-)", shown, flags=re.MULTILINE)[1:]
    for option in options:
        text = " ".join(option.split("\n\n")[0].split())
        text = re.sub(r"\(default: .*?\)$", "", text).strip()
        assert len(text.split(" ")) > 3, f"{name} doesn't say what this is for: {text}"


def test_methods_are_listed_with_a_line_each(capsys: CaptureFixture) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert all(re.fullmatch(r"\S+ +[A-Z].+\.", line) and len(line) < 120 for line in lines)


def test_version(capsys: CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"gvsl \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("words", [["--help"], ["prepare", "--help"], ["prepare", "nowhere", "store"], ["demoo"]])
def test_what_needs_no_torch_answers_without_it(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from gvsl.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'torch', 'lightning', 'monai', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr, done.stderr


# --- mistakes -----------------------------------------------------------------------------------------------


def test_installed_command_fails_with_one_line_and_code_2(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("gvsl")
    done = subprocess.run(
        [command, "prepare", tmp_path / "nowhere", tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"gvsl: error: .*nowhere.*\n", done.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepar"], "no command prepar (did you mean prepare?)"),
        (["prepare"], "source, store"),
        (["prepare", "a", "b", "c"], "unrecognized arguments: c"),
        (["prepare", "a", "b", "--spacin", "1"], "no setting --spacin (did you mean --spacing?)"),
        (["prepare", "a", "b", "--spacing", "wide"], "--spacing: Expected a float. Got value: wide"),
        (["prepare", "a", "b", "--spacing", "-1"], "spacing is -1"),
        (["prepare", "a", "b", "--spacing"], "--spacing: expected one argument"),
        (["prepare", "a", "b", "--crop", "all"], "foreground"),
        (["prepare", "a", "b", "--preset", "mri"], "no preset mri"),
        (["prepare", "a", "b", "--dataset", "folders"], "no dataset folders (did you mean folder?)"),
        (["prepare", "nowhere", "b"], "nowhere"),
        (["prepare", "s3://bucket/scans", "b"], "s3://bucket/scans is a URL; a source is a folder of files: copy or"),
        (["inspect", "nowhere"], "nowhere"),
        (["inspect", "."], "is not a store"),
        (["pretrain"], "store, out"),
        (["pretrain", "nowhere", "--out", "run"], "nowhere"),
        (["pretrain", "a", "--out", "run", "--method", "gvls"], "no method gvls (did you mean gvsl?)"),
        (["pretrain", "a", "--out", "run", "--trainer.max_step", "3"], "did you mean --trainer.max_steps?"),
        (
            ["pretrain", "a", "--out", "run", "--trainer.max_steps", "many"],
            "--trainer.max_steps: Expected a int",
        ),
        (["pretrain", "a", "--out", "run", "--pretext.colour", "1"], "no setting --pretext.colour"),
        (
            ["pretrain", "a", "--out", "b", "--method", "rotation", "--pretext.affine", "1"],
            "no setting --pretext.affine",
        ),
        (["methods", "all"], "unrecognized arguments: all"),
        (
            ["pretrain", "a", "--out", "run", "--recipe", "slow"],
            "no recipe slow: name one of demo, paper, quick",
        ),
        (["pretrain", "a", "--out", "run", "--recipe"], "--recipe: expected one argument"),
        (["transfer", "a"], "weights"),
        (["transfer", "a", "--weights", "scratch", "--out", "b", "--task", "flying"], "no task flying"),
        (["transfer", "a", "--weights", "scratch", "--out", "b", "--mode", "best"], "linear"),
        (["transfer", "nowhere", "--weights", "scratch", "--out", "run"], "nowhere"),
        (["report", "--out", "x.html"], "folders"),
        (["report", "nowhere", "--out", "x.html"], "nowhere"),
        (["demo", "--out"], "--out: expected one argument"),
        (["demo", "--recipe", "slow"], "no recipe slow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_that_names_it(
    words: list[str], expected: str, complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in complaint(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out"],
        ["prepare", "source"],
        ["pretrain", "store", "--out"],
        ["transfer", "store", "--weights", "scratch", "--out"],
        ["report", "run", "--out"],
    ],
    ids=" ".join,
)
def test_an_output_that_exists_is_left_alone(
    words: list[str], complaint: Complaint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    Path("taken").write_text("mine", encoding="utf-8")
    assert "taken exists already" in complaint(*words, "taken")
    assert Path("taken").read_text(encoding="utf-8") == "mine"


def test_there_must_be_something_to_resume(store: Path, tmp_path: Path, complaint: Complaint) -> None:
    assert "nothing-there" in complaint("pretrain", store, "--out", tmp_path / "nothing-there", "--resume")
    assert not (tmp_path / "nothing-there").exists()


def test_ctrl_c_is_one_line_and_130(capsys: CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "inspect", interrupted)
    assert main(["inspect", "store"]) == 130
    assert capsys.readouterr().err == "gvsl: stopped\n"


def test_a_stopped_pretraining_says_how_to_go_on(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(store), "--out", str(run), "--backbone.width", "8", "--data.crop", "[16, 16, 16]"]
    words += ["--trainer.checkpoint_every", "1", "--data.workers", "0"]
    # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{listens}; from gvsl.cli import main; raise SystemExit(main())", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        patience = time.monotonic() + 120
        while not (run / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < patience:
            assert running.poll() is None, running.communicate()
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 130
    assert said.splitlines()[-1] == f"gvsl: stopped {run}: --resume goes on with it"
    assert "Traceback" not in said


def test_a_run_stopped_while_it_was_evaluated_goes_on_with_that(
    store: Path, tmp_path: Path, capsys: CaptureFixture
) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(store), "--out", str(run), "--backbone.width", "8", "--data.crop", "[16, 16, 16]"]
    words += ["--trainer.max_steps", "1", "--data.workers", "0"]
    assert main(words) == 0
    whole = read_record(run)
    shutil.rmtree(run / "pictures")
    trained = {name: value for name, value in whole.metrics.items() if name.startswith("train/")}
    write_record(replace(whole, metrics=trained, cases=[], pictures=[], labels={}), run)

    assert main([*words, "--resume"]) == 0
    assert read_record(run) == whole
    assert main([*words, "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: object) -> None:
        raise ValueError("ours")

    monkeypatch.setitem(COMMANDS, "inspect", broken)
    with pytest.raises(ValueError, match="ours"):
        main(["inspect", "store"])


def test_a_reader_that_has_seen_enough_is_no_mistake(store: Path) -> None:
    command = f"{sys.executable} -c 'from gvsl.cli import main; raise SystemExit(main())' inspect {store}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- bad volumes --------------------------------------------------------------------------------------------


def test_bad_files_are_refused_by_name_and_the_rest_goes_on(tmp_path: Path, capsys: CaptureFixture) -> None:
    source = make_folder(tmp_path / "source")
    (source / "splits.json").unlink()
    images, labels = source / "images", source / "labels"
    good = gzip.decompress((images / "case_0.nii.gz").read_bytes())
    (images / "truncated.nii.gz").write_bytes(gzip.compress(good)[:2000])
    (images / "short.nii").write_bytes(good[:-500])
    (images / "text.nii.gz").write_text("not a volume", encoding="utf-8")
    holes = make_image(7)
    holes[3, 4, 5] = np.nan
    write_volume(images / "holes.nii.gz", holes)
    write_volume(images / "flat.nii.gz", make_image(7)[0])
    write_volume(images / "moving.nii.gz", np.stack([make_image(7)] * 3, axis=-1))
    write_volume(images / "blank.nii.gz", np.zeros(SHAPE, np.float32))
    write_volume(images / "shifted.nii.gz", make_image(8))
    write_volume(labels / "shifted.nii.gz", np.ones(SHAPE, np.uint8), np.diag([2.0, 1, 1, 1]))
    write_volume(images / "smaller.nii.gz", make_image(9))
    write_volume(labels / "smaller.nii.gz", np.ones((5, 5, 5), np.uint8))
    bad = ["truncated", "short", "text", "holes", "flat", "moving", "blank", "shifted", "smaller"]

    assert main(["prepare", str(source), str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    assert f"4 volumes prepared, {len(bad)} refused" in said
    assert main(["inspect", str(tmp_path / "store")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in bad:
        assert any(re.search(rf"\b{name}\.nii\S*: .{{5,}}", line) for line in lines), (name, lines)
    for index in range(4):
        assert not any(f"case_{index}.nii.gz:" in line for line in lines)


def test_nothing_is_left_where_nothing_was_usable(tmp_path: Path, complaint: Complaint) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "text.nii.gz").write_text("not a volume", encoding="utf-8")
    assert "empty" in complaint("prepare", empty, tmp_path / "store")
    assert "text.nii.gz" in complaint("prepare", broken, tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


def test_one_volume_makes_no_pair(tmp_path: Path, complaint: Complaint) -> None:
    write_volume(tmp_path / "source" / "only.nii.gz", make_image(0))
    assert main(["prepare", str(tmp_path / "source"), str(tmp_path / "store")]) == 0
    assert "pair" in complaint("pretrain", tmp_path / "store", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_contract_are_refused(store: Path, tmp_path: Path, complaint: Complaint) -> None:
    pretrained, wide = tmp_path / "pretrained", tmp_path / "wide"
    tiny = ["--backbone.width", "8", "--trainer.max_steps", "2", "--data.crop", "[16, 16, 16]"]
    assert main(["pretrain", str(store), "--out", str(pretrained), *tiny]) == 0
    assert main(["prepare", str(tmp_path / "source"), str(wide), "--spacing", "2"]) == 0
    said = complaint("transfer", wide, "--weights", pretrained, "--mode", "linear", "--out", tmp_path / "run")
    assert "spacing" in said
    assert not (tmp_path / "run").exists()


# --- recipes ------------------------------------------------------------------------------------------------


def test_the_promised_recipes_are_there() -> None:
    assert {"demo", "quick", "paper"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_parse_into_settings(name: str) -> None:
    pretrain_options(["store", "--out", "run", "--recipe", name])
    transfer_options(["store", "--out", "run", "--weights", "scratch", "--recipe", name])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", recipe_names())
def test_recipes_go_with_every_method(name: str, method: str) -> None:
    options = pretrain_options(["store", "--out", "run", "--recipe", name, "--method", method])
    default = default_settings(METHODS[method])
    assert type(options.settings.pretext) is type(default)
    if not method.startswith("gvsl"):
        assert options.settings.pretext == default


def test_a_methods_section_holds_for_it_and_its_ablations_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "pretrain: {pretext: {gvsl: {ncc_weight: 3}, simclr: {views: {smallest: 0.9}, hidden: 9}}}\n", encoding="utf-8"
    )

    def pretext(method: str, *more: str) -> Any:
        words = ["store", "--out", "run", "--recipe", str(recipe), "--method", method, *more]
        return pretrain_options(words).settings.pretext

    assert pretext("gvsl").ncc_weight == pretext("gvsl-no-affine").ncc_weight == 3
    assert (pretext("gvsl").affine, pretext("gvsl-no-affine").affine) == (True, False)
    assert pretext("gvsl-no-affine", "--pretext.affine", "true").affine
    assert (pretext("simclr").views.smallest, pretext("simclr").hidden) == (0.9, 9)
    assert pretext("simclr", "--pretext.hidden", "8").hidden == 8
    assert pretext("byol").views.smallest == 0.8


def test_a_modes_section_holds_for_it_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("transfer: {seed: 3, linear: {optimiser: lbfgs}, finetune: {max_steps: 7}}\n", encoding="utf-8")

    def settings(*more: str) -> TransferSettings:
        words = ["store", "--out", "run", "--weights", "scratch", "--recipe", str(recipe), *more]
        found: TransferSettings = transfer_options(words).settings
        return found

    assert (settings().optimiser, settings().max_steps, settings().seed) == ("lbfgs", 40_000, 3)
    assert (settings("--mode", "finetune").optimiser, settings("--mode", "finetune").max_steps) == ("adam", 7)
    assert settings("--mode", "finetune", "--max_steps", "8").max_steps == 8
    assert settings("--mode", "scratch") == TransferSettings(mode="scratch", seed=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", recipe_names())
def test_recipes_go_with_every_mode(name: str, mode: str) -> None:
    words = ["store", "--out", "run", "--weights", "scratch", "--recipe", name, "--mode", mode]
    assert transfer_options(words).settings.mode == mode


def test_the_papers_recipe_is_the_papers() -> None:
    options = pretrain_options(["store", "--out", "run", "--recipe", "paper"])
    assert options.settings.trainer.max_steps == 200_000
    assert options.settings.backbone.width == 32
    assert options.settings.optimiser.learning_rate == 1e-4


@pytest.mark.parametrize("before", [True, False])
def test_the_command_line_goes_before_the_recipe_wherever_that_stands(before: bool, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "pretrain: {seed: 5, trainer: {max_steps: 70}, optimiser: {learning_rate: 1e-3}}\n", encoding="utf-8"
    )
    given, named = ["--trainer.max_steps", "9"], ["--recipe", str(recipe)]
    words = ["store", "--out", "run", *(named + given if before else given + named)]
    settings = pretrain_options(words).settings
    assert settings.trainer.max_steps == 9
    assert settings.seed == 5
    assert settings.optimiser.learning_rate == 1e-3
    assert settings.backbone == pretrain_options(["store", "--out", "run"]).settings.backbone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "pretrain: {trainer: {max_step: 3}}",
            "sets trainer.max_step, which gvsl pretrain doesn't have (did you",
        ),
        ("pretrain: {trainer: {max_steps: many}}", "--trainer.max_steps"),
        ("pretrain: {pretext: {colour: 3}}", "pretext.colour"),
        ("pretrain: {pretext: {gvsl: {colour: 3}}}", "pretext.colour"),
        ("pretrain: {pretext: {simsam: {hidden: 3}}}", "pretext.simsam.hidden"),
        ("pretrain: {method: gvls}", "no method gvls"),
        ("pretrain: {method: 3}", "no method 3"),
        ("pretrain: {out: here}", "sets out, which"),
        ("pretrain: {}\npredict: {}", "a section predict"),
        ("transfer: {}", "no section pretrain"),
        ("pretrain: 3", "must have sections"),
        ("just words", "must have sections"),
        ("pretrain: {", "is not YAML"),
    ],
)
def test_a_recipes_mistake_is_one_line_that_names_it(
    text: str, expected: str, tmp_path: Path, complaint: Complaint
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    assert expected in complaint("pretrain", "store", "--out", "run", "--recipe", recipe)


def test_every_command_with_recipes_is_a_command() -> None:
    assert set(RECIPE_COMMANDS) <= set(COMMANDS)


# --- the whole way ------------------------------------------------------------------------------------------


def test_phantoms_are_written_and_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, store = tmp_path / "phantoms", tmp_path / "store"
    assert main(["phantom", str(out), "--task", "ccc", "--count", "8", "--size", "16"]) == 0
    assert main(["prepare", str(out), str(store), "--preset", "ct"]) == 0
    assert main(["inspect", str(store)]) == 0
    assert "class     1, 4 volumes" in capsys.readouterr().out
    assert main(["phantom", str(out)]) == 2
    assert main(["phantom", str(tmp_path / "other"), "--task", "heart"]) == 2
    assert "there is no phantom for task heart" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_demo_makes_a_report_and_says_where(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("gvsl")
    done = subprocess.run([command, "demo", "--out", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("Report: "))
    assert page == tmp_path / "demo" / "report.html"
    assert page.stat().st_size > 10_000
    for name in ("prepare", "pretrain", "transfer", "report"):
        assert f"$ gvsl {name} demo" in done.stdout
    ncc = re.search(r"ncc (0\.\d+), ncc_affine (0\.\d+), ncc_identity (0\.\d+)", done.stdout)
    assert ncc is not None
    after, affine, before = (float(value) for value in ncc.groups())
    assert after < affine < before
    probes = re.search(r"on gvsl features: DSC (0\.\d+).*on random features: (0\.\d+)", done.stdout)
    assert probes is not None
    assert float(probes[1]) > float(probes[2])
