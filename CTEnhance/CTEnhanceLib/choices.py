"""The panel's drop-down lists: model, preset, device. Each shows, and changes, the parameter node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib import models
from CTEnhanceLib.devices import Device, DeviceQuery

AUTOMATIC = "auto"
_WARNING_STYLE = "color: #C05000; font-weight: bold;"


def presets() -> list[tuple[str, float]]:
    """Return the strengths that have a name."""
    return [(_("Low"), 0.4), (_("Medium"), 0.7), (_("Full"), 1.0)]


class Choices:
    """Fills the lists; `parameters` returns the parameter node of the moment, or None."""

    def __init__(self, ui: Any, parent: Any, parameters: Callable[[], Any]) -> None:
        self.ui, self._parent, self._parameters = ui, parent, parameters
        self._devices: list[Device] = []
        self._following = False
        self._query = DeviceQuery(self._onDevices)
        self.problem = ""
        ui.deviceWarningLabel.styleSheet = _WARNING_STYLE
        for name, strength in presets():
            ui.presetSelector.addItem(_("{name} ({percent:.0f} %)").format(name=name, percent=100 * strength))
        ui.presetSelector.addItem(_("Custom"))
        ui.deviceSelector.addItem(_("Automatic"), AUTOMATIC)
        try:
            for model in models.installedModels():
                self._addModel(model)
        except CTEnhanceError as error:
            self.problem = str(error)
        ui.presetSelector.connect("currentIndexChanged(int)", self._onPreset)
        ui.modelSelector.connect("currentIndexChanged(int)", self._onModel)
        ui.modelBrowseButton.connect("clicked()", self._onBrowseModel)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._onDevice)
        ui.deviceRefreshButton.connect("clicked()", self.askDevices)

    def askDevices(self) -> None:
        """Look which devices there are, and how much memory is free; the list follows when it is known."""
        self._query.start()

    def stop(self) -> None:
        """The panel goes."""
        self._query.stop()

    def reason(self) -> str:
        """Return the sentence that says why no model can be used, or an empty one."""
        if self.ui.modelSelector.count:
            return ""
        return self.problem or _(
            "No model is installed: choose a weights file (.safetensors) with the button beside the list."
        )

    def model(self) -> str | None:
        """Return name or path of the model that the list shows, or None when it is empty."""
        selector = self.ui.modelSelector
        return selector.itemData(selector.currentIndex) if selector.count else None

    def setModelFile(self, path: str) -> None:
        """Offer a weights file among the models, and choose it."""
        if self.ui.modelSelector.findData(path) < 0:
            self._addModel(models.modelFromFile(path))
        self._set("model", path)

    def follow(self, parameters: Any) -> None:
        """Show what the parameter node says."""
        self._following = True
        try:
            self._select(self.ui.modelSelector, parameters.model)
            self._select(self.ui.deviceSelector, parameters.device)
            strengths = [strength for _name, strength in presets()]
            near = [i for i, strength in enumerate(strengths) if abs(strength - parameters.strength) < 0.005]
            self.ui.presetSelector.currentIndex = near[0] if near else len(strengths)
        finally:
            self._following = False
        onProcessor = parameters.device == "cpu" or (
            parameters.device == AUTOMATIC and all(device.isCPU for device in self._devices)
        )
        label = self.ui.deviceWarningLabel
        label.text = _("No graphics card is used: this takes minutes instead of seconds.")
        label.visible = onProcessor and bool(self._devices)

    def _set(self, name: str, value: Any) -> None:
        parameters = self._parameters()
        if parameters is not None and not self._following:
            setattr(parameters, name, value)

    def _onPreset(self, index: int) -> None:
        if 0 <= index < len(presets()):
            self._set("strength", presets()[index][1])

    def _onModel(self, index: int) -> None:
        if index >= 0:
            self._set("model", self.ui.modelSelector.itemData(index))

    def _onDevice(self, index: int) -> None:
        if index >= 0:
            self._set("device", self.ui.deviceSelector.itemData(index))

    def _onBrowseModel(self) -> None:
        filters = _("Weights") + " (*.safetensors)"
        path = qt.QFileDialog.getOpenFileName(self._parent, _("Weights file"), "", filters)
        if path:
            self.setModelFile(path)

    def _addModel(self, model: models.Model) -> None:
        selector = self.ui.modelSelector
        selector.addItem(model.text, model.key)
        selector.setItemData(selector.count - 1, model.explanation, qt.Qt.ToolTipRole)

    def _onDevices(self, devices: list[Device]) -> None:
        self._devices = devices
        selector = self.ui.deviceSelector
        was = selector.blockSignals(True)
        selector.clear()
        selector.addItem(_("Automatic"), AUTOMATIC)
        for device in devices:
            selector.addItem(device.text, device.spec)
        selector.blockSignals(was)
        parameters = self._parameters()
        if parameters is not None:
            self.follow(parameters)

    def _select(self, selector: Any, data: str) -> None:
        """Select the entry with these data; what a saved scene names and is not here becomes an entry."""
        if not data:  # the default model stands first
            selector.currentIndex = 0 if selector.count else -1
            return
        if selector.findData(data) < 0:
            selector.addItem(Path(data).name, data)
        selector.currentIndex = selector.findData(data)
