"""Preparation of large CT volumes: python benchmarks/prepare.py [--volumes 2] [--shape 512 512 400] [--processes 1 2].

Each volume is a body with organs, lungs and noise, 0.4 x 0.4 x 0.75 mm, as .nii.gz in 16 bits, prepared with the preset
ct into a store of 1 mm. The peak memory is an upper bound for all processes together: the sum of their peaks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from gvsl.io import Volume, write_nifti
from gvsl.records import environment, utc_now

SPACING = (0.4, 0.4, 0.75)
WORK = """
import json, resource, sys, time
from pathlib import Path
from joblib.externals.loky import get_reusable_executor
from gvsl.datasets import folder
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS

source, out, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
cases = folder(source).cases
began = time.perf_counter()
prepare(cases, out, PRESETS["ct"], source="benchmark", processes=processes)
wall = time.perf_counter() - began
if processes > 1:
    get_reusable_executor().shutdown(wait=True)  # the usage of its processes is known once they have ended
used = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"wall": wall, "cpu": sum(item.ru_utime + item.ru_stime for item in used),
                  "own": used[0].ru_maxrss, "child": used[1].ru_maxrss}))
"""


def body(shape: tuple[int, int, int], seed: int) -> Volume:
    """Return a CT in HU, with the first axis the fastest in memory, as in files."""
    draw = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in shape]
    array = np.empty(shape, np.int16, order="F")
    for level, z in enumerate(axes[2]):
        radius = np.hypot(*np.meshgrid(axes[0], axes[1] / 0.8, indexing="ij"))
        waves = np.outer(np.sin(9 * axes[0] + 3 * z), np.cos(7 * axes[1] - 2 * z))
        plane = np.where(radius < 0.85, 40 + 60 * waves, -1000)
        plane[(radius < 0.6) & (waves > 0.3)] = -850
        array[:, :, level] = plane + draw.normal(0, 12, plane.shape)
    return Volume(array, np.diag([*SPACING, 1.0]))


def measure(source: Path, out: Path, processes: int) -> dict[str, float]:
    """Return wall time, processor time, peak memory and store size of one preparation."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(source), str(out), str(processes)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    peak = found["own"] if processes == 1 else found["own"] + processes * found["child"]
    return found | {"peak": peak * 1024, "store": sum(file.stat().st_size for file in out.rglob("*.b2nd"))}


def main() -> None:
    """Write the volumes and prepare them with each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=2, help="volumes per process")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400), metavar="N")
    parser.add_argument("--processes", type=int, nargs="+", default=(1, 2))
    options = parser.parse_args()
    found = environment()
    print(f"{utc_now()}, {found['processor']}, {found['cores']} cores")
    with tempfile.TemporaryDirectory() as folder:
        for processes in options.processes:
            source, out = Path(folder) / f"source-{processes}", Path(folder) / f"store-{processes}"
            count = processes * options.volumes
            (source).mkdir()
            first = source / "ct-0.nii.gz"
            write_nifti(first, body(tuple(options.shape), seed=0))
            for index in range(1, count):
                (source / f"ct-{index}.nii.gz").hardlink_to(first)
            result = measure(source, out, processes)
            size = first.stat().st_size
            print(
                f"  {processes} process(es), {count} volumes of {' x '.join(map(str, options.shape))}: "
                f"{60 * count / result['wall']:.1f} volumes per minute of wall time, "
                f"{60 * count / result['cpu']:.1f} per minute and core of processor time, "
                f"peak memory {result['peak'] / 2**30:.2f} GiB, "
                f"store {result['store'] / count / size:.2f} of the source's {size / 2**20:.0f} MiB per volume",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
