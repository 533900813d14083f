"""Speed and size of the store, one table each; the numbers of docs/store.md come from here.

    python benchmarks/store.py formats     random crops out of Blosc2, Zarr 3, a memory map and NIfTI
    python benchmarks/store.py checksums   the same crops of Blosc2 with and without checksums
    python benchmarks/store.py manifest    a store of 100,000 cases: seconds to open, memory, an epoch's order

The volumes are phantoms, so no data is needed. Rates are per second of processor time, so that other programs on the
machine do not lower them; files in the page cache are read from memory. `formats` needs
`pip install "gvsl[benchmarks]"`.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import blosc2
import nibabel
import numpy as np
from numpy.typing import NDArray

from gvsl.data import DataSettings, PairStream
from gvsl.phantom.cohort import subject
from gvsl.preprocessing import PRESETS
from gvsl.records import environment, utc_now
from gvsl.store import Store
from gvsl.store.arrays import BLOCK, CHUNK, read_array, write_array
from gvsl.store.manifest import FORMAT, manifest_text
from gvsl.store.table import row_line

Array = NDArray[np.float16]
Box = tuple[slice, slice, slice]
Read = Callable[[Path, Box], NDArray[Any]]
Write = Callable[[Path, Array], None]

CROPS = 20
"""Random crops of a turn of `checksums`."""
WINDOW_HU = 2048
"""What the ct preset maps to [0, 1]."""


def header(title: str) -> None:
    """Print the title, time and hardware above a table."""
    found = environment()
    print(f"{title}: {utc_now()}, {found['processor']}, {found['cores']} cores", flush=True)


# --- formats ------------------------------------------------------------------------------------------------


def blosc(path: Path, array: Array, chunk: int, block: int, codec: blosc2.Codec) -> None:
    """Write Blosc2 with other chunks and another codec than the store's."""
    chunks, blocks = ((side,) * 3 for side in (chunk, block))
    settings = blosc2.CParams(codec=codec, clevel=1, nthreads=1)
    blosc2.asarray(array, chunks=chunks, blocks=blocks, urlpath=str(path), mode="w", cparams=settings)


def zarr_write(path: Path, array: Array, chunk: int, codec: str) -> None:
    """Write Zarr 3 with one shard per volume, so one file as in the store, and blosc with byte shuffle as in Blosc2."""
    import zarr

    inner = zarr.codecs.BloscCodec(cname=codec, clevel=1, shuffle="shuffle", typesize=2)
    shard = tuple(-(-side // chunk) * chunk for side in array.shape)
    stored = zarr.create_array(
        path, shape=array.shape, dtype=array.dtype, chunks=(chunk,) * 3, shards=shard, compressors=inner
    )
    stored[...] = array


def zarr_read(path: Path, box: Box) -> NDArray[Any]:
    """Read a crop from Zarr 3."""
    import zarr

    return np.asarray(zarr.open_array(path, mode="r")[box])


def blosc_read(path: Path, box: Box) -> NDArray[Any]:
    """Read a crop as the store does."""
    return read_array(path, SHAPE, box)


def map_write(path: Path, array: Array) -> None:
    """Write an uncompressed array."""
    np.save(path, array)


def map_read(path: Path, box: Box) -> NDArray[Any]:
    """Read a crop from a memory map."""
    return np.array(np.load(path, mmap_mode="r")[box])


def nifti_write(path: Path, array: Array) -> None:
    """Write integer HU, gzipped, as hospitals export it."""
    values = np.rint(array.astype(np.float32) * WINDOW_HU - WINDOW_HU / 2).astype(np.int16)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(path)


def nifti_read(path: Path, box: Box) -> NDArray[Any]:
    """Decompress and scale the whole volume and take a crop, as code without a store does at every step."""
    values = np.asanyarray(nibabel.load(path).dataobj)
    return ((values + WINDOW_HU / 2) / WINDOW_HU).astype(np.float16)[box]


ZSTD, LZ4 = blosc2.Codec.ZSTD, blosc2.Codec.LZ4
FORMATS: dict[str, tuple[str, Write, Read]] = {
    "Blosc2 zstd 64/16 (the store)": (".b2nd", write_array, blosc_read),
    "Blosc2 zstd 32/16": (".b2nd", partial(blosc, chunk=32, block=16, codec=ZSTD), blosc_read),
    "Blosc2 lz4 64/16": (".b2nd", partial(blosc, chunk=64, block=16, codec=LZ4), blosc_read),
    "Zarr 3 zstd, chunks of 64": (".zarr", partial(zarr_write, chunk=64, codec="zstd"), zarr_read),
    "Zarr 3 zstd, chunks of 32": (".zarr", partial(zarr_write, chunk=32, codec="zstd"), zarr_read),
    "Zarr 3 lz4, chunks of 64": (".zarr", partial(zarr_write, chunk=64, codec="lz4"), zarr_read),
    "memory map, uncompressed": (".npy", map_write, map_read),
    "NIfTI, gzipped, read whole": (".nii.gz", nifti_write, nifti_read),
}
SHAPE = (1, 1, 1)
"""Shape of the volumes; the reading processes set it."""


def quiet_libraries() -> None:
    """Limit Zarr to one thread, since loaders read in many processes at once."""
    import numcodecs.blosc
    import zarr

    numcodecs.blosc.use_threads = False
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})


def reading(
    names: list[str], folder: Path, shape: tuple[int, int, int], options: argparse.Namespace, place: int, start: Barrier
) -> list[tuple[str, float, float]]:
    """Return crops per second of processor time and of wall time, for each format and repeat."""
    global SHAPE
    SHAPE = shape
    quiet_libraries()
    found = []
    for turn in range(options.repeats):
        for name in names:
            ending, _, read = FORMATS[name]
            draw = np.random.default_rng([turn, place])
            start.wait()
            done, worked, began = 0, time.process_time(), time.perf_counter()
            while time.perf_counter() - began < options.seconds:
                path = folder / f"{names.index(name)}-{draw.integers(options.volumes)}{ending}"
                starts = [int(draw.integers(side - options.crop + 1)) for side in shape]
                crop = read(path, tuple(slice(first, first + options.crop) for first in starts))  # type: ignore[arg-type]
                assert crop.shape == (options.crop,) * 3
                done += 1
            taken = time.process_time() - worked, time.perf_counter() - began
            found.append((name, done / taken[0], done / taken[1]))
    return found


def formats(options: argparse.Namespace) -> None:
    """Write and read the same volumes in every format, and print the table."""
    quiet_libraries()
    shape = (options.side, options.side, options.side)
    volumes = []
    for index in range(options.volumes):
        image, _ = subject(0, index, shape)
        volumes.append((np.clip(image, -1024, 1024) / WINDOW_HU + 0.5).astype(np.float16))
    raw = sum(volume.nbytes for volume in volumes)
    header(f"{options.volumes} phantoms of {options.side} cubed as float16, crops of {options.crop} cubed")
    names = list(FORMATS)
    sizes, written = {}, {}
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        for name in names:
            ending, write, read = FORMATS[name]
            paths = [folder / f"{names.index(name)}-{index}{ending}" for index in range(options.volumes)]
            worked = time.process_time()
            for path, volume in zip(paths, volumes, strict=True):
                write(path, volume)
            written[name] = raw / 1e6 / (time.process_time() - worked)
            sizes[name] = sum(file.stat().st_size for path in paths for file in [path, *path.rglob("*")])
            if ending != ".nii.gz":  # that one holds whole HU
                global SHAPE
                SHAPE = shape
                box = (slice(3, 50), slice(0, 70), slice(10, 90))
                np.testing.assert_array_equal(read(paths[0], box), volumes[0][box])
        del volumes
        rates = {processes: read_in(processes, names, folder, shape, options) for processes in (1, 2)}
    print(f"{'':<30} {'size':>6} {'write':>9}   {'crops a second of a core':>25}   {'of the clock, together':>22}")
    print(f"{'':<30} {'of raw':>6} {'MB/s':>9}   {'1 process':>12} {'2 each':>12}   {'1':>10} {'2':>11}")
    for name in names:
        one, two = rates[1][name], rates[2][name]
        print(
            f"{name:<30} {sizes[name] / raw:>6.0%} {written[name]:>9.0f}   "
            f"{one[0]:>12.1f} {two[0]:>12.1f}   {one[1]:>10.1f} {two[1]:>11.1f}"
        )


def read_in(
    processes: int, names: list[str], folder: Path, shape: tuple[int, int, int], options: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Return medians over repeats: crops per processor second of the mean process, and per wall second of all."""
    context = get_context("spawn")
    with context.Manager() as manager:
        start = manager.Barrier(processes)
        with context.Pool(processes) as pool:
            calls = [(names, folder, shape, options, place, start) for place in range(processes)]
            found = pool.starmap(reading, calls, chunksize=1)
            pool.close()
            pool.join()
    result = {}
    for name in names:
        turns = list(zip(*[[row for row in part if row[0] == name] for part in found], strict=True))
        worked = statistics.median(statistics.mean(row[1] for row in turn) for turn in turns)
        clock = statistics.median(sum(row[2] for row in turn) for turn in turns)
        result[name] = (worked, clock)
    return result


# --- checksums ----------------------------------------------------------------------------------------------


def checksums(options: argparse.Namespace) -> None:
    """Print the processor time of a crop with and without checksums, the two in turn, medians over repeats."""
    shape = (options.side, options.side, options.side)
    image, _ = subject(0, 0, shape)
    array = (np.clip(image, -1024, 1024) / WINDOW_HU + 0.5).astype(np.float16)
    header(f"a phantom of {options.side} cubed as float16, {options.repeats} turns of {CROPS} crops")
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        path, plain = Path(temporary) / "with.b2nd", Path(temporary) / "without.b2nd"
        write_array(path, array)
        settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1)
        bare = blosc2.asarray(array, chunks=(CHUNK,) * 3, blocks=(BLOCK,) * 3, cparams=settings, contiguous=True)
        plain.write_bytes(bare.to_cframe())
        print(f"  size: {path.stat().st_size / plain.stat().st_size - 1:+.3%}")
        for side in (64, options.crop):
            starts = draw.integers(0, options.side - side + 1, (CROPS, 3))
            boxes = [tuple(slice(int(start), int(start) + side) for start in place) for place in starts]
            taken: dict[Path, list[float]] = {path: [], plain: []}
            for _ in range(options.repeats):
                for each, found in taken.items():
                    worked = time.process_time()
                    for box in boxes:
                        read_array(each, shape, box)
                    found.append((time.process_time() - worked) / CROPS)
            with_sums, without = (statistics.median(found) for found in taken.values())
            print(
                f"  crop of {side} cubed: {1000 * with_sums:.1f} ms with, {1000 * without:.1f} ms without checksums "
                f"({with_sums / without - 1:+.0%})"
            )


# --- manifest -----------------------------------------------------------------------------------------------


def simulate(folder: Path, count: int) -> None:
    """Write a store of `count` cases; the first two have real arrays, the others empty files."""
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    lines = []
    for number in range(count):
        shape = [int(side) for side in draw.integers(100, 400, 3)] if number > 1 else [64, 64, 64]
        name = f"hospital-{number % 7}_study-{number:07d}"
        affines = [np.diag([*draw.uniform(0.3, 3, 3), 1.0]) for _ in range(2)]
        for affine in affines:
            affine[:3, 3] = draw.normal(0, 200, 3)
        row = {
            "id": name,
            "splits": ["pretrain"] if number % 10 else ["pretrain", "train"],
            "shape": shape,
            "labels": [1, 2, 3] if number % 10 == 0 else None,
            "labels_cropped": 0,
            "geometry": {
                "affine": affines[0].tolist(),
                "source_affine": affines[1].tolist(),
                "source_shape": shape,
            },
            "hash": draw.bytes(32).hex(),
            "content": draw.bytes(32).hex(),
            "source": f"images/{name}.nii.gz",
        }
        lines.append((name, row_line(row)))
        for part in ("images", "labels"):
            if part == "images" or row["labels"] is not None:
                path = folder / part / f"{name}.b2nd"
                if number > 1:
                    path.touch()
                else:
                    write_array(path, draw.random((64, 64, 64)).astype(np.float16))
    whole = b"".join(line for _, line in sorted(lines))
    manifest = {
        "format": FORMAT,
        "source": "simulated",
        "preprocessing": asdict(PRESETS["ct"]),
        "label_names": {"1": "a", "2": "b", "3": "c"},
        "refused": [],
        "written_by": "benchmarks/store.py",
    }
    (folder / "cases.jsonl").write_bytes(whole)
    (folder / "manifest.json").write_text(manifest_text(manifest, whole), encoding="utf-8")


def peak_mebibytes() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mebibytes() -> float:
    """Return the memory of this process now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def opened(folder: Path) -> None:
    """Open the store, and print the time and memory; call it in a process of its own."""
    before = resident_mebibytes()
    taken = []
    for _ in range(3):
        worked, began = time.process_time(), time.perf_counter()
        store = Store.open(folder)
        taken.append((time.perf_counter() - began, time.process_time() - worked))
    after, peak = resident_mebibytes(), peak_mebibytes()
    stream = PairStream(store, DataSettings(order="epoch", crop=(64, 64, 64)), seed=0)
    began = time.perf_counter()
    first = stream.pairs(0)
    epoch = time.perf_counter() - began
    began = time.perf_counter()
    for step in range(1, 1001):
        stream.pairs(step)
    steps = time.perf_counter() - began
    began = time.perf_counter()
    store.image(next(iter(store.cases)), (slice(0, 64),) * 3)
    crop = time.perf_counter() - began
    print(
        f"  open              {min(wall for wall, _ in taken):.2f} s ({min(own for _, own in taken):.2f} s of a core)"
    )
    print(f"  memory held       {after - before:.0f} MB, {peak:.0f} MB at the peak with Python, NumPy and torch")
    print(f"  an epoch's order  {1000 * epoch:.1f} ms, then {1000 * steps:.0f} µs a step of {len(first)} pairs")
    print(f"  first crop        {1000 * crop:.1f} ms")


def manifest(options: argparse.Namespace) -> None:
    """Simulate a large store, and open it in a fresh process."""
    header(f"a store of {options.cases:,} cases")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary) / "store"
        simulate(folder, options.cases)
        print(f"  cases.jsonl       {(folder / 'cases.jsonl').stat().st_size / 2**20:.0f} MB")
        process = get_context("spawn").Process(target=opened, args=(folder,))
        process.start()
        process.join()


def main() -> None:
    """Print the chosen table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["formats", "checksums", "manifest"])
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; the system's temporary folder if not given"
    )
    parser.add_argument("--side", type=int, default=288, help="formats: voxels a side")
    parser.add_argument("--volumes", type=int, default=4, help="formats: how many")
    parser.add_argument("--crop", type=int, default=128, help="formats: voxels a side")
    parser.add_argument("--seconds", type=float, default=5.0, help="formats: each turn")
    parser.add_argument("--repeats", type=int, default=5, help="formats: turns")
    parser.add_argument("--cases", type=int, default=100_000, help="manifest: how many")
    options = parser.parse_args()
    {"formats": formats, "checksums": checksums, "manifest": manifest}[options.table](options)


if __name__ == "__main__":
    sys.exit(main())
