"""`prepare` after a kill or an interruption."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preparation.staging import partial_path, staging_area
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

from .helpers import contents, run

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]
KILLS = 20


def brighten(path: Path) -> None:
    """Change a few voxels of a volume, and its modification time."""
    image = nibabel.load(path)
    array = image.get_fdata(dtype=np.float32)
    array[3:5, 4:9, 5:10] += 100
    nibabel.Nifti1Image(array, image.affine).to_filename(path)


@pytest.fixture(scope="module")
def clean() -> ForkServerContext:
    """Context for processes forked from one that has only imported the package."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["gvsl.store"])
    return context


def state(out: Path) -> str:
    """Return the hash of the store that a killed run left, or "refused" if it is missing or incomplete."""
    if not out.exists():
        return "refused"
    try:
        return Store.open(out).hash
    except UserError as error:
        return "refused" if "is being written" in str(error) else str(error)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_store(
    tmp_path: Path, make_case: MakeCase, clean: ForkServerContext
) -> None:
    cases = [make_case(f"case{index}", shape=(24, 26, 28)) for index in range(5)]
    fewer = cases[:2]
    old, _ = run(fewer, tmp_path / "old")
    brighten(cases[1].image)
    began = time.perf_counter()
    undisturbed, _ = run(cases, tmp_path / "undisturbed")
    taken = time.perf_counter() - began
    expected, before = contents(undisturbed.path), contents(old.path)
    moments = np.random.default_rng().uniform(0, 1.2 * taken, KILLS)
    killed = 0
    for number, moment in enumerate(moments):
        out = tmp_path / f"store{number}"
        if number % 2:  # half of them add to an existing store
            shutil.copytree(old.path, out)
        process = clean.Process(target=prepare, args=(cases, out, MR), kwargs={"source": "here"})
        process.start()
        time.sleep(moment)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert state(out) in {"refused", old.hash, undisturbed.hash}
        run(cases, out)
        assert contents(out) == expected, (number, moment, taken)
        assert not partial_path(out).exists()
    assert killed > KILLS // 4
    assert contents(old.path) == before


@pytest.mark.parametrize("moved", range(7))
def test_an_interrupted_move_is_completed(
    tmp_path: Path, make_case: MakeCase, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [make_case(name) for name in "abc"]
    out = tmp_path / "store"
    run(cases[:1], out)
    undisturbed, _ = run(cases, tmp_path / "undisturbed")
    count = 0

    def replaced(source: Path, target: Path, rename: Callable[[Path, Path], None] = os.replace) -> None:
        nonlocal count
        if (
            Path(source).parent.parent == partial_path(out) / "store"
            or Path(source).parent == partial_path(out) / "store"
        ):
            if count == moved:
                raise KeyboardInterrupt
            count += 1
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replaced)  # as after a kill at this moment
        with pytest.raises(KeyboardInterrupt):
            run(cases, out)
    with pytest.raises(
        UserError, match="is being written by `gvsl prepare`; if that was stopped, give the same command"
    ):
        Store.open(out)
    _, work = run(cases, out)
    assert work.prepared == 0
    assert contents(out) == contents(undisturbed.path)


@pytest.mark.slow
def test_a_killed_parallel_run_continues(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(f"case{index}", shape=(60, 60, 60)) for index in range(12)]
    source = cases[0].image.parents[1]
    command = [sys.executable, "-c", "import sys; from gvsl.cli import main; sys.exit(main())"]
    command += ["prepare", str(source), str(tmp_path / "store"), "--processes", "2"]
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        journal = tmp_path / "store.partial" / "journal.jsonl"
        size = journal.stat().st_size if journal.exists() else 0
        while time.monotonic() < deadline and process.poll() is None:
            if journal.exists() and journal.stat().st_size > size:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
    subprocess.run(command, check=True)
    prepare(cases, tmp_path / "undisturbed", MR, source="source")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_truncated_journal_loses_only_its_last_case(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "abcd"]
    done: list[int] = []

    def stop_at_three() -> None:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: stop_at_three)
    journal = tmp_path / "store.partial" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    with journal.open("ab") as file:  # a hole of 64 GiB, as a broken disk leaves it
        file.truncate(2**36)
    _, work = run(cases, tmp_path / "store")
    assert (work.resumed, work.prepared) == (2, 2)
    run(cases, tmp_path / "undisturbed")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_folder_of_the_user_s_own_is_not_taken_for_a_staging_area(tmp_path: Path, make_case: MakeCase) -> None:
    own = tmp_path / "store.partial" / "mine.json"
    own.parent.mkdir()
    own.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is in the way, and is not what an earlier run left"):
        prepare([make_case("a")], tmp_path / "store", PRESETS["mr"], source="x")
    assert own.read_text(encoding="utf-8") == "{}"
    own.rename(own.with_name(".contract.json.0123abcd"))  # as a run leaves it that was killed at its very beginning
    assert prepare([make_case("a")], tmp_path / "store", PRESETS["mr"], source="x").cases.keys() == {"a"}


def test_a_store_that_is_a_link_is_extended_where_it_lies(tmp_path: Path, make_case: MakeCase) -> None:
    """Nothing can be renamed from beside a link onto another disk."""
    place = tmp_path / "disk" / "store"
    place.parent.mkdir()
    link = tmp_path / "store"
    run([make_case("a")], place)
    link.symlink_to(place)
    assert partial_path(link) == place.parent / "store.partial"
    store, summary = run([make_case("a"), make_case("b")], link)
    assert (sorted(store.cases), summary.prepared) == (["a", "b"], 1)
    assert link.is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["disk", "source", "store"]
    assert sorted(path.name for path in place.parent.iterdir()) == ["store"]
    with staging_area(place, {}), pytest.raises(UserError, match="another gvsl prepare"), staging_area(link, {}):
        pass


def test_a_store_that_is_a_disk_of_its_own_is_left_whole(
    tmp_path: Path, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    run([make_case("a")], out)
    stat = Path.stat

    def other_disk(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result([*found[:2], found.st_dev + 1, *found[3:]]) if path == out / "images" else found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", other_disk)
        with pytest.raises(UserError, match="is a disk of its own"):
            run([make_case("a"), make_case("b")], out)
    assert sorted(Store.open(out).cases) == ["a"]
    assert sorted(run([make_case("a"), make_case("b")], out)[0].cases) == ["a", "b"]
