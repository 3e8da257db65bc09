"""The views of a reader study: one image, or two side by side, linked, under names that tell nothing.

The same nodes show all cases, one after the other: their names, their identifiers and their order depend on
the side of the screen only. They are hidden from all lists and are not saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.process.transfer import LoadedVolume
from CTEnhanceLib.readerstudy.blinding import Blindfold
from CTEnhanceLib.scene import placing
from CTEnhanceLib.views import slices, steering
from CTEnhanceLib.views.linked import LinkedViews, sliceWidget
from CTEnhanceLib.views.view import View, description

# One image stands in the first of them: with each further view all changes of a scene take longer.
FIRST_VIEW, SECOND_VIEW = "CTReaderStudyFirst", "CTReaderStudySecond"
VIEW_NAMES = {"left": FIRST_VIEW, "right": SECOND_VIEW, "image": FIRST_VIEW}
_LAYOUTS = {1: 7121, 2: 7122}
_COLOR = "#8C8C8C"


class StudyViews:
    """Shows the images of one case.

    onWindow(level, width): the user changed the window; onActivity(): the user scrolls, zooms or moves the
    mouse over an image.
    """

    def __init__(self, onWindow: Callable[[float, float], None], onActivity: Callable[[], None]) -> None:
        self._onWindow, self._onActivity = onWindow, onActivity
        self._linked = LinkedViews()
        self._blindfold = Blindfold()
        self._nodes: list[Any] = []
        self._display: Any = None
        self._window: tuple[float, float] | None = None
        self._tags: list[tuple[Any, int]] = []
        self._blank = False

    @property
    def shown(self) -> bool:
        """Whether images are on the screen."""
        return bool(self._nodes) and self._linked.shown

    def show(self, images: Sequence[LoadedVolume], level: float, width: float) -> None:
        """Show these images from left to right, whole, in their middle, in this window (HU)."""
        views = _views(len(images))
        names = [view.name for view in views]
        if not self.shown or len(self._nodes) != len(images):
            self.remove()
            self._linked.show(_LAYOUTS[len(images)], views)
            self._blindfold.close(names)
            self._addNodes(views)
            self._observe(names)
        for node, image in zip(self._nodes, images, strict=True):
            with slicer.util.NodeModify(node):
                node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(image.ijkToRAS))
                node.SetAndObserveImageData(image.image)
        self.setWindow(level, width)
        for name, node in zip(names, self._nodes, strict=True):
            self._linked.setLayers(name, node)
        self._blank = False
        self.turn("axial")  # where every case begins, whatever the last one was looked at in
        self._linked.fit(self._nodes[0], anew=True)

    def blank(self) -> None:
        """Show nothing in the views; the nodes stay, and so do plane, slice and zoom."""
        for view in _views(len(self._nodes)) if self._nodes else ():
            self._linked.setLayers(view.name, None)
        self._blank = True

    def unblank(self) -> bool:
        """Show the images again after `blank`; say whether they were hidden."""
        hidden, self._blank = self._blank and self.shown, False
        if hidden:
            for view, node in zip(_views(len(self._nodes)), self._nodes, strict=True):
                self._linked.setLayers(view.name, node)
        return hidden

    def turn(self, plane: str) -> None:
        """Show the images in this plane: axial, coronal or sagittal."""
        if self.shown and not self._blank:
            self._linked.turn(plane.capitalize())

    def remove(self) -> None:
        """Take the images out of the views and of the scene; the views stay."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        for node in (*self._nodes, self._display):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self._nodes, self._display, self._window = [], None, None

    def leave(self) -> None:
        """Take the images away and bring Slicer back as it was."""
        self.remove()
        self._linked.leave()
        self._blindfold.open()

    def forget(self) -> None:
        """Take the images away since the scene closes; what is hidden of Slicer stays so until `leave`."""
        self.remove()
        self._linked.leave()

    def setWindow(self, level: float, width: float) -> None:
        """Show all images in this window (HU); `onWindow` is not called for it."""
        if self._display is not None:
            self._window = (level, width)
            with slicer.util.NodeModify(self._display):
                self._display.SetAutoWindowLevel(False)
                self._display.SetWindowLevel(width, level)

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """What the views' keys do."""
        return {
            "Up": lambda: self.scroll(1),
            "Down": lambda: self.scroll(-1),
            "Shift+Up": lambda: self.scroll(10),
            "Shift+Down": lambda: self.scroll(-10),
            "Ctrl++": lambda: self.zoom(1 / steering.ZOOM),
            "Ctrl+=": lambda: self.zoom(1 / steering.ZOOM),  # the same key where plus wants Shift
            "Ctrl+-": lambda: self.zoom(steering.ZOOM),
            "Ctrl+Left": lambda: self.move(-1, 0),
            "Ctrl+Right": lambda: self.move(1, 0),
            "Ctrl+Up": lambda: self.move(0, 1),
            "Ctrl+Down": lambda: self.move(0, -1),
            "Home": self.whole,
        }

    def scroll(self, by: int) -> None:
        """Go `by` so many slices on, in all views."""
        if self.shown:
            steering.scroll(self._linked, by)

    def position(self) -> tuple[int, int] | None:
        """Return the number of the slice that is shown, from 1 on in the direction of Up, and how many there
        are; None where nothing is shown."""
        if not self.shown:
            return None
        return slices.position(sliceWidget(_views(len(self._nodes))[0].name).sliceLogic())

    def zoom(self, factor: float) -> None:
        """Show more (above 1) or less of all images, about the middle of the views."""
        if self.shown:
            steering.zoom(self._linked, factor)

    def move(self, right: int, up: int) -> None:
        """Move all images in the views by steps."""
        if self.shown:
            steering.move(self._linked, right, up)

    def whole(self) -> None:
        """Show the whole images again, in their middle slice."""
        if self.shown:
            self._linked.fit(self._nodes[0], anew=True)

    def _addNodes(self, views: Sequence[View]) -> None:
        with placing.whole() as added:
            for view in views:
                node = placing.addNode("vtkMRMLScalarVolumeNode", view.label, added, hidden=True)
                node.SetName(view.label)  # without the number that it gets the next time
                if self._display is None:
                    node.CreateDefaultDisplayNodes()
                    self._display = node.GetDisplayNode()
                    self._display.SetSaveWithScene(False)
                    # Before there is an image: looking for a window takes seconds, and the study says which.
                    self._display.SetAutoWindowLevel(False)
                else:
                    # One window for both: none of the two can look different by it.
                    node.SetAndObserveDisplayNodeID(self._display.GetID())
                self._nodes.append(node)

    def _observe(self, names: Sequence[str]) -> None:
        modified = vtk.vtkCommand.ModifiedEvent
        watched = [(self._display, modified, self._onDisplay)]
        for name in names:
            watched.append((sliceWidget(name).mrmlSliceNode(), modified, self._onUser))
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None:
            watched.append((crosshair, crosshair.CursorPositionModifiedEvent, self._onUser))
        self._tags = [(node, node.AddObserver(event, slot)) for node, event, slot in watched]

    def _onUser(self, _caller: Any, _event: Any) -> None:
        self._onActivity()

    def _onDisplay(self, _caller: Any, _event: Any) -> None:
        display = self._display
        now = (display.GetLevel(), display.GetWindow())
        if now != self._window:
            self._window = now
            self._onWindow(*now)


def layouts() -> list[tuple[int, str]]:
    """Return number and description of every layout that a case may need."""
    return [(number, description(_views(count))) for count, number in _LAYOUTS.items()]


def allViews() -> list[View]:
    """Return every view that a case may need: to be made ahead."""
    return list(_views(max(_LAYOUTS)))


def _views(count: int) -> tuple[View, ...]:
    # Without titles: nothing stands over what is judged.
    if count == 1:
        return (View(FIRST_VIEW, _("Image"), _COLOR, titled=False),)
    return tuple(
        View(name, label, _COLOR, titled=False)
        for name, label in ((FIRST_VIEW, _("Left")), (SECOND_VIEW, _("Right")))
    )
