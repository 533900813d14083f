"""The command line as a whole: help, exit codes, and the form of errors."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gvsl
from gvsl.cli import COMMANDS, main
from gvsl.datasets import DATASETS
from gvsl.datasets.tasks import TASKS
from gvsl.errors import UserError
from gvsl.methods import METHODS
from gvsl.phantom.cohort import ANATOMIES
from gvsl.settings.names import DATASET_NAMES, PHANTOM_NAMES, TASK_SUMMARIES


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == shown
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].+\.$", shown, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_exits_well_and_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_methods_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert all(re.fullmatch(r"\S+ +[A-Z].+\.", line) and len(line) < 120 for line in lines)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gvsl {gvsl.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", gvsl.__version__)


def test_help_and_the_reading_commands_import_nothing_heavy(store: Path) -> None:
    code = (
        "import sys\n"
        "from gvsl.cli import COMMANDS, main\n"
        "def imports_none_of(heavy, *lines):\n"
        "    for words in lines:\n"
        "        try:\n"
        "            main(words)\n"
        "        except SystemExit:\n"
        "            pass\n"
        "        found = heavy & set(sys.modules)\n"
        "        assert not found, (words, found)\n"
        "heavy = {'torch', 'lightning', 'monai', 'SimpleITK', 'matplotlib', 'sklearn'}\n"
        "helps = [[name, '--help'] for name in COMMANDS]\n"
        "imports_none_of(heavy | {'numpy', 'scipy', 'nibabel'}, ['--help'], ['demoo'], ['methods'], *helps)\n"
        "imports_none_of(heavy | {'pydicom', 'scipy', 'blosc2'}, ['inspect', sys.argv[1]])\n"
        "imports_none_of(heavy, ['prepare', 'nowhere', 'store'])\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, store], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS) + 1


def test_what_matches_and_predicts_is_imported_without_what_trains_and_scores() -> None:
    code = (
        "import sys\n"
        "import gvsl.prediction.carried, gvsl.prediction.propagate, gvsl.prediction.register, gvsl.transfer\n"
        "from gvsl.inferers import windows\n"
        "assert len(windows((4, 4, 4), (8, 8, 8), 0.5)) == 1\n"
        "print({'monai', 'lightning', 'matplotlib', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_help_names_what_there_is() -> None:
    assert tuple(DATASETS) == DATASET_NAMES
    assert list(TASK_SUMMARIES) == list(TASKS)
    assert tuple(ANATOMIES) == PHANTOM_NAMES


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


def test_ctrl_c_is_one_line_and_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "inspect", interrupted)
    assert main(["inspect", "store"]) == 130
    assert capsys.readouterr().err == "gvsl: stopped\n"


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


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gvsl", "inspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gvsl: error: ")


def run_command(words: list[str], **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "gvsl", *words], capture_output=True, text=True, check=False, **more)


def test_sigterm_stops_as_ctrl_c_does(tmp_path: Path) -> None:
    words = ["phantom", str(tmp_path / "out"), "--count", "5000", "--size", "16"]
    running = subprocess.Popen([sys.executable, "-m", "gvsl", *words], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".gvsl-*/images/*")) and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=60)[1].endswith("gvsl: stopped\n")
    assert running.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_no_fault_of_the_file_that_was_being_read(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that is interrupted in C code may raise an error of its own."""

    def interrupted(argv: list[str]) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise UserError("weights can't be read") from None

    monkeypatch.setitem(COMMANDS, "inspect", interrupted)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # a shell has what it starts in the background ignore Ctrl-C
    try:
        assert main(["inspect", "store"]) == 130
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "gvsl: stopped\n"


def test_a_terminal_of_ascii_and_a_closed_output_are_no_faults(tmp_path: Path) -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run_command(["prepare", str(tmp_path / "κλίση"), str(tmp_path / "store")], env=ascii_only)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "\\u03ba" in done.stderr
    for streams in (">&-", ">&- 2>&-"):
        command = f"{sys.executable} -m gvsl --help {streams}"
        assert subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, check=False).returncode == 0


def test_one_of_several_copies_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["pretrain", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "torchrun has started 2 processes" in said
