"""Figure and page: whole files, one window, the right way up, nothing of the patient or from outside."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from ctenhance import quality
from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import PRESETS, chosen_window, difference_limit
from ctenhance.quality.display import Upright, best_slice, body, body_box, detail_box
from ctenhance.quality.page import encode
from ctenhance.runtime.errors import InputError

SECRET = "1.2.840.99999.secret"


@pytest.fixture(scope="module")
def volumes() -> tuple[CTVolume, CTVolume, CTVolume]:
    """Before, after and reference: an ellipse with two lungs full of dots, right one with a nodule."""
    z, y, x = np.mgrid[:8, -48:48, -64:64] * 2.5
    hu = np.full(z.shape, -1000.0)
    hu[np.hypot(x / 140, y / 100) < 1] = 45
    for side in (-1, 1):
        lung = np.hypot((x - side * 65) / 50, y / 70) < 1
        hu[lung] = -860
        hu[lung & (np.hypot(x % 17 - 8, y % 17 - 8) < 3)] = 0
    generator = np.random.default_rng(0)
    meta = {"series_instance_uid": SECRET, "source_files": [f"/data/{SECRET}.dcm"]}
    reference = CTVolume(hu, (2.5, 2.5, 2.5), meta=meta)
    before = reference.with_array(
        ndimage.gaussian_filter(hu, (0, 0.8, 0.8)) + generator.normal(0, 30, hu.shape)
    )
    return before, reference.with_array(hu + generator.normal(0, 6, hu.shape)), reference


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_is_written_without_the_patient(
    volumes: tuple[CTVolume, ...], tmp_path: Path, suffix: str
) -> None:
    before, after, reference = volumes
    path = tmp_path / f"figure{suffix}"
    quality.figure(before, after, path, reference if suffix == ".png" else None)
    content = path.read_bytes()
    assert content.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert SECRET.encode() not in content
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_volumes_give_the_same_figure(volumes: tuple[CTVolume, ...], tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        quality.figure(*volumes[:2], path, window="soft")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_figure_leaves_matplotlib_s_global_state_alone(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from ctenhance import quality\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib came with the import'\n"
        "from ctenhance.core.volume import CTVolume\n"
        "v = CTVolume(np.random.default_rng(0).normal(0, 50, (1, 40, 40)))\n"
        "quality.figure(v, v, sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(quality.__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "f.png")], check=True, cwd=root)
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_before_and_after_share_one_window_and_coronals_keep_their_shape(
    volumes: tuple[CTVolume, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    shown: list[tuple[tuple[int, ...], dict]] = []
    original = Axes.imshow

    def spy(self: Axes, values: np.ndarray, **options: object) -> object:
        shown.append((values.shape, options))
        return original(self, values, **options)

    monkeypatch.setattr(Axes, "imshow", spy)
    before, after, _ = volumes
    tall = [CTVolume(v.array, (2.5, 2.5, 7.5)) for v in (before, after)]
    quality.figure(*tall, tmp_path / "f.png", window=(-500, 1200))
    assert len(shown) == 9
    for column in (0, 1):
        assert {(o["vmin"], o["vmax"]) for _, o in shown[column::3]} == {(-1100, 100)}
    assert all(o["vmin"] == -o["vmax"] for _, o in shown[2::3])
    assert shown[6][0][0] == 8
    assert shown[6][1]["aspect"] == pytest.approx(3)


def test_unknown_windows_paths_and_grids_are_refused(volumes: tuple[CTVolume, ...], tmp_path: Path) -> None:
    before, after, _ = volumes
    with pytest.raises(InputError, match="no window 'liver'"):
        quality.figure(before, after, tmp_path / "f.png", window="liver")
    with pytest.raises(InputError, match="width must be above 0"):
        quality.figure(before, after, tmp_path / "f.png", window=(40, 0))
    with pytest.raises(InputError, match=r"\.png"):
        quality.figure(before, after, tmp_path / "f.gif")
    with pytest.raises(InputError, match=r"\.html"):
        quality.page(before, after, tmp_path / "p.txt")
    other = CTVolume(after.array[:4], after.spacing)
    for write, name in ((quality.figure, "f.png"), (quality.page, "p.html")):
        with pytest.raises(InputError, match="different grids"):
            write(before, other, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_window_suits_the_slice(volumes: tuple[CTVolume, ...]) -> None:
    assert chosen_window(None, volumes[2].array[0]) == ("Lung", PRESETS["lung"])
    assert chosen_window(None, np.full((40, 40), 50))[1] == PRESETS["soft"]
    assert chosen_window((10, 20), np.zeros((4, 4))) == ("Window", (10.0, 20.0))


def test_a_volume_is_turned_upright() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for signs, flipped in (
        ((1, 1, 1), array),
        ((-1, -1, 1), array[:, ::-1, ::-1]),
        ((1, 1, -1), array[::-1]),
    ):
        upright = Upright.of(CTVolume(array, direction=np.diag(np.array(signs, float))))
        assert np.array_equal(upright.turn(array), flipped)
        assert upright.letters == (("R", "L"), ("A", "P"), ("I", "S"))
    # A sagittal stack: columns to posterior, rows to the feet, slices to the left.
    sagittal = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)
    upright = Upright.of(CTVolume(array, direction=sagittal))
    assert upright.letters == (("A", "P"), ("I", "S"), ("R", "L"))
    assert np.array_equal(upright.turn(array), array[:, ::-1])


def test_slice_detail_and_limits_are_chosen_where_there_is_something_to_see() -> None:
    volume = np.full((9, 60, 80), -1000, np.float32)
    volume[:, 10:50, 20:70] = 40
    volume[5, 24:44:4, 44:66:4] = 300
    assert best_slice(volume, PRESETS["soft"]) == 5
    rows, columns = body_box(volume[0], 2)
    assert (rows.start, columns.stop) == (pytest.approx(8, abs=2), pytest.approx(72, abs=2))
    found = detail_box(volume[5], PRESETS["soft"], (3.0, 3.0, 1.0))
    for part, (first, last) in zip(found, ((24, 44), (44, 66)), strict=True):
        assert min(part.stop, last) - max(part.start, first) >= 10
    assert body_box(np.full((5, 6), -1000), 1) == (slice(0, 5), slice(0, 6))
    assert difference_limit(np.full(100, 37.0)) == 50
    assert difference_limit(np.zeros(4)) == 1


def decode(text: str, shape: tuple[int, int], step: int) -> np.ndarray:
    """What the page's script does."""
    low, high = (
        np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, *shape).astype(int)
    )
    folded = low + 256 * high
    change = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
    values = np.zeros(shape, int)
    for y, x in np.ndindex(*shape):
        left = values[y, x - 1] if x else 0
        above = values[y - 1, x] if y else 0
        values[y, x] = ((left + above) >> 1) + change[y, x]
    return values * step - 1024


@pytest.mark.parametrize("step", [1, 2, 4])
def test_slices_come_back_from_their_code(step: int) -> None:
    plane = np.random.default_rng(0).normal(0, 900, (13, 17))
    plane[0, :3] = (-3000, 5000, 3071)
    back = decode(encode(plane, step), plane.shape, step)
    assert np.abs(back - np.clip(plane, -1024, 3071)).max() <= step / 2


@pytest.fixture(scope="module")
def written(volumes: tuple[CTVolume, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    before, after, reference = volumes
    quality.page(before, after, path, reference, title="A <b>title</b> & @DATA@")
    return path


def test_a_page_is_whole_and_loads_nothing(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert SECRET not in text
    assert "A &lt;b&gt;title&lt;/b&gt; &amp; @DATA@" in text
    assert text.count("For research use only") >= 2
    assert not re.search(r"""(src|href|url)\s*[=(]\s*['"]?(https?:|//|\w+\.(js|css|png))""", text)
    assert "default-src 'none'" in text
    assert "PSNR, ±1000 HU" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert sorted(data["volumes"]) == ["After", "Before", "Reference"]
    assert data["numbers"] == list(range(1, 9))


def test_a_page_of_a_large_noisy_volume_stays_small(tmp_path: Path) -> None:
    plane = np.random.default_rng(0).normal(0, 200, (500, 500))
    volume = CTVolume(np.stack([plane] * 60))
    metrics = quality.compare(*(CTVolume(np.zeros((1, 16, 16))),) * 2)
    quality.page(volume, volume, tmp_path / "p.html", metrics=metrics)
    assert (tmp_path / "p.html").stat().st_size < 15_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if program is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    arguments = [
        "--no-sandbox",
        "--headless",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
        "--no-first-run",
    ]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


def test_the_page_works_in_a_browser(browser: Any, written: Path, volumes: tuple[CTVolume, ...]) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: message.type == "error" and said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    page.wait_for_selector("body[data-ready]")
    ready = "document.body.dataset.ready"
    start = page.evaluate("data.start")
    assert page.evaluate(ready) == f"{start} Before After -600 1500"

    # The values in the browser are those of the volumes.
    after = volumes[1].array
    rows, columns = page.evaluate("[data.rows, data.columns]")
    values = np.array(page.evaluate(f"slice('After', {start}).then(hu => Array.from(hu))")).reshape(
        rows, columns
    )
    assert values.shape[0] <= after.shape[1]
    flat = np.rint(np.clip(after[start], -1024, 3071)).astype(int)
    placed = [(y, x) for y in range(flat.shape[0] - rows + 1) for x in range(flat.shape[1] - columns + 1)
              if np.array_equal(flat[y : y + rows, x : x + columns], values)]  # fmt: skip
    assert len(placed) == 1

    def until(condition: str) -> None:
        """Wait in Python: the page's own policy forbids the evaluation of strings in it."""
        for _ in range(600):
            if page.evaluate(condition):
                return
            time.sleep(0.05)
        raise AssertionError(f"never came true: {condition}; {page.evaluate(ready)}")

    def pixel(part: float) -> list[int]:
        """Colour on the middle row at this part of the width."""
        return page.evaluate(
            f"Array.from(pen.getImageData(canvas.width * {part}, canvas.height / 2, 1, 1).data)"
        )

    # Dragging the divider to the left edge shows the other volume everywhere.
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "25"
    page.focus("#divider")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#divider", "aria-valuenow") == "27"

    # Slices by key, wheel and slider; the output says where.
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    until(f"{ready}.startsWith('1 ')")
    assert page.inner_text("#where") == "2 of 8"
    page.mouse.wheel(0, 40)
    until(f"{ready}.startsWith('0 ')")
    page.locator("#slice").fill("4")
    until(f"{ready}.startsWith('4 ')")

    # Window presets and fields; in the soft-tissue window the lung is black and soft tissue is grey.
    page.keyboard.press("2")
    until(f"{ready}.endsWith('After 40 400')")
    assert page.get_attribute("#presets button:nth-of-type(2)", "aria-pressed") == "true"
    assert 60 < pixel(0.5)[0] < 200
    page.fill("#level", "2000")
    page.press("#level", "Enter")
    until(f"{ready}.endsWith('2000 400')")
    assert pixel(0.5)[:3] == [0, 0, 0]
    page.keyboard.press("Escape")
    page.focus("#divider")

    # The difference, with its scale; flipping back and forth; the reference on the left.
    page.keyboard.press("d")
    until(f"{ready}.includes('After − before')")
    assert page.is_visible("#scale")
    page.keyboard.press("d")
    assert not page.is_visible("#scale")
    page.keyboard.press("f")
    assert page.get_attribute("#divider", "aria-valuenow") == "100"
    page.select_option("#left", "Reference")
    until(f"{ready}.includes('Reference After')")
    assert page.inner_text("#lefttag") == "Reference"

    # It fits a telephone, and nothing was asked of a network or complained about.
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert said == []
    assert asked == [written.as_uri()]
    page.close()


def test_the_patient_is_found_with_lungs_and_arms_and_without_table() -> None:
    plane = np.full((201, 260), -1000, np.float32)
    rows, columns = np.mgrid[:201, :260]
    trunk = np.hypot((rows - 90) / 60, (columns - 130) / 80) < 1
    lung = np.hypot((rows - 90) / 30, (columns - 100) / 25) < 1
    arm = np.hypot(rows - 90, columns - 235) < 22
    table = (rows > 170) & (rows < 174) & (columns > 30) & (columns < 230)
    plane[trunk | arm] = 40
    plane[lung] = -850
    plane[table] = -100
    plane += np.random.default_rng(0).normal(0, 20, plane.shape).astype(np.float32)
    found = body(plane)
    patient = trunk | arm
    edge = ndimage.binary_dilation(patient, iterations=4) & ~ndimage.binary_erosion(patient, iterations=4)
    assert found.shape == plane.shape
    assert np.array_equal(found[~edge], patient[~edge]) and found[lung].all()
    assert body(np.full((5, 7), -1000)).all()  # nothing there: nothing is left out
