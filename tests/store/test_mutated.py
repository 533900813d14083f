"""Preparation of 500 broken files with little memory: each is refused with a reason, or harmless."""

import gzip
import json
import random
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gvsl.cases import Case
from gvsl.io import Volume
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

WriteVolume = Callable[[Path, Volume], Path]

FORMATS = ("a.nii", "a.nii.gz", "a.hdr", "raw.nrrd", "a.nrrd", "a.nhdr", "raw.mha", "a.mha", "a.mhd", "dicom")
EACH = 50
CHECKED = ("a.nii.gz",)
"""Formats with a checksum over header and voxels."""
SHAPE = (16, 17, 12)
MEMORY = 3 * 2**27
"""Limit of the process's memory, in bytes beyond its initial memory."""
ODD = ("", "nan", "inf", "-1", "0", "99999999999", "1e400", "../x", "(", "LIST", "9" * 5000, "None", "1 2", "3.5", "\0")
NIFTI_FIELDS = [(40 + 2 * axis, "<h") for axis in range(8)]
NIFTI_FIELDS += [(offset, "<h") for offset in (70, 72, 252, 254)]  # datatype, bitpix, qform and sform codes
NIFTI_FIELDS += [(offset, "<f") for offset in (108, 112, 116, *range(76, 108, 4), *range(256, 328, 4))]
EXTREMES = {"<h": (-32768, -1, 0, 1, 7, 999, 32767), "<f": (float("nan"), float("inf"), -1e38, -1, 0, 1e-30, 1e9, 1e38)}
DICOM_FIELDS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "HighBit")
DICOM_TEXTS = ("RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")

CHILD = """
import json, resource, signal, sys
from pathlib import Path
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.preprocessing.spec import Preprocessing
from gvsl.cases import Case

root, memory = Path(sys.argv[1]), int(sys.argv[2])
names = json.loads((root / "cases.json").read_text(encoding="utf-8"))
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
signal.setitimer(signal.ITIMER_PROF, 10)  # kills the process if one file takes more CPU time
cases = [Case(f"{number:03d}", root / name, splits=("pretrain",)) for number, name in enumerate(names)]
spec = Preprocessing(**json.loads(sys.argv[3]))
watch = lambda: signal.setitimer(signal.ITIMER_PROF, 10)
prepare(cases, root / "store", spec, source="mutants", progress=lambda count: watch)
"""


def volume() -> Volume:
    array = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    return Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]))


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 20])):
        place = draw.randrange(len(changed)) if draw.random() < 0.5 else draw.randrange(min(len(changed), 400))
        changed[place] = draw.choice([0, 1, 127, 128, 255, changed[place] ^ (1 << draw.randrange(8))])
    return bytes(changed)


def edited(content: bytes, name: str, draw: random.Random) -> bytes:
    """Change the value of one header field."""
    if name.endswith(".gz"):
        return gzip.compress(edited(gzip.decompress(content), name.removesuffix(".gz"), draw), 1)
    if name.endswith((".nii", ".hdr")):
        offset, kind = draw.choice(NIFTI_FIELDS)
        return (
            content[:offset]
            + struct.pack(kind, draw.choice(EXTREMES[kind]))
            + content[offset + struct.calcsize(kind) :]
        )
    lines = list(re.finditer(rb"^([\w ]+)(: | = )(.*)$", content[:2000].split(b"\n\n")[0], re.MULTILINE))
    line = draw.choice(lines)
    value = line[3]
    if draw.random() < 0.5 and re.search(rb"\d", value):
        number = draw.choice(list(re.finditer(rb"\d+", value)))
        value = value[: number.start()] + draw.choice(ODD).encode() + value[number.end() :]
    else:
        value = draw.choice(ODD).encode()
    return content[: line.start(3)] + value + content[line.end(3) :]


def enlarged(content: bytes, name: str, sizes: tuple[int, int, int]) -> bytes:
    """Change the size in the header."""
    if name.endswith(".gz"):
        return gzip.compress(enlarged(gzip.decompress(content), name.removesuffix(".gz"), sizes), 1)
    if name.endswith((".nii", ".hdr")):
        return content[:42] + struct.pack("<3h", *(min(size, 32767) for size in sizes)) + content[48:]
    text = " ".join(str(size) for size in sizes).encode()
    return re.sub(rb"^(sizes: |DimSize = ).*$", rb"\g<1>" + text, content, count=1, flags=re.MULTILINE)


def bomb(content: bytes, name: str, number: int) -> bytes:
    """Return a decompression bomb: 64 MB after the claimed voxels, or 256 MB of claimed voxels."""
    honest = number % 2
    zeros = bytes(2**28 if honest else 2**26)
    sizes = (1024, 1024, 128)
    if name.endswith(".gz"):
        whole = gzip.decompress(content)
        return gzip.compress((enlarged(whole, "a.nii", sizes) if honest else whole) + zeros, 1)
    head, mark, _ = content.partition(b"\n\n" if name.endswith("nrrd") else b"LOCAL\n")
    packed = (gzip.compress if name.endswith("nrrd") else zlib.compress)(volume().array.tobytes(order="F") + zeros, 1)
    return (enlarged(head, name, sizes) if honest else head) + mark + packed


def spoilt_slice(path: Path, how: str, draw: random.Random) -> None:
    content = path.read_bytes()
    if how == "flip":
        path.write_bytes(flipped(content, draw))
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    else:
        item = pydicom.dcmread(path)
        if how == "edit" and draw.random() < 0.5:
            setattr(
                item, draw.choice(DICOM_TEXTS), draw.choice(["1e300", "0", "-1", "1\\2", "0\\0\\0", "1e-300\\1e-300"])
            )
        else:
            setattr(
                item, draw.choice(DICOM_FIELDS), 65535 if how != "edit" else draw.choice([0, 1, 2, 3, 15, 32, 64, 999])
            )
        item.save_as(path)


def mutant(folder: Path, name: str, number: int, draw: random.Random) -> str:
    """Damage a file and return the kind of damage."""
    how = ["flip", "cut", "edit", "flip", "edit"][number % 5]
    if number in (10, 20, 30):
        how = "absurd"
    if name in ("a.nii.gz", "a.nrrd", "a.mha") and number in (12, 33):
        how = "bomb"
    if name == "dicom":
        spoilt_slice(draw.choice(sorted((folder / name).iterdir())), how, draw)
        return how
    path = folder / name
    if how in ("flip", "cut") and name in ("a.hdr", "a.nhdr", "a.mhd") and draw.random() < 0.5:
        path = next(file for file in sorted(folder.iterdir()) if file.name != name)
    content = path.read_bytes()
    if how == "flip":
        path.write_bytes(flipped(content, draw))
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "edit":
        path.write_bytes(edited(content, name, draw))
    elif how == "absurd":
        size = {10: 40000, 20: 2000000, 30: 900}[number]
        path.write_bytes(enlarged(content, name, (size, size, size)))
    else:
        path.write_bytes(bomb(content, name, number))
    return how


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the memory of a process by Linux's means")
def test_broken_files_are_refused_or_harmless(tmp_path: Path, write_volume: WriteVolume) -> None:
    spec = replace(PRESETS["ct"], crop="none")
    original = write_volume(tmp_path / "original.nii", volume())
    reference = prepare([Case("a", original)], tmp_path / "reference", spec, source="original").image("a")
    root = tmp_path / "mutants"
    names: list[str] = []
    hows: list[str] = []
    for name in FORMATS:
        for number in range(EACH):
            draw = random.Random(f"{name} {number}")
            folder = root / f"{len(names):03d}"
            write_volume(folder / name, volume())
            hows.append(mutant(folder, name, number, draw))
            names.append(f"{len(names):03d}/{name}")
    assert len(names) == 500
    (root / "cases.json").write_text(json.dumps(names), encoding="utf-8")
    values = json.dumps(vars(spec))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), str(MEMORY), values],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    store = Store.open(root / "store")
    refused = dict(store.refused)
    assert len(refused) + len(store.cases) == 500
    assert all(reason and "\n" not in reason and len(reason) < 400 for reason in refused.values())
    taken = {int(case_id) for case_id in store.cases}
    assert {hows[number] for number in taken} <= {"flip", "edit"}
    for number in taken:
        image = store.image(f"{number:03d}")
        assert np.isfinite(image).all()
        if Path(names[number]).name in CHECKED and hows[number] == "flip":
            assert image.shape == reference.shape and np.abs(image - reference).max() < 1e-3, names[number]
    assert 50 < len(taken) < 350
    for number, how in enumerate(hows):
        if how in ("absurd", "bomb"):  # impossible sizes are detected before allocation
            reason = next(text for file, text in refused.items() if file.startswith(f"{number:03d}/"))
            assert (how == "bomb" and number % 2 == 1) == ("memory" in reason), (names[number], reason)
