"""The viewer in a browser: what it draws, and how mouse, keyboard and fingers move it."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .opened import MOVING_SHAPE, SHAPE, Opened, choose, field, pixel, pixel_while


def test_the_viewer_draws_the_volume(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "linear on gvsl, seed 0")
    page.locator(".viewer .tools input[type=checkbox]").uncheck()
    page.locator(".viewer .tools input[type=range]").fill("1")
    # Away from cross and labels: the patient's right, on the left, is bright, in planes that show left and right.
    for plane in ("axial", "coronal"):
        assert pixel(page, "segmentation", plane, 0.03, 0.03)[:3] == [255, 255, 255]
        assert pixel(page, "segmentation", plane, 0.97, 0.03)[:3] == [0, 0, 0]
    # The prediction, of label 2, in its colour: voxel (5, 7) of the axial plane.
    assert pixel(page, "segmentation", "axial", 1 - 5.5 / 24, 1 - 7.5 / 20)[:3] == [0x56, 0xB4, 0xE9]
    page.locator(".viewer .tools input[type=range]").fill("0")
    assert pixel(page, "segmentation", "axial", 1 - 5.5 / 24, 1 - 7.5 / 20)[:3] == [0, 0, 0]
    page.locator(".viewer .tools input[type=checkbox]").check()  # the truth's outline lies at the left of voxel 4
    assert pixel(page, "segmentation", "axial", 1 - 4 / 24, 1 - 8.5 / 20)[:3] == [255, 255, 255]
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
    page.evaluate(
        """() => new Promise(rest => {  // until the page has come to rest
            let before = null, still = 0;
            const look = () => {
                still = scrollY === before ? still + 1 : 0;
                before = scrollY;
                if (still < 10) requestAnimationFrame(look); else rest();
            };
            look();
        })"""
    )
    canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + (1 - 5.5 / 24) * box["width"], box["y"] + (1 - 7.5 / 20) * box["height"])
    page.wait_for_function("() => document.querySelector('.viewer').dataset.at.startsWith('5,7,')")
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    for kind, share in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.7), ("touchEnd", None)):
        points = [] if share is None else [{"x": box["x"] + share * box["width"], "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("() => document.querySelector('.viewer').dataset.at.startsWith('7,')")
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
        ("ArrowRight", [-1, 0, 0]), ("ArrowUp", [0, 1, 0]), ("PageUp", [0, 0, 1]),
        ("ArrowLeft", [1, 0, 0]), ("ArrowDown", [0, -1, 0]), ("PageDown", [0, 0, -1]),
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
            x = (SHAPE[across] - voxel[0] - 0.5) / SHAPE[across] * box["width"]
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
            shares = 1 - (expected[across] + 0.5) / MOVING_SHAPE[across], 1 - (expected[up] + 0.5) / MOVING_SHAPE[up]
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
    line = pixel(
        page, "moving", "axial", 1 - (found[0] + 0.5) / MOVING_SHAPE[0], 1 - (found[1] + 0.5) / MOVING_SHAPE[1]
    )
    assert line[2] > line[0] + 40, line
    page.get_by_label("deformed grid").uncheck()
    assert page.evaluate(bluish, "moving") == 0
    page.get_by_label("deformed grid").check()
    assert page.evaluate(bluish, "moving") == drawn


def test_pairs_blink_and_checker(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "gvsl pre-training")
    corner = ("fixed", "axial", 0.98, 0.98)  # voxel (0, 0): dark in the fixed image, bright in the warped one
    assert pixel(page, *corner)[0] == 0
    page.get_by_label("warped").check()
    assert pixel(page, *corner)[0] == 255
    page.get_by_label("checkerboard").check()
    assert pixel(page, *corner)[0] == 0
    assert pixel(page, "fixed", "axial", 1 - 8.5 / 24, 1 - 0.5 / 20)[0] == 255  # the next square is of the other
    page.get_by_label("blink").check()
    # Colour and state are read at once: on a busy machine the image blinks again between two questions.
    assert [pixel_while(page, {"blinked": state}, *corner)[0] for state in ("true", "false")] == [255, 0]


def test_the_jacobian_is_drawn_over_the_fixed_image(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "gvsl pre-training")
    assert page.locator(".viewer-jacobian").is_hidden()
    page.get_by_role("radio", name="Jacobian").check()
    assert page.locator(".viewer-jacobian").is_visible()
    determinant = (1 + 1 / 8) * (1 - 1 / 16) * (1 + 1 / 32)
    assert f"Jacobian {determinant:.2f}" in page.inner_text(".viewer-words")
    strength = np.log(determinant) / np.log(4)
    grey = [255 * (1 - strength) + strength * part for part in (230, 159, 0)]  # a bright voxel, tinted
    np.testing.assert_allclose(pixel(page, "fixed", "axial", 0.02, 0.02)[:3], grey, atol=1)


def solid_pixels(page: Any) -> np.ndarray:
    """The 3D view as it is on the screen, (rows, columns, RGB)."""
    drawn = page.locator(".viewer-solid canvas").screenshot()
    return np.asarray(Image.open(BytesIO(drawn)).convert("RGB")).astype(int)


def test_the_3d_view_turns_the_volume_and_shows_structures_over_it(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    choose(page, "linear on gvsl, seed 0")
    assert page.get_attribute(".viewer", "data-solid") is None  # nothing is drawn before it is opened
    page.locator(".viewer summary").click()
    page.locator(".viewer-solid canvas").focus()
    page.get_by_label("image alone").check()
    page.wait_for_function("() => document.querySelector('.viewer').dataset.solid === '0.40,0.25'")
    drawn = solid_pixels(page)
    side = len(drawn)
    middle = slice(side // 2 - 20, side // 2 + 20)
    left, right = drawn[middle, side // 4], drawn[middle, 3 * side // 4]
    assert left.min() >= 250 and right.max() <= 20  # bright at the patient's right, seen from the front
    assert "from the front" in page.inner_text(".viewer details")
    page.locator(".viewer-solid canvas").focus()
    for _ in range(21):  # half a turn
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.viewer').dataset.solid === '3.55,0.25'")
    assert "from the back" in page.inner_text(".viewer details")
    drawn = solid_pixels(page)
    assert drawn[middle, side // 4].max() <= 20 and drawn[middle, 3 * side // 4].min() >= 250

    page.locator(".viewer .tools input[type=range]").fill("1")
    for name, hue in (("prediction", (0x56, 0xB4, 0xE9)), ("truth", (0xE6, 0x9F, 0x00))):
        page.locator(f".viewer details input[value={name}]").check()
        drawn = solid_pixels(page)
        coloured = drawn[(np.ptp(drawn, axis=2) > 60)]
        assert len(coloured) > 500
        brightest = coloured[coloured.sum(1).argmax()]
        wanted = np.array(hue)
        assert np.abs(brightest / brightest.max() - wanted / wanted.max()).max() < 0.08, (name, brightest)


def test_without_webgl_the_3d_view_says_so(show: Callable[..., Opened], report: Path) -> None:
    opened = show(report)
    page = opened.page
    page.evaluate(
        """() => {
            const real = HTMLCanvasElement.prototype.getContext;
            HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
                return kind === "webgl2" ? null : real.call(this, kind, ...rest);
            };
        }"""
    )
    choose(page, "linear on gvsl, seed 0")
    assert page.get_attribute(".viewer", "data-solid") is None  # the view isn't made before it is opened
    page.locator(".viewer summary").click()
    page.wait_for_function("() => document.querySelector('.viewer').dataset.solid === 'none'")
    assert "needs WebGL 2" in page.inner_text(".viewer details")
    assert opened.complaints == []
