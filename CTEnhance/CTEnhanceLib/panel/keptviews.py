"""How a panel shows things, kept with the scene: view mode, slab, energies."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import Any

from CTEnhanceLib.compare.modes import Mode
from CTEnhanceLib.views.history import History
from CTEnhanceLib.views.slab import Projection

#: By the parameter's name: a QComboBox with the Enum whose members it lists, or a slider with None.
Widgets = Mapping[str, tuple[Any, type[enum.Enum] | None]]


def shared(ui: Any) -> Widgets:
    """Return the widgets of the sections that panels share, as far as a panel has them."""
    known = {
        "viewMode": ("viewModeSelector", Mode),
        "slab": ("slabSelector", Projection),
        "slabThickness": ("slabSlider", None),
    }
    return {
        name: (getattr(ui, widget), kind) for name, (widget, kind) in known.items() if hasattr(ui, widget)
    }


class KeptViews:
    """Keeps what some lists and sliders say in parameters of the scene, and has them say it again.

    Slicer would do so for widgets that are bound to parameters, but it fills a bound list anew each time,
    and the views would be laid out with each of its entries.
    """

    def __init__(self, widgets: Widgets, history: History) -> None:
        self._widgets, self._history = widgets, history
        self._parameters: Any = None
        for name, (widget, kind) in widgets.items():
            signal = "valueChanged(double)" if kind is None else "currentIndexChanged(int)"
            widget.connect(signal, functools.partial(self._onChanged, name))

    def follow(self, parameters: Any) -> None:
        """Show what this parameter node says, and keep changes there; None: nowhere."""
        self._parameters = None  # what changes now is told by the node
        with self._history.paused():
            for name, (widget, kind) in self._widgets.items() if parameters is not None else ():
                value = getattr(parameters, name)
                if kind is None:
                    widget.value = value
                else:
                    widget.currentIndex = list(kind).index(value)
        self._parameters = parameters

    def _onChanged(self, name: str, shown: float) -> None:
        kind, parameters = self._widgets[name][1], self._parameters
        if parameters is None or shown < 0:  # -1: of a list that is being filled
            return
        node = parameters.parameterNode
        silent = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(True)  # the panel shows it already
        setattr(parameters, name, float(shown) if kind is None else list(kind)[int(shown)])
        node.SetDisableModifiedEvent(silent)
