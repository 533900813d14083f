"""Headless Chromium without a network, and a report to open in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.records.volumes import matched_volumes, segmented_volume, write_arrays
from gvsl.report import write_report

from ..conftest import write_pair, write_pretrain, write_restoration, write_transfer
from .opened import BLOCK_SHAPE, BRIGHT, EVIL, MOVING_SHAPE, SHAPE, Opened, field, made

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "GVSL_REQUIRE_BROWSER"


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and there is no {' or '.join(NAMES)}")
        pytest.skip(f"there is no {' or '.join(NAMES)} to open the report with")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def opened(browser: Any) -> Iterator[Opened]:
    """One window for all tests: another for each would cost as much as the page in it."""
    context = browser.new_context(offline=True, device_scale_factor=1)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("requestfailed", lambda request: complaints.append(f"asked for {request.url}"))
    yield Opened(page, complaints)
    context.close()


@pytest.fixture
def show(opened: Opened) -> Callable[..., Opened]:
    """Open a file as a double click does, without a network, in place of the one before."""

    def open_file(path: Path, width: int = 1280, scheme: str = "light") -> Opened:
        opened.page.set_viewport_size({"width": width, "height": 900})
        opened.page.emulate_media(color_scheme=scheme)
        opened.complaints.clear()
        opened.page.goto(path.resolve().as_uri())
        return opened

    return open_file


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-training with a pair, transfers with a best and a worst case, one of an evil name.

    There are volumes for the viewer, and neither pictures nor curves, which make a page slow to draw.
    """
    root = tmp_path_factory.mktemp("browser")
    draw = np.random.default_rng(0)
    grey = np.zeros(SHAPE)
    grey[12:] = 1  # dark at the patient's left, bright at the right
    pair = matched_volumes(draw.random(MOVING_SHAPE), grey, 1 - grey, field())
    entry = write_arrays(made(root / "pretrain"), "volumes/pair-0.npz", pair, "pair", "a onto b")
    write_pretrain(root / "pretrain", volumes=[entry], pictures=[], curves=None)
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:12, 6:14, 5:11] = 1
    for seed in (0, 1):
        for pretrained in (True, False):
            folder = made(root / f"{pretrained}-{seed}")
            entries = []
            for name, shift in (("best", 0), ("worst", 3)):
                volume = segmented_volume(grey, truth, 2 * np.roll(truth, shift, 1))
                entries.append(write_arrays(folder, f"volumes/{name}.npz", volume, "segmentation", f"{name}: {EVIL}"))
            write_transfer(folder, seed, pretrained, volumes=entries, pictures=[], curves=None)
    return write_report([root], root / "report.html")


def seen_through(volume: np.ndarray, axis: int) -> np.ndarray:
    """A plane through the bright block."""
    return np.take(volume, BRIGHT[axis].start + 2, axis)


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every picture and volume shows the block."""
    root = tmp_path_factory.mktemp("orientation")
    volume = np.zeros(BLOCK_SHAPE)
    volume[BRIGHT] = 1
    truth = np.zeros(BLOCK_SHAPE, np.uint8)
    truth[28:30, 38:40, 26:28] = 1
    folder = made(root / "transfer")
    entry = write_arrays(folder, "volumes/best.npz", segmented_volume(volume, truth, truth), "segmentation", "best")
    write_transfer(folder, 0, True, volumes=[entry])
    pictures = []
    for kind, write in (("pair", write_pair), ("restoration", write_restoration)):
        file = f"pictures/{kind}.npz"
        write(root / "pretrain" / file, seed=0)
        pictures.append({"file": file, "kind": kind, "title": kind})
    write_pretrain(root / "pretrain", pictures=pictures)
    for path in root.glob("*/pictures/*.npz"):
        arrays = dict(np.load(path))
        for name in ("image", "original", "restored", "damaged", "moving", "fixed", "warped", "affine"):
            if f"{name}_0" in arrays:
                arrays |= {f"{name}_{axis}": seen_through(volume, axis) for axis in range(3)}
        for name in [name for name in arrays if "label" in name or "truth" in name or "prediction" in name]:
            arrays[name] = np.zeros_like(arrays[name])
        np.savez(path, **arrays)
    return write_report([root], root / "report.html")
