"""The section Measure (`Resources/UI/MeasureSection.ui`): regions of a comparison, and what they hold."""

from __future__ import annotations

import functools
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.compare.comparison import Comparison
from CTEnhanceLib.compare.figures import Figure, FigurePlot, plotView
from CTEnhanceLib.compare.pair import Pair
from CTEnhanceLib.measure import roi, shapes, table
from CTEnhanceLib.measure.region import DrawnRegion, WatchedRegions
from CTEnhanceLib.measure.regionkeys import regionKeys
from CTEnhanceLib.measure.shapes import Shape
from CTEnhanceLib.process.steps import inTurns
from CTEnhanceLib.scene.plural import plural
from CTEnhanceLib.views import crosshair, scrolling
from CTEnhanceLib.views.keys import Keys
from CTEnhanceLib.views.linked import sliceWidget

# Milliseconds, after which a plot is drawn that is new on the screen.
_LAYING_OUT = 30


class MeasureSection:
    """Connects the section's widgets; the regions are markups, which are saved with the scene."""

    def __init__(self, ui: Any, parent: Any, comparison: Comparison) -> None:
        self.ui = ui
        self._comparison = comparison
        self._figure = FigurePlot()
        self._watched = WatchedRegions(self.measure)
        self._drawn = DrawnRegion(self.nodesChanged)
        self._rows: list[table.Row] = []
        self._known: dict[str, tuple[Any, table.Row]] = {}
        self._filling = self._laid = False
        for shape in Shape:
            getattr(ui, f"{shape.value}Button").connect("clicked()", functools.partial(self.add, shape))
        for figure in Figure:
            ui.figureSelector.addItem(figure.text())
        ui.figureSelector.connect("currentIndexChanged(int)", self._onFigure)
        ui.regionSelector.connect("currentIndexChanged(int)", self._onRegion)
        ui.removeRegionButton.connect("clicked()", self._onRemove)
        ui.copyTextButton.connect("clicked()", lambda: self._onCopy("\t"))
        ui.copyCSVButton.connect("clicked()", lambda: self._onCopy(","))
        ui.toTableButton.connect("clicked()", self._onTable)
        self._keys = Keys(
            parent,
            {
                "O": (_("Measure: a round region"), functools.partial(self.add, Shape.ROUND)),
                "Q": (_("Measure: a square region"), functools.partial(self.add, Shape.SQUARE)),
                **regionKeys(self._region, lambda: self._comparison.mode.views()[0].name),
                "I": (_("Draw a free region point by point, at the crosshair"), self._onPoint),
                "Shift+I": (_("Begin another one so"), functools.partial(self._onPoint, True)),
                "N": (_("The next region is the chosen one"), self._onNext),
            },
        )
        self.refresh()

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        return self._keys.rows()

    def exit(self) -> None:
        """The panel is left: its keys are free again."""
        self._keys.enable(False)

    @property
    def pending(self) -> bool:
        """Whether the table is about to follow a region."""
        return self._watched.pending

    def add(self, shape: Shape) -> None:
        """Put a region into the first view; a free one is drawn by clicks."""
        node = self._added(shape)
        if node is not None and shape is Shape.FREE:
            self._drawn.begin(node)

    def _added(self, shape: Shape) -> Any:
        """Return a new region in the first view, chosen; None where there is no comparison."""
        pair, plane = self._comparison.pair if self._comparison.active else None, self._plane()
        if pair is None or plane is None:
            return None
        self._comparison.views.hold()  # else a region in the making is drawn a dozen times
        node = shapes.add(shape, plane, pair.result)
        self.refresh()
        self.ui.regionSelector.currentIndex = self._watched.nodes.index(node)
        self.measure()
        # Not now: the table gets its height first.
        qt.QTimer.singleShot(0, lambda: scrolling.bringUp(self.ui.regionTable, self.ui.copyTextButton))
        return node

    def _plane(self) -> Any:
        """Return the node of the view in which regions begin, or None."""
        widget = sliceWidget(self._comparison.mode.views()[0].name)
        return None if widget is None else widget.mrmlSliceNode()

    def nodesChanged(self) -> None:
        """Regions have perhaps come or gone."""
        if shapes.regions() != self._watched.nodes:
            self.refresh()
            self.measure()

    def measure(self) -> None:
        """Write the table, and draw the plot, anew."""
        pair = self._comparison.pair if self._comparison.active else None
        self._rows, lines = [], []
        names = self._comparison.names() if pair is not None else ("", "")
        for region in self._watched.nodes if pair is not None else ():
            try:
                row = self._measured(region, pair)
            except InputError as error:
                lines.append((region.GetName(), str(error)))
            else:
                self._rows.append(row)
                lines.append(row)
        self.ui.regionTable.text = table.richText(lines, names) if lines else ""
        self.ui.regionTable.visible = bool(lines)
        for button in (self.ui.copyTextButton, self.ui.copyCSVButton, self.ui.toTableButton):
            button.enabled = bool(self._rows)
        self._draw()

    def _measured(self, region: Any, pair: Pair) -> table.Row:
        """Return what a region holds; measured again only where it, or the voxels, have changed."""
        nodes = (pair.first, pair.second, pair.first.GetImageData(), pair.second.GetImageData())
        key = (pair, shapes.geometry(region), *(node.GetMTime() for node in nodes))
        if self._known.get(region.GetID(), (None, None))[0] != key:
            row = table.measure(region, pair.first, pair.second, pair.sameVoxels)
            self._known[region.GetID()] = key, row
        return self._known[region.GetID()][1]

    def refresh(self) -> None:
        """Show which regions there are, and what can be done."""
        ui, active = self.ui, self._comparison.active
        self._watched.watch(shapes.regions())
        chosen = ui.regionSelector.currentIndex
        if chosen < 0:  # in a scene that was loaded
            chosen = shapes.chosen(self._watched.nodes)
        self._filling = True
        try:
            ui.regionSelector.clear()
            for node in self._watched.nodes:
                ui.regionSelector.addItem(node.GetName(), node.GetID())
            count = len(self._watched.nodes)
            ui.regionSelector.currentIndex = min(max(chosen, 0), count - 1)
        finally:
            self._filling = False
        for shape in Shape:
            button = getattr(ui, f"{shape.value}Button")
            button.enabled = active
            button.toolTip = (
                _tip(shape) if active else _("Press Compare first: regions are drawn in its views.")
            )
        for widget in (ui.regionSelector, ui.removeRegionButton):
            widget.enabled = bool(self._watched.nodes)
        ui.figureSelector.enabled = active and bool(self._watched.nodes)
        self._keys.enable(active)
        for button in (ui.copyTextButton, ui.copyCSVButton, ui.toTableButton):
            button.enabled = active and bool(self._rows)

    def begin(self) -> None:
        """A comparison is about to be shown: with the plot that was chosen, where there is a region."""
        self._watched.watch(shapes.regions())
        self._laid = self._comparison.setBelow(self._below())

    def leave(self) -> None:
        """The comparison has gone, and with it the plot; what was chosen is there the next time, and the
        regions stay."""
        shapes.endDrawing()
        self._comparison.setBelow("")
        self._figure.remove()

    def forget(self) -> None:
        """Let go of all nodes."""
        self.leave()
        self.stop()
        self._rows = []

    def stop(self) -> None:
        """Follow no region any longer."""
        self._watched.watch([])
        self._known = {}

    def _region(self) -> Any:
        """Return the region that is chosen, or None."""
        index, nodes = self.ui.regionSelector.currentIndex, self._watched.nodes
        return nodes[index] if 0 <= index < len(nodes) else None

    def _draw(self) -> None:
        """Draw the chosen plot, below the views. Where it is new on the screen it has its size first: both at
        once take a tenth of a second."""
        laid, self._laid = self._laid, False
        if self._comparison.active:
            laid = self._comparison.setBelow(self._below()) or laid
        if laid and self._below():
            qt.QTimer.singleShot(_LAYING_OUT, lambda: inTurns([self._prepareIfActive, self._drawIfActive]))
        else:
            self._drawNow()

    def _prepareIfActive(self) -> None:
        if self._comparison.active and self._below():
            self._figure.prepare()

    def _drawIfActive(self) -> None:
        if self._comparison.active:
            self._drawNow()

    def _drawNow(self) -> None:
        figure, pair = list(Figure)[self.ui.figureSelector.currentIndex], self._comparison.pair
        region = self._region() if self._comparison.active else None
        text = ""
        if figure is Figure.NONE or region is None or pair is None:
            self._figure.remove()
        elif not pair.sameVoxels:
            self._figure.remove()
            text = _("A plot needs two volumes with the same voxels.")
        elif not plotView():
            text = _("This Slicer has no plots.")
        else:
            try:
                text = self._figure.show(figure, region, (pair.first, pair.second), self._comparison.names())
            except InputError as error:
                self._figure.remove()
                text = str(error)
        self.ui.figureLabel.text = text
        self.ui.figureLabel.visible = bool(text)

    def _onPoint(self, another: bool = False) -> None:
        """Add a point to the chosen region, if it is a free one, or to another one."""
        plane, node = self._plane(), self._region()
        place = None if plane is None else crosshair.shownIn(plane)
        if place is None:
            self._say(_("Show the crosshair first: Ctrl+Shift with an arrow."))
            return
        if another or node is None or shapes.shapeOf(node) is not Shape.FREE:
            node = self._added(Shape.FREE)
        if node is not None:
            shapes.addPoint(node, place)

    def _onNext(self) -> None:
        selector = self.ui.regionSelector
        if selector.count:
            selector.currentIndex = (selector.currentIndex + 1) % selector.count

    def _onRegion(self, _index: int) -> None:
        if not self._filling:
            shapes.choose(self._region(), self._watched.nodes)
            self._draw()

    def _below(self) -> str:
        """Return the view that the chosen plot stands in; empty: nothing is to be plotted."""
        return plotView() if self.ui.figureSelector.currentIndex and self._watched.nodes else ""

    def _onFigure(self, _index: int) -> None:
        if self._comparison.active:
            self._draw()

    def _onRemove(self) -> None:
        node = self._region()
        if node is not None:
            shapes.endDrawing()
            roi.removeRegion(node, node.GetDisplayNode())
            self.nodesChanged()

    def _onCopy(self, separator: str) -> None:
        text = table.written(self._rows, self._comparison.names(), separator)
        qt.QApplication.clipboard().setText(text)
        self._say(plural(len(self._rows), _("Copied: 1 region."), _("Copied: {count} regions.")))

    def _onTable(self) -> None:
        node = table.toNode(self._rows, self._comparison.names())
        self._say(_("In the table '{name}' of the scene.").format(name=node.GetName()))

    def _say(self, text: str) -> None:
        slicer.util.showStatusMessage(text, 4000)


def _tip(shape: Shape) -> str:
    return {
        Shape.ROUND: _("A circle in the slice: drag a point for its size, the arrows for its place."),
        Shape.SQUARE: _("A box through several slices: drag its sides."),
        Shape.FREE: _("Click the border point by point in one view; a double click ends it."),
    }[shape]
