"""The matrix as a user runs it."""

import csv
import html
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gvsl.benchmark.execute import execute
from gvsl.benchmark.folder import is_finished, was_failed
from gvsl.benchmark.matrix import find_columns
from gvsl.benchmark.schedule import Executor, run_matrix
from gvsl.cli import main
from gvsl.cli.benchmark import benchmark_options, find_matrix
from gvsl.errors import UserError
from gvsl.files import LOCK_NAME, lock
from gvsl.records import read_record
from gvsl.report import read_report
from gvsl.store import Store
from gvsl.transfer import TransferSettings


def words(store: Path, recipe: Path, out: Path, *more: str) -> list[str]:
    return ["benchmark", "--out", str(out), "--stores", str(store), "--recipe", str(recipe), "--methods", "gvsl", *more]


def table(out: Path) -> str:
    return (out / "table1.csv").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def done(hearts: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    assert main(words(hearts, recipe, out)) == 0
    return out


@pytest.mark.slow
def test_the_same_seeds_give_the_same_table_and_another_doesnt(
    done: Path, hearts: Path, recipe: Path, tmp_path: Path
) -> None:
    assert main(words(hearts, recipe, tmp_path / "again", "--processes", "2")) == 0
    assert table(tmp_path / "again") == table(done)
    assert main(words(hearts, recipe, tmp_path / "other", "--seeds", "1", "--modes", "linear")) == 0
    assert set(table(tmp_path / "other").splitlines()).isdisjoint(table(done).splitlines()[1:])


def test_the_table_and_the_report_are_of_the_runs(done: Path) -> None:
    lines = {
        (line["method"], line["mode"]): line for line in csv.DictReader((done / "table1.csv").open(encoding="utf-8"))
    }
    assert set(lines) == {(method, mode) for method in ("scratch", "gvsl") for mode in ("linear", "finetune")}
    for folder in (done / "runs").glob("hearts-*"):
        record = read_record(folder)
        if record.kind == "transfer":
            mode = {"scratch": "finetune"}.get(record.config["mode"], record.config["mode"])
            mean = 100 * sum(row["dice"] for row in record.cases) / len(record.cases)
            assert float(lines[record.config["method"], mode]["mean"]) == pytest.approx(mean, rel=1e-5)
    assert (done / "report.html").stat().st_size > 10_000
    page = (done / "report.html").read_text(encoding="utf-8")
    for place, there in ((6, True), (7, True), (8, False)):  # there is no gvsl-no-restoration to set against
        assert bool(list(done.glob(f"figure{place}.*"))) is there
        assert (f'id="figure{place}"' in page) is there
    assert "**" in (done / "table1.md").read_text(encoding="utf-8")
    assert r"\toprule" in (done / "table1.tex").read_text(encoding="utf-8")


@pytest.mark.slow
def test_weights_of_one_store_go_to_another_that_was_prepared_otherwise(
    hearts: Path, recipe: Path, tmp_path: Path
) -> None:
    others, store = tmp_path / "source", tmp_path / "others"
    assert main(["phantom", str(others), "--count", "8", "--size", "16", "--seed", "1"]) == 0
    assert main(["prepare", str(others), str(store), "--preset", "mr"]) == 0
    out = tmp_path / "out"
    assert main(words(store, recipe, out, "--pretrain", str(hearts), "--modes", "linear")) == 0
    kinds = sorted(folder.name.rsplit("-", 1)[0] for folder in (out / "runs").iterdir())
    assert kinds == ["hearts-pretrain-gvsl-0", "others-linear-gvsl-0", "others-linear-scratch-0"]
    (transferred,) = (out / "runs").glob("others-linear-gvsl-0-*")
    assert read_record(transferred).config["allow_preprocessing_mismatch"] is True


def test_what_is_pre_trained_on_is_not_held_out_elsewhere(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = hearts.parent / "source"
    shutil.copytree(source, tmp_path / "source")
    splits = json.loads((source / "splits.json").read_text(encoding="utf-8"))
    turned = {"pretrain": splits["test"], "train": splits["test"], "val": splits["val"], "test": splits["train"]}
    (tmp_path / "source" / "splits.json").write_text(json.dumps(turned), encoding="utf-8")
    assert main(["prepare", str(tmp_path / "source"), str(tmp_path / "turned"), "--preset", "ct"]) == 0
    assert main(words(hearts, recipe, tmp_path / "out", "--pretrain", str(tmp_path / "turned"))) == 2
    assert "images are pre-trained on and held out in another store: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def written(out: Path) -> dict[Path, int]:
    """Return when each file of each run was written."""
    return {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}


def test_what_is_finished_is_left_alone(done: Path, hearts: Path, recipe: Path) -> None:
    before = written(done)
    assert run_matrix(find_matrix(benchmark_options(words(hearts, recipe, done)[1:])), done, Executor()) == {}
    assert written(done) == before


@pytest.mark.slow
def test_a_dry_run_counts_what_is_missing_and_writes_nothing(
    done: Path, hearts: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(done)
    assert main(words(hearts, recipe, done, "--seeds", "0", "1", "--modes", "linear", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "3 of 6 runs missing" in said
    assert written(done) == before


def test_a_failure_is_kept_told_and_tried_again_on_request(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    options = words(Path(f"segmentation={hearts}"), recipe, tmp_path, "--modes", "linear", "--methods", "rotation")
    matrix = find_matrix(benchmark_options(options[1:]))
    pretraining, transfers = matrix[0], matrix[1:]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / pretraining.name).write_text("in the way", encoding="utf-8")
    failures = run_matrix(matrix, tmp_path, Executor())
    assert set(failures) == {pretraining.name, transfers[1].name}
    assert "there are no weights" in failures[transfers[1].name]
    assert was_failed(pretraining, tmp_path)
    told = read_record(tmp_path / "failed" / pretraining.name).config
    assert told["reason"]
    assert told["trainer"]["max_steps"] == 4
    lost = read_record(tmp_path / "failed" / transfers[1].name)
    assert Path(lost.config["weights"]).name == pretraining.name
    assert (lost.config["max_steps"], lost.config["width"]) == (3, 8)
    assert lost.pretraining == {"steps": 4, "seed": 0, "store": Store.open(hearts).hash}
    assert is_finished(transfers[0], tmp_path)

    (tmp_path / "runs" / pretraining.name).unlink()
    assert run_matrix(matrix, tmp_path, Executor()) == {}
    assert was_failed(pretraining, tmp_path)  # nobody asked to try it again
    assert run_matrix(matrix, tmp_path, Executor(), retry_failed=True) == {}
    assert all(is_finished(run, tmp_path) and not was_failed(run, tmp_path) for run in matrix)


@pytest.mark.slow
def test_numbers_of_labels_are_columns_of_the_table(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = words(hearts, recipe, out, "--modes", "linear", "--labels", "1", "2")
    runs = find_matrix(benchmark_options(few[1:]))
    assert [(run.method, run.column.labels) for run in runs if not run.pretrains] == [
        ("scratch", 1),
        ("gvsl", 1),
        ("scratch", 2),
        ("gvsl", 2),
    ]
    assert len(runs) == 5  # one pre-training for both
    assert main(few) == 0
    drawn = {(run.method, run.column.labels): read_record(out / "runs" / run.name).config for run in runs[1:]}
    assert {key: len(config["train_cases"]) for key, config in drawn.items()} == {key: key[1] for key in drawn}
    lines = list(csv.DictReader((out / "table1.csv").open(encoding="utf-8")))
    assert sorted((line["method"], line["labels"]) for line in lines) == [
        ("gvsl", "1"),
        ("gvsl", "2"),
        ("scratch", "1"),
        ("scratch", "2"),
    ]


@pytest.fixture
def carrying(recipe: Path, tmp_path: Path) -> Path:
    """The recipe, with settings of carried labels."""
    path = tmp_path / "carrying.yaml"
    how = "  carrying: {refine: 3, least_dice: 0, real_share: 0.5}\n"
    path.write_text(recipe.read_text(encoding="utf-8") + how, encoding="utf-8")
    return path


def test_students_have_the_settings_of_carrying_of_the_recipe(hearts: Path, carrying: Path, tmp_path: Path) -> None:
    few = words(hearts, carrying, tmp_path / "out", "--modes", "finetune", "student", "--labels", "1")
    students = [run for run in find_matrix(benchmark_options(few[1:])) if run.carry is not None]
    assert students
    for student in students:
        assert isinstance(student.settings, TransferSettings)
        how = student.settings.carrying
        assert (how.refine, how.least_dice, how.real_share) == (3, 0, 0.5)


@pytest.mark.slow
def test_carried_labels_and_students_are_arms_of_every_draw(hearts: Path, carrying: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = words(hearts, carrying, out, "--modes", "finetune", "carried", "student", "--labels", "1", "--draws", "2")
    runs = find_matrix(benchmark_options(few[1:]))
    assert len(runs) == 1 + 2 * (2 + 2 + 1)
    assert main(few) == 0
    records = {run.name: read_record(out / "runs" / run.name) for run in runs if not run.pretrains}
    drawn = {(record.seed, *record.config["train_cases"]) for record in records.values()}
    assert len(drawn) == 2  # all arms of a draw have the same case
    assert {name for record in records.values() for name in record.config["method"].split()} == {"scratch", "gvsl"}
    (column,) = {(line["mode"]) for line in csv.DictReader((out / "table1.csv").open(encoding="utf-8"))}
    assert column == "finetune"
    page = (out / "report.html").read_text(encoding="utf-8")
    for words_shown in (
        "carried by gvsl, against carried from no network",
        "ahead in",
        "its confidence",
        " failed, seeds",
    ):
        assert words_shown in page
    before = written(out)
    assert main(few) == 0
    assert written(out) == before
    student = next(run.name for run in runs if run.carry is not None)
    shutil.rmtree(out / "runs" / student)
    (out / "runs" / f"{student}.part" / "carried").mkdir(parents=True)  # stopped while labels were carried
    assert main(few) == 0
    assert read_record(out / "runs" / student).metrics == records[student].metrics


def test_a_run_goes_on_where_it_was_stopped(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    pretraining = find_matrix(benchmark_options(words(hearts, recipe, tmp_path, "--methods", "rotation")[1:]))[0]
    half = tmp_path / "runs" / pretraining.name
    half.mkdir(parents=True)
    (half / "curves.csv").write_text("step,loss\n", encoding="utf-8")  # stopped before there was a checkpoint
    assert execute(pretraining, tmp_path) is None
    assert is_finished(pretraining, tmp_path)


@pytest.mark.slow
def test_jobs_are_submitted_one_a_run(hearts: Path, recipe: Path, done: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs submitit, of the extra `cluster`")
    assert main(words(hearts, recipe, tmp_path / "out", "--modes", "linear", "--slurm", "debug")) == 0
    linear = [line for line in table(done).splitlines() if ",linear," in line]
    assert table(tmp_path / "out").splitlines()[1:] == linear


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--methods", "gvsl", "simcl"], "simclr"),
        (["--modes", "scratch"], "there is no mode scratch"),
        (["--labels", "0"], "labels is 0: give 1 or more"),
        (["--processes", "0"], "give 1 or more"),
        pytest.param(["--dask", "tcp://127.0.0.1:1"], "no Dask scheduler answers", marks=pytest.mark.slow),  # 10 s
        (["--dask", "tcp://127.0.0.1:1", "--slurm", "debug"], "choose one"),
        (["--stores", "nowhere"], "nowhere"),
        (["--recipe", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_line(
    more: list[str], expected: str, hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--dask" in more:
        pytest.importorskip("distributed", reason="needs distributed, of the extra `cluster`")
    assert main([*words(hearts, recipe, tmp_path / "out"), *more]) == 2
    said = capsys.readouterr().err.splitlines()
    assert expected in said[-1]
    assert said[-1].startswith("gvsl: error: ")


def test_two_stores_of_one_name_are_refused(hearts: Path, tmp_path: Path) -> None:
    (tmp_path / "hearts").symlink_to(hearts)
    with pytest.raises(UserError, match="two stores are called hearts"):
        find_columns([("", hearts), ("", tmp_path / "hearts")])


@pytest.mark.slow
def test_a_run_of_other_settings_is_left_out_of_the_table(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, longer = tmp_path / "out", tmp_path / "longer.yaml"
    longer.write_text(recipe.read_text(encoding="utf-8").replace("max_steps: 3", "max_steps: 5"), encoding="utf-8")
    assert main(words(hearts, recipe, out, "--modes", "linear")) == 0
    first = table(out)
    capsys.readouterr()
    assert main(words(hearts, longer, out, "--modes", "linear")) == 0
    told = f"Left out: 2 runs of another matrix in {out}; gvsl report {out} --out all.html shows them too"
    assert told in capsys.readouterr().out
    lines = list(csv.DictReader((out / "table1.csv").open(encoding="utf-8")))
    assert [(line["seeds"], line["settings"]) for line in lines] == [("0", "")] * 2
    of_longer = [read_record(folder) for folder in (out / "runs").glob("hearts-linear-scratch-*")]
    (mean,) = [
        100 * sum(row["dice"] for row in made.cases) / len(made.cases)
        for made in of_longer
        if made.config["max_steps"] == 5
    ]
    assert float(lines[0]["mean"]) == pytest.approx(mean, rel=1e-5)
    assert main(words(hearts, recipe, out, "--modes", "linear")) == 0  # all is there: only the table is made again
    assert table(out) == first
    assert [key.settings for key in read_report([out / "runs"]).table1.columns] == ["max_steps 3", "max_steps 5"]


def test_a_benchmark_of_failures_is_told_in_table_and_report(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    again = words(hearts, recipe, out, "--modes", "linear")
    matrix = find_matrix(benchmark_options(again[1:]))
    (out / "runs").mkdir(parents=True)
    for run in matrix:
        (out / "runs" / run.name).write_text("in the way", encoding="utf-8")
    for _ in range(2):  # done, and told again though nothing is done
        assert main(again) == 2
        said = capsys.readouterr()
        assert "gvsl: error: 3 of 3 runs failed" in said.err.splitlines()[-1]
        assert f"{out / 'failed'}" in said.err.splitlines()[-1]
        assert "--retry-failed" in said.err.splitlines()[-1]
        assert said.out.count("failed (1)") == 2
    page = (out / "report.html").read_text(encoding="utf-8")
    reason = read_record(out / "failed" / matrix[-1].name).config["reason"]
    assert f"the run failed: {html.escape(reason)}" in page
    assert "3 runs failed" in page
    assert page.count("failed (1)") == 2
    assert main(["report", str(out / "failed"), "--out", str(tmp_path / "page.html")]) == 0
    assert main([*again, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "0 of 3 runs missing" in said.out
    assert "repeated only with --retry-failed: 3" in said.out


@pytest.mark.slow
def test_a_dry_run_says_how_far_it_is_and_writes_nothing(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(hearts, recipe, tmp_path / "out", "--dry-run")) == 0
    said = capsys.readouterr()
    assert "calibration 3/3 kinds of runs" in said.err  # fine-tuning takes as long as training from scratch
    assert "5 of 5 runs missing" in said.out
    assert not (tmp_path / "out").exists()


def test_two_benchmarks_in_one_folder_are_refused(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / LOCK_NAME).open("ab") as file:
        lock(file, "never said")
        assert main(words(hearts, recipe, tmp_path / "out")) == 2
    assert "another gvsl benchmark is writing" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK_NAME]


@pytest.mark.slow
def test_killed_anywhere_and_started_again_it_ends_the_same(
    done: Path, hearts: Path, recipe: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "import sys; from gvsl.cli import main; sys.exit(main())"]
    command += words(hearts, recipe, tmp_path / "out")
    draws = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draws.uniform(4, 14))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert table(tmp_path / "out") == table(done)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_table(done: Path, hearts: Path, recipe: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs distributed, of the extra `cluster`")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        assert main(words(hearts, recipe, tmp_path / "out", "--dask", address)) == 0
    assert table(tmp_path / "out") == table(done)


def test_a_figure_of_the_user_is_kept_and_one_of_an_earlier_matrix_is_not(
    done: Path, hearts: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    for name in ("figure6.png", "figure7.svg", "figure8.pdf"):
        (out / name).write_bytes(b"x")
    assert main(words(hearts, recipe, out)) == 0
    assert sorted(path.name for path in out.glob("figure*")) == [
        "figure6.pdf",
        "figure6.png",
        "figure7.pdf",
        "figure7.svg",
    ]


def test_a_path_may_hold_an_equals_sign(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "study=1" / "hearts"
    place.parent.mkdir()
    place.symlink_to(hearts)
    for given in (str(place), f"segmentation={place}"):
        options = words(Path(given), recipe, tmp_path / "out")[1:]
        assert {run.column.store for run in find_matrix(benchmark_options(options))} == {place}
