"""gvsl pretrain that was stopped."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gvsl.cli import main
from gvsl.records import read_record, write_record


@pytest.mark.slow
def test_a_stopped_pretraining_says_how_to_go_on(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(store), "--out", str(run), "--width", "8", "--levels", "3", "--crop", "16"]
    words += ["--trainer.checkpoint-every", "1", "--data.workers", "0"]
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
    assert said.splitlines()[-1] == f"gvsl: stopped {run}: --resume continues it"
    assert "Traceback" not in said


def test_a_run_stopped_while_it_was_evaluated_goes_on_with_that(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(store), "--out", str(run), "--width", "8", "--levels", "3", "--crop", "16"]
    words += ["--trainer.max-steps", "1", "--data.workers", "0"]
    assert main(words) == 0
    whole = read_record(run)
    shutil.rmtree(run / "pictures")
    trained = {name: value for name, value in whole.metrics.items() if name.startswith("train/")}
    write_record(replace(whole, metrics=trained, cases=[], pictures=[], labels={}), run)

    write_record(replace(read_record(run), store={"name": "store", "hash": "0" * 64}), run)
    assert main([*words, "--resume"]) == 2
    assert "was begun with store 000000" in capsys.readouterr().err
    write_record(replace(read_record(run), store=whole.store), run)

    assert main([*words, "--resume"]) == 0
    assert read_record(run) == whole
    assert main([*words, "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err


def test_a_device_that_is_not_there_leaves_nothing_in_the_way(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is such a device")
    gpu = ["--trainer.accelerator", "gpu", "--backbone.levels", "3"]
    assert main(["pretrain", str(store), "--out", str(tmp_path / "new" / "run"), *gpu]) == 2
    assert "torch finds no CUDA device here: choose cpu or auto" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
