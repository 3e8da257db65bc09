"""Pictures of the views that a panel shows: one image, with the texts that are on them, and no names.

Titles may hold the names of volumes, and these name patients. While a picture is taken they say what the
volume is instead. Each view's own render window is read, so bars, panels and other windows are never in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import replace_when_done
from CTEnhanceLib.scene.modelnames import modelOf, plainName, titleOf
from CTEnhanceLib.views import linked
from CTEnhanceLib.views.drawing import imageRenderer, oneByOne

_GAP = 4  # pixels between views


def save(path: Path) -> None:
    """Write what the shown views show as a PNG file.

    Raises InputError when no views are shown, CTEnhanceError when it cannot be written.
    """
    try:
        write(taken(), path)
    finally:
        showNames()


def taken() -> np.ndarray:
    """Return what the shown views show, side by side as on the screen: [row, column, RGB], 8 bits.

    Raises InputError when no views are shown.
    """
    steps = takenInSteps()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def takenInSteps() -> Generator[float, None, np.ndarray]:
    """Do the same with one view a step; yield the part done, return the image."""
    widgets = shownWidgets()
    if not widgets:
        raise InputError(_("There are no images on the screen: show the comparison first."))
    parts = []
    with oneByOne.reserved(widget.mrmlSliceNode().GetLayoutName() for widget in widgets):
        for widget in widgets:
            oneByOne.drawIfWaiting(widget.mrmlSliceNode().GetLayoutName())  # with all its texts up to date
            with nameless([widget]):
                parts.append((_place(widget), _image(widget.sliceView())))
            yield len(parts) / len(widgets)
    return composed(parts)


def showNames() -> None:
    """Have the views drawn with the names again that a picture has left out."""
    oneByOne.hold(view.name for view in linked.shownViews())


def shownWidgets() -> list[Any]:
    """Return the slice widgets of the views that a panel shows now, in their order."""
    views = linked.shownViews()
    return [widget for widget in (linked.sliceWidget(view.name) for view in views) if widget is not None]


@contextlib.contextmanager
def nameless(widgets: list[Any]) -> Iterator[None]:
    """Have what is written over these views' images name no volume meanwhile."""
    names = volumeNames()
    kept = [(actor, actor.GetInput()) for widget in widgets for actor in _texts(widget)]
    for actor, text in kept:
        actor.SetInput(withoutNames(text, names))
    try:
        yield
    finally:
        for actor, text in kept:
            actor.SetInput(text)


def _texts(widget: Any) -> list[Any]:
    """Return the actors that write over a view's image."""
    props = imageRenderer(widget.sliceView()).GetViewProps()
    found = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
    return [prop for prop in found if prop.IsA("vtkTextActor") and prop.GetInput()]


def volumeNames() -> dict[str, str]:
    """Return what stands for each volume's name and title: what it is."""
    found = {}
    for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode"):
        model = modelOf(node)
        what = _("CT") if model is None else _("CT ({model})").format(model=plainName(model)[0])
        found |= {node.GetName(): what, titleOf(node): what}
    return found


def withoutNames(text: str, names: Mapping[str, str]) -> str:
    """Return a title without the names of volumes; longer ones, which may hold others, go first."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def composed(parts: list[tuple[tuple[int, int], np.ndarray]]) -> np.ndarray:
    """Return one image of several, each with its place (across, down) on the screen: in rows, as they lie."""
    rows: dict[int, list[tuple[int, np.ndarray]]] = {}
    for (across, down), image in parts:
        rows.setdefault(down, []).append((across, image))
    lines = []
    for down in sorted(rows):
        images = [image for _across, image in sorted(rows[down], key=lambda one: one[0])]
        height = max(len(image) for image in images)
        padded = [np.pad(image, ((0, height - len(image)), (0, _GAP), (0, 0))) for image in images]
        lines.append(np.concatenate(padded, axis=1)[:, :-_GAP])
    width = max(line.shape[1] for line in lines)
    whole = [np.pad(line, ((0, _GAP), (0, width - line.shape[1]), (0, 0))) for line in lines]
    return np.concatenate(whole)[:-_GAP]


def write(image: np.ndarray, path: Path, level: int = 5) -> None:
    """Write an image [row, column, RGB] as PNG, compressed to this level (1: fast, to 9); all or nothing.

    Raises CTEnhanceError when that fails.
    """
    rows, columns, _colours = image.shape
    data = vtk.vtkImageData()
    data.SetDimensions(columns, rows, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(image[::-1].reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetCompressionLevel(level)
    writer.WriteToMemoryOn()  # so that what goes wrong on the disk is told as Python tells it
    writer.SetInputData(data)
    writer.Write()
    try:
        with replace_when_done(path) as unfinished:
            unfinished.write_bytes(vtk_to_numpy(writer.GetResult()).tobytes())
    except OSError as error:
        raise CTEnhanceError(
            _("Cannot write '{path}' ({reason}): choose another place.").format(
                path=path, reason=error.strerror or error
            )
        ) from error


def _image(view: Any) -> np.ndarray:
    """Return what a slice view shows: [row, column, RGB]."""
    view.forceRender()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(view.renderWindow())
    reader.ReadFrontBufferOff()
    reader.Update()
    data = reader.GetOutput()
    columns, rows, _one = data.GetDimensions()
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].copy()


def _place(widget: Any) -> tuple[int, int]:
    """Return where a slice widget is on the screen: across, down."""
    corner = widget.sliceView().mapToGlobal(qt.QPoint(0, 0))
    return int(corner.x()), int(corner.y())
