"""Frames a second of a linked pair of views, through the real slice pipeline, drawn off the screen.

    python benchmarks/panel_scroll.py                       512 x 512 x 300
    python benchmarks/panel_scroll.py --slices 60 --frames 50

Needs `pip install '.[panel]'`. A frame: the offset changes through the first view's controller, the link
moves the others, every view is drawn. Given are milliseconds a frame as the clock and as the processor (all
threads) count them: where other programs use the machine, only the latter compare.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "CTEnhance")]


def measured(frame: Callable[[int], None], count: int) -> str:
    """Draw `count` frames; return their times as a table's row."""
    frame(0)
    clock, busy = [], []
    for index in range(count):
        start, used = time.perf_counter(), time.process_time()
        frame(index + 1)
        clock.append(1e3 * (time.perf_counter() - start))
        busy.append(1e3 * (time.process_time() - used))
    cells = []
    for times in (clock, busy):
        median, high = np.median(times), np.percentile(times, 95)
        cells.append(f"{median:7.1f} {high:7.1f} {1e3 / median:7.1f}")
    return " | ".join(cells)


def pair(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Return a noisy volume and a calmer one as its result, in the scene."""
    import slicer

    from CTEnhanceLib import placing, volumes

    noise = np.random.default_rng(0).normal(40, 30, (8, *shape[1:])).astype(np.int16)
    before = slicer.util.addVolumeFromArray(np.resize(noise, shape), name="CT")
    before.CreateDefaultDisplayNodes()
    images = []
    for factor in (0.5, 0.5):
        image, values = volumes.newImage(shape, np.float32)
        values[...] = slicer.util.arrayFromVolume(before) * np.float32(factor)
        images.append(image)
    return before, placing.addResult(before, None, "CT enhanced", *images, {"settings": {"strength": 1.0}})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, default=100)
    arguments = parser.parse_args()
    try:
        import slicerhost

        app = slicerhost.start()
    except ImportError as error:
        sys.exit(f"The panel's benchmark needs slicer-core and PySide6 ({error}): pip install '.[panel]'")
    import slicer

    from CTEnhanceLib.compare import AFTER_VIEW, BEFORE_VIEW, Comparison, Mode
    from CTEnhanceLib.views import setWindow

    before, result = pair((arguments.slices, arguments.pixels, arguments.pixels))
    setWindow(before, "mediastinum")
    comparison, manager = Comparison(), app.layoutManager()
    print(f"{arguments.pixels} x {arguments.pixels} x {arguments.slices}, views of 512 x 512, ms a frame")
    print(f"{'':34}   clock: median, 95 %, frames/s | processor: the same")

    def draw() -> None:
        for view in comparison.mode.views():
            manager.sliceWidget(view.name).sliceView().forceRender()

    def scroll(index: int) -> None:
        controller = manager.sliceWidget(comparison.mode.views()[0].name).sliceController()
        controller.setSliceOffsetValue(float(index % arguments.slices))
        draw()

    for mode, text in (
        (Mode.SIDE_BY_SIDE, "scroll, pair"),
        (Mode.WITH_DIFFERENCE, "scroll, pair and difference map"),
        (Mode.FADE, "scroll, fade in one view"),
    ):
        comparison.show(result, mode)
        if mode is Mode.FADE:
            comparison.setFade(0.5)
        while comparison.busy:
            app.processEvents()
        print(f"{text:34} {measured(scroll, arguments.frames)}", flush=True)

    comparison.show(result, Mode.SIDE_BY_SIDE)

    def strength(index: int) -> None:
        comparison.setStrengthPreview(0.5 + 0.4 * (index % 2))
        draw()

    print(f"{'strength slider':34} {measured(strength, arguments.frames)}", flush=True)
    comparison.setStrengthPreview(None)
    display = before.GetDisplayNode()

    def window(index: int) -> None:
        display.SetWindowLevel(350 + index % 2, 50)
        draw()

    print(f"{'window and level, shared':34} {measured(window, arguments.frames)}", flush=True)
    for view in (BEFORE_VIEW, AFTER_VIEW):
        assert manager.sliceWidget(view) is not None
    slicer.mrmlScene.Clear(False)


if __name__ == "__main__":
    main()
