"""Enhancing a volume node: what `Run` needs to know of the verb."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance import choices
from ctenhance.options import EnhanceOptions
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.compare.strength import fillBlended
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing, units, volumes

VERB = "enhance"
DEFAULT_OPTIONS = EnhanceOptions()


def problem(inputNode: Any, outputNode: Any) -> str:
    """Return the sentence that says why these nodes cannot be enhanced, or an empty one."""
    try:
        volumes.requireScalarVolume(inputNode)
        if not units.mayBeHounsfield(inputNode):
            raise InputError(
                _("'{name}' is a map and no CT in HU: choose a CT volume.").format(name=inputNode.GetName())
            )
        if outputNode is not None and outputNode == inputNode:
            raise InputError(_("Input and output are the same volume: choose another output, or a new one."))
        if outputNode is not None and outputNode.IsA("vtkMRMLLabelMapVolumeNode"):
            raise InputError(
                _("'{name}' is a segmentation: choose another output.").format(name=outputNode.GetName())
            )
    except InputError as error:
        return str(error)
    return ""


def isForeign(outputNode: Any) -> bool:
    """Say whether a node holds an image that is no result of CT Enhance: a patient's CT, say."""
    if outputNode is None or outputNode.GetImageData() is None:
        return False
    return (placing.reportOf(outputNode) or {}).get("verb") != VERB


def resultName(scan: str, report: Mapping[str, Any]) -> str:
    """Return what the result of a scan is called in the scene: with the model that made it, by its report."""
    model = (report.get("model") or {}).get("name") or _("no model")
    return _("{name} enhanced ({model})").format(name=scan, model=model)


class EnhanceJob(Job):
    """From input node to result node.

    overwrite - whether the output may be a volume that is no result of CT Enhance
    """

    # Reading and writing take seconds, the model minutes.
    stages = {"read": 2, "enhance": 95, "write": 3}  # noqa: RUF012

    def __init__(
        self,
        inputNode: Any,
        outputNode: Any,
        options: EnhanceOptions = DEFAULT_OPTIONS,
        overwrite: bool = False,
    ) -> None:
        self.inputNode, self.outputNode, self.options = inputNode, outputNode, options
        self.overwrite = overwrite
        self._image: vtk.vtkImageData | None = None
        self._full: transfer.LoadedVolume | None = None
        self._trust: vtk.vtkImageData | None = None

    def problem(self) -> str:
        """Say what is wrong with the nodes, if anything."""
        found = problem(self.inputNode, self.outputNode)
        if not found and isForeign(self.outputNode) and not self.overwrite:
            return _("'{name}' is no result of CT Enhance, and would be lost: choose a new volume.").format(
                name=self.outputNode.GetName()
            )
        return found

    def remarks(self) -> list[str]:
        """Tell what the input's file says of its grid besides."""
        return volumes.gridNotes(self.inputNode)

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the input."""
        return transfer.writeMetaImage(self.inputNode, folder / "input.mha")

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the full effect: strengths are blended here, without another run."""
        paths = [str(folder / "input.mha"), str(folder / "output.nii")]
        full = dataclasses.replace(self.options, strength=1.0)
        return [VERB, *paths, *full.to_arguments(uncertainty=folder / "uncertainty.nii")]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the full effect, blend the asked strength, and make the trust map of the draws' SD."""
        before = slicer.util.arrayFromVolume(self.inputNode)
        asked = ["enhanced", "uncertainty"] if self.options.uncertainty else ["enhanced"]
        loaded = yield from transfer.readNiftis({name: outputs[name] for name in asked})
        self._full = loaded["enhanced"]
        if self._full.array.shape != before.shape:
            raise CTEnhanceError(_("The result has another size than the input; press Apply again."))
        if self.options.uncertainty:
            from ctenhance.quality.display import body  # brings SciPy, which is slow to load

            self._trust, error = loaded["uncertainty"].image, loaded["uncertainty"].array
            for slab in volumes.slabs(error):
                error[slab] *= np.float32(choices.NINETY_PERCENT)
                for z in range(*slab.indices(len(error))):  # the factor was measured in patients
                    error[z][~body(before[z])] = 0
                yield slab.stop / len(error)
        self._image, image = volumes.newImage(before.shape, np.float32)
        yield from fillBlended(image, before, self._full.array, self.options.strength)

    def place(self, report: dict[str, Any]) -> Any:
        """Put result, full effect and report beside the input, on its grid; return the result's node."""
        if not slicer.mrmlScene.IsNodePresent(self.inputNode):
            raise CTEnhanceError(_("The input volume was removed meanwhile, so no result was added."))
        if self._full is None or self._image is None:
            raise CTEnhanceError(_("The result was not loaded; press Apply again."))
        report.setdefault("settings", {})["strength"] = round(self.options.strength, 4)
        output = self.outputNode
        if output is not None and not slicer.mrmlScene.IsNodePresent(output):
            output = None
        scan = self.inputNode.GetName()
        name = resultName(scan, report)
        # A name that tells of another image or model is no longer true; one that the user gave stays.
        untrue = isForeign(output) or (
            output is not None
            and output.GetName() == resultName(scan, placing.reportOf(output) or {}) != name
        )
        images = self._image, self._full.image
        result = placing.addResult(self.inputNode, output, name, *images, report, self._trust)
        if untrue:
            result.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows the volume by its temporary file only."""
        return sentence.replace(str(folder / "input.mha"), self.inputNode.GetName())

    def few(self) -> Job:
        """The same of the slices in the middle."""
        return EnhanceJob(volumes.middleSlices(self.inputNode), None, self.options)

    def slices(self) -> int | None:
        """As many as the input has."""
        size = volumes.imageSize(self.inputNode)
        return None if size is None else size[2]

    def likeness(self) -> Hashable:
        """Model, device and the size of a slice; not the strength."""
        size = volumes.imageSize(self.inputNode)
        return (
            None if size is None else (VERB, repr(dataclasses.replace(self.options, strength=1.0)), size[:2])
        )
