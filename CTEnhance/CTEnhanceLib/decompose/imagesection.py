"""The rows of CT Decompose in which images and their energies are chosen."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.decompose.images import SpectralImages, energyOf
from CTEnhanceLib.panel.sourcerows import typedPath
from CTEnhanceLib.process.folders import chooseFolder

#: The rows' names in the panel and in its parameters, in their order.
ROWS = ("first", "second", "third")


class ImageSection:
    """Fills in energies as volumes are chosen, and tells what is chosen."""

    def __init__(self, ui: Any, panel: Any) -> None:
        self._ui, self._panel = ui, panel
        self._nodes: dict[str, Any] = dict.fromkeys(ROWS)
        self._parameters: Any = None
        ui.imageFolderButton.connect("clicked()", self._onFolder)

    def follow(self, parameters: Any, visible: bool) -> None:
        """Show the rows, and write the energy of a volume that was just chosen beside it."""
        ui = self._ui
        self._parameters = parameters
        for row in ROWS:
            for part in ("Label", "Selector"):
                getattr(ui, f"{row}Image{part}").visible = visible
            getattr(ui, f"{row}EnergyEdit").visible = visible
        for widget in (ui.imageFolderLabel, ui.imageFolderEdit, ui.imageFolderButton):
            widget.visible = visible
        for row in ROWS:
            node = getattr(parameters, f"{row}Image")
            if node is not self._nodes[row]:
                before, self._nodes[row] = self._nodes[row], node
                # A scene that is loaded brings energies with its volumes, which the user may have written.
                if node is not None and (before is not None or not getattr(parameters, f"{row}Energy")):
                    setattr(parameters, f"{row}Energy", energyOf(node))

    def chosen(self) -> SpectralImages:
        """Return what the rows name."""
        parameters = self._parameters
        pairs = [
            (getattr(parameters, f"{row}Energy"), getattr(parameters, f"{row}Image"))
            for row in ROWS
            if getattr(parameters, f"{row}Image") is not None
        ]
        return SpectralImages(tuple(pairs), typedPath(parameters.imageFolder))

    def _onFolder(self) -> None:
        path = chooseFolder(self._panel, _("Folder of a DICOM study"))
        if path and self._parameters is not None:
            self._parameters.imageFolder = path
