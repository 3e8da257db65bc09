"""A viewer: linked slice views of one to three images, and what can be asked of them.

`apply` takes what the user did, `state` says how things stand, `picture` draws a cell. Cells are named
`plane/image`, such as `axial/after`; those of one plane look at the same slice, all share zoom and window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.view.asked import Asked
from ctenhance.view.images import (
    Blend,
    Image,
    MadeImage,
    Monoenergetic,
    WholeImage,
    images_of,
    images_of_maps,
)
from ctenhance.view.looking import THREE, Looking
from ctenhance.view.planes import AXIAL, PLANES
from ctenhance.view.regions import Line, Region, statistics
from ctenhance.view.scene import Cell, Scene
from ctenhance.view.shared import SharedVolume
from ctenhance.view.windows import WINDOW_NAMES, WINDOWS, first_window, limit_of

SIDE, DIFFERENCE, ONE = "side", "difference", "one"
_WIDEST = 65535.0
_UNCERTAINTY_OPACITY = 0.6


class Viewer(Looking):
    """What one browser window looks at.

    volumes  by part: `before` and, on its grid, `after`, `uncertainty`; or maps in mg/mL, `map NAME`, with
             the
             `table` that says what images are made of them; or, for readers of a study, `left` and `right`,
             or
             `image`
    names    what parts are called, where it is not before and after
    window   level and width of the first window, where they are known (`windows.first_window`)
    """

    def __init__(
        self,
        volumes: Mapping[str, SharedVolume],
        table: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
        window: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self._scene = Scene()
        self.images: dict[str, Image] = {}
        self.mode = SIDE
        self._cells: dict[str, Cell] = {}
        self._given_names = dict(names or {})
        self.show(volumes, table, window)

    def show(
        self,
        volumes: Mapping[str, SharedVolume],
        table: Mapping[str, Any] | None = None,
        window: tuple[float, float] | None = None,
    ) -> None:
        """Look at other volumes from now on: their middle slices, whole, in their first window."""
        for cell in self._cells.values():
            cell.show(None)
        for image in self.images.values():
            image.close()
        self.images = {}
        self._scene.forget_arrays()
        self._display = self._scene.add_display()  # the one before went with its volumes
        self.fade, self.difference_hu, self.uncertain = 1.0, 0.0, False
        self.region: Region | None = None
        self.line: Line | None = None
        self.look_at(next(iter(volumes.values())))
        if table is not None:
            maps = {name.removeprefix("map "): one for name, one in volumes.items()}
            self.images = images_of_maps(self._scene, maps, table, self._display)
            self._first_window = WINDOWS["soft"]
        else:
            self.images = images_of(self._scene, volumes, self._display, self._given_names)
            self._first_window = window or first_window(self._grid)
        if self.mode not in self.modes:
            self.mode = SIDE
        self._touch()
        self.set_window(*self._first_window)
        if "difference" in self.images:
            before, after = (self._whole(part) for part in ("before", "after"))
            self._set_difference(limit_of(before, after, self._planes[AXIAL]))

    # What is shown -------------------------------------------------------------------------------------

    @property
    def modes(self) -> list[str]:
        """How images can be shown: side by side, with their difference, over each other."""
        return [SIDE, DIFFERENCE, ONE] if "after" in self.images else [SIDE]

    def shown_images(self) -> list[str]:
        """The images on the screen, from left to right."""
        if self.mode == ONE:
            return ["both"]
        left_out = {"uncertainty"} | ({"difference"} if self.mode != DIFFERENCE else set())
        return [part for part in self.images if part not in left_out]

    def state(self) -> dict[str, Any]:
        """Return how things stand, JSON-able: all that the page shows beside the pictures."""
        level, width = self.window
        blend, kev = self.images.get("after"), self.images.get("kev")
        return {
            "layout": self.layout, "mode": self.mode, "modes": self.modes,
            "planes": {
                name: {"index": self.index[name], "count": self._planes[name].count,
                       "letters": self._planes[name].letters()}
                for name in self.shown_planes()
            },
            "cells": self.cells(), "columns": len(self.shown_images()),
            "names": {name: self._name(name) for name in self.shown_images()},
            "level": round(level, 1), "width": round(width, 1), "zoom": round(self.zoom, 3),
            "windows": {key: WINDOW_NAMES[key] for key in WINDOWS} if self._in_hounsfield() else {},
            "strength": blend.strength if isinstance(blend, Blend) else None,
            "kev": kev.kev if isinstance(kev, Monoenergetic) else None,
            "kevs": kev.range if isinstance(kev, Monoenergetic) else None,
            "fade": self.fade if self.mode == ONE else None,
            "difference": self.difference_hu if self.mode == DIFFERENCE else None,
            "uncertainty": self.uncertain if "uncertainty" in self.images else None,
            "region": self._region_state(), "line": self._line_state(),
            "scales": {name: self._scale_text(name) for name in self.shown_images()},
        }  # fmt: skip

    def _name(self, image: str) -> str:
        if image != "both":
            return self.images[image].name
        before, after = (self.images[part].name for part in ("before", "after"))
        return before if self.fade == 0 else after if self.fade == 1 else f"{before} and {after}"

    def _scale_text(self, image: str) -> str:
        """Return what grey levels or colours mean, in words."""
        if image == "difference":
            return f"±{self.difference_hu:g} {self.images[image].unit}".rstrip()
        display = self._display if image == "both" else self.images[image].display
        level, width = display.GetLevel(), display.GetWindow()
        if image == "map":
            return f"{level - width / 2:.3g} to {level + width / 2:.3g} {self.images[image].unit}"
        over = self.images["uncertainty"] if image == "after" and self.uncertain else None
        more = "" if over is None else f", uncertainty to {over.display.GetWindow():.3g} {over.unit}".rstrip()
        return f"L {round(level, 1):g}  W {round(width, 1):g}{more}"

    def _in_hounsfield(self) -> bool:
        return "kev" in self.images or self._grid.hounsfield

    @property
    def window(self) -> tuple[float, float]:
        """Level and width."""
        return self._display.GetLevel(), self._display.GetWindow()

    def set_window(self, level: float, width: float) -> None:
        """Set level and width of all images but the difference and maps."""
        self._display.SetWindowLevel(width, level)
        self._touch()

    def picture(self, cell: str) -> np.ndarray:
        """Draw a cell that has a size; return it [row, column, RGB]."""
        plane_name, image = cell.split("/")
        plane, index = self._planes[plane_name], self.index[plane_name]
        view = self._cells.get(cell)
        if view is None:
            view = self._cells[cell] = Cell(self._scene, cell.replace("/", " "))
        view.resize(*self._sizes[cell])
        if image == "both":
            behind, front = (self.images[name].node(plane, index) for name in ("before", "after"))
            view.show(behind, front, self.fade)
        elif image == "after" and self.uncertain:
            over = self.images["uncertainty"].node(plane, index)
            view.show(self.images[image].node(plane, index), over, _UNCERTAINTY_OPACITY)
        else:
            view.show(self.images[image].node(plane, index))
        scale = self._scale(plane_name)
        right, up = self._pan[plane_name]
        # Slicer has the middle between two pixels in that of the right and upper one.
        right, up = right + scale / 2, up + scale / 2
        centre = plane.centre(index) + right * plane.right + up * plane.up
        view.look(plane, centre, scale, float(np.linalg.norm(plane.step)))
        return view.picture()

    def close(self) -> None:
        """Free the views."""
        for view in self._cells.values():
            view.close()

    # What the user does --------------------------------------------------------------------------------

    def apply(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what was asked; return an answer to it, if there is one. Raises InputError for anything else."""
        name = asked.get("op")
        action = _ACTIONS.get(name) if isinstance(name, str) else None
        if action is None:
            raise InputError("The page asked for something that the viewer does not know; reload it.")
        return action(self, Asked(asked))

    def _window(self, asked: Asked) -> None:
        preset = asked.values.get("preset")
        if preset == "first":
            self.set_window(*self._first_window)
        elif preset is not None:
            self.set_window(*WINDOWS[asked.one_of("preset", tuple(WINDOWS))])
        else:
            least = 1.0 if self._in_hounsfield() else 1e-6
            self.set_window(
                asked.number("level", None, -_WIDEST, _WIDEST),
                asked.number("width", None, least, 2 * _WIDEST),
            )

    def _arrange(self, asked: Asked) -> None:
        if "layout" in asked.values:
            self.layout = asked.one_of("layout", (*PLANES, THREE))
        if "mode" in asked.values:
            self.mode = asked.one_of("mode", tuple(self.modes))
        self._touch()

    def _strengthen(self, asked: Asked) -> None:
        blend, change = self.images.get("after"), self.images.get("difference")
        if not isinstance(blend, Blend) or not isinstance(change, MadeImage):
            raise InputError("There is only one volume, which has no strength.")
        strength = asked.number("value", None, 0, 1)
        blend.set(strength)
        change.weights = (-strength, strength)
        self._touch()

    def _set_kev(self, asked: Asked) -> None:
        image = self.images.get("kev")
        if not isinstance(image, Monoenergetic):
            raise InputError("Only a decomposition has images of other energies.")
        image.set(asked.number("value", None, *image.range))
        self._touch()

    def _fade_to(self, asked: Asked) -> None:
        self._into_one()
        self.fade = asked.number("value", None, 0, 1)
        self._touch()

    def _flicker(self, _asked: Asked) -> None:
        """Change from one to the other, in the same place."""
        self._into_one()
        self.fade = 0.0 if self.fade > 0.5 else 1.0
        self._touch()

    def _into_one(self) -> None:
        if ONE not in self.modes:
            raise InputError("There is only one volume, and nothing to change to.")
        self.mode = ONE

    def _set_uncertainty(self, asked: Asked) -> None:
        if "uncertainty" not in self.images:
            raise InputError("There is no uncertainty with this volume.")
        self.uncertain = bool(asked.values.get("on"))
        self._touch()

    def _limit(self, asked: Asked) -> None:
        self._set_difference(asked.number("hu", None, 0.1, 5000))
        self._touch()

    def _whole(self, part: str) -> np.ndarray:
        image = self.images[part]
        assert isinstance(image, WholeImage | Blend)
        return image.array

    def _set_difference(self, hu: float) -> None:
        self.difference_hu = hu
        self.images["difference"].display.SetWindowLevel(2 * hu, 0.0)

    def _draw_line(self, asked: Asked) -> None:
        name, first, last = self._two_points(asked)
        self.line = Line(name, self.index[name], (first, last))

    def _measure(self, asked: Asked) -> dict[str, Any]:
        name, *corners = self._two_points(asked)
        self.region = Region.of(self._grid, self._planes[name], self.index[name], *corners)
        return {"statistics": self._statistics()}

    def _statistics(self) -> dict[str, Any] | None:
        region = self.region
        if region is None:
            return None
        plane = self._planes[region.plane]
        return statistics(region, plane, {k: one for k, one in self.images.items() if k != "difference"})

    def _refresh(self, _asked: Asked) -> None:
        self._touch()

    def _forget_region(self, _asked: Asked) -> None:
        self.region = self.line = None

    def _probe(self, asked: Asked) -> dict[str, Any]:
        cell, x, y = self._place(asked)
        name = cell.split("/")[0]
        plane, point = self._planes[name], self._point(cell, x, y)
        voxel = np.linalg.inv(self._grid.ijk_to_ras()) @ [*point, 1.0]
        k, j, i = (round(float(value)) for value in voxel[2::-1])
        if not all(0 <= at < length for at, length in zip((k, j, i), self._grid.shape, strict=True)):
            return {"probe": None}
        at = tuple(np.delete([k, j, i], plane.axis))
        values = {
            image.name: [round(float(image.slice(plane, self.index[name])[at]), 1), image.unit]
            for image in self.images.values()
        }
        return {"probe": {"voxel": [i, j, k], "values": values}}

    def _is_shown(self, measured: Region | Line) -> bool:
        return measured.plane in self.shown_planes() and measured.index == self.index[measured.plane]

    def _region_state(self) -> dict[str, Any] | None:
        """Where the measured rectangle is in each cell, and what was measured."""
        region = self.region
        if region is None or not self._is_shown(region):
            return None
        boxes = region.boxes(self._pixels(region.plane, region.index, region.corners))
        return {"boxes": boxes, "statistics": self._statistics()}

    def _line_state(self) -> dict[str, Any] | None:
        """Where the line is in each cell, and its length."""
        line = self.line
        if line is None or not self._is_shown(line):
            return None
        ends = {
            cell: at.ravel().tolist() for cell, at in self._pixels(line.plane, line.index, line.ends).items()
        }
        return {"ends": ends, "mm": line.length}


_ACTIONS: dict[str, Callable[[Viewer, Asked], dict[str, Any] | None]] = {
    "sizes": Viewer._sizes_of,
    "scroll": Viewer._scroll,
    "slice": Viewer._slice,
    "jump": Viewer._jump,
    "pan": Viewer._pan_by,
    "zoom": Viewer._zoom_by,
    "home": Viewer._home,
    "window": Viewer._window,
    "arrange": Viewer._arrange,
    "strength": Viewer._strengthen,
    "kev": Viewer._set_kev,
    "fade": Viewer._fade_to,
    "flicker": Viewer._flicker,
    "uncertainty": Viewer._set_uncertainty,
    "difference": Viewer._limit,
    "measure": Viewer._measure,
    "line": Viewer._draw_line,
    "unmeasure": Viewer._forget_region,
    "probe": Viewer._probe,
    "refresh": Viewer._refresh,
}
