"""The page in a browser against trame-slicer's own example: the same data, machine and run.

python benchmarks/view.py [--size 512 --slices 300 --seconds 10 --out results.json]

Both are opened in the same Chromium. The first picture counts from the start of the command, in a browser
that is open and has shown a page, as a user's is; with a browser launched for it, it is told apart. A frame
is a picture that the browser has decoded and drawn: the page's own counter of them, and for the example the
changes of its view's image. Each is scrolled by the mouse wheel as fast as it follows. Ratios between the
two hold on a busy machine; absolute figures need a quiet one, and the load is written beside them. Needs
`pip install '.[view,test]'` and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
CELLS = "[...document.querySelectorAll('.cell')]"
SHOWN = f"{CELLS}.length > 0 && {CELLS}.every((cell) => cell.dataset.kind)"
CHECKED = "!document.getElementById('notes').textContent.includes('Checking')"
PATIENCE = 300.0
#: How often the command is started for its first picture, and how long a browser is left alone at first.
STARTS, SETTLE_SECONDS = 5, 3.0

# trame-slicer's example application as it comes, with a volume loaded and two axial views in place of its
# first layout, so that both draw the same; its 3-D view, drawn without a graphics card, would only slow it
# down.
EXAMPLE = """
import sys
from trame_slicer.app.medical_viewer_app import MedicalViewerApp
from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition

app = MedicalViewerApp()
slicer_app, layouts = app._slicer_app, app._logic.layout_manager
views = [ViewLayoutDefinition.axial_view(label) for label in ("Red", "Second")]
layouts.register_layout("Pair", Layout(LayoutDirection.Horizontal, views))
app._logic._layout_button_logic.data.current_layout_id = "Pair"
layouts.set_layout("Pair")
nodes = [slicer_app.io_manager.load_volumes(path)[0] for path in sys.argv[2:4]]
for view, node in zip(slicer_app.view_manager.get_slice_views(), nodes):
    view.set_background_volume_id(node.GetID())
    view.reset_view()
for number in range(slicer_app.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
    composite = slicer_app.scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode")
    composite.SetLinkedControl(1)
    composite.SetHotLinkedControl(1)
app._logic.data.is_volume_loaded = True
app.server.start(port=int(sys.argv[1]), open_browser=False, show_connection_info=False)
"""


def make_pair(folder: Path, size: int, slices: int) -> list[Path]:
    """Write two noisy volumes of a body with padding, as whole HU."""
    from ctenhance.core.volume import CTVolume

    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    body = ((y - size / 2) / (0.35 * size)) ** 2 + ((x - size / 2) / (0.45 * size)) ** 2 < 1
    paths = []
    for name, noise in (("before", 30), ("after", 10)):
        array = np.empty((slices, size, size), np.float32)
        for z in range(slices):
            array[z] = np.round(
                np.where(body, 40 + 30 * np.sin(z / 9), -1000) + random.normal(0, noise, body.shape)
            )
        paths.append(folder / f"{name}.nii.gz")
        CTVolume(array, (0.7, 0.7, 1.0)).write(paths[-1])
    return paths


class Window:
    """A page in Chromium."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.goto(address)

    def until(self, script: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.page.evaluate(script):
            if time.monotonic() > end:
                raise SystemExit(f"not reached: {script}")
            time.sleep(0.005)


COUNT_OURS = """seconds => new Promise((done) => {
  const times = [];
  const grid = document.getElementById("grid");
  const cell = grid.querySelector(".cell");
  let way = -1, at = 0;
  const spin = setInterval(() => {
    if (++at % 120 === 0) way = -way;
    cell.dispatchEvent(new WheelEvent("wheel", { deltaY: 100 * way, bubbles: true, cancelable: true }));
  }, 16);
  new MutationObserver(() => times.push(performance.now())).observe(
    document.body, { attributes: true, attributeFilter: ["data-frame"] });
  setTimeout(() => { clearInterval(spin); done(times); }, 1000 * seconds);
})"""

COUNT_EXAMPLE = """seconds => new Promise((done) => {
  const images = [...document.querySelectorAll("img")].filter((one) => one.clientWidth > 200);
  const times = images.map(() => []);
  images.forEach((one, index) => one.addEventListener("load", () => times[index].push(performance.now())));
  const box = images[0].getBoundingClientRect();
  let way = -1, at = 0;
  const spin = setInterval(() => {
    if (++at % 120 === 0) way = -way;
    document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2).dispatchEvent(
      new WheelEvent("wheel", { deltaY: 100 * way, bubbles: true, cancelable: true,
        clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
  }, 16);
  setTimeout(() => { clearInterval(spin); done(times); }, 1000 * seconds);
})"""


def rates(times: list[float]) -> dict[str, float]:
    """Return frames a second: median, and that of the 95th percentile of the times between frames."""
    gaps = np.diff(times)
    if len(gaps) < 3:
        return {"median": 0.0, "p95": 0.0}
    return {"median": 1000 / float(np.median(gaps)), "p95": 1000 / float(np.percentile(gaps, 95))}


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def proportional(process: subprocess.Popen[str]) -> int:
    """Return the memory of a process and its children, shared pages by their share, in bytes."""
    family = psutil.Process(process.pid)
    return sum(one.memory_full_info().pss for one in [family, *family.children(recursive=True)])


def latency(window: Window, slider: str, values: list[float]) -> list[float]:
    """Return ms from moving a slider to the next picture on the screen."""
    script = """([name, value]) => new Promise((done) => {
      const start = performance.now();
      const seen = new MutationObserver(() => { seen.disconnect(); done(performance.now() - start); });
      seen.observe(document.body, { attributes: true, attributeFilter: ["data-frame"] });
      const slider = document.getElementById(name);
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
    })"""
    found = []
    for value in values:
        found.append(window.page.evaluate(script, [slider, value]))
        time.sleep(0.5)  # until the lossless picture has come
    return found


def view(pair: list[Path]) -> subprocess.Popen[str]:
    """Start the command."""
    return start([sys.executable, "-m", "ctenhance", "view", *map(str, pair), "--progress", "json"])


def first_picture(launch: Callable[[], Any], pair: list[Path]) -> tuple[float, float]:
    """Return seconds from the start of the command to its first picture, and until the values are checked.

    `launch` gives the browser; it is called when the command has printed its address.
    """
    begun = time.perf_counter()
    process = view(pair)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        window = Window(launch(), address)
        window.until(SHOWN)
        shown = time.perf_counter() - begun
        window.until(CHECKED)
        checked = time.perf_counter() - begun
        window.page.close()
        return shown, checked
    finally:
        process.terminate()
        process.wait()


def openings(driver: Any, options: dict[str, Any], browser: Any, pair: list[Path]) -> dict[str, Any]:
    """Measure the way to the first picture: in a browser that is open and has shown a page, as a user's is,
    and in one that is launched for it."""
    runs = [first_picture(lambda: browser, pair) for _ in range(STARTS)]
    launched = driver.chromium.launch
    fresh: list[Any] = []

    def launch() -> Any:
        fresh.append(launched(**options))
        return fresh[-1]

    own = []
    for _ in range(STARTS):
        own.append(first_picture(launch, pair)[0])
        fresh.pop().close()
    return {
        "first_picture_from_start_s": spread([shown for shown, _ in runs]),
        "values_checked_from_start_s": spread([checked for _, checked in runs]),
        "with_browser_launched_s": spread(own),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return the middle one and the ends of some measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ours(browser: Any, pair: list[Path], seconds: float) -> dict[str, Any]:
    """Measure the page."""
    process = view(pair)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        window = Window(browser, address)
        window.until(SHOWN)
        window.until(CHECKED)
        result: dict[str, Any] = {}
        time.sleep(1)
        one = proportional(process)
        begun = time.perf_counter()
        second = Window(browser, address)
        second.until(SHOWN)
        result["first_picture_of_a_window_s"] = time.perf_counter() - begun
        time.sleep(1)
        result["further_viewer_MB"] = (proportional(process) - one) / 1e6
        second.page.close()
        result["frames_per_second"] = rates(window.page.evaluate(COUNT_OURS, seconds))
        waits = latency(window, "strength", [0.1 * step for step in range(1, 10)])
        result["strength_ms"] = {"median": statistics.median(waits), "worst": max(waits)}
        return result
    finally:
        process.terminate()
        process.wait()


def energies(browser: Any, folder: Path, size: int) -> dict[str, float]:
    """Measure the energy slider on maps of a few slices."""
    from ctenhance.core.report import write_report
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition.images import viewing_table

    random = np.random.default_rng(0)
    for name, mean in (("water", 1000), ("iodine", 3)):
        array = random.normal(mean, mean / 20, (8, size, size)).astype(np.float32)
        CTVolume(array).write(folder / f"{name}.nii.gz")
    write_report(
        folder / "report.json",
        {"verb": "decompose", "details": {"viewing": viewing_table(["water", "iodine"])}},
    )
    process = start([sys.executable, "-m", "ctenhance", "view", str(folder), "--progress", "json"])
    try:
        assert process.stdout is not None
        window = Window(browser, json.loads(process.stdout.readline())["address"])
        window.until(SHOWN)
        time.sleep(1)
        waits = latency(window, "kev", [40 + 10 * step for step in range(9)])
        return {"median": statistics.median(waits), "worst": max(waits)}
    finally:
        process.terminate()
        process.wait()


def example(browser: Any, pair: list[Path], seconds: float) -> dict[str, Any]:
    """Measure trame-slicer's example."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    process = start([sys.executable, "-c", EXAMPLE, str(port), *map(str, pair)])
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        window = Window(browser, f"http://127.0.0.1:{port}/")
        window.until(
            "[...document.querySelectorAll('img')].some((one) => one.clientWidth > 200 && one.complete)"
        )
        first = time.perf_counter() - begun
        time.sleep(2)
        times = window.page.evaluate(COUNT_EXAMPLE, seconds)
        return {
            "first_picture_from_start_s": first,
            "frames_per_second": rates(max(times, key=len)),
            "views": len(times),
        }
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY / "CTEnhance"))
    from playwright.sync_api import sync_playwright

    program = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    root = hasattr(os, "getuid") and os.getuid() == 0
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        folder = Path(place)
        pair = make_pair(folder, given.size, given.slices)
        options = {"executable_path": program, "args": ["--no-sandbox"] if root else []}
        browser = driver.chromium.launch(**options)
        Window(browser, "data:text/html,<canvas></canvas>")
        time.sleep(SETTLE_SECONDS)  # a browser goes on with its own start for a while
        results: dict[str, Any] = {"load_before": os.getloadavg()[0], "cores": os.cpu_count()}
        results["page"] = openings(driver, options, browser, pair) | ours(browser, pair, given.seconds)
        results["example"] = example(browser, pair, given.seconds)
        (folder / "maps").mkdir()
        results["energy_ms"] = energies(browser, folder / "maps", given.size)
        own, other = (results[name]["frames_per_second"]["median"] for name in ("page", "example"))
        results["ratio"] = own / other if other else None
        voxels = given.size**2 * given.slices
        results["volume_MB"] = {"int16": 2 * voxels / 1e6, "float32": 4 * voxels / 1e6}
        results["load_after"] = os.getloadavg()[0]
        browser.close()
    text = json.dumps(results, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
