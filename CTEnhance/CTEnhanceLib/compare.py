"""Before and after in slice views of their own: side by side, with the difference, fade, flicker.

Nothing here is computed a frame: a changed strength is shown by the opacity of the full effect over the
input, the difference map is computed once.
"""

from __future__ import annotations

import enum
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib import difference, placing
from CTEnhanceLib.views import LinkedViews, View

BEFORE_VIEW, AFTER_VIEW, DIFFERENCE_VIEW = "CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference"


class Mode(enum.Enum):
    """What is shown: the value is the number of the layout."""

    SIDE_BY_SIDE = 7101
    WITH_DIFFERENCE = 7102
    FADE = 7103

    def text(self) -> str:
        """Return the mode's name for people."""
        return {
            Mode.SIDE_BY_SIDE: _("Side by side"),
            Mode.WITH_DIFFERENCE: _("Side by side and difference"),
            Mode.FADE: _("Fade or flicker in one view"),
        }[self]

    def views(self) -> tuple[View, ...]:
        """Return the mode's views, from left to right."""
        before = View(BEFORE_VIEW, _("Before"), "#8C8C8C")
        after = View(AFTER_VIEW, _("After"), "#4CA64C")
        change = View(DIFFERENCE_VIEW, _("Difference"), "#C26BB3")
        return {
            Mode.SIDE_BY_SIDE: (before, after),
            Mode.WITH_DIFFERENCE: (before, after, change),
            Mode.FADE: (after,),
        }[self]


class Comparison:
    """Shows a result beside `placing.inputOf(result)`; `hide` brings the former layout back."""

    def __init__(self) -> None:
        self.mode = Mode.SIDE_BY_SIDE
        self.result: Any = None
        self._views = LinkedViews()
        self._difference = difference.DifferenceMap(self._update)
        self._fade = 1.0
        self._flicker = False
        self._preview: float | None = None
        self._range = 50.0

    @property
    def active(self) -> bool:
        """Whether the comparison is on the screen."""
        return self.result is not None and self._views.shown

    @property
    def busy(self) -> bool:
        """Whether a difference map is being computed."""
        return self._difference.busy

    def show(self, result: Any, mode: Mode | None = None) -> None:
        """Show this result and its input, in this mode or the one before."""
        if result is not self.result:
            self._difference.cancel()
        self.result = result
        self.mode = mode or self.mode
        self._views.show(self.mode.value, self.mode.views())
        if self.mode is Mode.WITH_DIFFERENCE:
            self._difference.request(result)
        self._update()
        self._views.fit(placing.inputOf(result))

    def hide(self) -> None:
        """Go back to the layout that was there before."""
        self._views.leave()
        self.forget()

    def forget(self) -> None:
        """Let go of all nodes (the scene closes); the layout stays."""
        self._difference.cancel()
        self._views.forget()
        self.result = self._preview = None
        self._flicker = False

    def setFade(self, fade: float) -> None:
        """In one view: 0 shows before, 1 after."""
        self._fade = fade
        self._update()

    def setFlicker(self, before: bool) -> None:
        """Show before in place of after, or after again."""
        self._flicker = before
        self._update()

    def setStrengthPreview(self, strength: float | None) -> None:
        """Show after as it would be at this strength; None: show its voxels again."""
        self._preview = strength
        self._update()

    def setDifferenceRange(self, hounsfield: float) -> None:
        """Reach full colour at this difference."""
        self._range = hounsfield
        self._update()

    def _update(self) -> None:
        """Tell each view which volumes it shows; cheap where nothing changed."""
        if not self.active:
            return
        before, full = placing.inputOf(self.result), placing.fullEffectOf(self.result)
        if before is None:
            return
        preview = self._preview if full is not None else None
        show = self._views.setLayers
        if self.mode is not Mode.FADE:
            show(BEFORE_VIEW, before)
        if self.mode is Mode.WITH_DIFFERENCE:
            strength = placing.strengthOf(self.result) if preview is None else preview
            difference.scale(self.result, self._range, strength if full is not None else 1.0)
            show(DIFFERENCE_VIEW, None if self.busy else placing.differenceOf(self.result))
        fade = self._fade if self.mode is Mode.FADE else 1.0
        if self.mode is Mode.FADE or preview is not None:
            over, opacity = (self.result, fade) if preview is None else (full, fade * preview)
            show(AFTER_VIEW, before, over, 0.0 if self._flicker else opacity)
        else:
            # One layer is a third faster to scroll than two.
            show(AFTER_VIEW, before if self._flicker else self.result)
