"""Arrays that are not as they were written."""

import errno
import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import blosc2
import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.store import Store, verify
from gvsl.store.arrays import ArrayFile, DamagedArrayError, has_checksums, read_array, voxel_hash, write_array
from gvsl.store.store import image_path, label_path

FLIPS = 400
Array = NDArray[Any]


def image(seed: int = 0) -> Array:
    values = np.random.default_rng(seed).random((70, 66, 20)).astype(np.float16)
    values[:, :, :4] = 0  # a border without content
    return values


def write_without_checksums(path: Path, array: Array) -> None:
    """As gvsl 0.1.0 wrote arrays."""
    settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1)
    chunks = tuple(min(64, side) for side in array.shape)
    packed = blosc2.asarray(
        array, chunks=chunks, blocks=tuple(min(16, side) for side in array.shape), cparams=settings, contiguous=True
    )
    path.write_bytes(packed.to_cframe())


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path, draws = tmp_path / "a.b2nd", np.random.default_rng(5)
    write_array(path, image())
    whole = path.read_bytes()
    header = [*range(8 * 600), *range(8 * (len(whole) - 300), 8 * len(whole))]  # where a flip is rarest and worst
    places = np.concatenate(
        [draws.choice(header, FLIPS // 2, replace=False), draws.integers(8 * len(whole), size=FLIPS // 2)]
    )
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged|can't be read"):
            read_array(path, (70, 66, 20), None)
    path.write_bytes(whole)
    assert np.array_equal(read_array(path, (70, 66, 20), None), image())


@pytest.mark.parametrize("shorten", [1, 100, 5000])
def test_a_file_that_is_cut_short_or_longer_is_noticed(tmp_path: Path, shorten: int) -> None:
    path = tmp_path / "a.b2nd"
    write_array(path, image())
    whole = path.read_bytes()
    for damaged in (whole[:-shorten], whole + bytes(shorten), whole[:8], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged|can't be read"):
            read_array(path, (70, 66, 20), None)


def test_a_crop_is_compared_where_it_reads_and_chunks_are_told_apart(tmp_path: Path) -> None:
    path, array = tmp_path / "a.b2nd", np.zeros((128, 64, 64), np.float16)
    array[:64], array[64:] = image(1)[:64, :64, :1], image(2)[:64, :64, :1]
    array[:, ::7] = np.random.default_rng(3).random((128, 10, 64))
    write_array(path, array)
    whole = bytearray(path.read_bytes())
    whole[len(whole) - 2000] ^= 1  # in the second chunk
    path.write_bytes(whole)
    first = (slice(0, 64), slice(3, 60), slice(0, 64))
    assert np.array_equal(read_array(path, array.shape, first), array[first])
    with pytest.raises(UserError, match=r"a\.b2nd can.t be read: it is damaged.*copy it again"):
        read_array(path, array.shape, (slice(60, 70), slice(0, 9), slice(0, 9)))


def test_an_array_of_an_earlier_gvsl_is_read(tmp_path: Path) -> None:
    write_without_checksums(tmp_path / "a.b2nd", image())
    assert not has_checksums(tmp_path / "a.b2nd")
    assert np.array_equal(read_array(tmp_path / "a.b2nd", (70, 66, 20), None), image())
    write_array(tmp_path / "b.b2nd", image())
    assert has_checksums(tmp_path / "b.b2nd")


@pytest.mark.parametrize("write", [write_array, write_without_checksums])
@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 4, 4), np.nan, np.float16), "not finite"),
        (np.full((4, 4, 4), -np.nan, np.float16), "not finite"),
        (np.full((4, 4, 4), np.inf, np.float16), "not finite"),
        (np.full((4, 4, 4), -np.inf, np.float16), "not finite"),
        (np.ones((4, 4, 4), np.float32), "holds float32, not float16"),
        (np.ones((4, 4, 4), np.uint8), "holds uint8, not float16"),
    ],
)
def test_nan_and_other_types_are_refused(
    tmp_path: Path, write: Callable[[Path, Array], object], array: Array, reason: str
) -> None:
    write(tmp_path / "a.b2nd", array)
    with pytest.raises(UserError, match=reason):
        read_array(tmp_path / "a.b2nd", (4, 4, 4), None, ("float16",))


@pytest.mark.parametrize("kind", [np.int16, np.float16])
def test_the_hash_of_a_volume_takes_the_memory_of_its_voxels_once(tmp_path: Path, kind: type[np.generic]) -> None:
    voxels = np.random.default_rng(0).integers(0, 9, (96, 80, 72)).astype(kind)
    write_array(tmp_path / "a.b2nd", voxels)
    files = [ArrayFile(tmp_path / "a.b2nd", voxels.shape, (str(voxels.dtype),))]
    expected = hashlib.sha256(voxels.tobytes()).hexdigest()
    assert voxel_hash(files) == expected  # imports what it needs
    tracemalloc.start()
    try:
        voxel_hash(files)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert voxels.nbytes <= peak < 1.3 * voxels.nbytes


@pytest.mark.parametrize("fault", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_fault_of_this_machine_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    write_array(tmp_path / "a.b2nd", np.ones((4, 4, 4), np.float16))
    monkeypatch.setattr(blosc2, "open", fail)
    with pytest.raises(UserError, match=r"MemoryError|Too many") as told:
        read_array(tmp_path / "a.b2nd", (4, 4, 4), None)
    assert not isinstance(told.value, DamagedArrayError)


def test_verify_reads_stores_old_and_new_and_names_what_is_damaged(
    phantom_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "store"
    copytree(phantom_store.path, copy)
    store = Store.open(copy)
    first, second, *_ = store.cases
    arrays = len(store.cases) + sum(case.label_values is not None for case in store.cases.values())
    assert main(["inspect", str(copy), "--verify"]) == 0
    assert f"all {arrays} arrays of {len(store.cases)} volumes are as they were written\n" in capsys.readouterr().out
    write_without_checksums(image_path(copy, first), store.image(first).astype(np.float16))
    found = verify(store)
    assert (found.arrays, found.without, found.damaged) == (arrays, 1, [])
    assert Store.open(copy).hash == phantom_store.hash
    other = store.label(second).copy()
    other[0, 0, 0] += 1
    write_array(label_path(copy, second), other)  # whole, but not what was prepared
    image_path(copy, first).write_bytes(image_path(copy, first).read_bytes()[:-1])
    assert main(["inspect", str(copy), "--verify"]) == 2
    said = capsys.readouterr()
    assert f"{first}.b2nd" in said.out
    assert f"{second}: its voxels don't have the hash" in said.out
    assert f"2 of {len(store.cases)} volumes" in said.err
    assert main(["inspect", str(copy)]) == 0  # which reads no voxels
