"""The section Stages of CT Reconstruct (`Resources/UI/StagesSection.ui`): its widgets, and what they do."""

from __future__ import annotations

import functools
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.panel import styles
from CTEnhanceLib.reconstruct.job import agrees, consistencyTexts, doseTexts
from CTEnhanceLib.reconstruct.stages import Overlay, StageViews, sinogramOf, stagesOf
from CTEnhanceLib.scene import placing


class StagesSection:
    """Connects the section's widgets; `setResult` says which reconstruction they are about."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.stages = StageViews()
        self.stages.views.onLeft = functools.partial(setattr, ui.stagesButton, "checked", False)
        self._result: Any = None
        for overlay in Overlay:
            ui.overlaySelector.addItem(overlay.text())
        ui.stagesButton.connect("toggled(bool)", self._onStages)
        ui.sinogramBox.connect("toggled(bool)", self.stages.setSinogram)
        ui.overlaySelector.connect("currentIndexChanged(int)", self._onOverlay)
        ui.overlayRangeSlider.connect("valueChanged(double)", self.stages.setOverlayRange)
        ui.overlayOpacitySlider.connect("valueChanged(double)", self.stages.setOverlayOpacity)
        ui.compareButton.connect("toggled(bool)", self._onCompare)
        self.refresh()

    def setResult(self, result: Any, shown: bool = True) -> None:
        """Tell of this reconstruction and offer its stages; None: there is none.

        shown - whether stages that are on the screen give way to its own at once; else by `show`
        """
        self._result = result if stagesOf(result) else None
        if self._result is None:
            self.ui.stagesButton.checked = False
        elif shown and self.stages.active:
            self.stages.show(self._result)
        self.refresh()

    def show(self) -> None:
        """Show the stages, also when those of another result are shown."""
        if self._result is None:
            return
        self.ui.compareButton.checked = False
        if self.ui.stagesButton.checked:
            self.stages.show(self._result)
        else:
            self.ui.stagesButton.checked = True

    def hide(self) -> None:
        """Give the layout back and let go of all nodes."""
        self.ui.stagesButton.checked = False
        self.setResult(None)

    def refresh(self) -> None:
        """Show what can be done with the result, and what its report says."""
        ui, ready = self.ui, self._result is not None
        if ui.stagesButton.checked and not self.stages.active:  # others have taken the views
            ui.stagesButton.checked = False
        active = self.stages.active
        ui.stagesButton.enabled = ready
        ui.stagesButton.text = _("Stop showing") if active else _("Show stages")
        ui.stagesButton.toolTip = (
            _("Show the stages of the reconstruction side by side.")
            if ready
            else _("There is nothing to show yet: press Apply.")
        )
        ui.sinogramBox.enabled = active and sinogramOf(self._result) is not None
        chosen = list(Overlay)[ui.overlaySelector.currentIndex].of(self._result) is not None
        ui.overlaySelector.enabled = active
        ui.overlayRangeSlider.enabled = ui.overlayOpacitySlider.enabled = active and chosen
        report = placing.reportOf(self._result)
        ui.doseEstimateLabel.text, ui.doseEstimateLabel.toolTip = doseTexts(report)
        ui.consistencyLabel.text, ui.consistencyLabel.toolTip = consistencyTexts(report)
        ui.consistencyLabel.styleSheet = "" if agrees(report) else styles.warning()
        self._showRows()
        self._sayOverlay()

    def _showRows(self) -> None:
        """What says nothing yet, or nothing of a comparison, leaves its place to the sections below."""
        ui, ready, compared = self.ui, self._result is not None, bool(self.ui.compareButton.checked)
        ui.consistencyTitle.visible = ui.consistencyLabel.visible = ready
        ui.doseEstimateTitle.visible = ui.doseEstimateLabel.visible = ready and not compared
        ui.overlayLabel.visible = ui.overlaySelector.visible = not compared
        chosen = list(Overlay)[ui.overlaySelector.currentIndex] is not Overlay.NONE
        for widget in (ui.overlayRangeLabel, ui.overlayRangeSlider, ui.overlayOpacityLabel,
                       ui.overlayOpacitySlider, ui.overlayLegendLabel):  # fmt: skip
            widget.visible = chosen and not compared

    def _sayOverlay(self) -> None:
        overlay = list(Overlay)[self.ui.overlaySelector.currentIndex]
        missing = (
            overlay is not Overlay.NONE and self._result is not None and overlay.of(self._result) is None
        )
        texts = {
            Overlay.NONE: "",
            Overlay.RESIDUAL: _("Red: the data say more than the image, blue: less; clear: may be noise."),
            Overlay.UNCERTAINTY: _("From clear over yellow to red: how far the draws differ."),
        }
        lacking = _("This result has no such map: choose it under Advanced, and press Apply.")
        self.ui.overlayLegendLabel.text = lacking if missing else texts[overlay]

    def _onStages(self, checked: bool) -> None:
        if checked and self._result is not None:
            self.ui.compareButton.checked = False
            self.stages.show(self._result)
        else:
            self.stages.hide()
        self.refresh()

    def _onCompare(self, checked: bool) -> None:
        if checked:  # its views stand where ours were
            self.refresh()
        else:
            self._showRows()

    def _onOverlay(self, index: int) -> None:
        self.stages.setOverlay(list(Overlay)[index])
        suggested = self.stages.suggestedRange()
        if suggested is not None:
            self.ui.overlayRangeSlider.value = suggested
        self.refresh()
