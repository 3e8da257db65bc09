"""The rows of a panel that say where its projections come from: those of the chosen source are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from CTEnhanceLib.process.folders import chooseFolder


def typed(text: str) -> str:
    """Return a path as the user typed or pasted it, without what surrounds it."""
    return text.strip().strip('"')


def typedPath(text: str) -> Path | None:
    """Return the path, or None where nothing was typed."""
    path = typed(text)
    return Path(path).expanduser() if path else None


class SourceRows:
    """Shows the widgets of one source, and fills in the path by the buttons File and Folder.

    shown, enabled - by source, the names of the widgets that are visible and enabled with it only; a widget
    may belong to several sources
    onPath(path) - a file or folder was chosen
    """

    def __init__(
        self,
        ui: Any,
        shown: Mapping[Any, Sequence[str]],
        enabled: Mapping[Any, Sequence[str]],
        onPath: Callable[[str], None],
    ) -> None:
        self._ui, self._shown, self._enabled, self._onPath = ui, shown, enabled, onPath
        ui.fileButton.connect("clicked()", self._onFile)
        if hasattr(ui, "folderButton"):
            ui.folderButton.connect("clicked()", self._onFolder)

    def follow(self, source: Any) -> None:
        """Show the rows of this source."""
        for rows, attribute in ((self._shown, "visible"), (self._enabled, "enabled")):
            own = set(rows.get(source, ()))
            for name in {name for names in rows.values() for name in names}:
                setattr(getattr(self._ui, name), attribute, name in own)

    def _onFile(self) -> None:
        self._choose(chooseFile(self._ui.fileButton, _("Projection file"), _("Projections")))

    def _onFolder(self) -> None:
        parent = self._ui.folderButton
        self._choose(chooseFolder(parent, _("Folder of DICOM-CT-PD files")))

    def _choose(self, path: str) -> None:
        if path:
            self._onPath(path)


def chooseFile(parent: Any, title: str, kind: str) -> str:
    """Have the user choose an HDF5 file, and return its path; empty where he would rather not."""
    return qt.QFileDialog.getOpenFileName(parent, title, "", f"{kind} (*.h5 *.hdf5)")
