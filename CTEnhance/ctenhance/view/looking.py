"""Where the views of a viewer look: planes, slices, zoom and position, and what lies below a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctenhance.view.asked import Asked
from ctenhance.view.planes import AXIAL, PLANES, Plane
from ctenhance.view.shared import SharedVolume

THREE = "three"
_LEAST_PIXELS, _MOST_PIXELS = 16, 4096
_MOST_CELL_PIXELS = 4_000_000
_LEAST_ZOOM, _MOST_ZOOM = 0.2, 40.0
_CORNERS = (("x0", "y0"), ("x1", "y1"))


class Looking:
    """Linked views of one grid. Cells are named `plane/image`; those of a plane look at the same slice."""

    def __init__(self) -> None:
        self.layout, self.zoom = AXIAL, 1.0
        self.index: dict[str, int] = {}
        self._pan: dict[str, tuple[float, float]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self.dirty: set[str] = set()

    def look_at(self, grid: SharedVolume) -> None:
        """Look at another grid from now on: the middle slices, whole."""
        self._grid, self.dirty = grid, set()
        self._planes = {name: Plane.of(grid, name) for name in PLANES}
        self._home(Asked({}))

    def shown_images(self) -> list[str]:
        """The images on the screen, from left to right."""
        raise TypeError(f"{type(self).__name__} shows nothing")

    def shown_planes(self) -> list[str]:
        """The planes on the screen, one row each."""
        return list(PLANES) if self.layout == THREE else [self.layout]

    def cells(self) -> list[str]:
        """The names of the cells on the screen, row by row."""
        return [f"{plane}/{image}" for plane in self.shown_planes() for image in self.shown_images()]

    def ready(self) -> list[str]:
        """The cells on the screen that are to be drawn anew and have a size."""
        return [cell for cell in self.cells() if cell in self.dirty and cell in self._sizes]

    def _touch(self, plane: str | None = None) -> None:
        self.dirty |= {cell for cell in self.cells() if plane is None or cell.startswith(f"{plane}/")}

    def _sizes_of(self, asked: Asked) -> None:
        sizes = asked.mapping("cells")
        for cell in self.cells():
            if cell in sizes:
                width, height = (int(asked.number(None, value, 0, 1e6)) for value in asked.pair(sizes[cell]))
                width, height = (min(max(one, _LEAST_PIXELS), _MOST_PIXELS) for one in (width, height))
                if width * height > _MOST_CELL_PIXELS:
                    height = _MOST_CELL_PIXELS // width
                if self._sizes.get(cell) != (width, height):
                    self._sizes[cell] = (width, height)
                    self.dirty.add(cell)

    def _scroll(self, asked: Asked) -> None:
        plane = asked.one_of("plane", PLANES)
        self._go(plane, self.index[plane] + int(asked.number("by", None, -1e5, 1e5)))

    def _slice(self, asked: Asked) -> None:
        self._go(asked.one_of("plane", PLANES), int(asked.number("to", None, -1e6, 1e6)))

    def _go(self, plane: str, index: int) -> None:
        target = min(max(index, 0), self._planes[plane].count - 1)
        if target != self.index[plane]:
            self.index[plane] = target
            self._touch(plane)

    def _jump(self, asked: Asked) -> None:
        """Let the other planes, shown now or later, show the point that was clicked."""
        point = self._point(*self._place(asked))
        for name in PLANES:
            if name != self._cell(asked).split("/")[0]:
                self._go(name, self._planes[name].index_of(point))

    def _pan_by(self, asked: Asked) -> None:
        plane = asked.one_of("plane", PLANES)
        scale, (right, up) = self._scale(plane), self._pan[plane]
        right -= asked.number("dx", None, -1e5, 1e5) * scale
        up += asked.number("dy", None, -1e5, 1e5) * scale
        across, down = self._planes[plane].width, self._planes[plane].height
        self._pan[plane] = (min(max(right, -across), across), min(max(up, -down), down))
        self._touch(plane)

    def _zoom_by(self, asked: Asked) -> None:
        cell, x, y = self._place(asked)
        point = self._point(cell, x, y)
        self.zoom = min(max(self.zoom * asked.number("factor", None, 0.01, 100), _LEAST_ZOOM), _MOST_ZOOM)
        moved = point - self._point(cell, x, y)  # what was below the mouse stays there
        name = cell.split("/")[0]
        plane, (right, up) = self._planes[name], self._pan[name]
        self._pan[name] = (right + float(moved @ plane.right), up + float(moved @ plane.up))
        self._touch()

    def _home(self, _asked: Asked) -> None:
        self.zoom, self._pan = 1.0, dict.fromkeys(PLANES, (0.0, 0.0))
        self.index = {name: plane.count // 2 for name, plane in self._planes.items()}
        self._touch()

    def _two_points(self, asked: Asked) -> tuple[str, np.ndarray, np.ndarray]:
        """Return the plane and two points of it (RAS): those asked for, or two around the middle."""
        cell = self._cell(asked)
        if asked.values.get("middle") is True:
            width, height = self._sizes[cell]
            half = min(width, height) / 12
            ends = [(width / 2 + way * half, height / 2 + way * half) for way in (-1, 1)]
        else:
            ends = [(asked.number(x, None, -1e5, 1e5), asked.number(y, None, -1e5, 1e5)) for x, y in _CORNERS]
        first, last = (self._point(cell, *end) for end in ends)
        return cell.split("/")[0], first, last

    def point(self, asked: Mapping[str, Any]) -> tuple[str, np.ndarray]:
        """Return the image that a pixel (`cell`, `x`, `y`) is in, and its point in RAS."""
        cell, x, y = self._place(Asked(asked))
        return cell.split("/")[1], self._point(cell, x, y)

    def pixel(self, image: str, point: np.ndarray) -> tuple[str, float, float] | None:
        """Return the cell of an image and the pixel there of a point in RAS; None where its slice is not
        shown."""
        for name in self.shown_planes():
            cell, plane = f"{name}/{image}", self._planes[name]
            if cell in self._sizes and plane.index_of(point) == self.index[name]:
                (width, height), scale, (right, up) = self._sizes[cell], self._scale(name), self._pan[name]
                away = point - plane.centre(self.index[name])
                x = (float(away @ plane.right) - right) / scale + width / 2 - 0.5
                return cell, x, height / 2 - 0.5 - (float(away @ plane.up) - up) / scale
        return None

    # Where things are ----------------------------------------------------------------------------------

    def _scale(self, plane: str) -> float:
        """Return the mm of a pixel, the same in all cells of a plane."""
        sizes = [
            self._sizes[cell] for cell in self.cells() if cell.startswith(f"{plane}/") and cell in self._sizes
        ]
        if not sizes:
            return 1.0
        width, height = (min(one) for one in zip(*sizes, strict=True))
        return max(self._planes[plane].width / width, self._planes[plane].height / height) / self.zoom

    def _cell(self, asked: Asked) -> str:
        """Return the cell that is meant, one with a size."""
        return asked.one_of("cell", tuple(one for one in self.cells() if one in self._sizes))

    def _place(self, asked: Asked) -> tuple[str, float, float]:
        return self._cell(asked), asked.number("x", None, -1e5, 1e5), asked.number("y", None, -1e5, 1e5)

    def _point(self, cell: str, x: float, y: float) -> np.ndarray:
        """Return the point in RAS at the centre of pixel (x, y), counted from the top left."""
        name = cell.split("/")[0]
        plane, scale, (width, height) = self._planes[name], self._scale(name), self._sizes.get(cell, (1, 1))
        right, up = self._pan[name]
        right += (x + 0.5 - width / 2) * scale
        up += (height / 2 - 0.5 - y) * scale
        return plane.centre(self.index[name]) + right * plane.right + up * plane.up

    def _pixels(self, plane_name: str, index: int, points: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return where points (RAS) of a slice are in each cell that shows it: [point, (x, y)]."""
        plane, scale, pan = self._planes[plane_name], self._scale(plane_name), self._pan[plane_name]
        if index != self.index[plane_name]:
            return {}
        centre = plane.centre(index) + pan[0] * plane.right + pan[1] * plane.up
        away = np.array([point - centre for point in points]) / scale
        return {
            cell: np.stack([away @ plane.right + width / 2 - 0.5, height / 2 - 0.5 - away @ plane.up], axis=1)
            for cell, (width, height) in self._sizes.items()
            if cell.startswith(f"{plane_name}/") and cell in self.cells()
        }
