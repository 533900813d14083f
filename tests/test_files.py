import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from gvsl.errors import UserError
from gvsl.files import (
    claimed,
    is_claimed,
    leftovers,
    lock_path,
    naming,
    scratch_folder,
    whole_file,
    whole_folder,
    write_text,
)

HOLD = """
import sys, time
from pathlib import Path
from gvsl.files import claimed, whole_folder
with claimed(Path(sys.argv[1]), "test", inside=sys.argv[2] == "inside"):
    unfinished = whole_folder(Path(sys.argv[1]))
    folder = unfinished.__enter__()
    (folder / "half").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path, where: str) -> "subprocess.Popen[str]":
    """A process that holds `path` and has half written a folder of that name."""
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(path), where], stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    return held


def test_an_output_is_held_by_one_process_and_what_it_leaves_when_killed_is_removed(tmp_path: Path) -> None:
    out = tmp_path / ("n" * 247)
    held = hold(out, "beside")
    assert is_claimed(out)
    with pytest.raises(UserError, match=r"another gvsl pretrain is writing .*; wait until it has ended"):
        claimed(out, "gvsl pretrain", patience=0.1).__enter__()
    held.kill()
    held.wait()
    assert not is_claimed(out)
    assert len(list(tmp_path.iterdir())) == 2  # the lock and the half-written folder
    with claimed(out, "gvsl pretrain"):
        assert list(tmp_path.iterdir()) == [lock_path(out)]
        assert is_claimed(out)
    assert list(tmp_path.iterdir()) == []


def test_a_claim_waits_for_a_process_that_is_about_to_end(tmp_path: Path) -> None:
    held = hold(tmp_path / "out", "beside")
    subprocess.Popen(["bash", "-c", f"sleep 0.3; kill -9 {held.pid}"])
    began = time.monotonic()
    with claimed(tmp_path / "out", "test", patience=30):
        assert time.monotonic() - began < 20
    held.wait()


def test_other_outputs_and_files_of_the_user_are_left_alone(tmp_path: Path) -> None:
    for name in (".hidden", "out.nii", ".out.notes"):
        (tmp_path / name).write_text("the user's")
    with claimed(tmp_path / "other", "test"), whole_folder(tmp_path / "other") as folder:
        with claimed(tmp_path / "out", "test"):
            assert folder.is_dir()
        assert is_claimed(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".out.notes", "other", "out.nii"]


def test_the_next_command_in_a_folder_removes_what_a_killed_one_left_of_another_output(tmp_path: Path) -> None:
    held = hold(tmp_path / "killed", "beside")
    with claimed(tmp_path / "next", "test"):
        assert len(list(tmp_path.iterdir())) == 3  # both locks, and the folder of the one that lives
    held.kill()
    held.wait()
    with claimed(tmp_path / "next", "test"):
        assert list(tmp_path.iterdir()) == [lock_path(tmp_path / "next")]


def test_what_another_output_in_the_same_folder_writes_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".scan.0123abcd").write_text("the user's")
    (tmp_path / ".gvsl-01234567-89abcdef.nii").write_text("of a killed call")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".gvsl-01234567-89abcdef").write_text("perhaps of another command")
    held = hold(tmp_path / "other", "beside")
    with claimed(tmp_path, "test", inside=True):
        names = {path.name for path in tmp_path.iterdir()}
    assert {".scan.0123abcd", "deep"} < names
    assert ".gvsl-01234567-89abcdef.nii" not in names
    assert len(names) == 5  # and both of the other output, and the lock
    assert (tmp_path / "deep" / ".gvsl-01234567-89abcdef").exists()
    held.kill()
    held.wait()
    with claimed(tmp_path / "deep", "test", deep=True):
        assert list((tmp_path / "deep").iterdir()) == []


def test_a_scratch_folder_goes_with_its_process_or_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
import os
from gvsl.files import scratch_folder
with scratch_folder("test") as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert len(list(tmp_path.rglob("half"))) == 1
    (tmp_path / "gvsl-of-a-user").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder("test") as one, scratch_folder("test") as two:
        assert one.is_dir()
        assert two.is_dir()
        assert not list(tmp_path.rglob("half"))
    assert [path.name for path in tmp_path.iterdir()] == ["gvsl-of-a-user"]


def test_leftovers_of_an_earlier_gvsl_are_known(tmp_path: Path) -> None:
    (tmp_path / ".run.0123abcd").mkdir()
    (tmp_path / ".run2.0123abcd").mkdir()
    assert leftovers(tmp_path / "run") == [tmp_path / ".run.0123abcd"]


def test_a_claim_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    for inside in (False, True):
        with pytest.raises(UserError), claimed(tmp_path / "new" / "out", "test", inside=inside):
            raise UserError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_name_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 250 bytes, 247 are the most"), claimed(tmp_path / ("x" * 250), "test"):
        pass
    with pytest.raises(UserError, match="has 248 bytes"), claimed(tmp_path / ("é" * 124), "test"):
        pass


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 248 + ".nii.gz", "a." * 127])
def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "whole")
    with whole_file(tmp_path / name, sync=True) as temporary:
        assert temporary.name.endswith(".nii.gz") == name.endswith(".nii.gz")
        temporary.write_text("again")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "again"}


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_by_safetensors() -> None:
    raise SafetensorError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })')


def full_by_torch() -> None:
    try:
        full()
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 2705024 vs 2704916")


@pytest.mark.parametrize("fail", [full, full_by_safetensors, full_by_torch])
def test_a_full_disk_names_the_file(tmp_path: Path, fail: Callable[[], None]) -> None:
    write_text(tmp_path / "file", "before")
    with pytest.raises(OSError, match="file") as caught, whole_file(tmp_path / "file"):
        fail()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]
    with pytest.raises(ValueError, match="ours"), naming(tmp_path):
        raise ValueError("ours")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="can't be written"), claimed(tmp_path / "out", "test"):
        pass


def test_text_that_is_no_unicode_is_written_as_its_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "half \ud800")
    assert (tmp_path / "a.txt").read_bytes() == b"half \\ud800"
