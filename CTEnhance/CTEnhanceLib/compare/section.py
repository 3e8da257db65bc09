"""A panel's section Compare (`Resources/UI/CompareSection.ui`): its widgets, and what they do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.compare.comparison import Comparison
from CTEnhanceLib.compare.measuring import MeasureSection
from CTEnhanceLib.compare.modes import Mode
from CTEnhanceLib.compare.pair import Names, candidates
from CTEnhanceLib.compare.resultchoice import ResultChoice
from CTEnhanceLib.compare.trust import suggestedRange
from CTEnhanceLib.scene import bodywindows, colortables, placing, windows
from CTEnhanceLib.scene.modelnames import titleOf
from CTEnhanceLib.views import scrolling
from CTEnhanceLib.views.history import History, WindowHistory
from CTEnhanceLib.views.keys import Keys
from CTEnhanceLib.views.windowkeys import OWN, WindowKeys

FLICKER_KEY, SWAP_KEY, PLANES_KEY, TRUST_KEY = "X", "W", "P", "E"
COMPARE_KEY = "Ctrl+Shift+C"


class CompareSection:
    """Connects the section's widgets; `setResult` says which result they are about.

    A result is a volume node that refers to its counterpart (`placing.inputOf`), on the same grid; it can be
    compared with any other CT as well.
    names(result) - what the two are called; `verb` - whose results are offered; `onChosen(result)`: one was
    chosen; `history` - to which changes of layout and window are added
    """

    def __init__(
        self,
        ui: Any,
        parent: Any,
        names: Names,
        verb: str,
        onChosen: Callable[[Any], None],
        history: History | None = None,
    ) -> None:
        self.ui = ui
        self.comparison = Comparison(names, self._onSwipe)
        self.results = ResultChoice(ui.resultSelector, verb, onChosen)
        self._names = names
        self._result: Any = None
        self._others: list[Any] = []
        self._filling = self._open = False
        self._history = history or History()
        self._windowHistory = WindowHistory(self._history)
        self.comparison.views.onLeft = functools.partial(setattr, ui.compareButton, "checked", False)
        self.measuring = MeasureSection(ui, parent, self.comparison)
        for mode in Mode:
            ui.viewModeSelector.addItem(mode.text())
        ui.viewModeSelector.connect("currentIndexChanged(int)", self._onMode)
        ui.compareButton.connect("toggled(bool)", self._onCompare)
        ui.otherSelector.connect("currentIndexChanged(int)", self._onOther)
        ui.swapButton.connect("toggled(bool)", self._onSwap)
        ui.fadeSlider.connect("valueChanged(double)", self.comparison.setFade)
        ui.flickerButton.connect("toggled(bool)", self._onFlicker)
        ui.differenceSlider.connect("valueChanged(double)", self.comparison.setDifferenceRange)
        ui.trustBox.connect("toggled(bool)", self._onTrust)
        ui.trustRangeSlider.connect("valueChanged(double)", self._onTrustRange)
        self._windowButtons = {name: getattr(ui, f"{name}Button") for name in windows.WINDOWS}
        for name, button in self._windowButtons.items():
            button.connect("clicked()", functools.partial(self._onWindow, name))
        self._windowKeys = WindowKeys(parent, self._onWindow)
        self._compareKey = Keys(
            parent, {COMPARE_KEY: (_("Compare, and stop comparing"), ui.compareButton.click)}
        )
        self._keys = Keys(
            parent,
            {
                FLICKER_KEY: (_("The left one in place of the right one, and back"), self._onFlickerKey),
                SWAP_KEY: (_("Swap left and right"), self._onSwapKey),
                PLANES_KEY: (_("Both in three planes, and back"), self._onPlanesKey),
                TRUST_KEY: (_("The trust map over the result, where it has one, and back"), self._onTrustKey),
            },
        )
        self._planesFrom = Mode.SIDE_BY_SIDE
        self._onFlicker(False)
        self.results.show(None)
        self._refresh()

    def setResult(self, result: Any, shown: bool = True) -> None:
        """Offer the comparison of this result with its input; None: nothing to compare.

        shown - whether an open comparison shows and measures it at once; else `show` and `measure` follow
        """
        self.results.show(result)
        if result is not None and placing.inputOf(result) is None:
            result = None
        former, self._result = self._result, result
        changed = result is not former
        self._listOthers(former)
        if not changed:
            self.refreshTrust()  # its map may have come or gone
            return
        if self.comparison.active:
            if result is None:
                self.ui.compareButton.checked = False
            elif shown:
                self._display()
            if shown:
                self.measure()
        self._nameFlicker()  # the button names one of the two
        self._refresh()

    def show(self) -> None:
        """Show the comparison, also when it is shown already and the voxels are new."""
        if self._result is None:
            return
        if self.ui.compareButton.checked:
            self._display()
        else:
            self.ui.compareButton.checked = True

    def _display(self) -> None:
        self.comparison.show(self._result)
        self._windowHistory.follow(self._result.GetDisplayNode())

    def showTrustMap(self) -> None:
        """Lay the trust map over the result, where it has one."""
        self.ui.trustBox.checked = self.ui.trustBox.checked or suggestedRange(self._result) is not None
        self._suggestTrustRange()
        self.refreshTrust()

    def hide(self) -> None:
        """Give the layout back and let go of all nodes."""
        self.ui.compareButton.checked = False
        self.setResult(None)
        self.measuring.forget()
        self._windowHistory.follow(None)
        self._history.clear()

    def enter(self) -> None:
        """The module is opened: another one may have taken the views meanwhile."""
        self._open = True
        if self.ui.compareButton.checked and not self.comparison.active:
            self.ui.compareButton.checked = False
        self.measuring.nodesChanged()
        self._refresh()

    def exit(self) -> None:
        """The module is left: its keys are free again; what is shown stays."""
        self._open = False
        for keys in (self._compareKey, self._keys, self._windowKeys):
            keys.enable(False)
        self.measuring.exit()

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        return [
            *self._compareKey.rows(),
            *WindowKeys.rows(),
            *self._keys.rows(),
            *self.measuring.keys(),
        ]

    def nodes(self) -> list[Any]:
        """Return the nodes that are compared."""
        pair = self.comparison.pair
        return [self.comparison.result] if pair is None else [pair.result, pair.other]

    def measure(self) -> None:
        """Measure the regions anew."""
        self.measuring.measure()

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
        ui.otherSelector.enabled = ready
        ui.flickerButton.enabled = ui.swapButton.enabled = active
        single, differs = self.comparison.mode.single, self.comparison.mode is Mode.WITH_DIFFERENCE
        ui.fadeSlider.enabled, ui.differenceSlider.enabled = active and single, active and differs
        ui.fadeLabel.visible = ui.fadeSlider.visible = single
        ui.fadeLabel.text = _("Swipe:") if self.comparison.mode is Mode.SWIPE else _("Fade:")
        ui.differenceLabel.visible = ui.differenceSlider.visible = differs
        self.refreshTrust()
        left, right = _("left"), _("right")
        sides = (left, right) if ui.swapButton.checked else (right, left)
        ui.resultLabel.text = _("Result ({side}):").format(side=sides[0])
        ui.otherLabel.text = _("With ({side}):").format(side=sides[1])
        self._compareKey.enable(ready and self._open)
        self._keys.enable(active and self._open)
        self._windowKeys.enable(ready and self._open)  # others may take the views while it is left
        self.measuring.refresh()

    def refreshTrust(self) -> None:
        """Offer the trust map where the result has one, and say how it is to be read."""
        ui, mapped = self.ui, placing.trustMapOf(self._result) is not None
        ui.trustLabel.visible = ui.trustBox.visible = mapped
        ui.trustBox.enabled = self.comparison.active and not self.comparison.mode.single
        shown = mapped and bool(ui.trustBox.checked)
        for widget in (ui.trustRangeLabel, ui.trustRangeSlider, ui.trustLegendLabel):
            widget.visible = shown
            widget.enabled = ui.trustBox.enabled
        ui.trustLegendLabel.text = self._trustText()

    def _trustText(self) -> str:
        """Return how the trust map is to be read."""
        if self.comparison.mode.single:
            return _("Shown where both are side by side.")
        details = (placing.reportOf(self._result) or {}).get("details") or {}
        if not details.get("uncertainty_calibrated"):
            return _("Not calibrated for this model: it tells where draws differ, not how large errors are.")
        high = self.ui.trustRangeSlider.value
        text = _(
            "In 90 % of the image the error is expected within ± the HU of the colour: at most ±{low:.0f} HU "
            "where it is clear, ±{high:.0f} HU and more where it is red."
        ).format(low=colortables.TRUST_CLEAR * high, high=high)
        if placing.strengthOf(self._result) < 1:
            text += " " + _("This holds for the full strength.")
        return text

    def _onTrust(self, shown: bool) -> None:
        self.comparison.setTrustMap(shown)
        if shown:
            self._suggestTrustRange()
        self.refreshTrust()

    def _suggestTrustRange(self) -> None:
        suggested = suggestedRange(self._result) if self.ui.trustBox.checked else None
        if suggested is not None:
            self.ui.trustRangeSlider.value = suggested

    def _onTrustRange(self, hounsfield: float) -> None:
        self.comparison.setTrustRange(hounsfield)
        self.refreshTrust()

    def _onTrustKey(self) -> None:
        if placing.trustMapOf(self._result) is not None and self.ui.trustBox.enabled:
            self.ui.trustBox.checked = not self.ui.trustBox.checked

    def _listOthers(self, former: Any) -> None:
        """Offer what the result can be compared with, its input first. Another one that was chosen beside a
        result of the same input stays."""
        selector, chosen, own = self.ui.otherSelector, self._other(), placing.inputOf(self._result)
        if own is None or own is not placing.inputOf(former):
            chosen = own
        self._others = [] if self._result is None else candidates(self._result)
        self._filling = True
        try:
            selector.clear()
            for node in self._others:
                selector.addItem(titleOf(node), node.GetID())
            if chosen in self._others:
                selector.currentIndex = self._others.index(chosen)
        finally:
            self._filling = False
        self._chooseOther()

    def _other(self) -> Any:
        """Return what is chosen to compare with, or None."""
        index = self.ui.otherSelector.currentIndex
        return self._others[index] if 0 <= index < len(self._others) else None

    def _chooseOther(self) -> None:
        other = self._other()
        self.comparison.setOther(None if other is placing.inputOf(self._result) else other)
        self._nameFlicker()

    def _onOther(self, _index: int) -> None:
        if not self._filling:
            self._chooseOther()
            self.measure()
            self._refresh()

    def _onSwap(self, swapped: bool) -> None:
        self.comparison.setSwapped(swapped)
        self._nameFlicker()
        self.measure()
        self._refresh()

    def _onSwapKey(self) -> None:
        self.ui.swapButton.checked = not self.ui.swapButton.checked

    def _onSwipe(self, part: float) -> None:
        self.ui.fadeSlider.value = part

    def _onMode(self, index: int) -> None:
        before, self.comparison.mode = self.comparison.mode, list(Mode)[index]
        if self.comparison.mode is Mode.SWIPE and self.ui.fadeSlider.value in (0.0, 1.0):
            self.ui.fadeSlider.value = 0.5
        if self.comparison.active:
            self._history.add(functools.partial(self._setMode, before))
            self.comparison.show(self._result)
        self._refresh()

    def _setMode(self, mode: Mode) -> None:
        self.ui.viewModeSelector.currentIndex = list(Mode).index(mode)

    def _onPlanesKey(self) -> None:
        if self.comparison.mode is Mode.PLANES:
            self._setMode(self._planesFrom)
        else:
            self._planesFrom = self.comparison.mode
            self._setMode(Mode.PLANES)

    def _onWindow(self, name: str) -> None:
        if self._result is None:
            return
        source = placing.inputOf(self._result)
        window = bodywindows.ownWindow(source) if name == OWN else windows.WINDOWS[name]
        windows.setValues(self._result, *window)
        bodywindows.remember(source)

    def _onCompare(self, checked: bool) -> None:
        if checked and self._result is not None:
            self._chooseOther()
            self.measuring.begin()
            self.comparison.show(self._result)
            self._windowHistory.follow(self._result.GetDisplayNode())
            # Not now: the panel's rows get their heights first.
            qt.QTimer.singleShot(0, self._bringUp)
        else:
            self._rememberWindow()
            self.ui.flickerButton.checked = False
            self.ui.swapButton.checked = False
            self.comparison.hide()  # first: without its plot it would be laid out once more
            self.measuring.leave()
        self._refresh()
        self.measure()

    def _bringUp(self) -> None:
        """Scroll the panel to the section: on small screens what it is for lies below its lower edge."""
        if self.comparison.active:
            # To its lower edge, so that as much of it is seen as there is room for.
            scrolling.bringUp(self.ui.roundButton)

    def _rememberWindow(self) -> None:
        """Keep the window that the reader leaves, also where it was set with the mouse."""
        source = placing.inputOf(self._result)
        if self.comparison.active and source is not None and slicer.mrmlScene.IsNodePresent(source):
            bodywindows.remember(source)

    def _onFlickerKey(self) -> None:
        self.ui.flickerButton.checked = not self.ui.flickerButton.checked

    def _onFlicker(self, first: bool) -> None:
        self.comparison.setFlicker(first)
        self._nameFlicker()

    def _nameFlicker(self) -> None:
        names = self.comparison.names() if self.comparison.active else self._names(self._result)
        name = names[1 if self.ui.flickerButton.checked else 0]
        self.ui.flickerButton.text = _("Show {name} (key {key})").format(name=name, key=FLICKER_KEY)
