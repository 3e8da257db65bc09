"""A panel's section Compare (`Resources/UI/CompareSection.ui`): its widgets, and what they do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.compare.comparison import AFTER_VIEW, BEFORE_VIEW, Comparison, Mode
from CTEnhanceLib.compare.resultchoice import ResultChoice
from CTEnhanceLib.measure import roi
from CTEnhanceLib.measure.region import MeasuredRegion
from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.windows import WINDOWS, setWindow
from CTEnhanceLib.views.linked import sliceWidget
from CTEnhanceLib.views.windowkeys import WindowKeys

FLICKER_KEY = "X"


class CompareSection:
    """Connects the section's widgets; `setResult` says which result they are about.

    A result is a volume node that refers to its counterpart (`placing.inputOf`), on the same grid.
    names(result) - what the two are called; `verb` - whose results are offered; `onChosen(result)`: one was
    chosen.
    """

    def __init__(
        self,
        ui: Any,
        parent: Any,
        names: Callable[[Any], tuple[str, str]],
        verb: str,
        onChosen: Callable[[Any], None],
    ) -> None:
        self.ui = ui
        self.comparison = Comparison(names)
        self.results = ResultChoice(ui.resultSelector, verb, onChosen)
        self._names = names
        self._result: Any = None
        self._region = MeasuredRegion(self.measure)
        for mode in Mode:
            ui.viewModeSelector.addItem(mode.text())
        ui.viewModeSelector.connect("currentIndexChanged(int)", self._onMode)
        ui.compareButton.connect("toggled(bool)", self._onCompare)
        ui.fadeSlider.connect("valueChanged(double)", self.comparison.setFade)
        ui.flickerButton.connect("toggled(bool)", self._onFlicker)
        ui.differenceSlider.connect("valueChanged(double)", self.comparison.setDifferenceRange)
        ui.roiButton.connect("toggled(bool)", self._onRegion)
        self._windowButtons = {name: getattr(ui, f"{name}Button") for name in WINDOWS}
        for name, button in self._windowButtons.items():
            button.connect("clicked()", functools.partial(self._onWindow, name))
        self._windowKeys = WindowKeys(parent, self._onWindow)
        self._shortcut = qt.QShortcut(qt.QKeySequence(FLICKER_KEY), slicer.util.mainWindow() or parent)
        self._shortcut.connect("activated()", self._onKey)
        self._shortcut.enabled = False
        self._onFlicker(False)
        self.results.show(None)
        self._refresh()

    def setResult(self, result: Any) -> None:
        """Offer the comparison of this result with its input; None: nothing to compare."""
        self.results.show(result)
        if result is not None and placing.inputOf(result) is None:
            result = None
        if result is self._result:
            return
        self._result = result
        self._onFlicker(bool(self.ui.flickerButton.checked))  # the button names one of the two
        if self.comparison.active:
            if result is None:
                self.ui.compareButton.checked = False
            else:
                self.comparison.show(result)
        self._refresh()

    def show(self) -> None:
        """Show the comparison, also when it is shown already and the voxels are new."""
        if self._result is None:
            return
        if self.ui.compareButton.checked:
            self.comparison.show(self._result)
        else:
            self.ui.compareButton.checked = True
        self.measure()

    def hide(self) -> None:
        """Give the layout back and let go of all nodes."""
        self.ui.roiButton.checked = False
        self.ui.compareButton.checked = False
        self.setResult(None)

    def enter(self) -> None:
        """The module is opened: another one may have taken the views meanwhile."""
        if self.ui.compareButton.checked and not self.comparison.active:
            self.ui.compareButton.checked = False
        self._refresh()

    def exit(self) -> None:
        """The module is left: its keys are free again; what is shown stays."""
        self._shortcut.enabled = False
        self._windowKeys.enable(False)

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        flicker = (FLICKER_KEY, _("Before in place of after, and back"))
        return [*WindowKeys.rows(), flicker]

    @property
    def measuring(self) -> bool:
        """Whether the table is about to follow the region."""
        return self._region.pending

    def nodeGoes(self, node: Any) -> None:
        """A node is about to be removed: perhaps the region, by the user."""
        if node is self._region.node and node is not None:
            # Not now: the scene is in the middle of a removal.
            qt.QTimer.singleShot(0, lambda: setattr(self.ui.roiButton, "checked", False))

    def measure(self) -> None:
        """Write the table of the region anew."""
        before = placing.inputOf(self._result)
        if self._region.node is None or before is None:
            self.ui.roiTable.visible = False
            return
        try:
            rows = {
                name: roi.statistics(self._region.node, node)
                for name, node in zip(self._names(self._result), (before, self._result), strict=True)
            }
            self.ui.roiTable.text = roi.table(rows)
        except InputError as error:
            self.ui.roiTable.text = str(error)
        self.ui.roiTable.visible = True

    def _refresh(self) -> None:
        ui, ready, active = self.ui, self._result is not None, self.comparison.active
        ui.compareButton.enabled = ready
        ui.compareButton.text = _("Stop comparing") if active else _("Compare")
        ui.compareButton.toolTip = (
            _("Show both in linked views.")
            if ready
            else _("There is nothing to compare yet: press Apply, or choose a result.")
        )
        for button in self._windowButtons.values():
            button.enabled = ready
        ui.flickerButton.enabled = ui.roiButton.enabled = active
        fades, differs = (self.comparison.mode is mode for mode in (Mode.FADE, Mode.WITH_DIFFERENCE))
        ui.fadeSlider.enabled, ui.differenceSlider.enabled = active and fades, active and differs
        ui.fadeLabel.visible = ui.fadeSlider.visible = fades
        ui.differenceLabel.visible = ui.differenceSlider.visible = differs
        self._shortcut.enabled = active
        self._windowKeys.enable(ready)

    def _onMode(self, index: int) -> None:
        self.comparison.mode = list(Mode)[index]
        if self.comparison.active:
            self.comparison.show(self._result)
        self._refresh()

    def _onWindow(self, name: str) -> None:
        if self._result is not None:
            setWindow(self._result, name)

    def _onCompare(self, checked: bool) -> None:
        if checked and self._result is not None:
            self.comparison.show(self._result)
        else:
            self.ui.flickerButton.checked = False
            self.ui.roiButton.checked = False
            self.comparison.hide()
        self._refresh()

    def _onKey(self) -> None:
        self.ui.flickerButton.checked = not self.ui.flickerButton.checked

    def _onFlicker(self, before: bool) -> None:
        self.comparison.setFlicker(before)
        name = self._names(self._result)[1 if before else 0]
        self.ui.flickerButton.text = _("Show {name} (key {key})").format(name=name, key=FLICKER_KEY)

    def _onRegion(self, checked: bool) -> None:
        self._region.remove()
        view = AFTER_VIEW if self.comparison.mode is Mode.FADE else BEFORE_VIEW
        widget = sliceWidget(view) if checked and self.comparison.active else None
        if widget is not None:
            self._region.add(widget.mrmlSliceNode(), self._result)
        self.measure()
