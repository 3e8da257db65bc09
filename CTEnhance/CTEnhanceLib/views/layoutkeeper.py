"""The layout on the screen: a panel's while it shows its views, and always the user's in a saved scene.

A scene file, and Slicer's own settings, keep the number of the layout that is on the screen, and nothing
else of it. Where that number is not known (a Slicer without this extension, or one that has not opened the
panel yet) there are no views, only grey. So while a panel shows its views, the user's layout is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import qt
import slicer
import vtk

from CTEnhanceLib.views.drawing import oneByOne

# docs/panels.md says which belong to whom.
NUMBERS = range(7100, 7400)
_NODE = "vtkMRMLLayoutNode"


def layoutNode() -> Any:
    """Return the node that says which layout is on the screen."""
    return slicer.app.layoutManager().layoutLogic().GetLayoutNode()


def describe(number: int, description: str) -> None:
    """Tell Slicer what a layout looks like, whether it knows one of this number or not."""
    node = layoutNode()
    if node.IsLayoutDescription(number):
        if node.GetLayoutDescription(number) != description:  # it costs a fifth of a layout
            node.SetLayoutDescription(number, description)
    else:
        node.AddLayoutDescription(number, description)


class LayoutKeeper:
    """Shows a panel's layout in place of the user's, and keeps that: for the way back, and in saved scenes.

    `shown` is the number that a panel shows, None while none does. `onLeft` is called when the user has
    chosen another layout meanwhile.
    """

    def __init__(self) -> None:
        self.shown: int | None = None
        self.onLeft: Callable[[], None] = lambda: None
        self._own, self._before = 0, 0
        self._scene: Any = None
        self._node: Any = None
        self._saved: Any = None

    def begin(self, layouts: Iterable[tuple[int, str]]) -> None:
        """Describe all layouts (number and description). One that was on the screen when Slicer was closed is
        on it now, without its panel: the user's comes instead."""
        self._follow()
        for number, description in layouts:
            if not layoutNode().IsLayoutDescription(number):
                describe(number, description)
        self._leaveStray()

    def own(self) -> int:
        """Return the number of the layout that the user has, or had before a panel showed its views."""
        return self._own or layoutNode().SlicerLayoutFourUpView

    def show(self, number: int, description: str) -> None:
        """Show a layout of a panel, by a number of NUMBERS."""
        self._follow()
        describe(number, description)
        self.shown = number
        layoutNode().SetViewArrangement(number)

    def leave(self) -> None:
        """Bring the user's layout back, unless the user has chosen one since."""
        self.forget()
        self._leaveStray()

    def forget(self) -> None:
        """No panel shows views any longer (the scene closes); the layout stays."""
        self.shown = None

    def _leaveStray(self) -> None:
        if self.shown is None and layoutNode().GetViewArrangement() in NUMBERS:
            oneByOne.holdAll()
            layoutNode().SetViewArrangement(self.own())

    def _follow(self) -> None:
        """Watch the scene, and the layout node, which is another one after all nodes were removed."""
        if self._scene is not slicer.mrmlScene:
            scene = self._scene = slicer.mrmlScene
            scene.AddObserver(scene.StartImportEvent, self._onImport)
            scene.AddObserver(scene.EndImportEvent, self._onImported)
        if self._node is not layoutNode():
            self._node = layoutNode()
            self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onLayout)
            self._onLayout()

    def _onLayout(self, _caller: Any = None, _event: Any = None) -> None:
        """The layout has changed: keep the user's in mind, and in what is saved."""
        node = self._node
        number = node.GetViewArrangement()
        passing = (
            node.SlicerLayoutInitialView,
            node.SlicerLayoutNone,
            node.SlicerLayoutDicomBrowserView,
            node.SlicerLayoutMaximizedView,
        )
        if number in NUMBERS:
            _setSaved(node, False)
            self._saveOwn()
            return
        if number not in passing:
            self._own = number
            if (
                self.shown is not None
            ):  # not now: a scene that is loaded may set it, and then the panel's again
                qt.QTimer.singleShot(0, self._tellIfLeft)
        if self._saved is not None and self._saved.GetSaveWithScene():
            self._saved.SetSaveWithScene(False)
            _setSaved(node, True)

    def _tellIfLeft(self) -> None:
        if self.shown is not None and layoutNode().GetViewArrangement() == self._own:
            self.onLeft()

    def _saveOwn(self) -> None:
        """Have the user's layout saved in place of the panel's: from a second layout node, with the tag of
        the first, so that it becomes the layout of whoever loads the scene.

        It stays in the scene: Slicer's layout manager lets go of its own node when another one is removed.
        """
        scene = slicer.mrmlScene
        if self._saved is None or not scene.IsNodePresent(self._saved):
            node = scene.CreateNodeByClass(_NODE)
            node.UnRegister(None)
            self._saved = scene.AddNode(node)
            self._saved.SetName(self._node.GetName())
            self._saved.SetSingletonTag(self._node.GetSingletonTag())
        self._saved.CopyLayoutDescriptions(self._node)
        self._saved.CopyContent(self._node)
        self._saved.SetViewArrangement(self.own())
        self._saved.SetSaveWithScene(True)

    def _onImport(self, _caller: Any, _event: Any) -> None:
        self._follow()
        self._before = layoutNode().GetViewArrangement()

    def _onImported(self, _caller: Any, _event: Any) -> None:
        """A scene of an earlier version brings the number of a panel's layout, but not what that showed."""
        self._follow()
        if layoutNode().GetViewArrangement() in NUMBERS:
            kept = self._before if self._before == self.shown else self.own()
            layoutNode().SetViewArrangement(kept)


def _setSaved(node: Any, saved: bool) -> None:
    """Have a layout node saved or not, without a word: Slicer would lay all views out once more."""
    silent = node.GetDisableModifiedEvent()
    node.SetDisableModifiedEvent(True)
    node.SetSaveWithScene(saved)
    node.SetDisableModifiedEvent(silent)


keeper = LayoutKeeper()
