"""The life of a panel's widget: built from its .ui files, opened, left; the scene closes, the module goes."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from CTEnhanceLib.panel import styles
from CTEnhanceLib.process.worker import PACKAGE_FOLDER

RESOURCES = PACKAGE_FOLDER / "Resources"
# Pixels, of all panels: three views have room beside it on a screen of 1280, and a change moves nothing.
WIDTH = 420


class BasePanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A module's widget with its .ui file (`ui` holds its widgets by name), its logic and its life.

    A panel says what is its own: `logicType`, `sections` (further .ui files below its own one),
    `connectWidgets` (once), and what happens when it is `opened`, `left`, when the scene closes (`sceneGoes`,
    `sceneEmptied`) and when the module goes (`gone`).
    """

    logicType: type[ScriptedLoadableModuleLogic] = ScriptedLoadableModuleLogic
    sections: tuple[str, ...] = ()

    def __init__(self, parent: Any = None) -> None:
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        # Slicer calls enter, exit and cleanup also where setup failed.
        self._ready = False
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        """Build the panel; called once, when the module is opened first."""
        ScriptedLoadableModuleWidget.setup(self)
        self.panel = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(self.panel)
        self._whole = whole = [self.panel]
        for section in self.sections:
            whole.append(slicer.util.loadUI(str(RESOURCES / "UI" / f"{section}.ui")))
            self.layout.addWidget(whole[-1])
        self.ui = slicer.util.childWidgetVariables(self.panel)
        for widget in whole:
            vars(self.ui).update(vars(slicer.util.childWidgetVariables(widget)))
            widget.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
            widget.minimumWidth = WIDTH
        styles.prepareWidgets(vars(self.ui).values())
        self.panel.setMRMLScene(slicer.mrmlScene)
        self.logic = self.logicType()
        self.buildSections()
        self.connectWidgets()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self._ready = True
        if self.parent.isEntered:  # reloaded while it is open: Slicer does not call `enter` again
            self.opened()

    def cleanup(self) -> None:
        """The module goes."""
        if self._ready:
            self.gone()
            self.removeObservers()

    def enter(self) -> None:
        """The user opens the module."""
        if self._ready:
            self.opened()

    def exit(self) -> None:
        """The user opens another module."""
        if self._ready:
            self.left()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """All nodes are about to go."""
        self.sceneGoes()

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """The scene is empty now."""
        if self.parent.isEntered:
            self.sceneEmptied()

    def buildSections(self) -> None:
        """Make what drives the widgets of `sections`."""

    def connectWidgets(self) -> None:
        """Connect the panel's own widgets (in `ui`) that no parameter is bound to."""

    def opened(self) -> None:
        """The panel is seen; the theme may be another one now."""
        styles.prepareColors(self._whole, vars(self.ui).values())
        styles.orderTabs(self._whole)

    def left(self) -> None:
        """The user has gone to another module."""

    def sceneGoes(self) -> None:
        """Let go of all nodes: the scene closes."""

    def sceneEmptied(self) -> None:
        """The scene was closed while the panel is open."""
        self.opened()

    def gone(self) -> None:
        """End what runs: the module goes."""
