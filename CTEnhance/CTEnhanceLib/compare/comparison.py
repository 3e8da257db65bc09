"""Two volumes in slice views of their own: side by side, with the difference, fade, flicker, swipe.

Nothing here is computed for whole volumes: another strength and the difference are made of the shown slices
only. What a view's title says, and what the mouse reads in it, is what it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.compare.difference import DifferenceView
from CTEnhanceLib.compare.modes import AFTER_COLOR, BEFORE_COLOR, WITH_PLOT, Mode, Side
from CTEnhanceLib.compare.pair import Names, Pair, TiedWindows
from CTEnhanceLib.compare.strength import LiveBlend
from CTEnhanceLib.compare.trust import OPACITY, TrustOverlay
from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.modelnames import titleOf
from CTEnhanceLib.views.linked import LinkedViews, sliceWidget
from CTEnhanceLib.views.swipe import Swipe
from CTEnhanceLib.views.view import View


class Comparison:
    """Shows a result beside another volume, its input if none is chosen; `hide` brings back what was before.

    names(result) - what an input and its result are called in the views' titles
    onSwipe(part) - the line of the swipe was dragged there
    """

    def __init__(self, names: Names, onSwipe: Callable[[float], None] = lambda part: None) -> None:
        self.mode = Mode.SIDE_BY_SIDE
        self.result: Any = None
        self.views = LinkedViews()
        self._other: Any = None
        self._swapped = False
        self._ofResult = names
        self._difference = DifferenceView()
        self._swipe = Swipe(onSwipe)
        self._trust = TrustOverlay()
        self._windows = TiedWindows()
        self._blend: LiveBlend | None = None
        self._tags: list[tuple[Any, int]] = []
        self._titles: dict[str, tuple[str, View]] = {}
        self._fade = 1.0
        self._flicker = False
        self._preview: float | None = None
        self._range = 50.0
        self._below = ""

    @property
    def active(self) -> bool:
        """Whether the comparison is on the screen."""
        return self.result is not None and self.views.shown

    @property
    def pair(self) -> Pair | None:
        """What is compared; None: nothing."""
        other = self._other or placing.inputOf(self.result)
        return Pair(self.result, other, self._swapped) if other is not None else None

    def names(self) -> tuple[str, str]:
        """Return what first and second are called."""
        pair = self.pair
        return self._ofResult(self.result) if pair is None else pair.names(self._ofResult)

    def show(self, result: Any, mode: Mode | None = None) -> None:
        """Show this result and what it is compared with, in this mode or the one before."""
        self._release()
        if result is not self.result:
            self.result, self._other = result, self._other if self._other is not result else None
        self.mode = mode or self.mode
        self._lay()
        for view in self.mode.views():
            widget = sliceWidget(view.name)
            if widget is not None:
                node = widget.mrmlSliceNode()
                self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onSlice)))
        pair = self.pair
        if pair is not None:
            self._windows.tie(pair.result.GetDisplayNode(), pair.other.GetDisplayNode())
        self._update()
        self.views.fit(placing.inputOf(result) or result)

    def hide(self) -> None:
        """Go back to the layout that was there before."""
        self._release()
        self.views.leave()
        self.forget()

    def forget(self) -> None:
        """Let go of all nodes (the scene closes); the layout stays."""
        self._release()
        self.views.forget()
        self.result = self._other = self._preview = None
        self._flicker = self._swapped = False

    def setOther(self, other: Any) -> None:
        """Compare with this volume; None: with the result's input."""
        if other is not self._other:
            self._other = other
            if self.active:
                self.show(self.result)

    def setSwapped(self, swapped: bool) -> None:
        """Show the result on the left, or on the right again."""
        self._swapped = swapped
        self._update()

    def setBelow(self, item: str) -> bool:
        """Have another layout item below the views, or none (empty); say whether it is another one."""
        if item == self._below:
            return False
        self._below = item
        if self.active:
            self.show(self.result)
        return True

    def setFade(self, fade: float) -> None:
        """In one view: 0 shows the first, 1 the second; of the swipe, where its line is."""
        self._fade = fade
        self._update()

    def setFlicker(self, first: bool) -> None:
        """Show the first in place of the second, or the second again."""
        self._flicker = first
        self._update()

    def setStrengthPreview(self, strength: float | None) -> None:
        """Show the result as it would be at this strength; None: show its voxels again."""
        self._preview = strength
        self._update()

    def setDifferenceRange(self, hounsfield: float) -> None:
        """Reach full colour at this difference."""
        self._range = hounsfield
        self._update()

    def setTrustMap(self, shown: bool) -> None:
        """Lay the trust map of the result over it where it is side by side, or don't."""
        self._trust.shown = shown
        self._update()

    def setTrustRange(self, hounsfield: float) -> None:
        """Reach full colour at this expected error."""
        self._trust.setRange(hounsfield)
        self._update()

    def _lay(self) -> None:
        number = self.mode.value + (WITH_PLOT if self._below else 0)
        self.views.show(number, self.mode.views(self.names()), self.mode.rows, self._below)

    def _release(self) -> None:
        """Let go of what is made for the views."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags, self._titles = [], {}
        self._difference.remove()
        self._swipe.remove()
        self._trust.scale(())
        self._windows.release()
        self._dropBlend()

    def _dropBlend(self) -> None:
        if self._blend is not None:
            self._blend.remove()
        self._blend = None

    def _update(self) -> None:
        """Tell each view which volumes it shows, and name them; cheap where nothing changed."""
        pair = self.pair if self.active else None
        if pair is None:
            return
        shown, strength = self._atStrength(pair)
        nodes = {Side.FIRST: pair.first, Side.SECOND: pair.second}
        images = {side: shown if node is pair.result else node for side, node in nodes.items()}
        names = dict(zip((Side.FIRST, Side.SECOND), self.names(), strict=True))
        places = self.mode.places(self.names())
        trusted: list[str] = []
        for side, view in places:
            if side is Side.DIFFERENCE:
                self._showDifference(pair, strength, view)
                continue
            content = Side.FIRST if self._flicker else side
            over, sides = None, (content,)
            if self.mode.single:
                opacity = 0.0 if self._flicker or self.mode is Mode.SWIPE else self._fade
                self.views.setLayers(view.name, images[Side.FIRST], images[Side.SECOND], opacity)
                self._showSwipe(view)
                title, sides = self._singleTitle(names)
                content = sides[-1]
            else:
                # One layer is a third faster to scroll than two.
                over = self._trust.over(nodes[content]) if nodes[content] is pair.result else None
                self.views.setLayers(view.name, images[content], over, OPACITY)
                title = names[content]
            texts = {
                each: _describe(nodes[each], strength if nodes[each] is pair.result else None)
                for each in sides
            }
            text = texts[content]
            if len(sides) > 1:
                text = "\n".join(
                    _("{name}: {text}").format(name=names[each], text=texts[each]) for each in sides
                )
            if over is not None:
                text += ", " + _("trust map")
                trusted.append(view.name)
            color = AFTER_COLOR if nodes[content] is pair.result else BEFORE_COLOR
            self._name(view.name, f"{title}\n{text}", View(view.name, names[content], color))
        self._trust.scale(trusted)
        if shown is self.result:
            self._dropBlend()  # now that no view shows it any more

    def _singleTitle(self, names: dict[Side, str]) -> tuple[str, tuple[Side, ...]]:
        """Return the title of the view that shows both, and which of the two are seen: the last one gives the
        colour."""
        first, second = names[Side.FIRST], names[Side.SECOND]
        if self._flicker or (self._fade == 0 and self.mode is Mode.FADE):
            return first, (Side.FIRST,)
        if self.mode is Mode.SWIPE:
            return _("{first} | {second}").format(first=first, second=second), tuple(names)
        if self._fade < 1:
            text = _("{after}, {percent:.0f} % over {before}")
            return text.format(after=second, percent=100 * self._fade, before=first), tuple(names)
        return second, (Side.SECOND,)

    def _showSwipe(self, view: View) -> None:
        widget = sliceWidget(view.name)
        if self.mode is Mode.SWIPE and widget is not None:
            self._swipe.show(widget, 1.0 if self._flicker else self._fade)

    def _atStrength(self, pair: Pair) -> tuple[Any, float]:
        """Return the node that is shown as the result, and its strength."""
        written, preview = placing.strengthOf(self.result), self._preview
        lacks = placing.fullEffectOf(self.result) is None or placing.inputOf(self.result) is None
        if preview is None or preview == written or lacks:
            return self.result, written
        try:
            if self._blend is None:
                self._blend = LiveBlend(self.result, preview)
        except MemoryError:  # then it follows when the slider rests
            return self.result, written
        self._blend.setting = preview
        self._blend.show(self._resultViews(pair))
        return self._blend.node, preview

    def _resultViews(self, pair: Pair) -> list[Any]:
        """Return the slice nodes of the views that show the result."""
        side = Side.FIRST if pair.swapped else Side.SECOND
        shown = [
            sliceWidget(view.name)
            for each, view in self.mode.places()
            if each is side or self.mode.single or (self._flicker and each is not Side.DIFFERENCE)
        ]
        return [widget.mrmlSliceNode() for widget in shown if widget is not None]

    def _showDifference(self, pair: Pair, strength: float, view: View) -> None:
        widget, title, node = sliceWidget(view.name), view.label, None
        if widget is None:
            return
        first, second = self.names()
        try:
            if pair.sameVoxels:
                node = self._difference.show(widget, pair, strength, self._range)
                title += "\n" + _("{after} minus {before}").format(after=second, before=first)
            else:
                title += "\n" + _("none: their voxels are not in the same places")
        except MemoryError:
            title += "\n" + _("not enough memory: close other volumes")
        self.views.setLayers(view.name, node)
        self._name(view.name, title, view)

    def _name(self, view: str, title: str, like: View) -> None:
        if self._titles.get(view) != (title, like):  # it has the view drawn anew
            self._titles[view] = title, like
            self.views.setLabel(view, title, like)

    def _onSlice(self, caller: Any, _event: Any) -> None:
        """A view was scrolled: what it looks at now has to be there before it is drawn."""
        pair = self.pair if self.active else None
        if pair is None:
            return
        if self._blend is not None and caller in self._resultViews(pair):
            self._blend.show([caller])
        if caller.GetLayoutName() == Side.DIFFERENCE.value:
            self._difference.follow(caller)


def _describe(node: Any, strength: float | None) -> str:
    """Return a volume's title, its strength where it has one (None: that of its report), and whether faint
    structures were kept."""
    if placing.fullEffectOf(node) is None and not placing.hasStrength(node):
        return titleOf(node)
    strength = placing.strengthOf(node) if strength is None else strength
    line = _("{name}, strength {percent:.0f} %")
    if placing.keptFaint(node):
        line = _("{name}, faint kept, strength {percent:.0f} %")
    return line.format(name=titleOf(node), percent=100 * strength)
