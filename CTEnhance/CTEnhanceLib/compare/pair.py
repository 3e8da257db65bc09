"""What is compared with what: a result with its input, with another result, or with another scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.scene import placing, volumes

Names = Callable[[Any], tuple[str, str]]


@dataclass(frozen=True)
class Pair:
    """A result and the volume node that it is compared with; `swapped`: the result is first, on the left."""

    result: Any
    other: Any
    swapped: bool = False

    @property
    def ofInput(self) -> bool:
        """Whether the other one is what the result was made from."""
        return self.other is placing.inputOf(self.result)

    @property
    def first(self) -> Any:
        """The node on the left."""
        return self.result if self.swapped else self.other

    @property
    def second(self) -> Any:
        """The node on the right."""
        return self.other if self.swapped else self.result

    @property
    def sameVoxels(self) -> bool:
        """Whether both have the same voxels in the same places, so that they can be subtracted."""
        return volumes.sameGrid(self.other, self.result)

    def names(self, ofResult: Names) -> tuple[str, str]:
        """Return what first and second are called; `ofResult` gives the names of an input and its result."""
        if not self.ofInput and (placing.inputOf(self.other) or placing.reportOf(self.other)):
            return _("Left"), _("Right")
        before, after = ofResult(self.result)
        if not self.ofInput:
            before = _("Other scan")
        return (after, before) if self.swapped else (before, after)


def candidates(result: Any) -> list[Any]:
    """Return the volumes that a result can be compared with, its input first."""
    own = placing.inputOf(result)
    found = [
        node
        for node in placing.choosable()
        if node not in (result, own) and node.GetDisplayNode() is not None
    ]
    return [node for node in (own, *found) if node is not None]


class TiedWindows:
    """Keeps window and level of two displays the same, whichever is changed."""

    def __init__(self) -> None:
        self._displays: tuple[Any, ...] = ()
        self._tags: list[int] = []

    def tie(self, leader: Any, follower: Any) -> None:
        """Give the follower the leader's window, and keep both the same until `release`."""
        self.release()
        if leader is not None and follower is not None and leader is not follower:
            self._displays = leader, follower
            self._tags = [each.AddObserver("ModifiedEvent", self._onModified) for each in self._displays]
            self._onModified(leader, "")

    def release(self) -> None:
        """Let each go its own way."""
        for display, tag in zip(self._displays, self._tags, strict=True):
            display.RemoveObserver(tag)
        self._displays, self._tags = (), []

    def _onModified(self, caller: Any, _event: str) -> None:
        window = caller.GetWindow(), caller.GetLevel()
        for display in self._displays:
            if (display.GetWindow(), display.GetLevel()) != window:
                with slicer.util.NodeModify(display):
                    display.SetAutoWindowLevel(False)
                    display.SetWindowLevel(*window)
