"""How long the panel's main thread is held by each thing that a reader does, turn by turn.

    Slicer --no-splash --additional-module-paths CTEnhance --python-script benchmarks/panel_turns.py
    python benchmarks/panel_turns.py      in the test host: the same turns without the application's Qt part

In Slicer it ends the application when it is done. A turn is one pass of the event loop: as long as it takes,
nothing else is answered. For each action it gives the longest turn by the clock, by the processor of the main
thread, and by that of all threads, each looked for by itself. Frames a second are those of the whole way: the
change, the link, and all views drawn.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))  # Slicer runs this file as a text

import panel_turns_others as others  # noqa: E402

PARTS = ["enhance", "reconstruct", "decompose", "readerstudy"]
IN_SLICER = "slicer.app" in sys.modules or hasattr(sys.modules.get("slicer"), "app")


class Turns:
    """Runs the event loop and keeps its longest turns: by the clock, the main thread, all threads (ms)."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.rows: list[tuple[str, float, float, float, int]] = []

    def act(
        self,
        what: str,
        do: Callable[[], None],
        seconds: float = 0.8,
        until: Callable[[], bool] = lambda: True,
    ) -> None:
        """Let `do` happen in a turn, as a click does, and go on until nothing is left to do."""
        import qt

        done: list[bool] = []

        def go() -> None:
            try:
                do()
            finally:
                done.append(True)

        qt.QTimer.singleShot(0, go)
        longest: tuple[float, ...] = (0.0, 0.0, 0.0)
        over, last = 0, time.perf_counter()
        while not done or not until() or time.perf_counter() - last < seconds:
            used = self._turn()
            if used[1] > 5:
                last = time.perf_counter()  # something was still being done
            over += used[1] > 100
            longest = tuple(map(max, longest, used))
        self.rows.append((what, *longest, over))
        print(self.line(self.rows[-1]), flush=True)

    def gather(self, start: int) -> None:
        """Make one row of those from `start` on: the same was done several times."""
        rows = self.rows[start:]
        longest = [max(row[column] for row in rows) for column in (1, 2, 3)]
        self.rows[start:] = [(rows[0][0], *longest, sum(row[4] for row in rows))]

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let the application go on, unmeasured."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and not (until is not None and until()):
            self._turn()

    def _turn(self) -> tuple[float, float, float]:
        start = time.perf_counter(), time.thread_time(), time.process_time()
        self._app.processEvents()
        ends = time.perf_counter(), time.thread_time(), time.process_time()
        clock, main, whole = (1e3 * (b - a) for a, b in zip(start, ends, strict=True))
        if main < 0.5:
            time.sleep(0.001)
        return clock, main, whole

    @staticmethod
    def line(row: tuple[str, float, float, float, int]) -> str:
        """Return a row of the table."""
        what, clock, main, whole, over = row
        return f"| {what} | {clock:.0f} | {main:.0f} | {whole:.0f} | {over or '-'} |"


def pair(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Return a noisy chest of so many voxels and a calmer one as its result, in the scene."""
    import slicer

    from CTEnhanceLib.scene import placing, volumes

    base = np.full(shape[1:], -1000, np.int16)
    rows, columns = shape[1:]
    base[rows // 5 : -rows // 5, columns // 8 : -columns // 8] = 40
    base[rows // 3 : -rows // 3, columns // 4 : columns * 9 // 20] = -850
    noise = np.random.default_rng(0).normal(0, 30, (10, *shape[1:])).astype(np.int16)
    scan = np.resize(noise, shape) + base
    before = slicer.util.addVolumeFromArray(scan, name="Chest CT")
    before.SetSpacing(0.7, 0.7, 1.0)
    before.SetOrigin(*(-0.35 * n for n in (columns, rows)), -0.5 * shape[0])
    before.CreateDefaultDisplayNodes()
    display = before.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 40)
    images = []
    for _each in range(2):
        image, values = volumes.newImage(shape, np.float32)
        values[...] = scan
        values -= base
        values *= 0.3
        values += base
        images.append(image)
    report = {"verb": "enhance", "model": {"name": "Standard"}, "settings": {"strength": 1.0}}
    return before, placing.addResult(before, None, "Chest CT enhanced", *images, report)


def panel_of(app: Any, name: str) -> Any:
    """Return the open panel."""
    import slicer

    if IN_SLICER:
        slicer.util.selectModule(name)
        return getattr(slicer.modules, name.lower()).widgetRepresentation().self()
    from panel_run import open_panel

    return open_panel(name)


def reading(turns: Turns, panel: Any, folder: Path) -> None:
    """Do what a reader does with a comparison, one thing after another."""
    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.measure import shapes
    from CTEnhanceLib.out import pictures

    ui = panel.ui
    modes = list(Mode)

    def mode(which: Mode) -> Callable[[], None]:
        return lambda: setattr(ui.viewModeSelector, "currentIndex", modes.index(which))

    def slab(index: int) -> Callable[[], None]:
        return lambda: setattr(ui.slabSelector, "currentIndex", index)

    def figure(index: int) -> Callable[[], None]:
        return lambda: setattr(ui.figureSelector, "currentIndex", index)

    turns.act("compare, for the first time", lambda: setattr(ui.compareButton, "checked", True))
    turns.act("six views, for the first time", mode(Mode.PLANES))
    turns.act("side by side", mode(Mode.SIDE_BY_SIDE))
    turns.act("six views again", mode(Mode.PLANES))
    turns.act("six views: crosshair", lambda: panel.viewSection._onPlace((-40.0, 20.0, -30.0)))
    turns.act("six views: MIP", slab(2))
    turns.act("six views: one slice", slab(0))
    turns.act("six views: a window's button", ui.boneButton.click)
    turns.act("six views: swap", ui.swapButton.click)
    turns.act("six views: swap back", ui.swapButton.click)
    turns.act("side by side again", mode(Mode.SIDE_BY_SIDE))
    turns.act("coronal", ui.coronalButton.click)
    turns.act("axial", ui.axialButton.click)
    turns.act("MIP of 10 mm", slab(2))
    turns.act("one slice", slab(0))
    turns.act("a window's button", ui.boneButton.click)
    turns.act("swap", ui.swapButton.click)
    turns.act("swap back", ui.swapButton.click)
    turns.act("difference", mode(Mode.WITH_DIFFERENCE))
    turns.act("swipe", mode(Mode.SWIPE))
    turns.act("swipe's line", lambda: setattr(ui.fadeSlider, "value", 0.4))
    turns.act("fade", mode(Mode.FADE))
    turns.act("side by side a third time", mode(Mode.SIDE_BY_SIDE))
    turns.act("a round region", ui.roundButton.click)
    turns.act("a square region", ui.squareButton.click)
    ui.regionSelector.currentIndex = 1
    turns.wait(0.5)
    turns.act("noise power spectrum", figure(1))
    box = next(node for node in shapes.regions() if shapes.shapeOf(node) is shapes.Shape.SQUARE)
    box.SetSize([30, 30, 15])
    box.SetCenter([-137, 0, 0])
    turns.wait(1)
    turns.act("edge", figure(2))
    turns.act("transfer function", figure(3))
    turns.act("no plot", figure(0))
    turns.act("region by a key", lambda: shapes.move(box, np.array([1.0, 0.0, 0.0])))
    turns.act("regions into a table", ui.toTableButton.click)
    turns.act("undo", panel.viewSection.undo)
    turns.act("strength", lambda: setattr(ui.strengthSlider, "value", 0.6), 2.0)
    picture = folder / "picture.png"
    turns.act("picture", lambda: save(panel, pictures, picture))
    turns.act("six views a third time", mode(Mode.PLANES))
    turns.act("picture of six views", lambda: save(panel, pictures, folder / "six.png"))
    turns.act("side by side a fourth time", mode(Mode.SIDE_BY_SIDE))
    turns.act("flicker film", lambda: film(panel, folder / "flicker.gif"), 8.0)
    turns.act("scroll film", lambda: film(panel, folder / "scroll.gif", "_onScroll"), 8.0)
    turns.act("stop comparing", lambda: setattr(ui.compareButton, "checked", False))
    turns.act("compare again", lambda: setattr(ui.compareButton, "checked", True))


def save(panel: Any, pictures: Any, path: Path) -> None:
    """Do what *Picture…* does, without its dialog."""
    panel.outSection._asked = lambda _title, _suffix: path
    panel.outSection._onPicture()


def film(panel: Any, path: Path, which: str = "_onFlicker") -> None:
    """Do what *Flicker…* (or another button) does, without its dialog."""
    panel.outSection._asked = lambda _title, _suffix: path
    getattr(panel.outSection, which)()


def frames(turns: Turns, panel: Any, count: int, where: str = "") -> Iterator[str]:
    """Yield the rows of frames a second, the change, its link, and all views drawn; `where` is added."""
    import slicer

    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.views.drawing import oneByOne

    ui, modes = panel.ui, list(Mode)
    manager = slicer.app.layoutManager()

    def timed(what: str, step: Callable[[int], None]) -> str:
        clock, busy = [], []
        for index in range(count + 1):
            start = time.perf_counter(), time.process_time()
            step(index)
            oneByOne.finish()
            clock.append(1e3 * (time.perf_counter() - start[0]))
            busy.append(1e3 * (time.process_time() - start[1]))
        turns.wait(0.7)
        middle, most = float(np.median(clock[1:])), float(np.percentile(clock[1:], 95))
        used = float(np.median(busy[1:]))
        figures = (1e3 / middle, middle, most, used, 1e3 / used)
        row = f"| {what}{where} | {' | '.join(f'{one:.0f}' for one in figures)} |"
        print(row, flush=True)
        return row

    def scroll(index: int) -> None:
        widget = manager.sliceWidget(panel.compareSection.comparison.mode.views()[0].name)
        widget.sliceController().setSliceOffsetValue(-30.0 + index % 60)

    def place(index: int) -> None:
        panel.viewSection._onPlace((-40.0 + index, 20.0 - index, -30.0 + index))

    ui.viewModeSelector.currentIndex = modes.index(Mode.SIDE_BY_SIDE)
    turns.wait(1)
    yield timed("scroll a pair", scroll)
    ui.slabSlider.value = 10
    for index, name in ((1, "mean"), (2, "MIP")):
        ui.slabSelector.currentIndex = index
        turns.wait(1)
        yield timed(f"scroll a pair, slab of 10 mm ({name})", scroll)
    ui.slabSelector.currentIndex = 0
    ui.viewModeSelector.currentIndex = modes.index(Mode.PLANES)
    turns.wait(1.5)
    yield timed("crosshair in six views", place)
    ui.slabSelector.currentIndex = 2
    turns.wait(1)
    yield timed("crosshair in six views, MIP of 10 mm", place)
    ui.slabSelector.currentIndex = 0


def enhancing(turns: Turns, app: Any, shape: tuple[int, int, int], count: int) -> list[str]:
    """Do what is done in CT Enhance and return the rows of frames."""
    import slicer

    _before, result = pair(shape)
    things = others.fill()
    turns.wait(1)
    opened: list[Any] = []
    turns.act(
        "opened for the first time, in a large scene", lambda: opened.append(panel_of(app, "CTEnhance"))
    )
    panel = opened[0]
    turns.act("views and libraries made ahead", lambda: None, until=lambda: not panel.ahead.pending)
    panel.parameters.result = result
    turns.wait(2)
    with tempfile.TemporaryDirectory() as folder:
        reading(turns, panel, Path(folder))
        rows = list(frames(turns, panel, count, f", {len(things)} things more in the scene"))
        for thing in things:  # of which Slicer draws lists of points in each view
            slicer.mrmlScene.RemoveNode(thing)
        turns.wait(1)
        rows += frames(turns, panel, count)
        others.fill()
        others.further(turns, panel, Path(folder), pair)
        others.running(turns, panel, Path(folder))
    return rows


def measure(app: Any, arguments: argparse.Namespace) -> list[str]:
    """Do all of it and return the lines of the report."""
    import slicer

    turns = Turns(app)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    app.userSettings().setValue("CTEnhance/noTrial", True)
    app.userSettings().setValue("CTEnhance/nothingAhead", "")
    # A box with a failure would wait for its button.
    slicer.util.errorDisplay = lambda text, *_more, **_named: print(f"FAILED: {text}", flush=True)
    shape = (arguments.slices, arguments.pixels, arguments.pixels)
    rows = [] if "enhance" not in arguments.parts else enhancing(turns, app, shape, arguments.frames)
    for name, do in (
        ("CTReconstruct", others.reconstructing),
        ("CTDecompose", others.decomposing),
        ("CTReaderStudy", others.reading_study),
    ):
        if name[2:].lower() in arguments.parts:
            slicer.mrmlScene.Clear(False)
            turns.wait(0.5)
            opened: list[Any] = []
            turns.act(f"{name}: opened", lambda name=name, to=opened: to.append(panel_of(app, name)), 0.2)
            panel = opened[0]
            turns.act(f"{name}: made ahead", lambda: None, until=lambda panel=panel: not panel.ahead.pending)
            do(turns, panel, shape)
    worst, slowest = (max(turns.rows, key=lambda row: row[column]) for column in (2, 1))
    return [
        "# How long the panel holds the main thread",
        "",
        f"`benchmarks/panel_turns.py` in {'3D Slicer' if IN_SLICER else 'the test host'}: "
        f"{shape[2]} x {shape[1]} x {shape[0]} voxels, {os.cpu_count()} cores; load average before: {load}. "
        f"{arguments.remark}".rstrip(),
        "",
        "The longest turn of each, in ms: by the clock, the main thread's processor time, that of all "
        "threads (each its own longest), and how many turns took more than 100 ms of the main thread.",
        "",
        "The longest first.",
        "",
        "| what | clock | main thread | all threads | > 100 ms |",
        "|---|---|---|---|---|",
        *(turns.line(row) for row in sorted(turns.rows, key=lambda row: -row[1])),
        "",
        f"Longest: {slowest[1]:.0f} ms by the clock ({slowest[0]}), {worst[2]:.0f} ms of the main thread "
        f"({worst[0]}).",
        "",
        f"Frames, median of {arguments.frames}: by the clock a second and in ms, 95 %; processor in ms (all "
        "threads), and a second.",
        "",
        "| what | /s | ms | 95 % | processor | /s |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def main() -> int:
    """Measure, and write the table if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="whose panels")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--remark", default="", help="what else the machine did")
    arguments = parser.parse_args()
    if IN_SLICER:
        import slicer

        slicer.util.mainWindow().showMaximized()
        app = slicer.app
    else:
        sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "CTEnhance")]
        try:
            import slicerhost

            app = slicerhost.start()
        except ImportError as error:
            sys.exit(f"Outside Slicer this needs slicer-core and PySide6 ({error}): pip install '.[panel]'")
    lines = measure(app, arguments)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if IN_SLICER:
    import slicer

    code = 1
    try:
        code = main()
    except Exception:
        traceback.print_exc()
    slicer.util.exit(code)
elif __name__ == "__main__":
    sys.exit(main())
