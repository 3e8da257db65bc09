"""Whole volumes of spectral images: into the scene, and as DICOM."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.decompose.job import guidedOf, mapsOf, sourcesOf
from CTEnhanceLib.decompose.spectral import Kind, SpectralImage, SpectralTable
from CTEnhanceLib.decompose.views import QUANTITIES
from CTEnhanceLib.out.dicom import SeriesJob
from CTEnhanceLib.process import transfer
from CTEnhanceLib.scene import placing, units, volumes


def problem(result: Any, image: SpectralImage) -> str:
    """Return the sentence that says why this image cannot be made of the result, or an empty one."""
    table = SpectralTable.of(placing.reportOf(result))
    if table is None or not mapsOf(result):
        return _("There are no maps yet: press Apply.")
    if image.kind is Kind.VNC and not table.hasNonContrast:
        return _("A virtual non-contrast image needs a contrast agent and another material in the basis.")
    if image.lowNoise and image.kind is not Kind.VMI:
        return _("Low noise is for monoenergetic images only.")
    if image.lowNoise and not guidedOf(result):
        return noLowNoise()
    if image.kind is Kind.VMI and not table.energies[0] <= image.kev <= table.energies[-1]:
        return _("Choose an energy between {least:.0f} and {most:.0f} keV.").format(
            least=table.energies[0], most=table.energies[-1]
        )
    return ""


def noLowNoise() -> str:
    """Return why a result with maps has no low-noise images."""
    return _("This result has no guided maps, which low-noise images are made of: press Apply again.")


def computed(result: Any, image: SpectralImage) -> Generator[float, None, transfer.LoadedVolume]:
    """Make the whole image in short steps; yield the fraction done, return it.

    Raises InputError with the image's `problem`, MemoryError when there is no room.
    """
    sentence = problem(result, image)
    table = SpectralTable.of(placing.reportOf(result))
    if sentence or table is None:
        raise InputError(sentence)
    maps = [slicer.util.arrayFromVolume(node) for node in sourcesOf(result, image.lowNoise)]
    data, target = volumes.newImage(maps[0].shape, np.float32)
    for slab in volumes.slabs(target):
        target[slab] = image.values(table, [values[slab] for values in maps])
        yield slab.stop / len(target)
    return transfer.LoadedVolume(data, volumes.ijkToRAS(result))


def place(
    result: Any, image: SpectralImage, loaded: transfer.LoadedVolume, window: tuple[float, float]
) -> Any:
    """Put a computed image beside its result, with a report of its own; return its node."""
    base = result.GetName()
    table = SpectralTable.of(placing.reportOf(result))
    if table is not None:  # "scan water (mg/mL)"
        base = base.partition(f" {table.materials[0]} (")[0]
    with placing.whole() as added:
        node = placing.addNode("vtkMRMLScalarVolumeNode", f"{base} {image.text()}", added)
        display = placing.addFixedDisplay(node, added)
        placing.addVolume(loaded.image, loaded.ijkToRAS, node.GetName(), added, output=node)
        volumes.copyGrid(result, node)
        if image.kind in (Kind.VMI, Kind.VNC):
            display.SetWindowLevel(*window)
        else:
            middle, spread = (12.0, 12.0) if image.kind is Kind.Z_EFFECTIVE else (1.0, 0.4)
            display.SetWindowLevel(spread, middle)
        units.setUnits(node, QUANTITIES[image.kind])
        placing.attachReport(node, _reportOf(result, image), added)
        placing.placeBeside(result, node)
    return node


def _reportOf(result: Any, image: SpectralImage) -> dict[str, Any]:
    report = copy.deepcopy(placing.reportOf(result) or {})
    energy = {"keV": image.kev} if image.kind is Kind.VMI else {}
    quiet = {"low_noise": True} if image.lowNoise else {}
    report["image"] = {"kind": image.kind.value, **energy, **quiet}
    return report


@dataclass
class ExportJob(SeriesJob):
    """Writes an image of a result (computed) or one of its maps (by material) as a DICOM series."""

    what: SpectralImage | str = ""

    def problem(self) -> str:
        """Say what is wrong with the image or where it goes, if anything."""
        if isinstance(self.what, SpectralImage):
            sentence = problem(self.result, self.what)
        else:
            sentence = "" if self._map() is not None else _("There are no maps yet: press Apply.")
        return sentence or super().problem()

    def volume(self) -> Generator[float, None, Any]:
        """Return the map, or the image, which is computed first."""
        node = self._map()
        if node is None and isinstance(self.what, SpectralImage):
            loaded = yield from computed(self.result, self.what)
            node = slicer.vtkMRMLScalarVolumeNode()  # in no scene
            node.SetName(self.what.text())
            node.CopyOrientation(self.result)
            node.SetAndObserveImageData(loaded.image)
        return node

    def quantity(self) -> list[str]:
        """Say what it is, with its energy or its material."""
        if not isinstance(self.what, SpectralImage):
            return ["--quantity", "density", "--material", self.what]
        arguments = ["--quantity", self.what.kind.value]
        if self.what.kind is Kind.VMI:
            arguments += ["--kev", f"{self.what.kev:g}"]
            arguments += ["--low-noise"] if self.what.lowNoise else []
        return arguments

    def name(self) -> str:
        """Return the image's name, or the material."""
        return self.what.text() if isinstance(self.what, SpectralImage) else self.what

    def _map(self) -> Any:
        table = SpectralTable.of(placing.reportOf(self.result))
        if table is None or self.what not in table.materials:
            return None
        maps = mapsOf(self.result)
        return maps[table.materials.index(str(self.what))] if maps else None
