"""When views are drawn after a change that all of them share: one after another, each in a turn of its own.

By itself a view draws itself for every change once its last picture is a sixtieth of a second old: a dozen
times while a layout is set up, and all views in one turn, during which nothing else is answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import slicer

from CTEnhanceLib.process.steps import turns


class OneByOne:
    """Views that wait to be drawn; `hold` them before they are changed."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        # By the names of views that wait for more than their turn: what has them ready at once.
        self._kept: dict[str, Callable[[], None]] = {}
        self._reserved: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether a view is still to be drawn."""
        return bool(self._waiting)

    def hold(self, names: Iterable[str], laidOut: bool = False) -> None:
        """Draw these views (by name; others are none of the layout's) no more in this turn, and one a turn
        from the next one on.

        laidOut - they are about to get other sizes, for which Qt draws each at once, whether it waits or not;
            so their images are left out until it is their turn
        """
        for name in names:
            view = None if name in self._waiting and not laidOut else _view(name)
            if view is None:
                continue
            if laidOut:
                imageRenderer(view).SetDraw(False)
            if name not in self._waiting:
                view.pauseRender()
                self._waiting.append(name)
        if self._waiting:
            turns.begin()

    def keep(self, name: str, finish: Callable[[], None]) -> None:
        """Do not draw a view until it is released: what it shows is being made; `finish` makes it now."""
        self._kept[name] = finish
        self.hold([name], laidOut=True)

    def release(self, name: str) -> None:
        """Draw it when it is its turn."""
        if self._kept.pop(name, None) is not None:
            self.hold([name])

    def holdAll(self) -> None:
        """Hold all views there are, also those of three dimensions."""
        manager = slicer.app.layoutManager()
        count = getattr(manager, "threeDViewCount", 0)
        self.hold([*manager.sliceViewNames(), *(f"{_SOLID}{index}" for index in range(count))])

    def finish(self) -> None:
        """Draw now what waits: all is to be seen."""
        self._finishMaking()
        while self.draw():
            pass

    def _finishMaking(self) -> None:
        """Have now what is still being made for views."""
        while self._kept:
            name, finish = self._kept.popitem()
            finish()
            self.hold([name])

    @contextlib.contextmanager
    def reserved(self, names: Iterable[str]) -> Iterator[None]:
        """Have these views drawn by `drawIfWaiting` only, meanwhile, and have there what they show."""
        self._finishMaking()
        self._reserved = set(names)
        try:
            yield
        finally:
            self._reserved = set()
            if self._waiting:
                turns.begin()

    def drawIfWaiting(self, name: str) -> None:
        """Draw this view now, if it waits."""
        if name in self._waiting:
            self._draw(name)

    def draw(self) -> bool:
        """Draw the first view that may be; say whether there is one."""
        others = (each for each in self._waiting if each not in self._kept and each not in self._reserved)
        name = next(others, None)
        if name is not None:
            self._draw(name)
        return name is not None

    def _draw(self, name: str) -> None:
        self._waiting.remove(name)
        view = _view(name)
        if view is not None:
            imageRenderer(view).SetDraw(True)
            if not name.startswith(_SOLID):
                _sortNothing(view)
            # In this order, or it would be drawn twice: by itself a view that may draw again does so.
            view.forceRender()
            view.resumeRender()


# Before the number of a view of three dimensions; no slice view is called so.
_SOLID = "3D:"


def imageRenderer(view: Any) -> Any:
    """Return the renderer of what a slice or 3-D view is for; further ones have markers and rulers."""
    return view.renderWindow().GetRenderers().GetFirstRenderer()


def _sortNothing(view: Any) -> None:
    """Have the arrows and handles of markups, which are a bit transparent, drawn over a slice as they come.

    They would be sorted by depth for each pixel. Where VTK draws without a graphics card, and smooths edges,
    that takes longer than the image below them; in a slice they hardly ever lie behind one another.
    """
    renderers = view.renderWindow().GetRenderers()
    for index in range(renderers.GetNumberOfItems()):
        each = renderers.GetItemAsObject(index)
        if each.GetLayer():
            each.SetUseDepthPeeling(False)
            if hasattr(each, "SetUseOIT"):  # of later versions of VTK
                each.SetUseOIT(False)


def _view(name: str) -> Any:
    manager = slicer.app.layoutManager()
    if name.startswith(_SOLID):
        widget = manager.threeDWidget(int(name[len(_SOLID) :]))
        return None if widget is None else widget.threeDView()
    widget = manager.sliceWidget(name)
    return None if widget is None else widget.sliceView()


def useFewThreads(logic: Any) -> None:
    """Have the filters between a volume and a slice view's image use one thread each, but the one that cuts
    the volume: VTK starts new threads for each of them in each frame, which takes longer than their work."""
    end = logic.GetImageDataConnection()
    found, waiting = set(), [] if end is None else [end.GetProducer()]
    while waiting:
        each = waiting.pop()
        if each is None or each in found:
            continue
        found.add(each)
        if hasattr(each, "SetNumberOfThreads") and not each.IsA("vtkImageReslice"):
            each.SetNumberOfThreads(1)
        for port in range(each.GetNumberOfInputPorts()):
            count = each.GetNumberOfInputConnections(port)
            waiting += [each.GetInputConnection(port, index).GetProducer() for index in range(count)]


oneByOne = OneByOne()
turns.draw = oneByOne.draw
