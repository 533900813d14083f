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

from ..conftest import write_pretrain, write_transfer
from .opened import EVIL, MOVING_SHAPE, SHAPE, Opened, field, made

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "GVSL_REQUIRE_BROWSER"


@pytest.fixture(scope="module")
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


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file as a double click does, without a network."""
    contexts = []

    def open_file(path: Path, width: int = 1280, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, device_scale_factor=1
        )
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("requestfailed", lambda request: complaints.append(f"asked for {request.url}"))
        page.goto(path.resolve().as_uri())
        return Opened(page, complaints)

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-training with a pair, transfers with a best and a worst case, one of an evil name."""
    root = tmp_path_factory.mktemp("browser")
    draw = np.random.default_rng(0)
    grey = np.zeros(SHAPE)
    grey[12:] = 1  # dark at the patient's left, bright at the right
    pair = matched_volumes(draw.random(MOVING_SHAPE), grey, 1 - grey, field())
    entry = write_arrays(made(root / "pretrain"), "volumes/pair-0.npz", pair, "pair", "a onto b")
    write_pretrain(root / "pretrain", volumes=[entry])
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:12, 6:14, 5:11] = 1
    for seed in (0, 1):
        for pretrained in (True, False):
            folder = made(root / f"{pretrained}-{seed}")
            entries = []
            for name, shift in (("best", 0), ("worst", 3)):
                volume = segmented_volume(grey, truth, 2 * np.roll(truth, shift, 1))
                entries.append(write_arrays(folder, f"volumes/{name}.npz", volume, "segmentation", f"{name}: {EVIL}"))
            write_transfer(folder, seed, pretrained, volumes=entries)
    return write_report([root], root / "report.html")
