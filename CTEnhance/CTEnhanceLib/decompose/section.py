"""The section Spectral images of CT Decompose (`Resources/UI/SpectralSection.ui`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ctenhance import choices
from ctenhance.runtime.errors import InputError
from CTEnhanceLib.decompose import othermap, volumes
from CTEnhanceLib.decompose.curve import CurvePlot, materialTable, plotView
from CTEnhanceLib.decompose.job import errorsOf, guidedOf, mapsOf, sourcesOf
from CTEnhanceLib.decompose.spectral import Kind, SpectralImage, SpectralTable, curve
from CTEnhanceLib.decompose.views import FIRST_WINDOW, Mode, SpectralViews
from CTEnhanceLib.measure import roi
from CTEnhanceLib.measure.region import MeasuredRegion
from CTEnhanceLib.measure.regionkeys import regionKeys
from CTEnhanceLib.process.steps import TimedSteps
from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.windows import WINDOWS
from CTEnhanceLib.views import scrolling
from CTEnhanceLib.views.history import History, WindowHistory
from CTEnhanceLib.views.keys import Keys
from CTEnhanceLib.views.linked import sliceWidget
from CTEnhanceLib.views.windowkeys import OWN, WindowKeys

# By what is looked for: keV, and the window in which it is seen.
PRESETS = {
    "angiography": (50, "angiography"),
    "softTissue": (70, "mediastinum"),
    "bone": (100, "bone"),
    "metal": (130, "metal"),
}


class SpectralSection:
    """Connects the section's widgets; `setResult` says which decomposition they are about.

    `history` - to which changes of layout and window are added; onRefreshed() - what can be done with the
    result may have changed
    """

    def __init__(
        self, ui: Any, history: History | None = None, onRefreshed: Callable[[], None] = lambda: None
    ) -> None:
        self.ui = ui
        self._history = history or History()
        self._windowHistory = WindowHistory(self._history)
        self.views = SpectralViews()
        self.views.linked.onLeft = functools.partial(setattr, ui.spectralButton, "checked", False)
        self.plot = CurvePlot()
        self._onRefreshed = onRefreshed
        self._result: Any = None
        self._prepared = False  # and not shown yet
        self._steps: TimedSteps | None = None
        self._region = MeasuredRegion(self.measure)
        for mode in Mode:
            ui.spectralModeSelector.addItem(mode.text())
        ui.spectralModeSelector.connect("currentIndexChanged(int)", self._onMode)
        ui.spectralButton.connect("toggled(bool)", self._onShow)
        for index, slider in enumerate((ui.energySlider, ui.secondEnergySlider)):
            slider.minimum, slider.maximum = choices.VIEWING_KEV[0], choices.VIEWING_KEV[-1]
            slider.connect("valueChanged(double)", functools.partial(self._onEnergy, index))
        for name, (kev, window) in PRESETS.items():
            getattr(ui, f"{name}Button").connect("clicked()", functools.partial(self._onPreset, kev, window))
        for name, button in self._windowButtons().items():
            button.connect("clicked()", functools.partial(self._onWindow, name))
        self._windowKeys = WindowKeys(ui.spectralButton, self._onWindow)
        measure = (_("Measure: a square region, and none"), ui.spectralRegionButton.click)
        moves = regionKeys(lambda: self._region.node, lambda: self.views.firstView())
        self._regionKeys = Keys(ui.spectralButton, {"Q": measure, **moves})
        ui.lowNoiseBox.connect("toggled(bool)", self._onLowNoise)
        ui.spectralFadeSlider.connect("valueChanged(double)", self.views.setFade)
        ui.materialRangeSlider.connect("valueChanged(double)", self.views.setMaterialRange)
        ui.materialOpacitySlider.connect("valueChanged(double)", self.views.setOpacity)
        ui.spectralRegionButton.connect("toggled(bool)", self._onRegion)
        ui.curveBox.connect("toggled(bool)", self._onCurve)
        ui.otherMapSelector.setMRMLScene(slicer.mrmlScene)
        ui.otherMapSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onOtherMap)
        ui.spectralVolumeSelector.connect("currentIndexChanged(int)", self._onVolume)
        ui.addVolumeButton.connect("clicked()", self._onAdd)
        self.measure()
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether a whole volume is being made."""
        return self._steps is not None

    @property
    def measuring(self) -> bool:
        """Whether table and curve are about to follow the region."""
        return self._region.pending

    @property
    def lowNoise(self) -> bool:
        """Whether monoenergetic images are those of low noise."""
        return bool(self.ui.lowNoiseBox.checked and guidedOf(self._result))

    def setResult(self, result: Any, shown: bool = True) -> None:
        """Tell of this decomposition; None: there is none.

        shown - whether images that are on the screen give way to its own at once; else by `show`
        """
        found = result if mapsOf(result) else None
        if found is not self._result:
            self._result = found
            self._listVolumes()
            self._say("")
            if found is not None and not guidedOf(found):
                self.ui.lowNoiseBox.checked = False  # it says what is shown
        if self._result is None:
            self.ui.spectralButton.checked = False
        elif shown and self.views.active:
            self._show()
        self.refresh()

    def prepare(self) -> None:
        """Make ready what `show` shows, in a turn before that."""
        if self._result is not None:
            with contextlib.suppress(MemoryError):  # `show` says so
                self._prepared = True
                self.views.prepare(self._result)

    def layAhead(self) -> None:
        """Give the views their volumes, between `prepare` and `show`."""
        if self._prepared and self._result is not None:
            self.views.layAhead()

    def show(self) -> None:
        """Show the spectral images, also when those of another result are shown."""
        if self._result is None:
            return
        if not self.ui.spectralButton.checked:
            self.ui.spectralButton.checked = True
        elif self._prepared or not self.views.active or self.views.result is not self._result:
            self._show()

    def hide(self) -> None:
        """Give the layout back and let go of all nodes."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
        self.ui.spectralButton.checked = False
        self.setResult(None)

    def exit(self) -> None:
        """The module is left: its keys are free again; what is shown stays."""
        self._windowKeys.enable(False)
        self._regionKeys.enable(False)

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        return [*WindowKeys.rows(), *self._regionKeys.rows()]

    def nodeGoes(self, node: Any) -> bool:
        """A node is about to be removed; say whether it is one of those that are shown."""
        if node is self._region.node:
            # Not now: the scene is in the middle of a removal.
            qt.QTimer.singleShot(0, lambda: setattr(self.ui.spectralRegionButton, "checked", False))
            return False
        return self._result is not None and (node is self._result or node in mapsOf(self._result))

    def refresh(self) -> None:
        """Show what can be done with the result."""
        ui, ready = self.ui, self._result is not None
        if ui.spectralButton.checked and not self.views.active:  # others have taken the views
            ui.spectralButton.checked = False
        active, mode = self.views.active, self.views.mode
        ui.lowNoiseBox.enabled = ready and bool(guidedOf(self._result))
        ui.lowNoiseBox.toolTip = (
            volumes.noLowNoise()
            if ready and not ui.lowNoiseBox.enabled
            else _("Monoenergetic images with nearly the noise of the quietest energy, contrast kept.")
        )
        ui.spectralButton.enabled = ready
        ui.spectralButton.text = _("Stop showing") if active else _("Show")
        ui.spectralButton.toolTip = (
            _("Show the spectral images.") if ready else _("There is nothing to show yet: press Apply.")
        )
        ui.energySlider.enabled = ui.spectralRegionButton.enabled = ui.curveBox.enabled = active
        for used, label, control in (
            (mode.hasSecond, ui.secondEnergyLabel, ui.secondEnergySlider),
            (mode is Mode.FADE, ui.spectralFadeLabel, ui.spectralFadeSlider),
            (mode in (Mode.FOUR, Mode.OVERLAY), ui.materialRangeLabel, ui.materialRangeSlider),
            (mode is Mode.OVERLAY, ui.materialOpacityLabel, ui.materialOpacitySlider),
        ):
            label.visible = control.visible = used  # so the rest is reached without scrolling
            control.enabled = active and used
        for button in (*self._windowButtons().values(), *(getattr(ui, f"{name}Button") for name in PRESETS)):
            button.enabled = active
        self._windowKeys.enable(active)
        self._regionKeys.enable(active)
        ui.spectralVolumeSelector.enabled = ready and not self.busy
        ui.addVolumeButton.enabled = ready and not self.busy and isinstance(self.chosen(), SpectralImage)
        ui.addVolumeButton.toolTip = (
            _("Make the whole volume and add it to the scene.")
            if not ready or ui.addVolumeButton.enabled or self.busy
            else _("This map is in the scene already.")
        )
        self._onRefreshed()

    def measure(self) -> None:
        """Write table and curve of the region anew."""
        ui, maps = self.ui, mapsOf(self._result)
        ui.spectralTable.visible = self._region.node is not None and bool(maps)
        if self._region.node is None or not maps:
            self.plot.remove()
            return
        table, lowNoise = self._table(), self.lowNoise
        # Images stand where the first map does, wherever the user has moved the others.
        measured = functools.partial(roi.values, self._region.node, self._result)
        try:
            samples = np.stack([measured(node) for node in sourcesOf(self._result, lowNoise)])
            errors = [measured(node) for node in errorsOf(self._result)]
        except InputError as error:
            ui.spectralTable.text = str(error)
            self.plot.remove()
            return
        energies = [ui.energySlider.value]
        if self.views.mode.hasSecond:
            energies.append(ui.secondEnergySlider.value)
        images = [SpectralImage(Kind.VMI, kev, lowNoise) for kev in energies]
        size = roi.sizeText(*roi.sizeOf(self._region.node, self._result))
        ui.spectralTable.text = materialTable(
            table, samples, np.stack(errors) if errors else None, images, size
        ) + self._otherText(table, maps)
        if ui.curveBox.checked:
            self.plot.show(curve(table, samples, lowNoise))
        else:
            self.plot.remove()

    def _otherText(self, table: SpectralTable, maps: list[Any]) -> str:
        """Compare another map with that of the contrast agent, or of the material that it is named after."""
        other = self.ui.otherMapSelector.currentNode()
        if other is None:
            return ""
        name = other.GetName().lower()
        found = [index for index, material in enumerate(table.materials) if material.lower() in name]
        return othermap.text(self._region.node, self._result, maps[found[0] if found else -1], other)

    def _onOtherMap(self, node: Any) -> None:
        if node is not None:
            with contextlib.suppress(InputError):  # the table says why, once there is a region
                othermap.showUnit(node)
        self.measure()

    def _table(self) -> SpectralTable:
        table = SpectralTable.of(placing.reportOf(self._result))
        if table is None:
            raise InputError(_("There are no maps yet: press Apply."))
        return table

    def _windowButtons(self) -> dict[str, Any]:
        """Return the buttons of the commonest windows, by name; the others have keys only, to save a row."""
        names = ("lung", "mediastinum", "bone", "liver")
        return {name: getattr(self.ui, f"spectral{name.capitalize()}Button") for name in names}

    def _say(self, text: str) -> None:
        self.ui.spectralNoteLabel.text = text
        self.ui.spectralNoteLabel.visible = bool(text)

    def _show(self, mode: Mode | None = None) -> None:
        self._prepared = False
        try:
            self.views.show(self._result, mode)
            self._windowHistory.follow(self.views.display)
        except MemoryError:
            self.views.hide()
            self._say(_("There is not enough memory for these views: close other volumes."))
        self.measure()

    def _onShow(self, checked: bool) -> None:
        if checked and self._result is not None:
            self._show()
            if self._region.node is None and self._region.kept() is not None:
                self.ui.spectralRegionButton.checked = True
        else:
            self._windowHistory.follow(None)
            self.views.hide()
            self.ui.spectralRegionButton.checked = False
            self._placeCurve()
        self.refresh()

    def _onMode(self, index: int) -> None:
        mode, before = list(Mode)[index], list(Mode).index(self.views.mode)
        if self.views.active:
            self._history.add(lambda: setattr(self.ui.spectralModeSelector, "currentIndex", before))
            self._show(mode)
        else:
            self.views.mode = mode
        self.refresh()

    def _onEnergy(self, index: int, kev: float) -> None:
        self.views.setEnergy(index, kev)
        if self._region.node is not None:
            self.measure()

    def _onLowNoise(self, checked: bool) -> None:
        self.views.setLowNoise(checked)
        if self._region.node is not None:
            self.measure()

    def _onWindow(self, name: str) -> None:
        self.views.setWindow(*(FIRST_WINDOW if name == OWN else WINDOWS[name]))

    def _onPreset(self, kev: float, window: str) -> None:
        self._onWindow(window)
        self.ui.energySlider.value = kev

    def _onRegion(self, checked: bool) -> None:
        self._region.remove()
        view = self.views.firstView()
        widget = sliceWidget(view) if checked and self.views.active else None
        if widget is not None:
            self._region.add(widget.mrmlSliceNode(), self._result)
        self._placeCurve()
        self.measure()
        if widget is not None:
            # Not now: the table gets its height first.
            qt.QTimer.singleShot(0, lambda: scrolling.bringUp(self.ui.spectralTable))

    def _onCurve(self, _checked: bool) -> None:
        self._placeCurve()
        self.measure()
        self.refresh()

    def _placeCurve(self) -> None:
        """Have the plot below the views as long as there is something to draw in it."""
        asked, plot = self.ui.curveBox.checked, plotView()
        measured = self._region.node is not None
        self.views.setBelow(plot if asked and measured else "")
        text = ""
        if asked and not plot:
            text = _("This Slicer has no plots: the table stands alone.")
        elif asked and not measured and self.views.active:
            text = _("Press Measure: the curve is that of a box.")
        self._say(text)

    def _listVolumes(self) -> None:
        selector = self.ui.spectralVolumeSelector
        selector.clear()
        if self._result is not None:
            for kind in Kind:
                if not volumes.problem(self._result, SpectralImage(kind)):
                    selector.addItem(kind.text(), kind.name)
            for name in self._table().materials:
                selector.addItem(_("Map of {name} (mg/mL)").format(name=name), name)

    def chosen(self) -> SpectralImage | str:
        """Return which image is chosen to be kept or exported, or the material of the map."""
        selector = self.ui.spectralVolumeSelector
        key = str(selector.itemData(selector.currentIndex)) if selector.count else Kind.VMI.name
        if key not in Kind.__members__:
            return key
        kind = Kind[key]
        return SpectralImage(kind, self.ui.energySlider.value, kind is Kind.VMI and self.lowNoise)

    def _onVolume(self, _index: int) -> None:
        self.refresh()

    def _onAdd(self) -> None:
        result, image = self._result, self.chosen()
        if not isinstance(image, SpectralImage):
            return
        self._say("")

        def add() -> Any:
            loaded = yield from volumes.computed(result, image)
            node = volumes.place(result, image, loaded, self.views.window)
            self._say(_("Added: {name}.").format(name=node.GetName()))

        self._steps = TimedSteps(
            add(),
            self._added,
            self._notAdded,
            lambda part: self._say(_("Making the volume: {percent:.0f} %").format(percent=100 * part)),
        )
        self.refresh()

    def _added(self) -> None:
        self._steps = None
        self.refresh()

    def _notAdded(self, error: Exception) -> None:
        self._steps = None
        self._say(
            _("There is not enough memory for the volume: close others.")
            if isinstance(error, MemoryError)
            else str(error)
        )
        self.refresh()
