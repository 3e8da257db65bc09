"""How soon spectral images follow the keV slider: the shown slices are made and drawn, nothing else.

    python benchmarks/panel_decompose.py                    512 x 512 x 300, into results/panel_decompose.md
    python benchmarks/panel_decompose.py --slices 60 --frames 20 --out /tmp/decompose.md

Needs `pip install '.[panel]'`. A move of the slider: another energy, the shown slices of every view made from
the maps, every view whose image has changed drawn off the screen through the real slice pipeline. The last
row is what a viewer pays that makes whole volumes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panel_scroll import REPOSITORY, Stopwatch, frames

MATERIALS = {"water": (1000.0, 60.0), "iodine": (1.0, 2.0)}


def report() -> dict[str, Any]:
    """Return a decomposition's report, as far as viewing needs it; its numbers are about right."""
    energies = list(range(40, 191))
    iodine = [25.0 * (70 / kev) ** 2.4 for kev in energies]
    return {
        "verb": "decompose",
        "details": {
            "viewing": {
                "materials": list(MATERIALS),
                "energies_keV": energies,
                "hounsfield_per_mg_ml": [[1.0] * len(energies), iodine],
                "electron_density_per_mg_ml": [0.001, 0.00075],
                "z_power": [362.0, 117320.0],
                "z_exponent": 2.94,
                "least_density": 0.1,
                "contrast_agents": ["iodine"],
                "non_contrast_keV": 70.0,
                "quiet_keV": 70.0,
            }
        },
    }


def maps(shape: tuple[int, int, int]) -> Any:
    """Put noisy maps of that many voxels into the scene, as a run does; return the result."""
    from CTEnhanceLib.decompose.job import DecomposeJob
    from CTEnhanceLib.process import transfer
    from CTEnhanceLib.scene import volumes

    job = DecomposeJob(Path("scan.ctproj.h5"))
    generator = np.random.default_rng(0)
    for name, (mean, deviation) in MATERIALS.items():
        for key, noise in ((name, deviation), (f"{name}_guided", deviation / 10)):
            image, values = volumes.newImage(shape, np.float32)
            few = generator.normal(mean, noise, (4, *shape[1:])).astype(np.float32)
            for index in range(len(values)):
                values[index] = few[index % len(few)]
            job._loaded[key] = transfer.LoadedVolume(image, np.diag([-0.7, -0.7, 1.0, 1.0]))
    return job.place(report())


def viewing(result: Any, slices: int, count: int) -> Iterator[str]:
    """Yield the rows of the slider, in every mode and plane, and of scrolling."""
    import slicer

    from CTEnhanceLib.decompose.views import ORIENTATIONS, Mode, SpectralViews
    from CTEnhanceLib.views.linked import sliceWidget

    views = SpectralViews()

    def names() -> list[str]:
        return [view.name for view in views.mode.views("iodine")]

    def draw() -> None:
        for name in names():
            sliceWidget(name).sliceView().forceRender()

    def energy(index: int) -> None:
        views.setEnergy(0, 50 + index % 80)
        for name in names():  # as the application does, those only whose image has changed
            composite = sliceWidget(name).mrmlSliceCompositeNode()
            image = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
            if image.GetName().startswith(f"{50 + index % 80} keV"):
                sliceWidget(name).sliceView().forceRender()

    def scroll(index: int) -> None:
        sliceWidget(names()[0]).sliceController().setSliceOffsetValue(float(index % slices))
        draw()

    def window(index: int) -> None:
        views.setWindow(350 + index % 2, 50)
        draw()

    for mode in Mode:
        views.show(result, mode)
        slicer.app.processEvents()
        yield frames(energy, count).row(f"keV slider: {mode.text()}")
        views.setLowNoise(True)
        yield frames(energy, count).row("the same at low noise")
        views.setLowNoise(False)
        yield frames(window, count).row("window and level, all views drawn")
    views.show(result, Mode.TWO)
    for orientation in ORIENTATIONS[1:]:
        views.turn(orientation)
        slicer.app.processEvents()
        yield frames(energy, count).row(f"keV slider: {Mode.TWO.text()}, {orientation.lower()}")
        views.setLowNoise(True)
        yield frames(energy, count).row("the same at low noise")
        views.setLowNoise(False)
    views.turn(ORIENTATIONS[0])
    yield frames(scroll, count).row(f"scroll: {Mode.TWO.text()}")
    views.show(result, Mode.FOUR)
    yield frames(scroll, count).row(f"scroll: {Mode.FOUR.text()}")
    views.setLowNoise(True)
    yield frames(scroll, count).row("the same at low noise")
    views.setLowNoise(False)
    views.hide()


def whole(result: Any) -> str:
    """Return the row of a whole volume, made at once."""
    from CTEnhanceLib.decompose.spectral import Kind, SpectralImage
    from CTEnhanceLib.decompose.volumes import computed

    watch = Stopwatch()
    watch(lambda: list(computed(result, SpectralImage(Kind.VMI, 50.0))))
    return watch.row("the whole volume at one energy")


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "panel_decompose.md"
    )
    parser.add_argument("--remark", default="", help="what else the machine did")
    arguments = parser.parse_args()
    try:
        import slicerhost

        slicerhost.start()
    except ImportError as error:
        sys.exit(f"The panel's benchmark needs slicer-core and PySide6 ({error}): pip install '.[panel]'")
    import slicer

    shape = (arguments.slices, arguments.pixels, arguments.pixels)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    result = maps(shape)
    rows = [*viewing(result, arguments.slices, arguments.frames), whole(result)]
    lines = [
        "# How soon spectral images follow",
        "",
        f"`python benchmarks/panel_decompose.py`: two materials, {shape[2]} x {shape[1]} x {shape[0]} voxels "
        f"(float32), views of 512 x 512, {arguments.frames} moves each, drawn off the screen by the "
        f"real slice pipeline of slicer-core on {os.cpu_count()} cores; load average before: {load}. "
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
