"""`prepare` again: on a store that is there, after a kill, on a full disk, in several processes and on a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation import Work, prepare
from gvsl.preparation.staging import partial_path
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]
KILLS = 20


def run(cases: list[Case], out: Path, **options: object) -> tuple[Store, Work]:
    done: list[Work] = []
    store = prepare(cases, out, MR, source="here", tell=done.append, **options)  # type: ignore[arg-type]
    return store, done[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its path in there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def brighten(path: Path) -> None:
    """Change a few voxels of a volume, and its time."""
    image = nibabel.load(path)
    array = image.get_fdata(dtype=np.float32)
    array[3:5, 4:9, 5:10] += 100
    nibabel.Nifti1Image(array, image.affine).to_filename(path)


def written(folder: Path) -> dict[str, int]:
    """When each array was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}


def test_again_does_nothing_where_nothing_has_changed(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "abc"]
    first, work = run(cases, tmp_path / "store")
    assert work == Work(prepared=3, changed=0, resumed=0, kept=0, refused=0, stale=(), gone=())
    before, times = contents(tmp_path / "store"), written(tmp_path / "store")
    again, work = run(cases, tmp_path / "store")
    assert work == Work(prepared=0, changed=0, resumed=0, kept=3, refused=0, stale=(), gone=())
    assert contents(tmp_path / "store") == before
    assert written(tmp_path / "store") == times
    assert again.hash == first.hash
    assert not partial_path(tmp_path / "store").exists()


def test_again_does_only_what_is_missing_or_has_changed(tmp_path: Path, make_case: MakeCase) -> None:
    out = tmp_path / "store"
    a, b, c, d, touched = (make_case(name) for name in ("a", "b", "c", "d", "touched"))
    bad = make_case("bad")
    bad.image.write_bytes(b"nothing")
    _, work = run([a, b, d, bad, touched], out)
    assert (work.prepared, work.refused) == (4, 1)
    times = written(out)

    brighten(b.image)
    os.utime(touched.image, (1, 1))  # another time, the same content
    (out / "labels" / "d.b2nd").unlink()
    store, work = run([a, b, c, d, bad, touched], out, processes=2)
    assert work == Work(prepared=3, changed=2, resumed=0, kept=2, refused=1, stale=(), gone=())
    assert {name for name, when in written(out).items() if times.get(name) != when} == {"b.b2nd", "c.b2nd", "d.b2nd"}
    fresh, _ = run([a, b, c, d, bad, touched], tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
    assert (store.hash, store.refused) == (fresh.hash, fresh.refused)


def test_what_is_known_without_the_voxels_is_renewed_without_reading_them(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    run(cases, tmp_path / "store")
    moved = [replace(cases[0], splits=("test",), target=1), cases[1]]
    store, work = run(moved, tmp_path / "store")
    assert (work.prepared, work.kept) == (0, 2)
    assert (store.split("test"), store.split("pretrain"), store.cases["a"].target) == (["a"], ["b"], 1)
    run(cases, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(run(cases, tmp_path / "fresh")[0].path)


def test_nothing_is_removed_unasked(tmp_path: Path, make_case: MakeCase) -> None:
    a, b, c = (make_case(name) for name in "abc")
    before, _ = run([a, b, c], tmp_path / "store")
    b.image.write_bytes(b"nothing")
    store, work = run([b, c], tmp_path / "store")
    assert (work.stale, work.gone, work.kept, work.refused) == (("b",), ("a",), 1, 1)
    assert list(store.cases) == ["a", "b", "c"]
    assert store.hash == before.hash
    assert store.refused == (("images/b.nii.gz", "is not NIfTI, NRRD, MetaImage or DICOM"),)
    store.image("b")


def test_a_label_map_that_is_gone_is_gone_from_the_store_too(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    run([case], tmp_path / "store")
    store, work = run([replace(case, label=None)], tmp_path / "store")
    assert (work.changed, store.has_label("a")) == (1, False)
    assert not list((tmp_path / "store" / "labels").iterdir())


def test_another_contract_or_source_is_refused_and_nothing_is_touched(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a")]
    run(cases, tmp_path / "store")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"store exists already and was prepared with another spacing"):
        prepare(cases, tmp_path / "store", replace(MR, spacing=2.0), source="here")
    with pytest.raises(UserError, match=r"store exists already and was prepared from here, not elsewhere"):
        prepare(cases, tmp_path / "store", MR, source="elsewhere")
    assert contents(tmp_path) == before


def test_what_another_run_left_is_not_taken_for_ones_own(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: stop)
    left = contents(tmp_path / "store.partial")
    with pytest.raises(UserError, match=r"store\.partial is what an earlier run left, with another source"):
        prepare(cases, tmp_path / "store", replace(MR, spacing=2.0), source="here")
    assert contents(tmp_path / "store.partial") == left
    shutil.rmtree(tmp_path / "store.partial")
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"store\.partial is in the way"):
        run(cases, tmp_path / "store")
    assert contents(tmp_path / "store.partial") == {"thesis.txt": b"mine"}


def test_two_at_once_on_one_store_is_refused(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    said = []

    def meanwhile() -> None:
        with pytest.raises(UserError, match="another gvsl prepare is writing") as caught:
            run(cases, tmp_path / "store")
        said.append(str(caught.value))

    prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: meanwhile)
    assert len(said) == 2
    assert list(Store.open(tmp_path / "store").cases) == ["a", "b"]


@pytest.mark.parametrize("place", ["s3://bucket/store", "gs://bucket/store", "https://host/store"])
def test_object_storage_is_refused_in_one_line(tmp_path: Path, make_case: MakeCase, place: str) -> None:
    for use in (lambda: prepare([make_case("a")], Path(place), MR, source="here"), lambda: Store.open(Path(place))):
        with pytest.raises(UserError, match=f"^{place} is a URL; a store is a folder of files: copy or mount it"):
            use()


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> ForkServerContext:
    """Processes forked from one that has read the package and done nothing else."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["gvsl.store"])
    return context


def state(out: Path) -> str:
    """What a killed run left: a whole store, by its hash, or one that is refused for not being there or not ready."""
    if not out.exists():
        return "refused"
    try:
        return Store.open(out).hash
    except UserError as error:
        return "refused" if "is being written" in str(error) else str(error)


def test_killed_at_any_moment_and_started_again_it_ends_as_an_undisturbed_run(
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
        if number % 2:  # half of them add to a store that is there
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
def test_stopped_while_it_moves_new_arrays_into_a_store_it_finishes_the_moving(
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
        patch.setattr(os, "replace", replaced)  # of the operating system: what a kill at this very moment leaves
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
def test_killed_with_its_processes_at_work_it_goes_on(tmp_path: Path, make_case: MakeCase) -> None:
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


def test_a_journal_that_was_cut_short_costs_its_last_case_alone(tmp_path: Path, make_case: MakeCase) -> None:
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
    _, work = run(cases, tmp_path / "store")
    assert (work.resumed, work.prepared) == (2, 2)
    run(cases, tmp_path / "undisturbed")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_damages_nothing(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a"), make_case("b"), make_case("c", shape=(60, 60, 60)), make_case("d")]
    out = tmp_path / "store"
    # The system refuses to write any more than 100 kB to a file.
    limited = (
        f"ulimit -f 100; exec {sys.executable} -c 'import sys; from gvsl.cli import main; sys.exit(main())' \"$@\""
    )
    words = ["prepare", str(cases[0].image.parents[1]), str(out), "--processes", "1"]
    ended = subprocess.run(["bash", "-c", limited, "bash", *words], stderr=subprocess.PIPE, text=True, check=False)
    (said,) = [line for line in ended.stderr.splitlines() if not line.startswith("Prepare ")]
    assert ended.returncode == 2
    assert "images/c can't be written to" in said
    assert "is the disk full?" in said
    assert not out.exists()
    kept = {name for name in contents(tmp_path / "store.partial") if name.endswith(".b2nd")}
    assert kept == {f"store/{part}/{name}.b2nd" for part in ("images", "labels") for name in "ab"}
    done: list[Work] = []
    prepare(cases, out, MR, source="source", tell=done.append)
    assert (done[0].resumed, done[0].prepared) == (2, 2)
    prepare(cases, tmp_path / "undisturbed", MR, source="source")
    assert contents(out) == contents(tmp_path / "undisturbed")


FILLED = """
mount -t tmpfs -o size="$1" none "$2" || exit 77
shift 2
"$@" --processes 1 2> "$OUT/said"
echo $? > "$OUT/code"
cp -r "$DISK/store.partial" "$OUT/left" 2> /dev/null
mount -o remount,size=16m "$DISK" || exit 78
"$@" --processes 1 > "$OUT/again" 2> /dev/null
cp -r "$DISK/." "$OUT/disk"
"""
"""A disk of so many bytes that nobody else sees: a store is made on it, and made again when it is larger."""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare, to mount a small disk with")
@pytest.mark.parametrize(
    "size", [pytest.param(4096, marks=pytest.mark.slow), pytest.param(12288, marks=pytest.mark.slow), 65536]
)
def test_a_disk_that_is_full_is_one_line_and_once_there_is_space_it_goes_on(
    tmp_path: Path, make_case: MakeCase, size: int
) -> None:
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
    lines = (out / "said").read_text(encoding="utf-8").splitlines()
    (said,) = [line for line in lines if not line.startswith("Prepare ")]
    assert "can't be written" in said
    assert "No space left on device" in said
    if size == 65536:
        assert f"images/c can't be written to {disk / 'store.partial'}" in said
        assert "2 prepared already by a run that was stopped" in (out / "again").read_text(encoding="utf-8")
    assert [path.name for path in (out / "disk").iterdir()] == ["store"]
    prepare(cases, tmp_path / "undisturbed", MR, source="source")
    expected = contents(tmp_path / "undisturbed")
    assert contents(out / "disk" / "store") == expected
    left = {name.removeprefix("store/"): found for name, found in contents(out / "left").items() if "b2nd" in name}
    assert left.items() <= expected.items()  # what was there of the first run was whole


# --- a cluster --------------------------------------------------------------------------------------------------------

WORKERS = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="tcp://127.0.0.1", dashboard_address=None
    )
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
    cluster.close()
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with two workers, processes that talk over TCP."""
    pytest.importorskip("distributed")
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, encoding="utf-8")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_store(tmp_path: Path, make_case: MakeCase, cluster: str) -> None:
    assert cluster.startswith("tcp://")
    cases = [make_case(f"case{index}") for index in range(5)]
    cases[2].image.write_bytes(b"nothing")
    counts: list[int] = []

    def counted(count: int) -> Callable[[], None]:
        counts.append(count)
        return lambda: counts.append(1)

    _, work = run(cases, tmp_path / "dask", dask=cluster, progress=counted)
    assert (work.prepared, work.refused) == (4, 1)
    assert counts == [5, *[1] * 5]
    run(cases, tmp_path / "here")
    assert contents(tmp_path / "dask") == contents(tmp_path / "here")
    _, work = run(cases[3:], tmp_path / "dask", dask=cluster)
    assert (work.prepared, work.kept) == (0, 2)


def test_the_manifest_says_what_each_case_was_made_of(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    run([case], tmp_path / "store")
    (line,) = (tmp_path / "store" / "sources.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert found["id"] == "a"
    assert found["image"]["size"] == case.image.stat().st_size
    assert found["stored"] == [(tmp_path / "store" / part / "a.b2nd").stat().st_size for part in ("images", "labels")]
