"""What can be shown side by side: volumes as they are, and images that are made of them slice by slice.

An image that is made (a difference, another strength, another energy) exists only where it is looked at, so
it costs no memory and is there at the next picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctenhance.view.planes import Plane
from ctenhance.view.scene import Scene
from ctenhance.view.shared import SharedVolume
from ctenhance.view.windows import span

FIRST_KEV = 70.0


class Image:
    """One image: `node(plane, index)` is what a view shows of it, `slice` its values there.

    name   for people, short
    unit   of its values: HU, or another, or nothing
    display  Slicer's display node: window, level and colours
    """

    def __init__(self, name: str, unit: str, display: Any) -> None:
        self.name, self.unit, self.display = name, unit, display

    def node(self, plane: Plane, index: int) -> Any:
        """Return the volume node to show for a slice."""
        raise TypeError(f"{type(self).__name__} shows nothing")

    def slice(self, plane: Plane, index: int) -> np.ndarray:
        """Return the values of a slice, float32, along the two other array axes [z, y, x] in their order."""
        raise TypeError(f"{type(self).__name__} has no values")

    def close(self) -> None:
        """Take it out of the scene."""


class WholeImage(Image):
    """A volume as it is."""

    def __init__(self, scene: Scene, volume: SharedVolume, name: str, unit: str, display: Any) -> None:
        super().__init__(name, unit, display)
        self._scene, self.array = scene, volume.array()
        self._node = scene.add_volume(volume, self.array, display)

    def node(self, plane: Plane, index: int) -> Any:
        """Return the volume's node: all slices are in it."""
        return self._node

    def slice(self, plane: Plane, index: int) -> np.ndarray:
        """Return the values of a slice."""
        return self.array.take(index, plane.axis).astype(np.float32)

    def close(self) -> None:
        """Take it out of the scene."""
        self._scene.remove(self._node)


class MadeImage(Image):
    """A weighted sum of volumes, plus a constant; `weights` and `constant` may change at any time."""

    def __init__(
        self,
        scene: Scene,
        grid: SharedVolume,
        arrays: Sequence[np.ndarray],
        name: str,
        unit: str,
        display: Any,
    ) -> None:
        super().__init__(name, unit, display)
        self._scene, self._grid, self._arrays = scene, grid, arrays
        self.weights: tuple[float, ...] = (0.0,) * len(arrays)
        self.constant = 0.0
        self._nodes: dict[str, Any] = {}
        self._versions: dict[str, Any] = {}

    def node(self, plane: Plane, index: int) -> Any:
        """Return the node that holds this slice, made anew where another one was there."""
        if plane.name not in self._nodes:
            self._nodes[plane.name] = self._scene.add_slice(self.display)
        node, version = self._nodes[plane.name], (index, self.weights, self.constant)
        if self._versions.get(plane.name) != version:
            self._scene.put_slice(node, self.slice(plane, index), self._grid, plane, index)
            self._versions[plane.name] = version
        return node

    def slice(self, plane: Plane, index: int) -> np.ndarray:
        """Return the values of a slice."""
        parts = [array.take(index, plane.axis) for array in self._arrays]
        total = np.full(parts[0].shape, self.constant, np.float32)
        for weight, part in zip(self.weights, parts, strict=True):
            if weight:
                total += np.float32(weight) * part
        return total

    def close(self) -> None:
        """Take it out of the scene."""
        self._scene.remove(*self._nodes.values())


class Blend(MadeImage):
    """The second volume at a strength: 0 is the first one, 1 the second as it is."""

    def __init__(self, scene: Scene, grid: SharedVolume, before: np.ndarray, whole: WholeImage) -> None:
        super().__init__(scene, grid, (before, whole.array), whole.name, whole.unit, whole.display)
        self._whole, self.array = whole, whole.array
        self.strength = 1.0

    def set(self, strength: float) -> None:
        """Show it at this strength."""
        self.strength = strength
        self.weights = (1 - strength, strength)
        # One at little strength must not look like one at full.
        self.name = self._whole.name + ("" if strength == 1 else f", strength {strength:.0%}")

    def node(self, plane: Plane, index: int) -> Any:
        """Return the volume itself at full strength, else the slice at this one."""
        return self._whole.node(plane, index) if self.strength == 1 else super().node(plane, index)

    def slice(self, plane: Plane, index: int) -> np.ndarray:
        """Return the values of a slice."""
        return self._whole.slice(plane, index) if self.strength == 1 else super().slice(plane, index)

    def close(self) -> None:
        """Take it out of the scene."""
        super().close()
        self._whole.close()


class Monoenergetic(MadeImage):
    """The image at an energy, of maps in mg/mL, by the table that came with them (`images.viewing_table`)."""

    def __init__(
        self, scene: Scene, maps: Mapping[str, SharedVolume], table: Mapping[str, Any], display: Any
    ) -> None:
        first = maps[table["materials"][0]]
        arrays = [maps[name].array() for name in table["materials"]]
        super().__init__(scene, first, arrays, "", "HU", display)
        self._energies = np.array(table["energies_keV"], float)
        self._hounsfield = np.array(table["hounsfield_per_mg_ml"], float)
        self.constant = -1000.0
        self.range = (float(self._energies[0]), float(self._energies[-1]))
        self.set(FIRST_KEV)

    def set(self, kev: float) -> None:
        """Show the image at this energy, one between those of the table."""
        self.kev, self.name = kev, f"{kev:g} keV"
        self.weights = tuple(float(np.interp(kev, self._energies, row)) for row in self._hounsfield)


_NAMES = {"before": "Before", "after": "After", "left": "Left", "right": "Right"}


def images_of(
    scene: Scene, volumes: Mapping[str, SharedVolume], display: Any, names: Mapping[str, str]
) -> dict[str, Image]:
    """Return the images of volumes: each of them; of two their blend and difference; an uncertainty."""
    called = {**_NAMES, **names}
    grid = next(iter(volumes.values()))
    images: dict[str, Image] = {
        part: WholeImage(scene, volume, called.get(part, ""), "HU" if volume.hounsfield else "", display)
        for part, volume in volumes.items()
        if part != "uncertainty"
    }
    before, after = images.get("before"), images.get("after")
    if isinstance(before, WholeImage) and isinstance(after, WholeImage):
        # A second volume may be a map, of which the first one's unit is not true.
        unit = before.unit if before.unit == after.unit else ""
        images["after"] = Blend(scene, grid, before.array, after)
        own = scene.add_display(scene.add_colors("difference"))
        change = MadeImage(scene, grid, (before.array, after.array), "Difference", unit, own)
        change.weights = (-1.0, 1.0)
        images["difference"] = change
    if "uncertainty" in volumes:
        own = scene.add_display(scene.add_colors("heat"))
        unit = "HU" if grid.hounsfield else ""
        images["uncertainty"] = WholeImage(scene, volumes["uncertainty"], "Uncertainty", unit, own)
        _from_zero(images["uncertainty"])
    return images


def images_of_maps(
    scene: Scene, maps: Mapping[str, SharedVolume], table: Mapping[str, Any], display: Any
) -> dict[str, Image]:
    """Return the images of a decomposition: one at an energy, and the map of its contrast medium."""
    agents = [name for name in table["contrast_agents"] if name in maps]
    shown = (agents or list(table["materials"]))[-1]
    whole = WholeImage(scene, maps[shown], shown.capitalize(), "mg/mL", scene.add_display())
    _from_zero(whole)
    return {"kev": Monoenergetic(scene, maps, table, display), "map": whole}


def _from_zero(image: Image) -> None:
    """Give it a window from zero to its highest values."""
    assert isinstance(image, WholeImage)
    _low, high = span(image.array)
    image.display.SetWindowLevel(max(high, 1e-3), max(high, 1e-3) / 2)
