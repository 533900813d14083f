"""The report in a browser: headless Chromium, no network, and not one complaint in its console."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.records.volumes import matched_volumes, segmented_volume, write_arrays
from gvsl.report import write_report

from .conftest import write_pretrain, write_transfer

sync_api = pytest.importorskip("playwright.sync_api")

SHAPE = (24, 20, 16)
MOVING_SHAPE = (26, 22, 18)
EVIL = "case_<script>alert(1)</script>&\"'</script>"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "GVSL_REQUIRE_BROWSER"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and there is no {' or '.join(NAMES)}")
        pytest.skip(f"there is no {' or '.join(NAMES)} to open the report with")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page, and what went wrong in it."""

    page: Any
    complaints: list[str]


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file as a double click does, without a network."""
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


def field() -> NDArray[np.float32]:
    """A displacement that differs at every voxel, and is exact in 256ths."""
    x, y, z = np.indices(SHAPE)
    return np.stack([(x - 10) / 8 + 0.5, (y - 8) / -16 + 1.25, z / 32 - 0.25]).astype(np.float32)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-training with a pair, transfers with a best and a worst case, one of an evil name."""
    root = tmp_path_factory.mktemp("browser")
    draw = np.random.default_rng(0)
    grey = np.zeros(SHAPE)
    grey[12:] = 1  # dark on the left, bright on the right
    pair = matched_volumes(draw.random(MOVING_SHAPE), grey, 1 - grey, field())
    entry = write_arrays(_made(root / "pretrain"), "volumes/pair-0.npz", pair, "pair", "a onto b")
    write_pretrain(root / "pretrain", volumes=[entry])
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:12, 6:14, 5:11] = 1
    for seed in (0, 1):
        for pretrained in (True, False):
            folder = _made(root / f"{pretrained}-{seed}")
            entries = []
            for name, shift in (("best", 0), ("worst", 3)):
                volume = segmented_volume(grey, truth, 2 * np.roll(truth, shift, 1))
                entries.append(write_arrays(folder, f"volumes/{name}.npz", volume, "segmentation", f"{name}: {EVIL}"))
            write_transfer(folder, seed, pretrained, volumes=entries)
    return write_report([root], root / "report.html")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def pixel(page: Any, role: str, plane: str, share_x: float, share_y: float) -> list[int]:
    """The colour of a canvas at a share of its sides."""
    found: list[int] = page.evaluate(
        """([role, plane, x, y]) => {
            const canvas = document.querySelector(`canvas[data-role="${role}"][data-plane="${plane}"]`);
            const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
            return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
        }""",
        [role, plane, share_x, share_y],
    )
    return found


def choose(page: Any, run: str) -> None:
    page.select_option(".viewer select", label=run)
    page.wait_for_function("run => document.querySelector('.viewer select').value === run", arg=run)
    page.wait_for_selector(".viewer canvas")


def test_the_page_opens_without_a_complaint(show: Callable[..., Opened], report: Path) -> None:
    for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")):
        opened = show(report, width, scheme)
        opened.page.wait_for_selector(".viewer canvas")
        wide = opened.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} wide on a screen of {width}"
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) > 3 * 128) is (scheme == "light")
        assert opened.complaints == []


def test_names_stay_text(show: Callable[..., Opened], report: Path) -> None:
    opened = show(report)
    choose(opened.page, "linear on gvsl, seed 0")
    assert opened.page.inner_text(".viewer-choices button >> nth=0") == f"best: {EVIL}"
    assert opened.page.locator("main script:not([type])").count() == 0
    assert opened.complaints == []


def test_columns_sort_and_hide(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    methods = "[...document.querySelectorAll('table.table1 tbody tr')].map(row => row.cells[0].textContent)"
    figures = "[...document.querySelectorAll('table.table1 tbody tr')].map(row => Number(row.cells[1].dataset.sort))"
    head = page.locator("table.table1 thead th")
    head.nth(1).locator("button").click()
    assert head.nth(1).get_attribute("aria-sort") == "descending"
    found = page.evaluate(figures)
    assert found == sorted(found, reverse=True)
    assert page.evaluate(methods) == ["gvsl", "scratch"]
    head.nth(1).locator("button").press("Enter")
    assert head.nth(1).get_attribute("aria-sort") == "ascending"
    assert page.evaluate(figures) == sorted(found)
    head.nth(0).locator("button").click()
    assert head.nth(1).get_attribute("aria-sort") is None
    page.locator("details.columns summary").click()
    page.locator("details.columns input").first.uncheck()
    assert not page.locator("table.table1 thead th").nth(1).is_visible()
    assert not page.locator("table.table1 tbody tr >> nth=0").locator("td").first.is_visible()
    runs = "[...document.querySelectorAll('table.runs tbody')].map(body => body.rows[0].cells[0].textContent)"
    page.locator("table.runs thead th").first.locator("button").click()
    assert page.evaluate(runs) == sorted(page.evaluate(runs))
    assert page.evaluate("[...document.querySelectorAll('table.runs tbody')].every(body => body.rows.length === 2)")


def test_tables_scroll_by_keyboard_and_leave_a_phone_room_beside_the_methods(
    show: Callable[..., Opened], report: Path
) -> None:
    page = show(report, 390).page
    head = page.locator("table.table1 thead th").first
    assert head.bounding_box()["width"] < 0.35 * 390
    assert page.locator("table.table1 thead th").nth(1).evaluate("head => head.innerText.split('\\n').length") == 2
    area = page.locator(".scroll:has(table.table1)")
    area.evaluate("area => { area.firstChild.style.width = '900px'; area.focus(); }")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.scroll:has(table.table1)').scrollLeft > 0")


def test_a_link_opens_the_runs_that_are_folded_away(show: Callable[..., Opened], tmp_path: Path) -> None:
    for number in range(26):
        write_transfer(_made(tmp_path / f"{number}"), number, number % 2 == 0, pictures=[], curves=None)
    page = show(write_report([tmp_path], tmp_path / "report.html")).page
    link = page.locator("table.table1 tbody a").first
    target = page.locator(link.get_attribute("href"))
    assert not target.is_visible()
    link.click()
    target.locator("details[open]").wait_for()
    assert target.is_visible()


def test_a_figure_leads_to_the_run_that_made_it(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    link = page.locator("table.table1 tbody a").first
    link.click()
    target = page.locator(link.get_attribute("href"))
    target.locator("details[open]").wait_for()
    for text in ("9f2c4be1d07a55c3", "AMD EPYC", "gvsl 0.1.0", "max_steps"):
        assert text in target.inner_text()


def test_the_viewer_draws_the_volume(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "linear on gvsl, seed 0")
    page.locator(".viewer .tools input[type=checkbox]").uncheck()
    page.locator(".viewer .tools input[type=range]").fill("1")
    # Away from cross and labels: the left half is dark, the right one bright, in planes that show left and right.
    for plane in ("axial", "coronal"):
        assert pixel(page, "segmentation", plane, 0.03, 0.03)[:3] == [0, 0, 0]
        assert pixel(page, "segmentation", plane, 0.97, 0.03)[:3] == [255, 255, 255]
    # The prediction, of label 2, in its colour: voxel (5, 7) of the axial plane.
    assert pixel(page, "segmentation", "axial", 5.5 / 24, 1 - 7.5 / 20)[:3] == [0x56, 0xB4, 0xE9]
    page.locator(".viewer .tools input[type=range]").fill("0")
    assert pixel(page, "segmentation", "axial", 5.5 / 24, 1 - 7.5 / 20)[:3] == [0, 0, 0]
    page.locator(".viewer .tools input[type=checkbox]").check()  # the truth's outline lies left of voxel 4
    assert pixel(page, "segmentation", "axial", 4 / 24, 1 - 8.5 / 20)[:3] == [255, 255, 255]
    page.locator(".viewer-choices button").nth(1).click()
    page.wait_for_function("() => document.querySelectorAll('.viewer-choices button')[1].ariaPressed === 'true'")
    assert "worst" in page.inner_text(".viewer-stage h4")


def test_the_strength_of_the_prediction_is_set_by_a_slider_of_use(show: Callable[..., Opened], report: Path) -> None:
    for width in (1280, 360):
        page = show(report, width).page
        choose(page, "linear on gvsl, seed 0")
        slider = page.locator(".viewer .tools input[type=range]").bounding_box()
        box = page.locator(".viewer .tools input[type=checkbox]").bounding_box()
        assert slider["width"] >= 150
        assert (box["width"], box["height"]) == (15, 15)


def test_a_finger_scrolls_past_a_plane_and_a_tap_moves_the_cross(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, offline=True)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    choose(page, "linear on gvsl, seed 0")
    canvas = page.locator('canvas[data-plane="axial"]')
    canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center', behavior: 'instant' })")
    start, height = page.get_attribute(".viewer", "data-at"), page.evaluate("scrollY")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    session = context.new_cdp_session(page)
    for kind, moved in (("touchStart", 0), *(("touchMove", 20 * step) for step in range(1, 11)), ("touchEnd", None)):
        points = [] if moved is None else [{"x": x, "y": y - moved}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("height => scrollY > height + 100", arg=height)
    assert page.get_attribute(".viewer", "data-at") == start
    page.wait_for_timeout(1500)  # until the page has come to rest
    canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + 5.5 / 24 * box["width"], box["y"] + (1 - 7.5 / 20) * box["height"])
    page.wait_for_function("() => document.querySelector('.viewer').dataset.at.startsWith('5,7,')")
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    for kind, share in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.7), ("touchEnd", None)):
        points = [] if share is None else [{"x": box["x"] + share * box["width"], "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("() => document.querySelector('.viewer').dataset.at.startsWith('16,')")
    context.close()


def test_keys_wheel_and_sliders_move_the_cross(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "linear on gvsl, seed 0")

    def at() -> list[int]:
        return [int(value) for value in page.get_attribute(".viewer", "data-at").split(",")]

    start = at()
    axial = page.locator('canvas[data-plane="axial"]')
    axial.focus()
    for key, change in (
        ("ArrowRight", [1, 0, 0]), ("ArrowUp", [0, 1, 0]), ("PageUp", [0, 0, 1]),
        ("ArrowLeft", [-1, 0, 0]), ("ArrowDown", [0, -1, 0]), ("PageDown", [0, 0, -1]),
    ):  # fmt: skip
        before = at()
        axial.press(key)
        assert at() == [one + other for one, other in zip(before, change, strict=True)], key
    assert at() == start
    axial.hover()
    page.mouse.wheel(0, -100)
    moved = "z => Number(document.querySelector('.viewer').dataset.at.split(',')[2]) === z"
    page.wait_for_function(moved, arg=start[2] + 1)
    page.get_by_label("sagittal slice").fill("2")
    assert at()[0] == 2


def test_a_click_in_one_image_marks_its_match_in_the_other(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "gvsl pre-training")
    known = field()
    for plane, across, up in (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2)):
        canvas = page.locator(f'canvas[data-role="fixed"][data-plane="{plane}"]')
        box = canvas.bounding_box()
        for voxel in ((3, 15), (17, 4)):
            x = (voxel[0] + 0.5) / SHAPE[across] * box["width"]
            y = (SHAPE[up] - voxel[1] - 0.5) / SHAPE[up] * box["height"]
            voxel_seen = voxel[0] < SHAPE[across] and voxel[1] < SHAPE[up]
            if not voxel_seen:
                continue
            canvas.click(position={"x": x, "y": y})
            at = [int(value) for value in page.get_attribute(".viewer", "data-at").split(",")]
            assert (at[across], at[up]) == voxel
            expected = np.array(at) + known[:, at[0], at[1], at[2]]
            found = [float(value) for value in page.get_attribute(".viewer", "data-match").split(",")]
            np.testing.assert_allclose(found, expected, atol=1e-4)
            # The ring is drawn about that place in the moving image.
            shares = (expected[across] + 0.5) / MOVING_SHAPE[across], 1 - (expected[up] + 0.5) / MOVING_SHAPE[up]
            size = page.locator(f'canvas[data-role="moving"][data-plane="{plane}"]').evaluate("canvas => canvas.width")
            ring = pixel(page, "moving", plane, shares[0] + 5 / size, shares[1])
            assert ring[0] > 180 and ring[2] < 90, ring  # orange


def test_the_deformed_grid_is_drawn_on_the_moving_image(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "gvsl pre-training")
    bluish = """role => {
        const canvas = document.querySelector(`canvas[data-role="${role}"][data-plane="axial"]`);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let index = 0; index < data.length; index += 4) count += data[index + 2] > data[index] + 40;
        return count;
    }"""
    drawn = page.evaluate(bluish, "moving")
    assert drawn > 500
    assert page.evaluate(bluish, "fixed") == 0
    # Lines of every second voxel of the fixed grid run where the field says: those of x = 4 and y = 10 cross there.
    at = [int(value) for value in page.get_attribute(".viewer", "data-at").split(",")]
    found = [float(place + field()[axis, 4, 10, at[2]]) for axis, place in enumerate((4, 10))]
    line = pixel(page, "moving", "axial", (found[0] + 0.5) / MOVING_SHAPE[0], 1 - (found[1] + 0.5) / MOVING_SHAPE[1])
    assert line[2] > line[0] + 40, line
    page.get_by_label("deformed grid").uncheck()
    assert page.evaluate(bluish, "moving") == 0
    page.get_by_label("deformed grid").check()
    assert page.evaluate(bluish, "moving") == drawn


def test_pairs_blink_and_checker(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "gvsl pre-training")
    corner = ("fixed", "axial", 0.02, 0.98)  # voxel (0, 0): dark in the fixed image, bright in the warped one
    assert pixel(page, *corner)[0] == 0
    page.get_by_label("warped").check()
    assert pixel(page, *corner)[0] == 255
    page.get_by_label("checkerboard").check()
    assert pixel(page, *corner)[0] == 0
    assert pixel(page, "fixed", "axial", 8.5 / 24, 1 - 0.5 / 20)[0] == 255  # the next square is of the other
    page.get_by_label("blink").check()
    seen = set()
    for state in ("true", "false"):
        page.wait_for_function("s => document.querySelector('.viewer').dataset.blinked === s", arg=state)
        seen.add(pixel(page, *corner)[0])
    assert seen == {0, 255}
