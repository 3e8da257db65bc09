"""A slice view of a panel: its name, its title over the image, and its place in a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from CTEnhanceLib.scene import colortables
from CTEnhanceLib.views.caption import ViewCaption
from CTEnhanceLib.views.drawing import imageRenderer
from CTEnhanceLib.views.title import ViewTitle

VIEW_GROUP = 71
# The views of all panels that compute: those that may be turned. With each further view all changes of a
# scene take longer, also in other modules: every one lists the scene's volumes in its bar.
FREE_VIEWS = ("CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference", "CTEnhanceFourth")
# By the names of the views: what is written over their images.
_titles: dict[str, ViewTitle] = {}
_captions: dict[str, ViewCaption] = {}


@dataclass(frozen=True)
class View:
    """A slice view: its name in Slicer (one node each), its title and colour (#RRGGBB).

    The title stands in the image, if `titled`: the view's bar has room for its first letter only. So does, if
    `captioned`, what is to be known of a CT image: slice, window, and that it is for research.
    A `signed` one shows differences, to both sides of nought.
    Views of one `orientation` show the same plane; an empty one begins as axial and may be turned.
    """

    name: str
    label: str
    color: str
    orientation: str = ""
    titled: bool = True
    captioned: bool = True
    signed: bool = False

    def item(self) -> str:
        """Return the view as Slicer's layout descriptions have it."""
        properties = {
            "orientation": self.orientation or "Axial",
            "viewcolor": self.color,
            "viewgroup": VIEW_GROUP,
        }
        lines = "".join(
            f'<property name="{name}" action="default">{escape(str(value))}</property>'
            for name, value in properties.items()
        )
        view = f'<view class="vtkMRMLSliceNode" singletontag="{self.name}">{lines}</view>'
        # Without a size Slicer would make new views smaller than those that are there already.
        return _sized(view, 500)

    def rgb(self) -> tuple[float, ...]:
        """Return red, green and blue of its colour, 0 to 1."""
        return colortables.rgb(self.color)

    def showTitle(self, widget: Any, text: str, color: Sequence[float]) -> None:
        """Write a title over the image, at its upper edge, on this colour, and the caption below."""
        sliceView = widget.sliceView()
        renderer = imageRenderer(sliceView)
        title = _titles.get(self.name)
        if title is None or not title.isIn(renderer):
            title = _titles[self.name] = ViewTitle(renderer)
            # Slicer writes the volumes' names into the corner, cut in their middle: '25 %' becomes '5 %'.
            sliceView.cornerAnnotation().SetVisibility(False)
            _captions.pop(self.name, None)
        if self.captioned and self.name not in _captions:
            _captions[self.name] = ViewCaption(renderer, widget.sliceLogic())
        if self.name in _captions:
            _captions[self.name].enabled = self.captioned
        title.show(text, color)


def description(views: Sequence[View], rows: int = 1, below: str = "") -> str:
    """Return Slicer's description of a layout: views from left to right, in so many rows, over another."""
    items = [view.item() for view in views]
    length = -(-len(items) // rows)
    lines = [_stack("horizontal", items[start : start + length]) for start in range(0, len(items), length)]
    whole = lines[0] if len(lines) == 1 else _stack("vertical", [_sized(line, 500) for line in lines])
    # Each with a size: by themselves plots take all the height there is, and leave slits of the images.
    return _stack("vertical", [_sized(whole, 700), _sized(below, 300)]) if below else whole


def _stack(kind: str, items: Sequence[str]) -> str:
    return f'<layout type="{kind}" split="true">{"".join(items)}</layout>'


def _sized(content: str, size: int) -> str:
    return f'<item splitSize="{size}">{content}</item>'
