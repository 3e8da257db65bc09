"""What `panel_turns.py` does besides comparing: runs, exports, and what is done in the other panels."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_SPACING = np.diag([-0.7, -0.7, 1.0, 1.0])


def fill(count: int = 40, lists: int = 2) -> list[Any]:
    """Put as many things into the scene as a reader collects in a morning, and return them.

    Some of them are lists of points, of three points each. Slicer draws each list, an empty one, too, in each
    view, and adds points to the one that there is rather than begin another.
    """
    import slicer

    things = []
    for number in range(count):
        points = number < lists
        kind = "Text" if number % 2 else "Table"
        name = "vtkMRMLMarkupsFiducialNode" if points else f"vtkMRML{kind}Node"
        things.append(slicer.mrmlScene.AddNewNodeByClass(name, f"Thing {number}"))
        if points:
            things[-1].CreateDefaultDisplayNodes()
        for step in range(3 if points else 0):
            things[-1].AddControlPoint(-40.0 + 30 * step, 20.0 - 10 * number, -30.0)
    return things


def further(turns: Any, panel: Any, folder: Path, pair: Callable[..., Any]) -> None:
    """Do what is not done in each comparison: trust map, sheet of keys, another input, scenes."""
    import qt
    import slicer

    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.scene import placing, volumes

    ui, result = panel.ui, panel.parameters.result
    image, values = volumes.newImage(volumes.imageSize(result)[::-1], np.float32)
    values[...] = 12.0
    before = placing.inputOf(result)
    images = result.GetImageData(), placing.fullEffectOf(result).GetImageData()
    placing.addResult(before, result, "", *images, placing.reportOf(result), image)
    panel.compareSection.setResult(result)
    ui.viewModeSelector.currentIndex = 0
    turns.wait(1)
    turns.act("trust map", lambda: setattr(ui.trustBox, "checked", True))
    turns.act("no trust map", lambda: setattr(ui.trustBox, "checked", False))
    shown = slicer.util.infoDisplay
    slicer.util.infoDisplay = lambda text, **_more: qt.QLabel(text).show()  # it waits for its button else
    turns.act("sheet of keys", panel._keySheet.show)
    slicer.util.infoDisplay = shown
    ui.viewModeSelector.currentIndex = list(Mode).index(Mode.PLANES)
    turns.wait(1)
    another, other = pair(volumes.imageSize(before)[::-1])
    turns.wait(1)
    turns.act("another input, six views open", lambda: setattr(panel.parameters, "inputVolume", another))
    turns.act("and back", lambda: setattr(panel.parameters, "inputVolume", before))
    ui.viewModeSelector.currentIndex = 0
    for node in (other, another):
        slicer.mrmlScene.RemoveNode(node)
    turns.wait(1)
    slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
    turns.act("scene saved, without its volumes", lambda: slicer.mrmlScene.Commit())


def running(turns: Any, panel: Any, folder: Path) -> None:
    """Do what ends in a process of its own, to its end: Apply, exports, page; and list a batch."""
    import slicer

    from ctenhance.batch.case import Case
    from ctenhance.batch.manifest import Manifest
    from CTEnhanceLib.measure import shapes

    ui, out = panel.ui, panel.outSection

    def idle() -> bool:
        return not panel.runSection.running

    def comes() -> None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Another CT")
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.SetAndObserveImageData(image)

    image = panel.parameters.inputVolume.GetImageData()
    turns.act("another volume comes into the scene", comes)
    box = next(node for node in shapes.regions() if shapes.shapeOf(node) is shapes.Shape.SQUARE)

    def drag(step: int) -> Callable[[], None]:
        return lambda: box.SetCenter([-100.0 + step, step, 0.0])

    rows = len(turns.rows)
    for step in range(8):  # a region under the mouse: a place after the other, nothing waited for
        turns.act("a region is dragged", drag(step), 0.0)
    turns.act("a region is dragged", drag(9), 0.6)
    turns.gather(rows)
    turns.act("export DICOM", lambda: out._export(folder / "series"), 1.0, idle)
    if hasattr(slicer.app, "settings"):  # the application itself
        from DICOMLib import DICOMUtils

        DICOMUtils.openTemporaryDatabase(str(folder / "database"))
        turns.act("export into the database", lambda: out._export(None), 1.0, idle)
    out._asked, out._pageIsThere = (lambda _title, _suffix: folder / "page.html"), lambda _path: None
    turns.act("page", out._onPage, 1.0, idle)
    panel.parameters.outputVolume = None
    turns.act("Apply, to the result on the screen", ui.applyButton.click, 1.5, idle)
    window, target = panel.batchWindow, folder / "batch"
    turns.act("batch window, for the first time", window.show)
    target.mkdir()
    with Manifest(target) as record:
        record.begin("enhance", {})
        record.add([Case(f"case {number:04d}", (), target / f"{number}.nii.gz") for number in range(5000)])
    window.batch.target = target
    event = {"event": "progress", "stage": "cases", "done": 10, "total": 5000}
    turns.act(
        "batch: 5000 cases are listed",
        lambda: window.batch._take(event),
        1.0,
        lambda: window.ui.batchTable.rowCount == 5000,
    )
    turns.act("batch: its list again, longer", lambda: window.batch._take({**event, "total": 5001}), 1.0)

    def progress() -> None:
        for number in range(20):
            window.batch._take({"event": "case", "name": f"case {number:04d}", "state": "done", "seconds": 9})
            step = {"event": "progress", "stage": f"case {number + 20:04d}: enhance", "done": 5, "total": 9}
            window.batch._take(step)

    turns.act("batch: twenty cases end at once", progress)
    window.dialog.hide()


def arrive(panel: Any, result: Any) -> None:
    """Show a result as after Apply, in as many turns."""
    from CTEnhanceLib.process.steps import inTurns

    inTurns(functools.partial(do, result) for do in panel.arrivals())


def reconstructing(turns: Any, panel: Any, shape: tuple[int, int, int]) -> None:
    """Look at a reconstruction: its stages, the sinogram, the overlay, two stages compared."""
    from CTEnhanceLib.reconstruct.stages import Overlay

    ui, overlays = panel.ui, list(Overlay)
    placed: list[Any] = []
    job = _reconstruction(shape)
    turns.act("reconstruct: placed in the scene", lambda: placed.append(job.place(_RECONSTRUCTED)))
    turns.act("reconstruct: stages, for the first time", lambda: arrive(panel, placed[0]))
    turns.act("reconstruct: sinogram", lambda: setattr(ui.sinogramBox, "checked", True))
    residual = overlays.index(Overlay.RESIDUAL)
    turns.act("reconstruct: residual over it", lambda: setattr(ui.overlaySelector, "currentIndex", residual))
    turns.act("reconstruct: its range", lambda: setattr(ui.overlayRangeSlider, "value", 70.0))
    turns.act("reconstruct: its opacity", lambda: setattr(ui.overlayOpacitySlider, "value", 0.3))
    turns.act("reconstruct: dose", lambda: setattr(ui.doseSlider, "value", 30.0))
    turns.act("reconstruct: compare", lambda: setattr(ui.compareButton, "checked", True))
    turns.act("reconstruct: stages again", lambda: setattr(ui.stagesButton, "checked", True))
    chosen = panel.parameters
    chosen.inputVolume = _image("Scanned", (2, *shape[1:]))
    chosen.method = type(chosen.method).FBP
    chosen.source = type(chosen.source).SIMULATED
    chosen.views, chosen.columns = 360, 512
    turns.wait(0.5)
    turns.act(
        "reconstruct: Apply, of two slices", ui.applyButton.click, 1.5, lambda: not panel.runSection.running
    )


def decomposing(turns: Any, panel: Any, shape: tuple[int, int, int]) -> None:
    """Look at a decomposition in all modes, at other energies, with a curve; keep an image."""
    import slicer

    from CTEnhanceLib.decompose.views import Mode
    from panel_decompose import maps

    ui, section = panel.ui, panel.spectralSection
    result = maps(shape)
    turns.wait(1)
    turns.act("decompose: four images, for the first time", lambda: arrive(panel, result))
    turns.act("decompose: energy", lambda: setattr(ui.energySlider, "value", 55.0))
    turns.act("decompose: low noise", lambda: setattr(ui.lowNoiseBox, "checked", True))
    turns.act("decompose: a preset", ui.boneButton.click)
    turns.act("decompose: range of the material", lambda: setattr(ui.materialRangeSlider, "value", 12.0))
    for index, mode in list(enumerate(Mode))[1:]:
        turns.act(
            f"decompose: {mode.text()}",
            lambda index=index: setattr(ui.spectralModeSelector, "currentIndex", index),
        )
        turns.act(
            "decompose: energy there", lambda: setattr(ui.energySlider, "value", ui.energySlider.value + 1)
        )
    turns.act("decompose: four images again", lambda: setattr(ui.spectralModeSelector, "currentIndex", 0))
    turns.act("decompose: a region", lambda: setattr(ui.spectralRegionButton, "checked", True))
    turns.act("decompose: its curve, for the first time", lambda: setattr(ui.curveBox, "checked", True))
    turns.act("decompose: energy beside a curve", lambda: setattr(ui.energySlider, "value", 80.0))
    node = section._region.node
    rows = len(turns.rows)
    for step in range(8):
        turns.act(
            "decompose: the region is dragged", lambda step=step: node.SetCenter([0.0, step, 10.0]), 0.0
        )
    turns.act("decompose: the region is dragged", lambda: node.SetCenter([5.0, 9.0, 10.0]), 0.6)
    turns.gather(rows)
    turns.act("decompose: no curve", lambda: setattr(ui.curveBox, "checked", False))
    turns.act("decompose: an image is kept", ui.addVolumeButton.click, 1.5, lambda: not section.busy)
    turns.act("decompose: stop showing", lambda: setattr(ui.spectralButton, "checked", False))
    slicer.mrmlScene.Clear(False)
    turns.wait(1)
    chosen = panel.parameters
    chosen.source = type(chosen.source).IMAGES
    chosen.firstImage, chosen.secondImage = (
        _image(name, (40, *shape[1:]), contrast) for name, contrast in (("40 keV", 320.0), ("70 keV", 120.0))
    )
    chosen.firstEnergy, chosen.secondEnergy = "40", "70"
    turns.wait(0.5)
    turns.act(
        "decompose: Apply, of forty slices", ui.applyButton.click, 1.5, lambda: not panel.runSection.running
    )
    slicer.mrmlScene.Clear(False)


def reading_study(turns: Any, panel: Any, shape: tuple[int, int, int]) -> None:
    """Sign in to a reader study, read cases."""
    with tempfile.TemporaryDirectory() as folder:
        _read(turns, panel, _study(shape, Path(folder)))


def _read(turns: Any, panel: Any, study: Path) -> None:
    ui, desk = panel.ui, panel.desk

    def shown() -> bool:
        return desk._shown is not None and not desk.shelf.busy

    ui.folderEdit.currentPath = str(study)
    turns.wait(0.5)
    ui.readerSelector.currentIndex = 1
    turns.act("study: sign in, to the first case", ui.signInButton.click, 1.0, shown)
    turns.act("study: an answer", lambda: desk.form.press(1))
    turns.act("study: a plane", lambda: desk.views.turn("coronal"))
    turns.act("study: scroll", lambda: desk.views.scroll(1))
    turns.act("study: a window", lambda: desk._onPreset(1))
    turns.act("study: pause", desk.pause)
    turns.act("study: go on", desk.pause)
    turns.act("study: the next case", desk.next, 1.0, shown)
    turns.act("study: the case before", desk.previous, 1.0, shown)
    turns.act("study: sign out", desk.signOut)


_RECONSTRUCTED = {
    "verb": "reconstruct",
    "settings": {"method": "need", "kernel": "standard"},
    "details": {"dose_estimate": {"dose": 0.25, "quanta_in_air": 62500}},
}


def _image(name: str, shape: tuple[int, int, int], contrast: float = 0.0) -> Any:
    """Return a volume node of HU in the scene, of a vessel with this contrast."""
    from CTEnhanceLib.scene import placing

    with placing.whole() as added:
        node = placing.addNode("vtkMRMLScalarVolumeNode", name, added)
        placing.addFixedDisplay(node, added)
        loaded = _loaded(shape, 40.0, 10.0)
        loaded.array[:, 200:260, 200:260] += np.float32(contrast)
        placing.addVolume(loaded.image, loaded.ijkToRAS, name, added, output=node)
    return node


def _loaded(shape: tuple[int, int, int], mean: float, noise: float) -> Any:
    """Return a volume as a run leaves it, of four slices of noise over and over."""
    from CTEnhanceLib.process import transfer
    from CTEnhanceLib.scene import volumes

    image, values = volumes.newImage(shape, np.float32)
    few = np.random.default_rng(0).normal(mean, noise, (4, *shape[1:])).astype(np.float32)
    for index in range(len(values)):
        values[index] = few[index % len(few)]
    return transfer.LoadedVolume(image, _SPACING)


def _reconstruction(shape: tuple[int, int, int]) -> Any:
    """Return the job of a reconstruction whose files are read."""
    from CTEnhanceLib.reconstruct.job import ReconstructJob

    job = ReconstructJob(Path("scan.ctproj.h5"))
    parts = {"fbp": 40, "projection": 25, "reconstruction": 10, "residual": 15}
    job._loaded = {
        name: _loaded(shape, 0.0 if name == "residual" else 40.0, sd) for name, sd in parts.items()
    }
    job._loaded["sinogram"] = _loaded((shape[0], 360, shape[2]), 2.0, 0.5)
    return job


def _study(shape: tuple[int, int, int], folder: Path) -> Path:
    """Make a study of two cases in two arms; return its folder."""
    from ctenhance.core.volume import CTVolume
    from ctenhance.study import Design, create

    random, cases = np.random.default_rng(0), []
    for number in range(2):
        images = {}
        for arm, sd in (("one", 10), ("two", 30)):
            few = random.normal(40, sd, (4, *shape[1:]))
            path = folder / arm / f"{number}.mha"
            path.parent.mkdir(exist_ok=True)
            array = np.resize(few, shape).astype(np.float32)
            CTVolume(array, (0.7, 0.7, 1.0), (0.0, 0.0, 0.0)).write(path)
            images[arm] = str(path)
        cases.append({"name": f"case-{number}", "images": images})
    values = {"title": "Turns", "arms": ["one", "two"], "cases": cases, "readers": ["ann"]}
    create(Design.parse({**values, "preset": "preference"}, folder), folder / "study")
    return folder / "study"
