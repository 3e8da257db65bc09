"""Spectral images in linked views: two energies, four images, an overlay, a fade, three planes.

What is not a map already is made live, for the shown slices only (`liveslices`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.decompose.curve import plotView
from CTEnhanceLib.decompose.job import guidedOf, imageOf, mapsOf
from CTEnhanceLib.decompose.live import LiveImage
from CTEnhanceLib.decompose.spectral import Kind, SpectralImage, SpectralTable
from CTEnhanceLib.process.steps import inTurns
from CTEnhanceLib.scene import bodywindows, colortables, placing, units, windows
from CTEnhanceLib.views.colorscale import ColorScale
from CTEnhanceLib.views.linked import LinkedViews, sliceWidget
from CTEnhanceLib.views.part import AXES
from CTEnhanceLib.views.view import FREE_VIEWS, View, description

FIRST_VIEW, MATERIAL_VIEW, PLAIN_VIEW, NUMBER_VIEW = FREE_VIEWS
SECOND_VIEW = MATERIAL_VIEW  # never both
AXIAL_VIEW, CORONAL_VIEW, SAGITTAL_VIEW = (f"{FIRST_VIEW}{axis}" for axis in AXES[::-1])
# Window and level in HU, where the reader has chosen none.
FIRST_WINDOW = (400.0, 50.0)
# The numbers of the layouts with something below the views.
_WITH_CURVE = 8
QUANTITIES = {
    Kind.VMI: units.ATTENUATION,
    Kind.VNC: units.ATTENUATION,
    Kind.Z_EFFECTIVE: units.Z_EFFECTIVE,
    Kind.ELECTRON_DENSITY: units.ELECTRON_DENSITY,
}


class Mode(enum.Enum):
    """What is shown: the value is the number of the layout."""

    FOUR = 7300
    TWO = 7301
    OVERLAY = 7302
    FADE = 7303
    PLANES = 7304

    def text(self) -> str:
        """Return the mode's name for people."""
        return {
            Mode.FOUR: _("keV, material, non-contrast, Z-eff"),
            Mode.TWO: _("Two energies side by side"),
            Mode.OVERLAY: _("Material over the keV image"),
            Mode.FADE: _("Fade between two energies"),
            Mode.PLANES: _("keV image in three planes"),
        }[self]

    def views(self, material: str) -> tuple[View, ...]:
        """Return the mode's views, row by row."""
        first = View(FIRST_VIEW, _("keV"), "#4C7FBF")
        return {
            Mode.FOUR: (
                first,
                View(MATERIAL_VIEW, material, "#D9822B"),
                View(PLAIN_VIEW, _("Non-contrast"), "#8C8C8C"),
                View(NUMBER_VIEW, _("Z-eff"), "#4CA64C"),
            ),
            Mode.TWO: (first, View(SECOND_VIEW, _("keV"), "#C26BB3")),
            Mode.OVERLAY: (first,),
            Mode.FADE: (first,),
            Mode.PLANES: (
                View(AXIAL_VIEW, _("Axial"), "#4C7FBF", "Axial"),
                View(CORONAL_VIEW, _("Coronal"), "#4C7FBF", "Coronal"),
                View(SAGITTAL_VIEW, _("Sagittal"), "#4C7FBF", "Sagittal"),
            ),
        }[self]

    @property
    def rows(self) -> int:
        """In how many rows its views are; 0: as many as the window's width asks for."""
        return 2 if self is Mode.FOUR else 0

    @property
    def hasSecond(self) -> bool:
        """Whether it shows two energies."""
        return self in (Mode.TWO, Mode.FADE)


def layouts() -> Iterator[tuple[int, str]]:
    """Yield number and description of every layout that a result may need."""
    for mode in Mode:
        for number, below in ((mode.value, ""), (mode.value + _WITH_CURVE, plotView())):
            yield number, description(mode.views(_("Material")), mode.rows or 1, below)


def allViews() -> list[View]:
    """Return the views of all modes, each once, those that are shown first in front."""
    return list({view.name: view for mode in Mode for view in mode.views(_("Material"))}.values())


class SpectralViews:
    """Shows a result of CT Decompose; `hide` brings the former layout back."""

    def __init__(self) -> None:
        self.mode = Mode.FOUR
        self.result: Any = None
        self.table: SpectralTable | None = None
        self.linked = LinkedViews()
        self._live: dict[str, LiveImage] = {}
        self._sources: list[Any] = []
        self._scales: dict[str, ColorScale] = {}
        self._titles: dict[str, str] = {}
        self._tags: list[tuple[Any, int]] = []
        self._energies = [70.0, 140.0]
        self._window, self._level = FIRST_WINDOW
        # What of the body is shown, and the window in which it was shown first.
        self._part, self._begun = "", FIRST_WINDOW
        self._range, self._opacity, self._fade = 10.0, 0.6, 0.5
        self._below = ""
        self._lowNoise = False

    @property
    def active(self) -> bool:
        """Whether spectral images are on the screen."""
        return self.result is not None and self.linked.shown

    @property
    def window(self) -> tuple[float, float]:
        """Window and level of the HU images, as the user has left them."""
        self._keepWindow()
        return self._window, self._level

    def firstView(self) -> str:
        """Return the name of the view in which regions begin."""
        return AXIAL_VIEW if self.mode is Mode.PLANES else FIRST_VIEW

    def prepare(self, result: Any, mode: Mode | None = None) -> None:
        """Make what `show` fills, in an earlier turn than that: nodes take long to come."""
        self._release()
        new = result is not self.result
        self.result, self.table = result, SpectralTable.of(placing.reportOf(result))
        sources = [result, *(node.GetImageData() for node in (*mapsOf(result), *guidedOf(result)))]
        if sources != self._sources:  # else they are kept: nodes take longer to come and go than to be filled
            self._drop()
            self._sources = sources
        if new:
            self._beginWindow()
        self.mode = mode or self.mode
        for key, image in self._images().items():
            if key in self._live:
                self._live[key].forgetSources()  # others may have been where its views look now
            else:
                self._addLive(key, image)

    def layAhead(self) -> None:
        """Give the views that come their volumes, which takes as long as to show them; after `prepare`."""
        if self.result is not None:
            for layers in self._layers():
                self.linked.setLayersAhead(*layers)

    def show(self, result: Any, mode: Mode | None = None) -> None:
        """Show this result, in this mode or the one before. Raises MemoryError where there is no room."""
        self.prepare(result, mode)
        views = self.mode.views(self._theTable().contrastAgent)
        number = self.mode.value + (_WITH_CURVE if self._below else 0)
        self.linked.show(number, views, self.mode.rows, self._below)
        self._colorMaterial()
        if self.mode in (Mode.FOUR, Mode.OVERLAY):
            view = MATERIAL_VIEW if self.mode is Mode.FOUR else FIRST_VIEW
            self._addScale(view, colortables.densities(), 0.0, self._range)
        if self.mode is Mode.FOUR:
            scale = colortables.atomicNumberScale()
            self._addScale(NUMBER_VIEW, scale, colortables.Z_LEAST, colortables.Z_MOST)
        self._assign()
        self.linked.fit(mapsOf(result)[0])
        self._refresh()
        # From now on: on their way to their places the views have passed others, which nobody is to see.
        for view in views:
            widget = sliceWidget(view.name)
            if widget is not None:
                node = widget.mrmlSliceNode()
                self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onSlice)))

    def hide(self) -> None:
        """Go back to the layout that was there before."""
        self._release()
        self.linked.leave()
        self._drop()
        self.result = self.table = None

    def setBelow(self, item: str) -> None:
        """Have another layout item below the views, or none (empty)."""
        if item != self._below:
            self._below = item
            if self.active:
                self.show(self.result)

    def setEnergy(self, index: int, kev: float) -> None:
        """Show the first or second (0, 1) monoenergetic image at this energy."""
        self._energies[index] = float(round(kev))
        self._refresh()

    def setLowNoise(self, lowNoise: bool) -> None:
        """Show all monoenergetic images at low noise, where the result has what that needs."""
        self._lowNoise = lowNoise
        self._refresh()

    def setWindow(self, window: float, level: float) -> None:
        """Show all HU images in this window."""
        self._window, self._level = window, level
        if "first" in self._live:
            display = self._live["first"].display
            with slicer.util.NodeModify(display):
                display.SetWindowLevel(window, level)

    def setMaterialRange(self, density: float) -> None:
        """Reach the last colour at so many mg/mL."""
        self._range = density
        self._colorMaterial()

    def setOpacity(self, opacity: float) -> None:
        """Let more or less of the image through the overlay."""
        self._opacity = opacity
        self._assign()

    def setFade(self, fade: float) -> None:
        """In one view: 0 shows the first energy, 1 the second."""
        self._fade = fade
        self._assign()

    @property
    def display(self) -> Any:
        """The display that the HU images share, or None."""
        return self._live["first"].display if "first" in self._live else None

    def materialMap(self) -> Any:
        """Return the map of the contrast agent, or None."""
        if self.table is None:
            return None
        return mapsOf(self.result)[self.table.materials.index(self.table.contrastAgent)]

    def _theTable(self) -> SpectralTable:
        if self.table is None:
            raise ValueError("no result is shown")
        return self.table

    def _images(self) -> dict[str, SpectralImage]:
        """Return what the mode needs to be made live."""
        table = self._theTable()
        lowNoise = self._lowNoise and bool(guidedOf(self.result))
        first, second = (SpectralImage(Kind.VMI, kev, lowNoise) for kev in self._energies)
        plain = SpectralImage(Kind.VNC if table.hasNonContrast else Kind.ELECTRON_DENSITY)
        if self.mode is Mode.FOUR:
            return {"first": first, "plain": plain, "number": SpectralImage(Kind.Z_EFFECTIVE)}
        return {"first": first, "second": second} if self.mode.hasSecond else {"first": first}

    def _addLive(self, key: str, image: SpectralImage) -> None:
        table = self._theTable()
        hounsfield = image.kind in (Kind.VMI, Kind.VNC)
        shared = self._live["first"].display if hounsfield and key != "first" else None
        maps, guided = mapsOf(self.result), guidedOf(self.result)
        live = LiveImage(table, maps, guided, image, image.text(), shared)
        self._live[key] = live
        if key == "first":
            live.display.SetWindowLevel(self._window, self._level)
        elif image.kind is Kind.ELECTRON_DENSITY:
            live.display.SetWindowLevel(0.4, 1.0)
        elif image.kind is Kind.Z_EFFECTIVE:
            live.display.SetAndObserveColorNodeID(colortables.atomicNumbers().GetID())
            live.display.SetWindowLevel(colortables.Z_MOST, colortables.Z_MOST / 2)
            # Between air, which is 0, and tissue there are no numbers that would mean anything.
            live.display.SetInterpolate(False)
        units.setUnits(live.node, QUANTITIES[image.kind])

    def _addScale(self, view: str, colors: Any, low: float, high: float) -> None:
        """Say at the side of a view what the colours of a volume mean."""
        widget = sliceWidget(view)
        if widget is not None:
            self._scales[view] = ColorScale(widget.sliceView(), colors, low, high)

    def _release(self) -> None:
        """Let go of what stands on the views; the window stays for the next time."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        self._keepWindow()
        for scale in self._scales.values():
            scale.remove()
        self._scales, self._titles = {}, {}

    def _drop(self) -> None:
        """Let go of what was made live."""
        inTurns([live.remove for live in reversed(self._live.values())])
        self._live, self._sources = {}, []

    def _keepWindow(self) -> None:
        display = self._live["first"].display if "first" in self._live else None
        if display is not None:
            self._window, self._level = display.GetWindow(), display.GetLevel()
            if (self._window, self._level) != self._begun:
                self._begun = self._window, self._level
                bodywindows.rememberFor(self._part, *self._begun)

    def _beginWindow(self) -> None:
        """Take the window that was kept for the part of the body, if one was."""
        image = imageOf(self.result)
        if image is not None:
            self._part = bodywindows.bodyPart(image)
        else:
            maps = [slicer.util.arrayFromVolume(node) for node in mapsOf(self.result)]
            some = [each[windows.sparse(each.shape)] for each in maps]
            values = SpectralImage(Kind.VMI, 70.0).values(self._theTable(), some)
            self._part = bodywindows.byContent(windows.suitable(values))
        self._window, self._level = bodywindows.rememberedFor(self._part) or (self._window, self._level)
        self._begun = self._window, self._level

    def _layers(self) -> Iterator[tuple[str, Any, Any, float]]:
        """Yield view, background, foreground and its opacity."""
        nodes = {key: live.node for key, live in self._live.items()}
        if self.mode is Mode.PLANES:
            for view in (AXIAL_VIEW, CORONAL_VIEW, SAGITTAL_VIEW):
                yield view, nodes["first"], None, 0.0
            return
        if self.mode is Mode.OVERLAY:
            yield FIRST_VIEW, nodes["first"], self.materialMap(), self._opacity
        elif self.mode is Mode.FADE:
            yield FIRST_VIEW, nodes["first"], nodes["second"], self._fade
        else:
            yield FIRST_VIEW, nodes["first"], None, 0.0
        if self.mode is Mode.TWO:
            yield SECOND_VIEW, nodes["second"], None, 0.0
        if self.mode is Mode.FOUR:
            yield MATERIAL_VIEW, self.materialMap(), None, 0.0
            yield PLAIN_VIEW, nodes["plain"], None, 0.0
            yield NUMBER_VIEW, nodes["number"], None, 0.0

    def _assign(self) -> None:
        """Tell each view which volumes it shows; cheap where nothing changed."""
        if self.active:
            for layers in self._layers():
                self.linked.setLayers(*layers)

    def _refresh(self) -> None:
        """Make what the views show, as far as it is not there, and name it."""
        if not self.active:
            return
        images = self._images()
        for key, image in images.items():
            live = self._live[key]
            if image != live.image:
                live.node.SetName(image.text())
            live.setImage(image, self._sliceNodes(live))
        for view, background, foreground, _opacity in self._layers():
            texts = [node.GetName() for node in (background, foreground) if node is not None]
            if view == MATERIAL_VIEW or self.mode is Mode.OVERLAY:
                texts[-1] = _("{material} mg/mL").format(material=self._theTable().contrastAgent)
            title = " + ".join(texts)
            if self._titles.get(view) != title:  # it has the view drawn anew
                self._titles[view] = title
                self.linked.setLabel(view, title)

    def _sliceNodes(self, live: LiveImage) -> list[Any]:
        """Return the views' nodes that show a live image."""
        found = []
        for view, background, foreground, _opacity in self._layers():
            widget = sliceWidget(view)
            if widget is not None and live.node in (background, foreground):
                found.append(widget.mrmlSliceNode())
        return found

    def _onSlice(self, caller: Any, _event: Any) -> None:
        """A view was scrolled or turned: what it looks at now has to be there before it is drawn."""
        if self.active:
            for live in self._live.values():
                nodes = self._sliceNodes(live)
                live.show([node for node in nodes if node is caller])

    def _colorMaterial(self) -> None:
        node = self.materialMap()
        if node is None or not self.active:
            return
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            display.SetAndObserveColorNodeID(colortables.densities().GetID())
            display.SetAutoWindowLevel(False)
            display.SetWindowLevel(self._range, self._range / 2)
        for view, scale in self._scales.items():
            if view != NUMBER_VIEW:
                scale.setRange(0.0, self._range)
