"""What is to be known of an image, in the lower left corner of its view: slice, window, and for what it is.

It is written into the image, so that screenshots have it, too, and brought up to date as a frame begins, so
that no change of slice or window is missed.
"""

from __future__ import annotations

import functools
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.scene import units
from CTEnhanceLib.views import slab, slices
from CTEnhanceLib.views.title import ViewText

_POINTS = 12
_MARGIN = 4  # pixels
_GROUND = (0.0, 0.0, 0.0)


class ViewCaption(ViewText):
    """The caption of a slice view, of its logic and its renderer."""

    def __init__(self, renderer: Any, logic: Any) -> None:
        self._logic = logic
        #: Whether it is shown: a view may be another panel's by now.
        self.enabled = True
        super().__init__(renderer, _POINTS)
        letters = self._actor.GetTextProperty()
        letters.SetJustificationToLeft()
        letters.SetVerticalJustificationToBottom()

    def _onFrame(self, caller: Any, event: str) -> None:
        slab.centre(self._logic)
        self.show("\n".join(lines(self._logic)) if self.enabled else "", _GROUND)
        super()._onFrame(caller, event)

    def _place(self, width: int, height: int) -> None:
        self._actor.SetPosition(_MARGIN / width, _MARGIN / height)


def lines(logic: Any) -> list[str]:
    """Return what is to be known of the image in a slice view; nothing where there is none."""
    position = slices.position(logic)
    if position is None:
        return []
    place, outside, shades, purpose = _texts()
    volume = logic.GetBackgroundLayer().GetVolumeNode()
    if not slices.within(logic, volume):
        place = outside
    where = place.format(number=position[0], count=position[1], place=slices.place(logic.GetSliceNode()))
    display, window = volume.GetDisplayNode(), ""
    if display is not None:
        window = shades.format(
            width=display.GetWindow(), level=display.GetLevel(), unit=units.sign(volume)
        ).strip()
    return [line for line in (where, slab.text(logic), window, purpose) if line]


@functools.cache
def _texts() -> tuple[str, str, str, str]:
    """Return what is said of the slice, of the window, and for what it is: looked up once, not each frame."""
    return (
        _("Slice {number}/{count}, {place}"),
        _("Outside this scan: {place}"),
        _("W {width:.4g} L {level:.4g} {unit}"),
        _("Research use only"),
    )
