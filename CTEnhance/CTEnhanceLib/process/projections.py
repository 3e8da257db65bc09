"""Projections as the input of a run: what the panels that take them share."""

from __future__ import annotations

from slicer.i18n import tr as _

KERNELS = ("standard", "soft", "sharp", "hann", "shepp-logan", "ramp")


def named(scanned: str, dose: float) -> str:
    """Return the name of a simulated scan. The dose comes first: Slicer cuts long names in their middle, and
    '25 %' must not become '5 %'."""
    return scanned if dose == 1 else _("{percent:g} % {name}").format(percent=100 * dose, name=scanned)
