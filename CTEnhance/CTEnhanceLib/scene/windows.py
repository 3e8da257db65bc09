"""Window and level of volumes in HU: those of reading protocols, and which of them suits an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

# Window and level in HU, as in common reading protocols; the order is that of the keys 1 to 8.
WINDOWS = {
    "lung": (1500, -600),
    "mediastinum": (350, 50),
    "bone": (2000, 500),
    "liver": (150, 90),
    "abdomen": (400, 40),
    "brain": (80, 40),
    "angiography": (600, 200),
    "metal": (4000, 1000),
}


def label(name: str) -> str:
    """Return what a window of WINDOWS is called for people."""
    return {
        "lung": _("Lung"),
        "mediastinum": _("Mediastinum"),
        "bone": _("Bone"),
        "liver": _("Liver"),
        "abdomen": _("Abdomen"),
        "brain": _("Brain"),
        "angiography": _("Vessels"),
        "metal": _("Metal"),
    }[name]


# In HU: what is lung, and what encloses it; and the share of lung in the body from which a scan is one of it.
_LUNG, _ENCLOSING, _SHARE = (-960, -500), (-300, 3000), 0.15
# So many slices and rows are looked at, at most.
_MOST = (40, 128, 128)


def setWindow(node: Any, name: str) -> None:
    """Give the volume's display, and so all volumes that share it, a window of WINDOWS."""
    setValues(node, *WINDOWS[name])


def setValues(node: Any, window: float, level: float) -> None:
    """Give the volume's display, and so all volumes that share it, this window and level."""
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(window, level)


def sparse(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return which voxels [slice, row, column] are enough to tell what a volume shows."""
    steps = (max(1, -(-length // most)) for length, most in zip(shape, _MOST, strict=True))
    return tuple(slice(None, None, step) for step in steps)


def suitable(values: np.ndarray) -> str:
    """Return the window of WINDOWS that suits a CT [slice, row, column] in HU: that of lung, or soft tissue.

    Slicer's own first window spans the whole range of the values, so that no tissue stands out from another.
    """
    some = values[sparse(values.shape)]
    wall = (some > _ENCLOSING[0]) & (some < _ENCLOSING[1])
    body = np.ones(some.shape, bool)
    for axis in (1, 2):
        for way in (1, -1):  # tissue on all sides: the air about a patient has none on one of them
            back = (slice(None),) * axis + (slice(None, None, way),)
            body &= np.logical_or.accumulate(wall[back], axis)[back]
    lung = body & (some > _LUNG[0]) & (some < _LUNG[1])
    return "lung" if np.count_nonzero(lung) > _SHARE * np.count_nonzero(body) else "mediastinum"
