"""Processes that die while they do a run."""

import csv
import sys
from pathlib import Path

import pytest

from gvsl.benchmark.folder import is_finished, was_failed
from gvsl.benchmark.matrix import Matrix
from gvsl.benchmark.schedule import Executor, run_matrix
from gvsl.cli import main
from gvsl.cli.benchmark import benchmark_options, find_matrix
from gvsl.records import read_record

from .helpers import killing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes by /proc"),
]


def words(hearts: Path, recipe: Path, out: Path) -> list[str]:
    options = ["benchmark", "--out", str(out), "--stores", str(hearts), "--recipe", str(recipe)]
    return [*options, "--methods", "gvsl", "simclr", "--modes", "linear"]


def matrix_for(hearts: Path, recipe: Path, out: Path) -> Matrix:
    return find_matrix(benchmark_options(words(hearts, recipe, out)[1:]))


def test_a_run_whose_process_dies_fails_alone(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    other, deadly = matrix_for(hearts, recipe, tmp_path)[:2]
    with killing(tmp_path / "logs" / f"{deadly.name}.log", times=2) as killed:  # in the pool, and by itself
        failures = run_matrix([other, deadly], tmp_path, Executor(processes=2))
    assert len(killed) == 2
    assert set(failures) == {deadly.name}
    record = read_record(tmp_path / "failed" / deadly.name)
    assert "killed" in record.config["reason"]
    assert record.config["trainer"]["max_steps"] == 4
    assert is_finished(other, tmp_path)


def test_a_benchmark_ends_and_is_told_though_a_process_dies(
    hearts: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = matrix_for(hearts, recipe, tmp_path)
    deadly = next(run for run in matrix if run.pretrains and run.method == "simclr")
    with killing(tmp_path / "logs" / f"{deadly.name}.log", times=2) as killed:
        assert main([*words(hearts, recipe, tmp_path), "--processes", "2"]) == 2
    assert len(killed) == 2
    assert read_record(tmp_path / "failed" / deadly.name).config["reason"].startswith("its process was killed")
    said = capsys.readouterr()
    assert "2 of 5 runs failed" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    lost = {run.name for run in matrix if was_failed(run, tmp_path)}
    assert lost == {run.name for run in matrix if run.method == "simclr"}
    assert all(is_finished(run, tmp_path) for run in matrix if run.name not in lost)
    table = list(csv.DictReader((tmp_path / "table1.csv").open(encoding="utf-8")))
    assert {line["method"]: line["failed"] for line in table} == {"scratch": "0", "gvsl": "0", "simclr": "1"}


def test_a_run_whose_process_dies_once_is_done_again(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    matrix = matrix_for(hearts, recipe, tmp_path)
    with killing(tmp_path / "logs" / f"{matrix[0].name}.log", times=1) as killed:
        assert run_matrix(matrix, tmp_path, Executor(processes=2)) == {}
    assert len(killed) == 1
    assert all(is_finished(run, tmp_path) for run in matrix)


def test_a_dask_worker_that_dies_fails_its_run_alone(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs distributed, of the extra `cluster`")
    dask = pytest.importorskip("dask")
    matrix = matrix_for(hearts, recipe, tmp_path)
    deadly = matrix[0]
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        killing(tmp_path / "logs" / f"{deadly.name}.log", times=2),  # among others, and by itself
    ):
        failures = run_matrix(matrix, tmp_path, Executor(dask=cluster.scheduler_address))
    assert "workers that executed it died" in failures[deadly.name]
    assert was_failed(deadly, tmp_path)
    assert {name for name in failures if deadly.method not in name} == set()


def test_a_job_that_dies_fails_its_run_alone(hearts: Path, recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs submitit, of the extra `cluster`")
    matrix = matrix_for(hearts, recipe, tmp_path)
    deadly = matrix[0]
    with killing(tmp_path / "logs" / f"{deadly.name}.log", times=1):
        failures = run_matrix(matrix, tmp_path, Executor(slurm="local"))
    assert "its job did not end" in failures[deadly.name]
    assert was_failed(deadly, tmp_path)
    assert {name for name in failures if deadly.method not in name} == set()
