"""Several processes of one run, as torchrun or srun starts them."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._C._distributed_c10d import HashStore

from gvsl.augment import SpatialSettings
from gvsl.augment.draw import ShareGenerator
from gvsl.backbones import BackboneSettings, UNet3D, build_backbone
from gvsl.errors import UserError
from gvsl.methods import METHODS, GVSLSettings, Method
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.pretrain import TrainerSettings
from gvsl.store import Store
from gvsl.training.metrics_logger import read_curves
from gvsl.training.team import by_volume, joined, own_part, tells_of_loss, told_if_lost
from gvsl.types import PairBatch

MOVED = SpatialSettings(rate=1.0)
"""Every volume is moved."""
SHARED: dict[str, tuple[str, object]] = {
    "gvsl": ("gvsl", GVSLSettings(spatial=MOVED)),
    "independent poses, both ways": (
        "gvsl",
        GVSLSettings(spatial=MOVED, independent_poses=True, symmetric=True),
    ),
    "boxes": ("gvsl", GVSLSettings(spatial=MOVED, damage="boxes")),
    "models-genesis": ("models-genesis", PRETEXTS["models-genesis"].settings),
    "denoising": ("denoising", PRETEXTS["denoising"].settings),
    "inpainting": ("inpainting", PRETEXTS["inpainting"].settings),
    "rotation": ("rotation", PRETEXTS["rotation"].settings),
}


def test_batch_norm_in_the_backbone_depends_on_who_shares_a_process() -> None:
    backbone = build_backbone(BackboneSettings(name="genesis", width=8, levels=2))
    assert not by_volume(METHODS["inpainting"](backbone, PRETEXTS["inpainting"].settings))


@pytest.mark.parametrize("name", SHARED)
def test_a_batch_has_the_same_loss_however_it_is_shared_out(name: str) -> None:
    torch.manual_seed(0)
    method, settings = SHARED[name]
    trained: Method = METHODS[method](UNet3D(width=8, levels=2, in_channels=2), settings).double()
    assert by_volume(trained)
    for parameter in trained.parameters():  # heads begin with zeros
        torch.nn.init.normal_(parameter, std=0.1)
    moving, fixed = torch.rand(2, 4, 2, 12, 12, 12, dtype=torch.float64)
    moving_ids, fixed_ids = list("abcd"), list("efgh")
    whole = trained.training_step(PairBatch(moving, fixed, moving_ids, fixed_ids), torch.Generator().manual_seed(3))
    parts = []
    for rank in range(2):
        mine = slice(2 * rank, 2 * rank + 2)
        share = PairBatch(moving[mine], fixed[mine], moving_ids[mine], fixed_ids[mine])
        generator = ShareGenerator(torch.device("cpu"), rank, world=2, volumes=2)
        parts.append(trained.training_step(share, generator.manual_seed(3)))
    for value in whole:
        torch.testing.assert_close((parts[0][value] + parts[1][value]) / 2, whole[value], rtol=1e-5, atol=1e-7)
    assert not torch.equal(parts[0]["loss"], parts[1]["loss"])


@pytest.mark.parametrize(
    ("settings", "variables", "message"),
    [
        (TrainerSettings(nodes=2), {}, r"trainer\.nodes is 2, and this process was started alone"),
        (
            TrainerSettings(devices=2),
            {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "RANK": "0"},
            "torchrun has started 4 processes, and 1 nodes of 2 devices need 2",
        ),
    ],
)
def test_processes_and_settings_that_disagree_are_refused(
    settings: TrainerSettings, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), joined(settings):
        pass


def test_a_lost_process_is_told_apart_from_a_lost_reader_and_from_other_errors() -> None:
    with pytest.raises(UserError, match="another of the run's 2 processes"), told_if_lost(2):
        raise RuntimeError("Connection reset by peer")
    for other in ("DataLoader timed out after 300 seconds", "mat1 and mat2 shapes cannot be multiplied"):
        with pytest.raises(RuntimeError, match=other), told_if_lost(2):
            raise RuntimeError(other)
    with pytest.raises(RuntimeError, match="reset"), told_if_lost(1):
        raise RuntimeError("Connection reset by peer")


@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4242",
        "Timed out waiting 5000ms for recv operation to complete",
        "NCCL communicator was aborted on rank 1.",
        "Broken pipe",
    ],
)
def test_what_torch_says_of_a_lost_process_is_known(message: str) -> None:
    assert tells_of_loss(message)
    assert not tells_of_loss("mat1 and mat2 shapes cannot be multiplied")


def test_processes_that_are_started_again_find_nothing_of_the_ended_ones_in_the_launchers_store() -> None:
    launcher = HashStore()
    for start_again in range(3):
        if start_again == 1:
            launcher.set("question/1", "of a process that was killed before it had its answer")
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda rank: own_part(launcher, rank, 3, timedelta(seconds=30)), range(3)))
        assert not any(part.check(["address"]) for part in parts)
        parts[2].set("address", str(start_again))
        assert [part.get("address") for part in parts] == [str(start_again).encode()] * 3


def test_a_process_that_never_comes_is_told() -> None:
    launcher = HashStore()
    with pytest.raises(UserError, match="another of the run's 2 processes"):
        own_part(launcher, 0, 2, timedelta(seconds=0.2))
    with pytest.raises(UserError, match="another of the run's 2 processes"), told_if_lost(2):
        own_part(launcher, 1, 2, timedelta(seconds=0.2))


# --- two processes as two nodes ---------------------------------------------------------------------------------------

STEPS = 12
START = 300
"""Seconds for two processes to start on a busy machine."""


def start(store: Store, out: Path, rank: int, port: int, *options: str, steps: int = STEPS) -> "subprocess.Popen[str]":
    """Start one of two processes as srun does, each on a node of its own."""
    task = {"PROCID": str(rank), "NODEID": str(rank), "LOCALID": "0", "STEP_ID": "0", "JOB_ID": "7", "NNODES": "2"}
    tasks = {"STEP_NUM_TASKS": "2", "NTASKS": "2", "NTASKS_PER_NODE": "1"}
    variables = {f"SLURM_{name}": value for name, value in (task | tasks).items()}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PATH": ""}  # no scontrol
    environment = os.environ | variables | meeting
    return subprocess.Popen(
        [sys.executable, "-m", "gvsl", *command(store, out, steps), "--trainer.nodes", "2", *options],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def command(store: Store, out: Path, steps: int = STEPS) -> list[str]:
    """Return the command of a run of small steps, with a checkpoint after each third."""
    trainer = {"device": "cpu", "max-steps": str(steps), "checkpoint-every": "3", "log-every": "2", "loggers": "csv"}
    data = {"batch-size": "1", "crop": "16", "workers": "0"}
    given = [(f"--trainer.{name}", value) for name, value in trainer.items()]
    given += [(f"--data.{name}", value) for name, value in data.items()]
    given += [("--backbone.width", "8"), ("--backbone.levels", "3")]
    return ["pretrain", str(store.path), "--out", str(out), *(word for pair in given for word in pair)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_both(store: Store, out: Path, *options: str) -> None:
    """Run both processes to their end."""
    port = free_port()
    both = [start(store, out, rank, port, *options) for rank in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=START)
        assert process.returncode == 0, errors


def await_checkpoint(out: Path) -> None:
    until = time.monotonic() + START
    while not (out / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def children(process: int) -> list[int]:
    """Return the ids of the processes that one has started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()]


def command_line(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def same_runs(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "weights" / "model.safetensors") for run in (one, other))
    equal = all(torch.equal(first[name], second[name]) for name in first)
    return equal and read_curves(one / "curves.csv") == read_curves(other / "curves.csv")


@pytest.fixture(scope="module")
def undisturbed(phantom_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    run_both(phantom_store, out)
    return out


@pytest.mark.slow
def test_two_nodes_train_as_one_process_with_both_of_their_pairs(
    undisturbed: Path, phantom_store: Store, tmp_path: Path
) -> None:
    alone = [sys.executable, "-m", "gvsl", *command(phantom_store, tmp_path / "one"), "--data.batch-size", "2"]
    subprocess.run(alone, check=True, timeout=START, stdout=subprocess.DEVNULL)
    both, one = (read_curves(run / "curves.csv") for run in (undisturbed, tmp_path / "one"))
    assert len(both) == len(one) == STEPS
    for row, expected in zip(both, one, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert row["ncc"] == pytest.approx(expected["ncc"], rel=1e-3)


@pytest.mark.slow
def test_a_killed_node_ends_the_other_and_the_run_goes_on(
    undisturbed: Path, phantom_store: Store, tmp_path: Path
) -> None:
    out, port = tmp_path / "run", free_port()
    first, second = (start(phantom_store, out, rank, port) for rank in range(2))
    await_checkpoint(out)
    second.kill()
    _, errors = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("gvsl: ")]
    assert "another of the run's 2 processes has ended" in line and "--resume" in line
    assert "Traceback" not in errors
    run_both(phantom_store, out, "--resume")
    assert same_runs(out, undisturbed)


@pytest.mark.slow
def test_a_signal_to_one_node_stops_both_after_a_checkpoint(
    undisturbed: Path, phantom_store: Store, tmp_path: Path
) -> None:
    out, port = tmp_path / "run", free_port()
    both = [start(phantom_store, out, rank, port) for rank in range(2)]
    await_checkpoint(out)
    both[1].send_signal(signal.SIGUSR1)
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [130, 130]
    assert all("--resume continues it" in text for text in told)
    assert "there is no scontrol here to requeue job 7" in told[0] and "scontrol" not in told[1]
    run_both(phantom_store, out, "--resume")
    assert same_runs(out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("reached", ["the one that started them", "one of them"])
def test_a_signal_to_one_of_the_processes_that_lightning_starts_stops_all(
    reached: str, phantom_store: Store, tmp_path: Path
) -> None:
    out, words = tmp_path / "run", [sys.executable, "-m", "gvsl", *command(phantom_store, tmp_path / "run", 999)]
    with subprocess.Popen(
        [*words, "--trainer.devices", "2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        try:
            await_checkpoint(out)
            training = [child for child in children(running.pid) if b"spawn_main" in command_line(child)]
            assert len(training) == 2
            os.kill(running.pid if reached == "the one that started them" else training[1], signal.SIGTERM)
            _, errors = running.communicate(timeout=START)
        finally:
            running.kill()  # else a failure would wait for all of its steps
    assert running.returncode == 130
    assert "SIGKILL" not in errors  # which torch sends after half a minute
    assert [line for line in errors.splitlines() if "--resume" in line] == [
        f"gvsl: stopped {out}: --resume continues it"
    ]
    assert "Traceback" not in errors
    assert not any(Path(f"/proc/{child}").exists() for child in training)
    assert (out / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_fewer_processes_with_more_pairs_each_go_on_with_a_run(
    undisturbed: Path, phantom_store: Store, tmp_path: Path
) -> None:
    out, port = tmp_path / "run", free_port()
    both = [start(phantom_store, out, rank, port) for rank in range(2)]
    await_checkpoint(out)
    both[0].send_signal(signal.SIGTERM)
    for process in both:
        process.communicate(timeout=60)
    alone = [sys.executable, "-m", "gvsl", *command(phantom_store, out), "--resume"]
    refused = subprocess.run(alone, capture_output=True, text=True, timeout=START, check=False)
    assert "was begun with trainer.nodes 2, now 1" in refused.stderr
    done = subprocess.run([*alone, "--data.batch-size", "2"], capture_output=True, text=True, timeout=START, check=True)
    assert "data.batch_size 1, now 2; trainer.nodes 2, now 1: the same pairs a step" in done.stderr
    for row, expected in zip(read_curves(out / "curves.csv"), read_curves(undisturbed / "curves.csv"), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.slow
def test_torchrun_starts_both_again_after_one_has_died(undisturbed: Path, phantom_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launcher, "--max-restarts", "1", "-m", "gvsl", *command(phantom_store, out), "--trainer.devices", "2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        try:
            await_checkpoint(out)
            os.kill(children(running.pid)[-1], signal.SIGKILL)
            _, errors = running.communicate(timeout=START)
        finally:
            running.terminate()  # else a failure would wait for processes that wait for each other
    assert running.returncode == 0, errors
    assert "restart 1: resuming" in errors
    assert same_runs(out, undisturbed)
