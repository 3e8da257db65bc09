"""The page's tests: a server as a user starts it, and a real browser."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
#: Long: the machine may be busy with others' work. Nothing waits for it where all is well.
PATIENCE = float(os.environ.get("CTENHANCE_PATIENCE", 240))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Skip all where the extra [view] is not installed."""
    from importlib.util import find_spec

    if all(find_spec(name) is not None for name in ("aiohttp", "trame_slicer", "slicer_core")):
        return None
    print(f"Not run, the extra [view] is not installed: {collection_path.name}")
    return collection_path.name.startswith("test_")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `before`, `after` and `sd.nii.gz`: tissue, air and padding of -2000 HU, obliquely
    stored."""
    from ctenhance.core.volume import CTVolume

    folder = tmp_path_factory.mktemp("pair")
    random = np.random.default_rng(1)
    z, y, x = np.mgrid[:12, :64, :80]
    body = ((y - 32) / 24) ** 2 + ((x - 40) / 32) ** 2 < 1
    clean = np.where(body, 40.0 + 60 * (((x - 30) / 8) ** 2 + ((y - 30) / 6) ** 2 < 1), -1000.0) + 2 * z
    before = np.round(clean + random.normal(0, 25, clean.shape))
    before[:, :4] = -2000
    after = np.round(clean + random.normal(0, 8, clean.shape))
    after[:, :4] = -2000
    grid: dict[str, Any] = {"spacing": (0.8, 0.9, 2.5), "origin": (-30.0, 20.0, 100.0)}
    for name, array in (("before", before), ("after", after), ("sd", np.abs(before - after) / 2)):
        CTVolume(array.astype(np.float32), **grid).write(folder / f"{name}.nii.gz")
    return folder


class Served:
    """A command of this program that serves, and what it told of itself."""

    def __init__(self, *arguments: object, count: int = 1) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ctenhance", *map(str, arguments), "--progress", "json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip
        self.told: list[dict[str, Any]] = []
        assert self.process.stdout is not None
        while len(self.told) < count and (line := self.process.stdout.readline()):
            self.told.append(json.loads(line))
        if len(self.told) < count:
            raise RuntimeError(self.process.communicate()[1])

    @property
    def address(self) -> str:
        """What to open."""
        return str(self.told[0]["address"])

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.split(":")[2].split("/")[0])

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as Ctrl-C does; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=60)
        if self.process.poll() is None:
            self.kill()
        return self.process.returncode


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start a command that serves; it ends with the test."""
    started: list[Served] = []

    def start(*arguments: object, count: int = 1) -> Served:
        started.append(Served(*arguments, count=count))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser, of which a test takes windows: `chromium.new_context()`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    root = hasattr(os, "getuid") and os.getuid() == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


class Page:
    """A window of the browser with the page in it, at 1280 x 800; nothing may go wrong in it unseen."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.set_default_timeout(PATIENCE * 1000)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def until(self, script: str, value: Any = None) -> Any:
        """Wait until the script's value is true (or is `value`); return it."""
        # Not by the browser's own waiting: the page forbids scripts that are made of text.
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self.page.evaluate(script)
            if (found == value) if value is not None else found:
                return found
            time.sleep(0.03)
        said = self.page.evaluate(
            "[...document.querySelectorAll('[role=status]')].map((one) => one.textContent)"
        )
        raise AssertionError(f"not reached: {script}; the page says {said}; {self.wrong}")

    def at_rest(self) -> None:
        """Wait until every picture is the lossless one, and nothing is on its way."""
        self.until(AT_REST)

    def text(self, selector: str) -> str:
        """Return the words of an element."""
        return str(self.page.inner_text(selector))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def pixels(self, cell: str) -> np.ndarray:
        """Return what stands in a cell's canvas [row, column, RGB]."""
        # As a PNG, which is to the bit: a list of numbers would take minutes on its way here.
        url = self.page.evaluate(f"document.querySelector('[data-cell=\"{cell}\"] canvas').toDataURL()")
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        return np.asarray(picture.convert("RGB"))

    def sizes(self) -> dict[str, list[int]]:
        """Return the canvases' sizes."""
        return dict(
            self.page.evaluate(
                "Object.fromEntries([...document.querySelectorAll('.cell')].map((cell) => "
                "[cell.dataset.cell, ['width', 'height'].map((name) => cell.querySelector('canvas')[name])]))"
            )
        )


AT_REST = (
    "document.querySelectorAll('.cell').length > 0 && [...document.querySelectorAll('.cell')]"
    ".every((cell) => cell.dataset.kind === 'png')"
)


@pytest.fixture
def look(chromium: Any) -> Iterator[Callable[..., Page]]:
    """Open an address in a browser of its own, or, with `context`, in another window of one."""
    contexts: list[Any] = []
    pages: list[Page] = []

    def open_page(address: str, context: Any = None) -> Page:
        if context is None:
            context = chromium.new_context()
            contexts.append(context)
        pages.append(Page(context))
        pages[-1].page.goto(address)
        return pages[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [wrong for page in pages for wrong in page.wrong] == []
