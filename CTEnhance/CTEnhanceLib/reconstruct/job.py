"""Reconstructing projections, measured or simulated from a volume node: what `Run` needs to know of it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.options import ReconstructOptions
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.projections import (
    ProjectionJob,
    SimulatedScan,
    Source,
    commonArguments,
    requireMatrix,
    requireSource,
)
from CTEnhanceLib.process.run import Command
from CTEnhanceLib.scene import placing, volumes
from CTEnhanceLib.scene.windows import setWindow, sparse, suitable

VIEWS, COLUMNS = 1152, 736

# Unlike the command, a panel shows the residual by default.
DEFAULT_OPTIONS = ReconstructOptions(residual=True)

# The CT that was scanned: what results refer to by other names than this is one of our results itself.
SCANNED_ROLE = "CTEnhanceScanned"
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
            Method.NEED: _("NEED: both stages"),
            Method.PROJECTION: _("Projection stage"),
            Method.FBP: _("FBP alone"),
        }[self]

    def stage(self) -> str:
        """Return the short name of what it gives."""
        return {Method.NEED: _("NEED"), Method.PROJECTION: _("Projection stage"), Method.FBP: _("FBP")}[self]


@dataclass(frozen=True)
class Simulation(SimulatedScan):
    """The scan of a volume node, at this share (0..1] of the full dose."""

    node: Any
    dose: float
    views: int = VIEWS
    columns: int = COLUMNS

    @property
    def scanned(self) -> str:
        """The volume's name."""
        return self.node.GetName()

    def command(self, folder: Path, projections: Path, options: Any) -> Command:
        """Return `project`, which reads the volume from the folder."""
        arguments = ["project", str(_volume(folder)), str(projections)]
        for name in ("dose", "views", "columns"):
            arguments += [f"--{name}", str(getattr(self, name))]
        # All slices share the geometry, which takes longest: two took 34 s of a processor, 14 took 67 s.
        stages = {"read": 1, "project": 20, "write": 4}
        return Command([*arguments, *commonArguments(options)], stages, further=0.08)

    def few(self) -> Simulation:
        """Scan the two slices in the middle."""
        return dataclasses.replace(self, node=volumes.middleSlices(self.node))

    def count(self) -> int | None:
        """As many slices as the volume has."""
        size = volumes.imageSize(self.node)
        return None if size is None else size[2]

    def likeness(self) -> Hashable:
        """The size of a slice and of its scan; not the dose."""
        return (volumes.imageSize(self.node) or ())[:2], self.views, self.columns


def problem(source: Source, options: ReconstructOptions) -> str:
    """Return the sentence that says why this cannot be reconstructed, or an empty one."""
    try:
        unchosen = _(
            "Choose a projection file (.ctproj.h5) or a folder of DICOM-CT-PD files, or simulate one."
        )
        if isinstance(source, Simulation):
            volumes.requireScalarVolume(source.node)
        requireSource(source, unchosen, folders=True)
        requireMatrix(options.image_size)
    except InputError as error:
        return str(error)
    return ""


class ReconstructJob(ProjectionJob):
    """From projections (a path, or a scan still to be simulated) to volume nodes."""

    # Reading headers and sorting are for DICOM-CT-PD only.
    stages = {"read headers": 2, "check": 3, "rebin": 5, "reconstruct": 85, "write": 5}  # noqa: RUF012

    def __init__(self, source: Source, options: ReconstructOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(source, options)
        self.method = Method(options.method)

    def problem(self) -> str:
        """Say what is wrong with the source or the settings, if anything."""
        return problem(self.source, self.options)

    def remarks(self) -> list[str]:
        """Tell what the file of the volume that is to be scanned says of its grid besides."""
        return volumes.gridNotes(self.source.node) if isinstance(self.source, Simulation) else []

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the volume that is to be scanned."""
        if isinstance(self.source, Simulation):
            return transfer.writeMetaImage(self.source.node, _volume(folder))
        return super().prepare(folder)

    def arguments(self, folder: Path) -> list[str]:
        """Ask for all stages, the maps and the measured sinogram."""
        method = self.method
        # What a method has no use for, the command refuses.
        options = dataclasses.replace(
            self.options,
            all_stages=method is not Method.FBP,
            model_projection=None if method is Method.FBP else self.options.model_projection,
            model_image=self.options.model_image if method is Method.NEED else None,
        )
        maps = {name: folder / f"{name}.nii" for name in ("residual", "uncertainty")}
        paths = [self.projections(folder), str(folder / "output.nii")]
        sinogram = ["--sinogram", str(folder / "sinogram.nii")]
        return ["reconstruct", *paths, *sinogram, *options.to_arguments(**maps)]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the stages, the maps and the sinogram."""
        # With the method 'projection' that stage is the reconstruction itself.
        skipped = "projection" if self.method is Method.PROJECTION else ""
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
            result = self._addStage(loaded["reconstruction"], self.method, first, added)
            for name, node in stages:
                result.SetNodeReferenceID(ROLES[name], node.GetID())
            for name, text in (("residual", _("residual")), ("uncertainty", _("uncertainty"))):
                if name in loaded:
                    node = self._addVolume(loaded[name], f"{result.GetName()} {text}", None, added)
                    placing.placeBeside(result, node)
                    result.SetNodeReferenceID(ROLES[name], node.GetID())
            self._addSinogram(loaded["sinogram"], loaded["reconstruction"], result, added)
            scanned = self._scannedNode()
            if scanned is not None:
                result.SetNodeReferenceID(SCANNED_ROLE, scanned.GetID())
            placing.attachReport(result, report, added)
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows the volume, too, by its temporary file only."""
        if isinstance(self.source, Simulation):
            sentence = sentence.replace(str(_volume(folder)), self.source.scanned)
        return super().readable(sentence, folder)

    def _scannedNode(self) -> Any:
        """Return the volume node that the scan was simulated from, if it is there still."""
        node = self.source.node if isinstance(self.source, Simulation) else None
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def _scanned(self, result: transfer.LoadedVolume) -> Any:
        """Return that node where it has the voxels of the result, so that both can be compared."""
        node = self._scannedNode()
        if node is None or node.GetImageData().GetDimensions() != result.image.GetDimensions():
            return None
        same = np.allclose(volumes.ijkToRAS(node), result.ijkToRAS, rtol=0, atol=1e-3)
        return node if same else None

    def _addStage(self, loaded: Any, stage: Method, before: Any, added: list[Any]) -> Any:
        node = self._addVolume(loaded, f"{self.name()} {stage.stage()}", before, added)
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
        node = placing.addNode(
            "vtkMRMLScalarVolumeNode", _("{name} sinogram").format(name=self.name()), added, hidden=True
        )
        display = placing.addFixedDisplay(node, added)
        display.SetSaveWithScene(False)
        with slicer.util.NodeModify(node):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(image.ijkToRAS @ stretch))
            node.SetAndObserveImageData(loaded.image)
            node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
        some = loaded.array[sparse(loaded.array.shape)]
        low, high = float(some.min()), float(some.max())
        display.SetWindowLevel(max(high - low, 1e-3), (high + low) / 2)
        placing.referToHidden(result, placing.SINOGRAM_ROLE, node)


def scannedOf(result: Any) -> Any:
    """Return the CT whose simulated scan a result was made from, or None."""
    return result.GetNodeReference(SCANNED_ROLE) if result is not None else None


def _volume(folder: Path) -> Path:
    return folder / "input.mha"


def settingsText(report: Mapping[str, Any] | None, name: str) -> str:
    """Return what a title says of a reconstruction besides its name: ', kernel soft, 25 % of normal dose'.

    A dose that the name begins with, as of a simulated scan ('25 % chest NEED'), is not said again.
    """
    kernel = ((report or {}).get("settings") or {}).get("kernel")
    dose = _details(report, "dose_estimate").get("dose")
    text = "" if kernel is None else _(", kernel {kernel}").format(kernel=kernel)
    if dose is None or name.startswith(f"{100 * dose:.3g} % "):
        return text
    return text + _(", {percent:.3g} % of normal dose").format(percent=100 * dose)


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
    # The sentence itself: of a loaded scene no other warning is on the screen.
    if "counts_warning" in found:
        return found["counts_warning"], _("The readings themselves are wrong. Change the projection file.")
    if "likely_geometry" in found or "geometry_warning" in found:
        found_out = found.get("geometry_warning") or _("The geometry of the projections is likely wrong.")
        return found_out, _("The readings contradict the geometry. Change the projection file.")
    if "values_warning" in found:
        return found["values_warning"], _("Values are off. Change the projection file.")
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
    explanation = " ".join(filter(None, [explanation.format(**values), found.get("geometry_note")]))
    return short.format(worst=int(found["worst_row"]) + 1), explanation


def _details(report: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    return ((report or {}).get("details") or {}).get(name) or {}
