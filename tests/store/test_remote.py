import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.data import DataSettings, PairStream, pair_loader
from gvsl.errors import UserError
from gvsl.files import url_of
from gvsl.store import Store, describe, remote, verify
from gvsl.store.store import image_path

from ..web import Network, serving

resource = pytest.importorskip("resource")
pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@pytest.fixture
def served(
    phantom_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Network, Path]]:
    """A store's URL, its network, and its folder on the server."""
    monkeypatch.setenv(remote.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    folder = tmp_path / "served" / "phantoms"
    shutil.copytree(phantom_store.path, folder)
    with serving(folder.parent) as (url, network):
        yield Path(f"{url}/phantoms"), network, folder


def refusal(work: Any) -> str:
    with pytest.raises(UserError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_store_by_url_is_the_store(served: tuple[Path, Network, Path], phantom_store: Store) -> None:
    url, network, _ = served
    store = Store.open(url)
    assert (store.hash, store.path.name, list(store.cases)) == (
        *(phantom_store.hash, "phantoms", list(phantom_store.cases)),
    )
    assert f"store     http://127.0.0.1:{url.parts[1].split(':')[1]}/phantoms" in describe(store)
    case = next(iter(store.cases))
    assert not image_path(store.path, case).exists()  # nothing is copied before it is read
    box = (slice(2, 9), slice(0, 5), slice(3, 20))
    assert np.array_equal(store.image(case, box), phantom_store.image(case, box))
    assert np.array_equal(store.label(case), phantom_store.label(case))
    network.asked.clear()
    assert np.array_equal(store.image(case), phantom_store.image(case))
    assert network.asked == []  # copied before
    assert verify(store).damaged == []


def test_a_table_that_came_damaged_is_copied_again(served: tuple[Path, Network, Path], phantom_store: Store) -> None:
    table = Store.open(served[0]).path / "cases.jsonl"
    table.write_bytes(table.read_bytes()[:-9])
    assert list(Store.open(served[0]).cases) == list(phantom_store.cases)


def test_processes_that_read_copy_too(served: tuple[Path, Network, Path], phantom_store: Store) -> None:
    settings = DataSettings(batch_size=1, crop=(16, 16, 16), workers=1)
    found, expected = (
        next(iter(pair_loader(PairStream(store, settings, seed=3)))) for store in (Store.open(served[0]), phantom_store)
    )
    assert found.moving_ids == expected.moving_ids
    assert np.array_equal(found.moving, expected.moving)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_process_that_reads_has_met_is_told_in_one_line(
    served: tuple[Path, Network, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], devices: int
) -> None:
    url, _, folder = served
    first, *others = Store.open(url).split("pretrain")
    for other in others:
        shutil.copy(image_path(folder, first), image_path(folder, other))
    words = ["--out", str(tmp_path / "run"), "--width", "8", "--levels", "2", "--crop", "16", "--data.workers", "1"]
    words += ["--trainer.max-steps", "1", "--trainer.device", "cpu", "--trainer.devices", str(devices)]
    assert main(["pretrain", url_of(url) or "", *words]) == 2
    said = capfd.readouterr().err
    last = said.splitlines()[-1]
    assert re.fullmatch(rf"gvsl: error: http://\S+/({'|'.join(others)})\.b2nd and \S+: the voxels don't .+", last)
    assert "Traceback" not in said


def test_a_full_disk_is_told_alike_by_a_process_that_reads(
    served: tuple[Path, Network, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, _, folder = served
    least = min(image_path(folder, case).stat().st_size for case in Store.open(url).cases)
    words = ["pretrain", url_of(url) or "", "--width", "8", "--levels", "2", "--crop", "16", "--trainer.device", "cpu"]
    said = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least - 1, hard))  # of a file, which a full disk acts like
    try:
        for workers in ("0", "1"):
            assert main([*words, "--out", str(tmp_path / f"run{workers}"), "--data.workers", workers]) == 2
            said.append(capfd.readouterr().err)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    shown = [re.sub(r"\.gvsl-[^:]*", "", text.splitlines()[-1]) for text in said]
    assert shown[0] == shown[1]
    assert re.fullmatch(r"gvsl: error: /\S+/: File too large", shown[0])
    assert "Traceback" not in said[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_copies_are_found_when_a_process_first_reads_them(
    served: tuple[Path, Network, Path], phantom_store: Store, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    url, network, folder = served
    before = Store.open(url)
    settings = DataSettings(batch_size=1, crop=(16, 16, 16), workers=workers)
    expected = PairStream(phantom_store, settings, seed=3).batch(0)
    first, second = expected.moving_ids[0], expected.fixed_ids[0]
    for case in before.cases:
        before.image(case)
    copies = [image_path(before.path, case) for case in (first, second)]
    right = [copy.read_bytes() for copy in copies]
    copies[0].write_bytes(right[1])  # whole, but another's
    copies[1].write_bytes(right[1][:-9])
    network.asked.clear()
    found = next(iter(pair_loader(PairStream(Store.open(url), settings, seed=3))))
    assert found.moving_ids == [first]
    assert np.array_equal(found.moving, expected.moving)
    assert np.array_equal(found.fixed, expected.fixed)
    told = capfd.readouterr().err
    for case, copy, whole in zip((first, second), copies, right, strict=True):
        assert told.count(f"/images/{case}.b2nd") == 1
        assert network.asked.count(f"/phantoms/images/{case}.b2nd") == 1
        assert copy.read_bytes() == whole
    assert told.count("\n") == 2
    # What the URL itself has otherwise than its manifest says can't be had.
    store = Store.open(url)
    for place in (copies[0], image_path(folder, first)):
        place.write_bytes(right[1])
    message = refusal(lambda: store.image(first))
    assert "don't have the hash in the store's table" in message and f"/images/{first}.b2nd" in message


@pytest.mark.parametrize("trouble", ["failures", "cut"])
def test_a_network_that_recovers_is_waited_for(served: tuple[Path, Network, Path], trouble: str) -> None:
    url, network, _ = served
    store = Store.open(url)
    case = next(iter(store.cases))
    setattr(network, trouble, 2)
    assert store.image(case).max() > 0
    assert getattr(network, trouble) == 0


def test_a_slow_network_is_only_slow(served: tuple[Path, Network, Path]) -> None:
    url, network, _ = served
    network.piece, network.pause = 4096, 0.02
    store = Store.open(url)
    assert store.image(next(iter(store.cases))).max() > 0


def test_a_dead_network_ends_in_one_line_with_the_url(served: tuple[Path, Network, Path]) -> None:
    url, network, _ = served
    store = Store.open(url)
    case = next(iter(store.cases))
    network.failures = 99
    message = refusal(lambda: store.image(case))
    assert re.search(rf"^http://127\.0\.0\.1:\d+/phantoms/images/{case}\.b2nd can't be read after 5 tries", message)
    assert not image_path(store.path, case).exists()
    assert "can't be read" in refusal(lambda: Store.open(url.parent / "nothing"))
    assert "is a URL of another kind" in refusal(lambda: Store.open(Path("ftp://host/store")))
    assert "after 5 tries" in refusal(lambda: Store.open(Path("http://127.0.0.1:1/store")))


def test_what_comes_is_not_trusted(served: tuple[Path, Network, Path], phantom_store: Store) -> None:
    url, _, folder = served
    store = Store.open(url)
    first, second, third = list(store.cases)[:3]
    damaged = bytearray(image_path(folder, first).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    image_path(folder, first).write_bytes(damaged)
    message = refusal(lambda: store.image(first))
    assert f"/phantoms/images/{first}.b2nd can't be read: it is damaged" in message and "http://" in message
    image_path(folder, second).write_bytes(bytes(2**21))
    assert "the most that it may have" in refusal(lambda: store.image(second))
    image_path(folder, third).unlink()
    assert "check the URL and your access" in refusal(lambda: store.image(third))
    # A copy that was damaged on this machine's disk is made again.
    shutil.copy(image_path(phantom_store.path, first), image_path(folder, first))
    image_path(store.path, first).parent.mkdir(exist_ok=True)
    image_path(store.path, first).write_bytes(damaged)
    assert np.array_equal(store.image(first), phantom_store.image(first))
    (folder / "cases.jsonl").write_bytes(b"{}\n")
    shutil.rmtree(store.path)
    assert "cases.jsonl is broken or was changed" in refusal(lambda: Store.open(url))


def test_what_is_swapped_or_cut_once_is_told_and_copied_once_more(
    served: tuple[Path, Network, Path],
    phantom_store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, network, folder = served
    store = Store.open(url)
    first, second, third = list(store.cases)[:3]
    asked = {case: f"/phantoms/images/{case}.b2nd" for case in (first, second)}
    network.instead[asked[first]] = image_path(folder, second)  # whole, but another's
    assert np.array_equal(store.image(first), phantom_store.image(first))
    told = capsys.readouterr().err
    assert f"/images/{first}.b2nd" in told and "don't have the hash" in told and "copying it once more" in told
    cut = tmp_path / "cut.b2nd"
    cut.write_bytes(image_path(folder, second).read_bytes()[:-9])
    network.instead[asked[second]] = cut
    assert np.array_equal(store.image(second), phantom_store.image(second))
    told = capsys.readouterr().err
    assert f"/images/{second}.b2nd can't be read" in told and "copying it once more" in told
    assert "prepare" not in told  # what to do if that doesn't help is told if it doesn't
    shutil.copy(image_path(folder, first), image_path(folder, third))  # and stays so
    message = refusal(lambda: store.image(third))
    assert "don't have the hash in the store's table" in message and message.endswith("or prepare it again")
    assert "prepare" not in capsys.readouterr().err
    assert not image_path(store.path, third).exists()
    network.asked.clear()
    for case in (first, second):
        store.label(case)
    assert network.asked == []  # it came with its image, since the hash is over both


def test_a_copy_is_replaced_for_damage_alone_and_when_another_has_come(
    served: tuple[Path, Network, Path], phantom_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    url, network, _ = served
    store = Store.open(url)
    case = next(iter(store.cases))
    store.image(case)
    copy = image_path(store.path, case)
    whole = copy.read_bytes()
    network.asked.clear()
    files = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with suppress(OSError):
            while True:
                files.append(os.dup(0))
        message = refusal(lambda: store.image(case))
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in message
    assert (copy.read_bytes(), network.asked) == (whole, [])  # nothing is wrong with it
    copy.write_bytes(whole[:-1])
    network.failures = 99
    assert "after 5 tries" in refusal(lambda: store.image(case))
    assert copy.read_bytes() == whole[:-1]
    network.failures = 0
    assert np.array_equal(store.image(case), phantom_store.image(case))
    assert copy.read_bytes() == whole
    assert f"/images/{case}.b2nd" in capsys.readouterr().err


def test_verify_mends_copies_and_calls_damaged_what_is_so_at_the_url(
    served: tuple[Path, Network, Path], phantom_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _, folder = served
    store = Store.open(url)
    first, second, third, *_ = store.cases
    assert verify(store).damaged == []
    cut, other = image_path(store.path, first), image_path(store.path, second)
    cut.write_bytes(cut.read_bytes()[:-1])
    shutil.copy(image_path(store.path, third), other)  # whole, as copied by an earlier gvsl, which didn't compare it
    capsys.readouterr()
    assert verify(store).damaged == []
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert all(
        f"/{case}.b2nd on this machine is damaged" in line for case, line in zip((first, second), told, strict=True)
    )
    for case, copy in ((first, cut), (second, other)):
        assert copy.read_bytes() == image_path(phantom_store.path, case).read_bytes()
    for copy in (other, image_path(folder, second)):
        shutil.copy(image_path(phantom_store.path, third), copy)
    (damaged,) = verify(store).damaged
    assert "http://" in damaged and f"/images/{second}.b2nd" in damaged and str(store.path) not in damaged
    assert not other.exists()  # nor would it be read


# --- an object store --------------------------------------------------------------------------------------------------


class Proxy:
    """Passes connections on to a server, slowly, and cuts some of them."""

    def __init__(self, port: int) -> None:
        self.server, self.pause, self.cut = port, 0.0, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listening.getsockname()[1])
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):  # closed at the end
            while True:
                client, _ = self.listening.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                for source, target, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self.pump, args=(source, target, answers), daemon=True).start()

    def pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError), source, target:
            while piece := source.recv(4096):
                if answers:
                    time.sleep(self.pause)
                    if self.cut and len(piece) == 4096:  # in the middle of an array
                        self.cut -= 1
                        return
                target.sendall(piece)


@pytest.mark.slow
def test_a_store_in_an_object_store_over_a_bad_network(
    phantom_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv(remote.CACHE, str(tmp_path / "cache"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        proxy = Proxy(server.get_host_and_port()[1])
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        files = s3fs.S3FileSystem()
        files.mkdir("hearts")
        files.put(str(phantom_store.path), "hearts/", recursive=True)
        proxy.pause = 0.01
        store = Store.open(Path("s3://hearts/phantoms"))
        first, second, third = list(store.cases)[:3]
        assert np.array_equal(store.image(first), phantom_store.image(first))
        proxy.cut = 2
        assert np.array_equal(store.image(second), phantom_store.image(second))
        assert proxy.cut == 0
        command = [sys.executable, "-m", "gvsl", "inspect", "s3://hearts/phantoms", "--verify"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "are as they were written" in done.stdout
        shutil.rmtree(image_path(store.path, third).parent)
        proxy.listening.shutdown(socket.SHUT_RDWR)
        proxy.listening.close()
    finally:
        server.stop()
    assert f"s3://hearts/phantoms/images/{third}.b2nd can't be read after 5 tries" in refusal(
        lambda: store.image(third)
    )


@pytest.mark.parametrize("url", ["https://me:secret@host/store", "https://host/store?signature=secret"])
def test_what_is_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="give credentials") as told:
        remote.open_remote(url, ("manifest.json", "cases.jsonl"), 9)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("given", ["http://[x/store", "http://me:secret@[x/store?signature=secret", "s3://[x]/store"])
def test_a_url_with_a_malformed_host_is_named(given: str) -> None:
    message = refusal(lambda: Store.open(Path(given)))
    assert given.split("?")[0].replace("me:secret@", "") in message and "its host is no name" in message
    assert "secret" not in message


def test_a_malformed_url_is_a_users_error_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "http://[x/store", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("gvsl: error: http://[x/store can't be read as a URL")
