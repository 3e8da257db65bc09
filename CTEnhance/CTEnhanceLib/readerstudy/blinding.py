"""What Slicer tells of shown images beside the images themselves, closed while a study is read.

The Data Probe below the panel, the annotations in the corners of the views and the views' own bars name what
is shown. Nodes, files and window titles need nothing here: see `views`, which gives them no name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import qt
import slicer

from CTEnhanceLib.views import annotations

_DATA_PROBE = "DataProbeCollapsibleWidget"


class Blindfold:
    """`close` hides all that, `open` brings back what was there."""

    def __init__(self) -> None:
        self._closed = False
        self._probe: Any = None
        self._annotations: tuple[Any, Any] | None = None
        self._views: set[str] = set()
        self._hidden: list[Any] = []

    def close(self, views: Iterable[str]) -> None:
        """Hide it, with the bars of these views; may be called again, for other views."""
        if not self._closed:
            self._closed = True
            self._closeProbe()
            self._closeAnnotations()
            self._hideDrawings()
        for name in views:
            widget = slicer.app.layoutManager().sliceWidget(name)
            if widget is not None:
                self._views.add(name)
                widget.sliceController().visible = False
                # Of an earlier time, when these views stood open.
                widget.sliceView().cornerAnnotation().ClearAllTexts()

    def open(self) -> None:
        """Bring everything back as it was."""
        if not self._closed:
            return
        self._closed = False
        if self._probe is not None:
            self._probe.visible = True
            self._probe = None
        if self._annotations is not None:
            found, enabled = self._annotations
            found.sliceViewAnnotationsEnabled = enabled
            self._annotations = None
        for name in self._views:
            widget = slicer.app.layoutManager().sliceWidget(name)
            if widget is not None:
                widget.sliceController().visible = True
        self._views.clear()
        for display in self._hidden:
            if slicer.mrmlScene.IsNodePresent(display):
                display.SetVisibility2D(True)
        self._hidden = []

    def _hideDrawings(self) -> None:
        """Take regions, points and contours of other work out of the views, where they would lie over images
        that they have nothing to do with."""
        for kind in ("Markups", "Segmentation", "Model"):
            for display in slicer.util.getNodesByClass(f"vtkMRML{kind}DisplayNode"):
                if display.GetVisibility2D():
                    display.SetVisibility2D(False)
                    self._hidden.append(display)

    def _closeProbe(self) -> None:
        window = slicer.util.mainWindow()
        # Not `slicer.util.findChildren`, which looks at thousands of widgets in Python.
        found = window.findChild(qt.QWidget, _DATA_PROBE) if window is not None else None
        if found is not None and not found.isHidden():
            self._probe = found
            self._probe.visible = False

    def _closeAnnotations(self) -> None:
        found = annotations.theirs()
        if found is not None:
            self._annotations = (found, found.sliceViewAnnotationsEnabled)
            found.sliceViewAnnotationsEnabled = False
