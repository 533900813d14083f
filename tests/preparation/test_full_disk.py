"""`prepare` on a full disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gvsl.cases import Case
from gvsl.preparation import PrepareSummary, prepare
from gvsl.preprocessing import PRESETS

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_harmless(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a"), make_case("b"), make_case("c", shape=(60, 60, 60)), make_case("d")]
    out = tmp_path / "store"
    # The system limits files to 100 kB.
    limited = (
        f"ulimit -f 100; exec {sys.executable} -c 'import sys; from gvsl.cli import main; sys.exit(main())' \"$@\""
    )
    argv = ["prepare", str(cases[0].image.parents[1]), str(out), "--processes", "1"]
    ended = subprocess.run(["bash", "-c", limited, "bash", *argv], stderr=subprocess.PIPE, text=True, check=False)
    (output,) = [line for line in ended.stderr.splitlines() if not line.startswith("Prepare ")]
    assert ended.returncode == 2
    assert "images/c can't be written to" in output
    assert "is the disk full?" in output
    assert not out.exists()
    kept = {name for name in contents(tmp_path / "store.partial") if name.endswith(".b2nd")}
    assert kept == {f"store/{part}/{name}.b2nd" for part in ("images", "labels") for name in "ab"}
    done: list[PrepareSummary] = []
    prepare(cases, out, MR, source="source", on_done=done.append)
    assert (done[0].resumed, done[0].prepared) == (2, 2)
    prepare(cases, tmp_path / "undisturbed", MR, source="source")
    assert contents(out) == contents(tmp_path / "undisturbed")


FILLED = """
mount -t tmpfs -o size="$1" none "$2" || exit 77
shift 2
"$@" --processes 1 2> "$OUT/output"
echo $? > "$OUT/code"
cp -r "$DISK/store.partial" "$OUT/left" 2> /dev/null
mount -o remount,size=16m "$DISK" || exit 78
"$@" --processes 1 > "$OUT/again" 2> /dev/null
cp -r "$DISK/." "$OUT/disk"
"""
"""Prepare a store on a private disk of a given size, and again after enlarging it."""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare, to mount a small disk with")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(4096, marks=pytest.mark.slow),
        pytest.param(12288, marks=pytest.mark.slow),
        pytest.param(65536, marks=pytest.mark.slow),
    ],
)
def test_a_run_continues_once_a_full_disk_has_space(tmp_path: Path, make_case: MakeCase, size: int) -> None:
    cases = [make_case("a"), make_case("b"), make_case("c", shape=(60, 60, 60)), make_case("d")]
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    command = [sys.executable, "-c", "import sys; from gvsl.cli import main; sys.exit(main())", "prepare"]
    command += [str(cases[0].image.parents[1]), str(disk / "store")]
    names = {**os.environ, "DISK": str(disk), "OUT": str(out)}
    script = ["unshare", "-rm", "bash", "-c", FILLED, "bash", str(size), str(disk), *command]
    ended = subprocess.run(script, env=names, capture_output=True, text=True, check=False)
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip(f"no disk can be mounted here: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr
    assert (out / "code").read_text(encoding="ascii") == "2\n"
    lines = (out / "output").read_text(encoding="utf-8").splitlines()
    (output,) = [line for line in lines if not line.startswith("Prepare ")]
    assert "can't be written" in output
    assert "No space left on device" in output
    if size == 65536:
        assert f"images/c can't be written to {disk / 'store.partial'}" in output
        assert "2 prepared already by a run that was stopped" in (out / "again").read_text(encoding="utf-8")
    assert [path.name for path in (out / "disk").iterdir()] == ["store"]
    prepare(cases, tmp_path / "undisturbed", MR, source="source")
    expected = contents(tmp_path / "undisturbed")
    assert contents(out / "disk" / "store") == expected
    left = {name.removeprefix("store/"): found for name, found in contents(out / "left").items() if "b2nd" in name}
    assert left.items() <= expected.items()  # the arrays of the first run were complete
