"""Reconstructing projections, measured or simulated from a volume node: what `Run` needs to know of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.projections import KERNELS, named
from CTEnhanceLib.process.run import Command, Job, Settings
from CTEnhanceLib.scene import placing, volumes
from CTEnhanceLib.scene.windows import setWindow, suitable

VIEWS, COLUMNS = 1152, 736
_SMALLEST_MATRIX = 16

# What a result refers to, by the name that the worker gives it.
ROLES = {
    "fbp": "CTReconstructFBP",
    "projection": "CTReconstructProjection",
    "residual": "CTReconstructResidual",
    "uncertainty": "CTReconstructUncertainty",
}


class Method(enum.Enum):
    """How far the cascade goes; the value is the command line's name of it."""

    NEED = "need"
    PROJECTION = "projection"
    FBP = "fbp"

    def label(self) -> str:
        """Return the method's name in a list."""
        return {
            Method.NEED: _("NEED: projections and images"),
            Method.PROJECTION: _("Projection stage, then FBP"),
            Method.FBP: _("FBP alone"),
        }[self]

    def stage(self) -> str:
        """Return the short name of what it gives."""
        return {Method.NEED: _("NEED"), Method.PROJECTION: _("Projection stage"), Method.FBP: _("FBP")}[self]


@dataclass(frozen=True)
class Simulation:
    """A scan that is not there yet: of this volume node, at this share (0..1] of the full dose."""

    node: Any
    dose: float
    views: int = VIEWS
    columns: int = COLUMNS


@dataclass(frozen=True)
class Wanted:
    """What is asked for; 0 and None stand for what the data suggest and for the default models."""

    method: Method = Method.NEED
    kernel: str = KERNELS[0]
    matrix: int = 0
    fieldOfView: float = 0.0
    residual: bool = True
    uncertainty: bool = False
    projectionModel: str | None = None
    imageModel: str | None = None


def problem(source: Path | Simulation | None, wanted: Wanted) -> str:
    """Return the sentence that says why this cannot be reconstructed, or an empty one."""
    try:
        if isinstance(source, Simulation):
            volumes.requireScalarVolume(source.node)
            if not 0 < source.dose <= 1:
                raise InputError(_("The dose must lie between 0 and 1, the full dose."))
        elif source is None:
            raise InputError(
                _("Choose a projection file (.ctproj.h5) or a folder of DICOM-CT-PD files, or simulate one.")
            )
        elif not source.exists():
            raise InputError(_("There is no file or folder '{path}': choose another.").format(path=source))
        if 0 < wanted.matrix < _SMALLEST_MATRIX:
            raise InputError(
                _(
                    "The matrix is too small: choose {least} pixels or more, or 0 for what the data suggest."
                ).format(least=_SMALLEST_MATRIX)
            )
        if wanted.kernel not in KERNELS:
            raise InputError(
                _("There is no kernel '{name}': choose one of {names}.").format(
                    name=wanted.kernel, names=", ".join(KERNELS)
                )
            )
        if wanted.uncertainty and wanted.method is Method.FBP:
            raise InputError(_("FBP has no uncertainty map: choose another method, or no such map."))
    except InputError as error:
        return str(error)
    return ""


@dataclass
class ReconstructJob(Job):
    """From projections (a path, or a scan still to be simulated) to volume nodes."""

    source: Path | Simulation | None
    wanted: Wanted = field(default_factory=Wanted)
    settings: Settings = field(default_factory=Settings)
    _loaded: dict[str, transfer.LoadedVolume] = field(default_factory=dict)

    # Reading headers and sorting are for DICOM-CT-PD only.
    stages = {"read headers": 2, "check": 3, "rebin": 5, "reconstruct": 85, "write": 5}  # noqa: RUF012

    def problem(self) -> str:
        """Say what is wrong with the source or the settings, if anything."""
        return problem(self.source, self.wanted)

    def remarks(self) -> list[str]:
        """Tell what the file of the volume that is to be scanned says of its grid besides."""
        return volumes.gridNotes(self.source.node) if isinstance(self.source, Simulation) else []

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the volume that is to be scanned."""
        if isinstance(self.source, Simulation):
            return transfer.writeMetaImage(self.source.node, folder / "input.mha")
        return super().prepare(folder)

    def preceding(self, folder: Path) -> Sequence[Command]:
        """Simulate the scan, where there is none."""
        source = self.source
        if not isinstance(source, Simulation):
            return ()
        arguments = ["project", str(folder / "input.mha"), str(_simulated(folder))]
        for name, value in (("dose", source.dose), ("views", source.views), ("columns", source.columns)):
            arguments += [f"--{name}", str(value)]
        return [Command([*arguments, *self.settings.arguments()], {"read": 1, "project": 20, "write": 4})]

    def arguments(self, folder: Path) -> list[str]:
        """Ask for all stages, the maps and the measured sinogram."""
        wanted = self.wanted
        source = _simulated(folder) if isinstance(self.source, Simulation) else self.source
        arguments = ["reconstruct", str(source), str(folder / "output.nii")]
        arguments += ["--method", wanted.method.value, "--kernel", wanted.kernel]
        arguments += [] if wanted.method is Method.FBP else ["--all"]
        options = {
            "matrix": wanted.matrix or None,
            "fov": wanted.fieldOfView or None,
            "sinogram": folder / "sinogram.nii",
            "residual": folder / "residual.nii" if wanted.residual else None,
            "uncertainty": folder / "uncertainty.nii" if wanted.uncertainty else None,
            "model-projection": None if wanted.method is Method.FBP else wanted.projectionModel,
            "model-image": wanted.imageModel if wanted.method is Method.NEED else None,
        }
        for name, value in options.items():
            arguments += [] if value is None else [f"--{name}", str(value)]
        return [*arguments, *self.settings.arguments()]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the stages, the maps and the sinogram."""
        # With the method 'projection' that stage is the reconstruction itself.
        skipped = "projection" if self.wanted.method is Method.PROJECTION else ""
        files = {
            name: path for name, path in outputs.items() if path.name.endswith(".nii") and name != skipped
        }
        self._loaded = yield from transfer.readNiftis(files)

    def place(self, report: dict[str, Any]) -> Any:
        """Put the stages side by side into the scene, maps and report with them; return the last stage."""
        if "reconstruction" not in self._loaded or "sinogram" not in self._loaded:
            raise CTEnhanceError(_("The result was not loaded; press Apply again."))
        loaded = self._loaded
        with placing.whole() as added:
            before = self._scanned(loaded["reconstruction"])
            stages = []
            for name, stage in (("fbp", Method.FBP), ("projection", Method.PROJECTION)):
                if name in loaded:
                    before = self._addStage(loaded[name], stage, before, added)
                    stages.append((name, before))
            # What is compared with the result is the plain reconstruction of the same data.
            first = stages[0][1] if stages else before
            result = self._addStage(loaded["reconstruction"], self.wanted.method, first, added)
            for name, node in stages:
                result.SetNodeReferenceID(ROLES[name], node.GetID())
            for name, text in (("residual", _("residual")), ("uncertainty", _("uncertainty"))):
                if name in loaded:
                    node = self._addVolume(loaded[name], f"{result.GetName()} {text}", None, added)
                    placing.placeBeside(result, node)
                    result.SetNodeReferenceID(ROLES[name], node.GetID())
            self._addSinogram(loaded["sinogram"], loaded["reconstruction"], result, added)
            placing.attachReport(result, report, added)
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows a simulated scan by its temporary files only."""
        if not isinstance(self.source, Simulation):
            return sentence
        named = sentence.replace(str(folder / "input.mha"), self.source.node.GetName())
        return named.replace(str(_simulated(folder)), _("simulated scan"))

    def _scannedNode(self) -> Any:
        """Return the volume node that the scan was simulated from, if it is there still."""
        node = self.source.node if isinstance(self.source, Simulation) else None
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def _scanned(self, result: transfer.LoadedVolume) -> Any:
        """Return that node where it has the voxels of the result, so that both can be compared."""
        node = self._scannedNode()
        if node is None or node.GetImageData().GetDimensions() != result.image.GetDimensions():
            return None
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        same = np.allclose(slicer.util.arrayFromVTKMatrix(matrix), result.ijkToRAS, rtol=0, atol=1e-3)
        return node if same else None

    def _addStage(self, loaded: Any, stage: Method, before: Any, added: list[Any]) -> Any:
        node = self._addVolume(loaded, f"{self._name()} {stage.stage()}", before, added)
        if before is None:
            setWindow(node, suitable(loaded.array))
        return node

    def _addVolume(self, loaded: Any, name: str, before: Any, added: list[Any]) -> Any:
        node = placing.addNode("vtkMRMLScalarVolumeNode", name, added)
        if before is None:
            placing.addFixedDisplay(node, added)
        placing.addVolume(loaded.image, loaded.ijkToRAS, name, added, before=before, output=node)
        scanned = self._scannedNode()
        if scanned is not None:
            node.SetAndObserveTransformNodeID(scanned.GetTransformNodeID())
        return node

    def _addSinogram(self, loaded: Any, image: Any, result: Any, added: list[Any]) -> None:
        """Add the sinograms, each over its slice's field of view: so they scroll with the images."""
        columns, views, _slices = loaded.image.GetDimensions()
        width, height, _slices = image.image.GetDimensions()
        stretch = np.diag([width / columns, height / views, 1.0, 1.0])
        stretch[:2, 3] = stretch[0, 0] / 2 - 0.5, stretch[1, 1] / 2 - 0.5
        node = placing.addNode("vtkMRMLScalarVolumeNode", f"{self._name()} sinogram", added, hidden=True)
        display = placing.addFixedDisplay(node, added)
        display.SetSaveWithScene(False)
        with slicer.util.NodeModify(node):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(image.ijkToRAS @ stretch))
            node.SetAndObserveImageData(loaded.image)
            node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
        some = loaded.array[:: max(1, len(loaded.array) // 8), ::8, ::4]
        low, high = float(some.min()), float(some.max())
        display.SetWindowLevel(max(high - low, 1e-3), (high + low) / 2)
        placing.referToHidden(result, placing.SINOGRAM_ROLE, node)

    def _name(self) -> str:
        source = self.source
        if isinstance(source, Simulation):
            return named(source.node.GetName(), source.dose)
        return source.name.split(".")[0] if source is not None else ""


def _simulated(folder: Path) -> Path:
    return folder / "simulated.ctproj.h5"


def doseTexts(report: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return what the report of a result says of the dose: in short, and as a sentence."""
    estimate = _details(report, "dose_estimate")
    if not estimate:
        return _("not known yet"), ""
    short = _("{percent:.3g} % of normal, {quanta:,} quanta a ray").format(
        percent=100 * estimate["dose"], quanta=estimate["quanta_in_air"]
    )
    if "noise" in str(estimate.get("from")):
        return short, _("The data do not tell the quanta in air: their noise shows how many there were.")
    return short, _("Quanta in air on the ray that gets most, as the data tell; 250,000 are the normal dose.")


def agrees(report: Mapping[str, Any] | None) -> bool:
    """Say whether the result agrees with the measured data, as far as is known."""
    return bool(_details(report, "data_consistency").get("consistent", True))


def consistencyTexts(report: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return whether the result agrees with the measured data: in short, and as a sentence."""
    found = _details(report, "data_consistency")
    if not found:
        return _("not known yet"), ""
    if "likely_geometry" in found:
        # The sentence itself: of a loaded scene no other warning is on the screen.
        found_out = found.get("geometry_warning") or _("The geometry of the projections is likely wrong.")
        return found_out, _("Opposite rays, which should read the same, do not. Change the projection file.")
    short = (
        _("The image fits the measured data: what is left of them is noise.")
        if agrees(report)
        else _("The image does not fit the measured data (worst in slice {worst}): look at the residual.")
    )
    explanation = _(
        "The image, projected again, differs from the measured data by {departure:.2f} times their noise "
        "(standard deviation). Up to {allowed:.2f} times is noise alone."
    )
    values = {key: float(found[key]) for key in ("departure", "allowed")}
    return short.format(worst=int(found["worst_row"]) + 1), explanation.format(**values)


def _details(report: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    return ((report or {}).get("details") or {}).get(name) or {}
