"""A store of 100,000 cases, with a few real arrays, in its own process."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from gvsl.preprocessing import PRESETS
from gvsl.store.arrays import write_array
from gvsl.store.manifest import FORMAT, manifest_text
from gvsl.store.table import row_line

CASES = 100_000
REAL = 4
READING = """
import json, sys, time
from pathlib import Path
from gvsl.store import Store

def resident():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

before, taken = resident(), []
for _ in range(3):
    worked = time.process_time()
    store = Store.open(Path(sys.argv[1]))
    taken.append(time.process_time() - worked)
names = store.split("train")
box = (slice(3, 35), slice(0, 32), slice(32, 64))
sums = [float(store.image(name, box).sum()) for name in names]
held = resident() - before
print(json.dumps({"seconds": sorted(taken), "held": held, "cases": len(store.cases), "names": names, "sums": sums}))
"""


def simulate(folder: Path) -> dict[str, float]:
    """Write a store whose first cases have arrays, the others empty files; return the sum of a crop of each array."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    lines, sums = [], {}
    for number in range(CASES):
        name = f"hospital_study-{number:07d}"
        affine = np.diag([*draw.uniform(0.3, 3, 3), 1.0]).tolist()
        row = {
            "id": name,
            "splits": ["train"] if number < REAL else ["pretrain"],
            "shape": [64, 64, 64],
            "labels": None,
            "labels_cropped": 0,
            "geometry": {"affine": affine, "source_affine": affine, "source_shape": [512, 512, 300]},
            "hash": draw.bytes(32).hex(),
            "content": draw.bytes(32).hex(),
            "source": f"images/{name}.nii.gz",
        }
        lines.append(row_line(row))
        path = folder / "images" / f"{name}.b2nd"
        if number < REAL:
            array = draw.random((64, 64, 64)).astype(np.float16)
            write_array(path, array)
            sums[name] = float(array[3:35, :32, 32:].astype(np.float32).sum())
        else:
            path.touch()
    whole = b"".join(lines)
    manifest = {
        "format": FORMAT,
        "source": "simulated",
        "preprocessing": asdict(PRESETS["ct"]),
        "label_names": {},
        "refused": [],
        "written_by": "a test",
    }
    (folder / "cases.jsonl").write_bytes(whole)
    (folder / "manifest.json").write_text(manifest_text(manifest, whole), encoding="utf-8")
    return sums


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says how much memory is held")
def test_100_000_cases_open_in_two_seconds_of_a_core_and_300_megabytes(tmp_path: Path) -> None:
    sums = simulate(tmp_path / "store")
    command = [sys.executable, "-c", READING, str(tmp_path / "store")]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert found["cases"] == CASES
    assert found["names"] == sorted(sums)
    assert found["sums"] == pytest.approx(list(sums.values()), rel=1e-6)
    print(f"opened in {found['seconds']} s of a core, {found['held']:.0f} MB held")
    assert found["held"] < 300
    assert found["seconds"][1] < 2  # median CPU time; 0.4 s on the development machine
