"""How a panel shows things, kept with the scene: view mode, fade, slab, plot, trust map, energies."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import Any

from CTEnhanceLib.compare.figures import Figure
from CTEnhanceLib.compare.modes import Mode
from CTEnhanceLib.views.history import History
from CTEnhanceLib.views.slab import Projection

#: By the parameter's name: a QComboBox with the Enum whose members it lists, a box to be checked with bool,
#: or a slider with float. Followed in this order.
Widgets = Mapping[str, tuple[Any, type]]
_SIGNALS = {bool: "toggled(bool)", float: "valueChanged(double)"}


def shared(ui: Any) -> Widgets:
    """Return the widgets of the sections that panels share, as far as a panel has them."""
    known = {
        "viewMode": ("viewModeSelector", Mode),
        "fade": ("fadeSlider", float),  # after the mode: a swipe begins in the middle
        "differenceRange": ("differenceSlider", float),
        "slab": ("slabSelector", Projection),
        "slabThickness": ("slabSlider", float),
        "figure": ("figureSelector", Figure),
        "trustShown": ("trustBox", bool),
        "trustRange": ("trustRangeSlider", float),  # after the box, which suggests one
    }
    return {
        name: (getattr(ui, widget), kind) for name, (widget, kind) in known.items() if hasattr(ui, widget)
    }


class KeptViews:
    """Keeps what some widgets say in parameters of the scene, and has them say it again.

    Slicer would do so for widgets that are bound to parameters, but it fills a bound list anew each time,
    and the views would be laid out with each of its entries.
    """

    def __init__(self, widgets: Widgets, history: History) -> None:
        self._widgets, self._history = widgets, history
        self._parameters: Any = None
        for name, (widget, kind) in widgets.items():
            signal = _SIGNALS.get(kind, "currentIndexChanged(int)")
            widget.connect(signal, functools.partial(self._onChanged, name))

    def follow(self, parameters: Any) -> None:
        """Show what this parameter node says, and keep changes there; None: nowhere."""
        self._parameters = None  # what changes now is told by the node
        with self._history.paused():
            for name, (widget, kind) in self._widgets.items() if parameters is not None else ():
                value = getattr(parameters, name)
                if issubclass(kind, enum.Enum):
                    widget.currentIndex = list(kind).index(value)
                elif kind is bool:
                    widget.checked = value
                else:
                    widget.value = value
        self._parameters = parameters

    def _onChanged(self, name: str, shown: Any) -> None:
        kind, parameters = self._widgets[name][1], self._parameters
        chosen = issubclass(kind, enum.Enum)
        if parameters is None or (chosen and shown < 0):  # -1: of a list that is being filled
            return
        node = parameters.parameterNode
        silent = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(True)  # the panel shows it already
        setattr(parameters, name, list(kind)[int(shown)] if chosen else kind(shown))
        node.SetDisableModifiedEvent(silent)
