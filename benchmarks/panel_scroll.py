"""How fluent the panel is: frames a second of linked views, and how long the main thread is held meanwhile.

    python benchmarks/panel_scroll.py                       512 x 512 x 300, into results/panel_scroll.md
    python benchmarks/panel_scroll.py --slices 60 --frames 50 --out /tmp/scroll.md

Needs `pip install '.[panel]'`. A frame: the offset changes through the first view's controller, the link
moves the others, every view is drawn, off the screen, through the real slice pipeline. Times are given as the
clock and as the processor (all threads) count them: where other programs use the machine, the latter compare.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "CTEnhance")]


class Stopwatch:
    """Collects how long something took, by the clock and by the processor, in ms."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.busy: list[float] = []

    def __call__(self, do: Callable[[], None]) -> None:
        start, used = time.perf_counter(), time.process_time()
        do()
        self.clock.append(1e3 * (time.perf_counter() - start))
        self.busy.append(1e3 * (time.process_time() - used))

    def row(self, what: str) -> str:
        """Return a row of the table: median, 95th percentile and longest, of both."""
        cells = [
            f"{value:.1f}"
            for times in (self.clock, self.busy)
            for value in (np.median(times), np.percentile(times, 95), max(times))
        ]
        return f"| {what} | {' | '.join(cells)} | {1e3 / float(np.median(self.clock)):.0f} |"


def frames(frame: Callable[[int], None], count: int) -> Stopwatch:
    """Time `count` frames after a first one."""
    frame(0)
    watch = Stopwatch()
    for index in range(count):
        watch(lambda index=index: frame(index + 1))
    return watch


def turns(app: Any, steps: Iterator[float]) -> Stopwatch:
    """Time each turn of the event loop while a long work of the main thread goes on in steps."""
    from CTEnhanceLib.process.steps import TimedSteps

    ended: list[Exception | None] = []
    running = TimedSteps(steps, lambda: ended.append(None), ended.append)
    watch = Stopwatch()
    while not ended:
        watch(app.processEvents)
    if running.active or ended[0] is not None:
        raise RuntimeError(f"the work did not end well: {ended[0]}")
    return watch


def pair(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Return a noisy volume and a calmer one as its result, in the scene."""
    import slicer

    from CTEnhanceLib.scene import placing, volumes

    noise = np.random.default_rng(0).normal(40, 30, (8, *shape[1:])).astype(np.int16)
    before = slicer.util.addVolumeFromArray(np.resize(noise, shape), name="CT")
    before.CreateDefaultDisplayNodes()
    images = []
    for factor in (0.5, 0.5):
        image, values = volumes.newImage(shape, np.float32)
        values[...] = slicer.util.arrayFromVolume(before) * np.float32(factor)
        images.append(image)
    return before, placing.addResult(before, None, "CT enhanced", *images, {"settings": {"strength": 1.0}})


def viewing(app: Any, before: Any, result: Any, slices: int, count: int) -> Iterator[str]:
    """Yield the rows of scrolling, slabs, crosshair, strength, and window and level."""
    from CTEnhanceLib.compare.comparison import Comparison
    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.scene.windows import setWindow
    from CTEnhanceLib.views import crosshair
    from CTEnhanceLib.views.drawing import oneByOne
    from CTEnhanceLib.views.linked import sliceWidget
    from CTEnhanceLib.views.slab import Projection, Slab
    from CTEnhanceLib.views.view import VIEW_GROUP

    setWindow(before, "mediastinum")
    comparison = Comparison(lambda _result: ("Before", "After"))
    centre = np.zeros(6)
    before.GetRASBounds(centre)
    middle = (centre[::2] + centre[1::2]) / 2

    def draw() -> None:
        waiting = oneByOne.waiting
        oneByOne.finish()
        if not waiting:  # a change of the display alone: in the application all views draw themselves
            for view in comparison.mode.views():
                sliceWidget(view.name).sliceView().forceRender()

    def scroll(index: int) -> None:
        controller = sliceWidget(comparison.mode.views()[0].name).sliceController()
        controller.setSliceOffsetValue(float(index % slices))
        draw()

    def place(index: int) -> None:
        there = middle + (index % 40 - 20) * np.array([1.0, -1.0, 1.0])
        crosshair.bringTo((there[0], there[1], there[2]), VIEW_GROUP)
        draw()

    def strength(index: int) -> None:
        comparison.setStrengthPreview(0.5 + 0.4 * (index % 2))
        draw()

    def window(index: int) -> None:
        before.GetDisplayNode().SetWindowLevel(350 + index % 2, 50)
        draw()

    comparison.setFade(0.5)
    for mode, what in (
        (Mode.SIDE_BY_SIDE, "scroll a linked pair"),
        (Mode.WITH_DIFFERENCE, "scroll a linked pair and the difference map"),
        (Mode.FADE, "scroll, fade in one view"),
    ):
        comparison.show(result, mode)
        app.processEvents()
        yield frames(scroll, count).row(what)
    comparison.show(result, Mode.SWIPE)
    yield frames(scroll, count).row("scroll, swipe in one view")
    comparison.show(result, Mode.SIDE_BY_SIDE)
    for projection in (Projection.MEAN, Projection.MAXIMUM):
        comparison.views.setSlab(Slab(projection, 10.0))
        yield frames(scroll, count).row(f"scroll a linked pair, slab of 10 mm ({projection.text()})")
    comparison.views.setSlab(Slab())
    yield frames(place, count).row("crosshair, linked pair")
    comparison.show(result, Mode.PLANES)
    yield frames(place, count).row("crosshair, three planes of both")
    comparison.show(result, Mode.SIDE_BY_SIDE)
    yield frames(strength, count).row("strength slider, pair redrawn")
    comparison.setStrengthPreview(None)
    yield frames(window, count).row("window and level, pair redrawn")
    comparison.hide()


def working(app: Any, before: Any, result: Any, shape: tuple[int, int, int]) -> Iterator[str]:
    """Yield the rows of what the main thread does for a run, and for another strength."""
    import SimpleITK as sitk  # noqa: N813 (its customary name)
    import slicer

    from ctenhance.options import EnhanceOptions
    from CTEnhanceLib.compare.strength import fillBlended
    from CTEnhanceLib.enhance.job import EnhanceJob
    from CTEnhanceLib.process import transfer

    with tempfile.TemporaryDirectory() as folder:
        steps = transfer.writeMetaImage(before, Path(folder, "input.mha"))
        yield turns(app, steps).row("turns while the input is written for the worker")
        Path(folder, "input.mha").unlink()
        values = sitk.GetImageFromArray(np.zeros(shape, np.float32))
        sitk.WriteImage(values, str(Path(folder, "output.nii")))
        del values
        steps = EnhanceJob(before, None, EnhanceOptions(strength=0.8)).load(
            {"enhanced": Path(folder, "output.nii")}
        )
        yield turns(app, steps).row("turns while the result is loaded and blended")
    arrays = [slicer.util.arrayFromVolume(node) for node in (before, result)]
    steps = fillBlended(arrays[1], arrays[0], np.array(arrays[1], np.float32), 0.5)
    yield turns(app, steps).row("turns while another strength is written")
    yield measuring(before, result)


def measuring(before: Any, result: Any) -> str:
    """Return the row of measuring a circle and a box in both, with the interval of their difference."""
    import slicer

    from CTEnhanceLib.measure import shapes, table

    extent = np.zeros(6)
    before.GetRASBounds(extent)
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    regions = [shapes.add(shape, node, result) for shape in (shapes.Shape.ROUND, shapes.Shape.SQUARE)]

    for region in regions:
        there = slicer.util.arrayFromMarkupsControlPoints(region, world=True).mean(axis=0)
        shapes.move(region, (extent[::2] + extent[1::2]) / 2 - there)

    def once(_index: int) -> None:
        for region in regions:
            table.measure(region, before, result, paired=True)

    row = frames(once, 20).row("measure a circle and a box, before and after")
    for region in regions:
        slicer.mrmlScene.RemoveNode(region)
    return row


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "panel_scroll.md")
    parser.add_argument("--remark", default="", help="what else the machine did")
    arguments = parser.parse_args()
    try:
        import slicerhost

        app = slicerhost.start()
    except ImportError as error:
        sys.exit(f"The panel's benchmark needs slicer-core and PySide6 ({error}): pip install '.[panel]'")
    import slicer

    shape = (arguments.slices, arguments.pixels, arguments.pixels)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    before, result = pair(shape)
    rows = [
        *viewing(app, before, result, arguments.slices, arguments.frames),
        *working(app, before, result, shape),
    ]
    lines = [
        "# How fluent the panel is",
        "",
        f"`python benchmarks/panel_scroll.py`: {shape[2]} x {shape[1]} x {shape[0]} voxels (int16, result "
        f"float32), views of 512 x 512, {arguments.frames} frames each, drawn off the screen by the real "
        f"slice pipeline of slicer-core on {os.cpu_count()} cores; load average before: {load}. "
        f"{arguments.remark}".rstrip(),
        "",
        "ms by the clock: median, 95 %, longest; ms of the processor: the same; then how many a second.",
        "",
        "| what | clock | 95 % | longest | processor | 95 % | longest | /s |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    slicer.mrmlScene.Clear(False)


if __name__ == "__main__":
    main()
