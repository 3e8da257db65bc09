"""Decomposing images, or photon-counting bins, measured or simulated, into maps of materials: what `Run` has
to know."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.options import DecomposeOptions
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.decompose.images import SpectralImages
from CTEnhanceLib.decompose.spectral import SpectralTable
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.projections import (
    ProjectionJob,
    SimulatedScan,
    Source,
    commonArguments,
    requireMatrix,
    requireSource,
)
from CTEnhanceLib.process.run import Command, Job
from CTEnhanceLib.scene import placing, units, volumes
from CTEnhanceLib.scene.windows import sparse

# What the lists offer; the command line takes others, too, as name=formula@density.
MATERIALS = (
    "water", "iodine", "calcium", "gadolinium", "bone", "hydroxyapatite", "adipose", "soft_tissue", "muscle",
    "barium", "gold",
)  # fmt: skip
NO_MATERIAL = "none"

# Unlike the command, a panel gives standard errors by default.
DEFAULT_OPTIONS = DecomposeOptions(errors=True)

# A result is the map of the first material; it refers to those of the others, to all standard errors, and to
# all guided maps (`placing.GUIDED_ROLE`).
MAP_ROLE, ERROR_ROLE = "CTDecomposeMap", "CTDecomposeError"
# And to the first of the images that were decomposed, where it was from such.
IMAGE_ROLE = "CTDecomposeImage"
# Widths in mg/mL that show a map: solvents and tissues, and what is dissolved in them.
_WIDE, _NARROW = 1500.0, 20.0


class Scatter(enum.Enum):
    """How scatter is corrected; the value is the command line's name of it, the name that of saved scenes."""

    none = "none"
    network = "network"
    kernel = "kernel"

    def label(self) -> str:
        """Return its name in a list."""
        return {
            Scatter.none: _("Not corrected"),
            Scatter.network: _("Corrected by a network"),
            Scatter.kernel: _("Corrected by a kernel"),
        }[self]


class Phantom(enum.Enum):
    """What a simulated scan is of; the value is the command line's name of it."""

    RODS = "rods"
    CHEST = "chest"

    def label(self) -> str:
        """Return the phantom's name in a list."""
        return {
            Phantom.RODS: _("Iodine and calcium rods in water"),
            Phantom.CHEST: _("Chest with contrast medium"),
        }[self]


@dataclass(frozen=True)
class SpectralSimulation(SimulatedScan):
    """The scan of a phantom (its name, or a file of labels) at a share (0..1] of the full dose."""

    phantom: str = Phantom.RODS.value
    dose: float = 1.0
    slices: int = 8
    views: int = 720
    columns: int = 512

    @property
    def scanned(self) -> str:
        """The phantom's name."""
        return Path(self.phantom).stem

    def command(self, folder: Path, projections: Path, options: Any) -> Command:
        """Return `simulate`."""
        arguments = ["simulate", str(projections)]
        for name in ("phantom", "dose", "slices", "views", "columns"):
            arguments += [f"--{name}", str(getattr(self, name))]
        arguments += [] if options.image_size is None else ["--matrix", str(options.image_size)]
        # It runs on the CPU, whatever device the decomposition is to take.
        return Command([*arguments, "--seed", str(options.seed)], {"project": 60, "write": 5})

    def few(self) -> SpectralSimulation:
        """Scan two slices of the phantom."""
        return dataclasses.replace(self, slices=min(2, self.slices))

    def count(self) -> int:
        """As many slices as are asked for."""
        return self.slices

    def likeness(self) -> Hashable:
        """The phantom and the size of its scan; not the dose."""
        return self.phantom, self.views, self.columns


def problem(source: Source | SpectralImages, options: DecomposeOptions) -> str:
    """Return the sentence that says why this cannot be decomposed, or an empty one."""
    try:
        if isinstance(source, SpectralImages):
            source.require()
        else:
            unchosen = _("Choose a projection file with energy bins (.ctproj.h5), or simulate a scan.")
            requireSource(source, unchosen)
        _checkBasis(options.basis)
        requireMatrix(options.image_size)
        if options.calibration is not None and not Path(options.calibration).is_file():
            raise InputError(
                _("There is no calibration file '{path}': choose another, or none.").format(
                    path=options.calibration
                )
            )
    except InputError as error:
        return str(error)
    return ""


def _checkBasis(basis: Sequence[str]) -> None:
    if not 2 <= len(basis) <= 3:
        raise InputError(_("Choose two or three basis materials."))
    for name in basis:
        if list(basis).count(name) > 1:
            raise InputError(_("'{name}' is in the basis twice: choose another material.").format(name=name))


def mapsOf(result: Any) -> list[Any]:
    """Return the maps that belong to a result, one a material in the order of its table, or nothing."""
    table = SpectralTable.of(placing.reportOf(result))
    if table is None or result.GetImageData() is None:
        return []
    count = result.GetNumberOfNodeReferences(MAP_ROLE)
    others = [result.GetNthNodeReference(MAP_ROLE, index) for index in range(count)]
    maps = [result, *(node for node in others if node is not None)]
    sizes = {node.GetImageData().GetDimensions() for node in maps if node.GetImageData() is not None}
    return maps if len(maps) == len(table.materials) and len(sizes) == 1 else []


def errorsOf(result: Any) -> list[Any]:
    """Return the standard errors of the maps, in their order, or nothing."""
    found = [result.GetNthNodeReference(ERROR_ROLE, index) for index in range(len(mapsOf(result)))]
    return [] if any(node is None for node in found) else found


def guidedOf(result: Any) -> list[Any]:
    """Return the guided maps that low-noise images need, in the order of the maps, or nothing.

    Results of earlier versions have none; nor has a scene that was saved without the data of hidden nodes.
    """
    maps, table = mapsOf(result), SpectralTable.of(placing.reportOf(result))
    if table is None or table.quietKeV is None:
        return []
    found = [result.GetNthNodeReference(placing.GUIDED_ROLE, index) for index in range(len(maps))]
    images = [None if node is None else node.GetImageData() for node in found]
    size = result.GetImageData().GetDimensions() if maps else None
    return found if all(image is not None and image.GetDimensions() == size for image in images) else []


def sourcesOf(result: Any, lowNoise: bool) -> list[Any]:
    """Return what images are made of: the maps, and after them the guided ones for those of low noise."""
    return [*mapsOf(result), *(guidedOf(result) if lowNoise else [])]


def imageOf(result: Any) -> Any:
    """Return the first of the images that a result was decomposed from, or None: the patient's own one."""
    node = None if result is None else result.GetNodeReference(IMAGE_ROLE)
    return node if node is not None and node.GetImageData() is not None else None


class DecomposeJob(ProjectionJob):
    """From images, or energy bins (a file, or a scan still to be simulated), to maps of materials."""

    # Reading is part of it.
    stages = {"decompose": 88, "low noise": 4, "write": 8}  # noqa: RUF012

    def __init__(self, source: Source | SpectralImages, options: DecomposeOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(source, options)

    def problem(self) -> str:
        """Say what is wrong with the source or the settings, if anything."""
        return problem(self.source, self.options)

    def few(self) -> Job | None:
        """Of images, the slices in the middle of each; of a folder's none."""
        if not isinstance(self.source, SpectralImages):
            return super().few()
        few = self.source.few()
        return None if few is None else DecomposeJob(few, self.options)

    def slices(self) -> int | None:
        """As many as the first of the images has."""
        return self.source.count() if isinstance(self.source, SpectralImages) else super().slices()

    def likeness(self) -> Hashable:
        """Of images, their number and size."""
        if not isinstance(self.source, SpectralImages):
            return super().likeness()
        return self.source.likeness(), repr(dataclasses.replace(self.options, seed=0))

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the images of the scene, where these are decomposed."""
        if isinstance(self.source, SpectralImages):
            return self.source.prepare(folder)
        return super().prepare(folder)

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the maps; images are made of them as they are shown.

        Guided maps take next to no time: about a hundredth of the run.
        """
        if isinstance(self.source, SpectralImages):
            arguments = ["decompose", str(folder / "maps"), *self.source.arguments(folder), "--guided-maps"]
            arguments += ["--basis", ",".join(self.options.basis)]
            arguments += ["--errors"] if self.options.errors else []
            return [*arguments, *commonArguments(self.options)]
        options = dataclasses.replace(self.options, guided_maps=True)
        return ["decompose", self.projections(folder), str(folder / "maps"), *options.to_arguments()]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the maps."""
        files = {name: path for name, path in outputs.items() if path.name.endswith(".nii.gz")}
        self._loaded = yield from transfer.readNiftis(files)

    def place(self, report: dict[str, Any]) -> Any:
        """Put the maps into a folder of the scene, the report below the first one, and return that."""
        steps = self.placing(report)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def placing(self, report: dict[str, Any]) -> Generator[float, None, Any]:
        """The same, one map a step: there may be nine."""
        table = SpectralTable.of(report)
        if table is None or not set(table.materials) <= set(self._loaded):
            raise CTEnhanceError(_("The result was not loaded; press Apply again."))
        with placing.whole() as added:
            maps, errors, guided = [], [], []
            for name in table.materials:
                maps.append(self._addMap(name, _("{name} (mg/mL)"), name, added))
                yield 0.0
                placing.requireAll(added)
            result = maps[0]
            for name in table.materials:
                if f"{name}_sd" in self._loaded:
                    text = _("{name} standard error (mg/mL)")
                    errors.append(self._addMap(name, text, f"{name}_sd", added))
                    yield 0.3
                    placing.requireAll(added)
            for name in table.materials:
                if f"{name}_guided" in self._loaded:
                    guided.append(self._addGuided(name, result, added))
                    yield 0.6
                    placing.requireAll(added)
            for role, nodes in ((MAP_ROLE, maps[1:]), (ERROR_ROLE, errors), (placing.GUIDED_ROLE, guided)):
                for index, node in enumerate(nodes):
                    result.SetNthNodeReferenceID(role, index, node.GetID())
            images = self.source.volumes if isinstance(self.source, SpectralImages) else ()
            if images and slicer.mrmlScene.IsNodePresent(images[0][1]):
                result.SetNodeReferenceID(IMAGE_ROLE, images[0][1].GetID())
            # In the last step: by it the maps are known as a result.
            placing.attachReport(result, report, added)
            # The hidden ones, too: who removes the folder removes them.
            placing.placeTogether([*maps, *errors, *guided], _("{name} spectral").format(name=self.name()))
        yield 1.0
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows images, too, by their temporary files only."""
        if isinstance(self.source, SpectralImages):
            return self.source.readable(sentence, folder)
        return super().readable(sentence, folder)

    def name(self) -> str:
        """Return what the results are called after."""
        return self.source.name() if isinstance(self.source, SpectralImages) else super().name()

    def _addMap(self, material: str, text: str, key: str, added: list[Any]) -> Any:
        loaded = self._loaded[key]
        name = f"{self.name()} {text.format(name=material)}"
        node = placing.addNode("vtkMRMLScalarVolumeNode", name, added)
        display = placing.addFixedDisplay(node, added)
        placing.addVolume(loaded.image, loaded.ijkToRAS, name, added, output=node)
        some = loaded.array[sparse(loaded.array.shape)]
        most = float(np.percentile(some, 99))
        # Solvents and tissues reach a thousand, what is dissolved in them some tens.
        width = 1.5 * most if key != material else _WIDE if most > _WIDE / 5 else _NARROW
        display.SetWindowLevel(max(width, 1e-3), width / 2)
        units.setUnits(node, units.DENSITY, material)
        return node

    def _addGuided(self, material: str, result: Any, added: list[Any]) -> Any:
        """Add a map that is for low-noise images only: hidden, without a display, but saved."""
        name = _("{name} guided (mg/mL)").format(name=material)
        node = placing.addNode("vtkMRMLScalarVolumeNode", f"{self.name()} {name}", added, hidden=True)
        node.SetSaveWithScene(True)
        with slicer.util.NodeModify(node):
            volumes.copyGrid(result, node)
            node.SetAndObserveImageData(self._loaded[f"{material}_guided"].image)
        units.setUnits(node, units.DENSITY, material)
        return node
