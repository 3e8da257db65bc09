"""The list of a panel's results in the scene: which of them is compared and described under Details."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.modelnames import titleOf


def resultsOf(verb: str) -> list[Any]:
    """Return the visible volumes that this verb has made, by their reports, in the order of the scene."""
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in found
        if not node.GetHideFromEditors() and (placing.reportOf(node) or {}).get("verb") == verb
    ]


class ResultChoice:
    """Fills a QComboBox with the results of a verb. `onChosen(node)` is called when the user chooses one."""

    def __init__(self, selector: Any, verb: str, onChosen: Callable[[Any], None]) -> None:
        self._selector, self._verb, self._onChosen = selector, verb, onChosen
        self._filling = False
        selector.connect("currentIndexChanged(int)", self._onIndex)

    def show(self, result: Any) -> None:
        """List what there is now, and show this one; None: none is chosen."""
        selector = self._selector
        results = resultsOf(self._verb)
        if result is not None and result not in results:
            results.append(result)  # by another verb, or without a report
        self._filling = True
        try:
            selector.clear()
            selector.addItem(_("Choose a result") if results else _("None yet"), "")
            for node in results:
                selector.addItem(titleOf(node), node.GetID())
            selector.currentIndex = results.index(result) + 1 if result is not None else 0
        finally:
            self._filling = False
        selector.enabled = bool(results)

    def _onIndex(self, index: int) -> None:
        if index >= 0 and not self._filling:
            node = slicer.mrmlScene.GetNodeByID(self._selector.itemData(index) or "")
            self._onChosen(node)
