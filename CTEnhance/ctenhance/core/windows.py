"""The windows in which CT is looked at, and which of them suits a slice."""

from __future__ import annotations

import numpy as np

from ctenhance.runtime.errors import InputError

Window = tuple[float, float]

PRESETS: dict[str, Window] = {  # level, width in HU
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "full": (0.0, 2000.0),
}
PRESET_NAMES = {"lung": "Lung", "soft": "Soft tissue", "bone": "Bone", "full": "±1000 HU"}
LUNG_PART = 0.12  # of the body's section, from which on a slice is shown in the lung window
BODY_HU = -400.0


def chosen_window(window: str | Window | None, plane: np.ndarray) -> tuple[str, Window]:
    """Return name and (level, width) of a preset, of a pair, or of what suits the slice when None.

    Raises InputError for an unknown name and for a width that is not positive.
    """
    if window is None:
        window = "lung" if _lung_part(plane) > LUNG_PART else "soft"
    if isinstance(window, str):
        if window not in PRESETS:
            raise InputError(
                f"There is no window '{window}'; choose {', '.join(PRESETS)} or (level, width) in HU."
            )
        return PRESET_NAMES[window], PRESETS[window]
    level, width = (float(value) for value in window)
    if not width > 0:
        raise InputError(f"The window's width must be above 0 HU, but it is {width:g}.")
    return "Window", (level, width)


def _lung_part(plane: np.ndarray) -> float:
    from scipy import ndimage  # slow to load, and not needed where a window is named

    smooth = ndimage.gaussian_filter(np.asarray(plane, np.float32), 2)
    body = ndimage.binary_fill_holes(smooth > BODY_HU)
    lung = (smooth > -960) & (smooth < -600) & body
    return float(lung.sum() / max(int(body.sum()), 1))


def difference_limit(difference: np.ndarray) -> float:
    """A round limit (HU) of the colour scale that 98 % of the differences stay below."""
    needed = float(np.percentile(np.abs(difference), 98))
    steps = [base * 10**power for power in range(0, 4) for base in (1, 2, 5)]
    return float(next((step for step in steps if step >= needed), steps[-1]))
