"""The page in a real browser: a pair of volumes, looked at as a user does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import AT_REST, PATIENCE, Page, Served
from PIL import Image

from ctenhance.view.opening import main
from ctenhance.view.shared import SharedVolume
from ctenhance.view.viewer import Viewer


def own_viewer(pair: Path, tmp_path: Path, *names: str) -> Viewer:
    """The same viewer without a page: what the page is to show."""
    volumes = {}
    for part, name in zip(("before", "after", "uncertainty"), names, strict=False):
        choice = json.dumps({"series": None, "where": {}})
        told = next(main(str(pair / f"{name}.nii.gz"), str(tmp_path / part), choice))
        volumes[part] = SharedVolume.of_json(told["volume"])
    return Viewer(volumes)


def same(page: Page, viewer: Viewer) -> None:
    """Compare each cell of the page with what the viewer draws, to the bit, once what was asked has come."""
    end = time.monotonic() + PATIENCE
    while True:
        page.at_rest()
        viewer.apply({"op": "sizes", "cells": page.sizes()})
        assert viewer.cells() == list(page.sizes())
        drawn = {cell: viewer.picture(cell).copy() for cell in viewer.cells()}
        assert min(one.std() for one in drawn.values()) > 1, "an empty picture shows nothing"
        others = [cell for cell, one in drawn.items() if not np.array_equal(page.pixels(cell), one)]
        if not others:
            return
        assert time.monotonic() < end, others
        time.sleep(0.1)


def value(name: str) -> str:
    return f"Number(document.getElementById('{name}').value)"


SLICE = "document.querySelector('.cell .slice').textContent"


def test_a_pair_in_a_browser(
    serve: Callable[..., Served], look: Callable[..., Page], pair: Path, tmp_path: Path
) -> None:
    served = serve(
        "view",
        *(pair / f"{name}.nii.gz" for name in ("before", "after")),
        "--uncertainty",
        pair / "sd.nii.gz",
    )
    page = look(served.address)
    page.at_rest()
    viewer = own_viewer(pair, tmp_path, "before", "after", "sd")

    # The picture at rest is the rendered one, in the first window, which shows tissue beside -2000 HU.
    assert page.page.evaluate(value("level")) == 40 and page.page.evaluate(value("width")) == 400
    same(page, viewer)
    assert page.page.title() == "CTEnhance"
    shown = page.page.evaluate("document.body.innerText + document.title + location.href")
    assert "before.nii" not in shown and str(pair) not in shown

    # Scrolling is linked, by wheel and by keys.
    page.page.mouse.move(250, 400)
    page.page.mouse.wheel(0, -100)
    page.until(f"{SLICE} === 'Axial 8 / 12'")
    page.press("ArrowDown", "ArrowDown")
    page.until(f"{SLICE} === 'Axial 6 / 12'")
    assert (
        page.page.evaluate("[...document.querySelectorAll('.cell .slice')].map((one) => one.textContent)")
        == ["Axial 6 / 12"] * 2
    )
    viewer.apply({"op": "slice", "plane": "axial", "to": 5})

    page.page.fill("#slice", "3")
    page.press("Enter")
    page.until(f"{SLICE} === 'Axial 3 / 12'")
    page.page.fill("#slice", "6")
    page.press("Enter")
    page.until(f"{SLICE} === 'Axial 6 / 12'")
    page.page.evaluate("document.activeElement.blur()")

    # Windows: a preset by its key, numbers, and the mouse.
    page.press("3")
    page.until(f"{value('width')} === 1800")
    viewer.apply({"op": "window", "preset": "bone"})
    same(page, viewer)
    page.page.mouse.move(200, 300)
    page.page.mouse.down()
    page.page.mouse.move(260, 340, steps=4)
    page.page.mouse.up()
    width, level = page.until(f"{value('width')} > 1800 && [{value('width')}, {value('level')}]")
    assert level > 400
    page.press("0")
    page.until(f"{value('width')} === 400")
    viewer.apply({"op": "window", "preset": "first"})

    # Zooming and moving keep both alike.
    page.press("+", "Control+ArrowRight")
    viewer.apply({"op": "sizes", "cells": page.sizes()})
    width, height = page.sizes()["axial/before"]
    viewer.apply({"op": "zoom", "cell": "axial/before", "x": width / 2, "y": height / 2, "factor": 1.25})
    viewer.apply({"op": "pan", "plane": "axial", "dx": -20, "dy": 0})
    same(page, viewer)
    page.press("Home")
    viewer.apply({"op": "home"})
    page.until(f"{SLICE} === 'Axial 7 / 12'")

    # The difference, another strength, a measured rectangle.
    page.press("d")
    page.until("document.querySelectorAll('.cell').length === 3")
    viewer.apply({"op": "arrange", "mode": "difference"})
    page.press("[", "[")
    page.until(f"{value('strength')} === 0.8")
    viewer.apply({"op": "strength", "value": 0.8})
    same(page, viewer)
    page.press("m")
    page.until("document.querySelector('#statistics table')")
    figures = page.text("#statistics")
    assert "voxels; SD −" in figures and "Before" in figures
    page.press("l")
    page.until("document.getElementById('length').textContent.startsWith('Distance ')")
    drawn = "[...document.querySelectorAll('.cell svg')].filter((one) => one.style.display !== 'none').length"
    assert page.page.evaluate(drawn) == 3
    page.press("Delete")
    page.until("!document.querySelector('#statistics table')")
    assert page.page.evaluate(drawn) == 0
    # By the mouse: across the image, whose pixels are of the size that fits it.
    page.page.click("#distance")
    page.page.mouse.move(100, 400)
    page.page.mouse.down()
    page.page.mouse.move(250, 400, steps=3)
    page.page.mouse.up()
    page.until("document.getElementById('length').textContent.startsWith('Distance ')")
    scale = max(80 * 0.8 / page.sizes()["axial/before"][0], 64 * 0.9 / page.sizes()["axial/before"][1])
    assert abs(float(page.text("#length").split()[1]) - 150 * scale) < 0.11
    assert page.page.get_attribute("#distance", "aria-pressed") == "false"
    page.press("Delete")

    # Uncertainty over the result.
    page.press("u")
    page.until("document.getElementById('uncertainty').checked")
    viewer.apply({"op": "uncertainty", "on": True})
    same(page, viewer)
    page.press("u")
    page.until("!document.getElementById('uncertainty').checked")
    viewer.apply({"op": "uncertainty", "on": False})

    # Flicker, in one view.
    page.press("x")
    page.until("document.querySelector('.cell .name').textContent === 'Before'")
    viewer.apply({"op": "flicker"})
    same(page, viewer)
    page.press("x")
    page.until("document.querySelector('.cell .name').textContent === 'After, strength 80%'")
    viewer.apply({"op": "flicker"})
    same(page, viewer)

    # All three planes.
    page.press("b", "t")
    page.until("document.querySelectorAll('.cell').length === 6")
    viewer.apply({"op": "arrange", "mode": "side", "layout": "three"})
    same(page, viewer)

    # A screenshot is a picture file with nobody's name.
    with page.page.expect_download() as saved:
        page.press("p")
    assert saved.value.suggested_filename == "ctenhance.png"
    sheet = np.asarray(Image.open(saved.value.path()).convert("RGB"))
    size = page.page.evaluate(
        "['clientWidth', 'clientHeight'].map((name) => document.getElementById('grid')[name])"
    )
    assert list(sheet.shape[1::-1]) == size
    # Every image stands in it to the bit, but for its words.
    for cell in page.sizes():
        left, top = page.page.evaluate(
            f"(() => {{ const at = document.querySelector('[data-cell=\"{cell}\"]').getBoundingClientRect(); "
            "return [at.left, at.top].map(Math.round); })()"
        )
        own = page.pixels(cell)
        height, width = own.shape[:2]
        middle = (slice(height // 3, 2 * height // 3), slice(width // 3, width // 2 - 12))
        assert np.array_equal(sheet[top : top + height, left : left + width][middle], own[middle]), cell

    # A page that is loaded again goes on where it was; another window has a viewer of its own.
    page.page.reload()
    page.until("document.querySelectorAll('.cell').length === 6")
    page.at_rest()
    other = look(served.address, page.page.context)
    other.until("document.querySelectorAll('.cell').length === 2")
    other.at_rest()
    assert page.page.evaluate("document.querySelectorAll('.cell').length") == 6
    viewer.close()
    assert served.stop() == 0


def test_keyboard_alone_reaches_every_button(
    serve: Callable[..., Served], look: Callable[..., Page], pair: Path
) -> None:
    page = look(serve("view", pair / "before.nii.gz", pair / "after.nii.gz").address)
    page.at_rest()
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"help", "strength", "level", "width", "measure", "screenshot", "Coronal", "Lung"} <= reached
    page.page.focus("[data-layout=coronal]")
    page.press("Enter")
    page.until("document.querySelector('.cell').dataset.cell === 'coronal/before'")
    # Brackets as keyboards have them whose AltGr the system tells as Ctrl with Alt.
    page.page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '[', ctrlKey: true, altKey: true, "
        "modifierAltGraph: true, bubbles: true, cancelable: true }))"
    )
    page.until(f"{value('strength')} === 0.9")
    page.page.evaluate("document.activeElement.blur()")
    page.press("?")
    page.until("document.getElementById('keys').open")
    page.press("Escape")
    page.until("!document.getElementById('keys').open")
    # All of the page is on a screen of 1280 x 800, or can be scrolled to.
    assert page.page.evaluate(
        "document.documentElement.scrollWidth <= 1280 && document.documentElement.scrollHeight <= 800"
    )
    assert page.page.evaluate(
        "document.querySelector('aside').scrollWidth <= document.querySelector('aside').clientWidth"
    )


def test_energies_of_a_decomposition(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    from ctenhance.core.report import write_report
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition.images import viewing_table

    random = np.random.default_rng(0)
    _z, y, x = np.mgrid[:4, :40, :48]
    body = (x - 24) ** 2 + (y - 20) ** 2 < 300
    water = np.where(body, 1000.0, 0) + random.normal(0, 20, body.shape)
    iodine = np.where((x - 20) ** 2 + (y - 20) ** 2 < 20, 3.0, 0) + random.normal(0, 0.3, body.shape)
    for name, array in (("water", water), ("iodine", iodine)):
        CTVolume(array.astype(np.float32)).write(tmp_path / f"{name}.nii.gz")
    table = viewing_table(["water", "iodine"])
    write_report(tmp_path / "report.json", {"verb": "decompose", "details": {"viewing": table}})
    page = look(serve("view", tmp_path).address)
    page.at_rest()
    assert page.text(".cell .name") == "70 keV"
    before = page.pixels("axial/kev")
    page.page.focus("#kev")
    page.press("ArrowLeft", "ArrowLeft")
    page.until("document.querySelector('.cell .name').textContent === '68 keV'")
    page.page.fill("#kev", "40")
    page.until("document.querySelector('.cell .name').textContent === '40 keV'")
    page.at_rest()
    after = page.pixels("axial/kev")
    middle = tuple(int(part) for part in (after.shape[0] * 0.5, after.shape[1] * (20.5 / 48)))
    assert after[middle][0] > before[middle][0]


def test_what_is_opened_wrongly_is_said_on_the_command_line(tmp_path: Path, pair: Path) -> None:
    import subprocess
    import sys

    def fails(*arguments: Any) -> str:
        command = [sys.executable, "-m", "ctenhance", "view", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "Give a volume to look at" in fails()
    assert "There is no file or folder" in fails(tmp_path / "none.nii.gz")
    (tmp_path / "damaged.nii.gz").write_bytes(b"no volume")
    assert "Cannot read" in fails(tmp_path / "damaged.nii.gz")
    from ctenhance.core.volume import CTVolume

    CTVolume(np.random.default_rng(0).normal(0, 50, (3, 20, 20)).astype(np.float32)).write(
        tmp_path / "o.nii.gz"
    )
    assert "on another grid" in fails(pair / "before.nii.gz", tmp_path / "o.nii.gz")
    CTVolume(np.zeros((3, 20, 20), np.float32)).write(tmp_path / "water.nii.gz")
    assert "--basis" in fails(tmp_path)


__all__ = ["AT_REST"]
