"""Before and after in slice views of their own: side by side, with the difference, fade, flicker.

Nothing here is computed for whole volumes: another strength and the difference are made of the shown slices
only. What a view's title says, and what the mouse reads in it, is what it shows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.compare.difference import DifferenceView
from CTEnhanceLib.compare.strength import LiveBlend
from CTEnhanceLib.scene import placing
from CTEnhanceLib.views.linked import LinkedViews, View, description, sliceWidget

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

    def views(self, names: tuple[str, str] | None = None) -> tuple[View, ...]:
        """Return the mode's views, from left to right; `names` are those of before and after."""
        first, second = names or (_("Before"), _("After"))
        before, after = View(BEFORE_VIEW, first, "#8C8C8C"), View(AFTER_VIEW, second, "#4CA64C")
        change = View(DIFFERENCE_VIEW, _("Difference"), "#C26BB3")
        return {
            Mode.SIDE_BY_SIDE: (before, after),
            Mode.WITH_DIFFERENCE: (before, after, change),
            Mode.FADE: (after,),
        }[self]


def layouts() -> Iterator[tuple[int, str]]:
    """Yield number and description of every layout that a comparison may need."""
    for mode in Mode:
        yield mode.value, description(mode.views())


class Comparison:
    """Shows a result beside `placing.inputOf(result)`; `hide` brings the former layout back.

    names(result) - what before and after are called in the views' titles
    """

    def __init__(self, names: Callable[[Any], tuple[str, str]]) -> None:
        self.mode = Mode.SIDE_BY_SIDE
        self.result: Any = None
        self._names = names
        self._before, self._after = Mode.SIDE_BY_SIDE.views(names(None))
        self._views = LinkedViews()
        self._difference = DifferenceView()
        self._blend: LiveBlend | None = None
        self._tags: list[tuple[Any, int]] = []
        self._titles: dict[str, tuple[str, View]] = {}
        self._fade = 1.0
        self._flicker = False
        self._preview: float | None = None
        self._range = 50.0

    @property
    def active(self) -> bool:
        """Whether the comparison is on the screen."""
        return self.result is not None and self._views.shown

    def show(self, result: Any, mode: Mode | None = None) -> None:
        """Show this result and its input, in this mode or the one before."""
        self._release()
        self.result = result
        self.mode = mode or self.mode
        names = self._names(result)
        self._before, self._after = Mode.SIDE_BY_SIDE.views(names)
        self._views.show(self.mode.value, self.mode.views(names))
        for view in (AFTER_VIEW, DIFFERENCE_VIEW)[: 2 if self.mode is Mode.WITH_DIFFERENCE else 1]:
            widget = sliceWidget(view)
            if widget is not None:
                node = widget.mrmlSliceNode()
                self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onSlice)))
        self._update()
        self._views.fit(placing.inputOf(result))

    def hide(self) -> None:
        """Go back to the layout that was there before."""
        self._release()
        self._views.leave()
        self.forget()

    def forget(self) -> None:
        """Let go of all nodes (the scene closes); the layout stays."""
        self._release()
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

    def _release(self) -> None:
        """Let go of what is made for the views."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags, self._titles = [], {}
        self._difference.remove()
        self._dropBlend()

    def _dropBlend(self) -> None:
        if self._blend is not None:
            self._blend.remove()
        self._blend = None

    def _update(self) -> None:
        """Tell each view which volumes it shows, and name them; cheap where nothing changed."""
        if not self.active:
            return
        before, full = placing.inputOf(self.result), placing.fullEffectOf(self.result)
        if before is None:
            return
        after, strength = self._atStrength(full)
        show = self._views.setLayers
        if self.mode is not Mode.FADE:
            show(BEFORE_VIEW, before)
            self._name(BEFORE_VIEW, f"{self._before.label}\n{before.GetName()}", self._before)
        if self.mode is Mode.WITH_DIFFERENCE:
            self._showDifference(strength)
        opacity = 0.0 if self._flicker else self._fade if self.mode is Mode.FADE else 1.0
        if self.mode is Mode.FADE:
            show(AFTER_VIEW, before, after, opacity)
        else:
            # One layer is a third faster to scroll than two.
            show(AFTER_VIEW, before if self._flicker else after)
        if after is self.result:
            self._dropBlend()  # now that no view shows it any more
        if opacity == 0:
            self._name(AFTER_VIEW, f"{self._before.label}\n{before.GetName()}", self._before)
            return
        title = self._after.label
        if opacity < 1:
            title = _("{after}, {percent:.0f} % over {before}").format(
                after=self._after.label, percent=100 * opacity, before=self._before.label
            )
        name = self.result.GetName()
        if full is not None or placing.hasStrength(self.result):
            name = _("{name}, strength {percent:.0f} %").format(name=name, percent=100 * strength)
        self._name(AFTER_VIEW, f"{title}\n{name}", self._after)

    def _atStrength(self, full: Any) -> tuple[Any, float]:
        """Return the node that is shown as after, and its strength."""
        written, preview = placing.strengthOf(self.result), self._preview
        widget = sliceWidget(AFTER_VIEW)
        if preview is None or preview == written or full is None or widget is None:
            return self.result, written
        try:
            if self._blend is None:
                self._blend = LiveBlend(self.result, preview)
        except MemoryError:  # then it follows when the slider rests
            return self.result, written
        self._blend.setting = preview
        self._blend.show([widget.mrmlSliceNode()])
        return self._blend.node, preview

    def _showDifference(self, strength: float) -> None:
        widget, title = sliceWidget(DIFFERENCE_VIEW), _("Difference")
        if widget is None:
            return
        try:
            node = self._difference.show(widget, self.result, strength, self._range)
            title += "\n" + _("{after} minus {before}").format(
                after=self._after.label, before=self._before.label
            )
        except MemoryError:
            node = None
            title += "\n" + _("not enough memory: close other volumes")
        self._views.setLayers(DIFFERENCE_VIEW, node)
        self._name(DIFFERENCE_VIEW, title, Mode.WITH_DIFFERENCE.views()[2])

    def _name(self, view: str, title: str, like: View) -> None:
        if self._titles.get(view) != (title, like):  # it has the view drawn anew
            self._titles[view] = title, like
            self._views.setLabel(view, title, like)

    def _onSlice(self, caller: Any, _event: Any) -> None:
        """A view was scrolled: what it looks at now has to be there before it is drawn."""
        if not self.active:
            return
        after, difference = sliceWidget(AFTER_VIEW), sliceWidget(DIFFERENCE_VIEW)
        if self._blend is not None and after is not None and caller is after.mrmlSliceNode():
            self._blend.show([caller])
        if difference is not None and caller is difference.mrmlSliceNode():
            self._difference.follow(caller)
