"""One press of Apply: the input goes out to a file, the worker computes, the result comes into the scene.

Until the very last step the scene is not touched, so a failure or a cancel leaves it as it was; the temporary
folder goes in any case.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib import placing, volumes
from CTEnhanceLib.steps import TimedSteps
from CTEnhanceLib.worker import Worker, WorkerProgress

TEMPORARY_PREFIX = "ctenhance-"
_LEFTOVER_SECONDS = 3 * 24 * 3600


@dataclass(frozen=True)
class Settings:
    """What the user chose. `model`: a name or a path; None: the default. `strength` in 0..1."""

    model: str | None = None
    strength: float = 1.0
    device: str = "auto"
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the command line's options. The worker gives the full effect: strengths are blended here."""
        options = ["--strength", "1", "--device", self.device, "--seed", str(self.seed)]
        return options if self.model is None else ["--model", self.model, *options]


def problem(inputNode: Any, outputNode: Any, strength: float = 1.0) -> str:
    """Return the sentence that says why these nodes cannot be enhanced, or an empty one."""
    try:
        volumes.requireScalarVolume(inputNode)
        if outputNode is not None and outputNode == inputNode:
            raise InputError(_("Input and output are the same volume: choose another output, or a new one."))
        if outputNode is not None and outputNode.IsA("vtkMRMLLabelMapVolumeNode"):
            raise InputError(
                _("'{name}' is a segmentation: choose another output.").format(name=outputNode.GetName())
            )
        if not 0 <= strength <= 1:
            raise InputError(_("The strength must lie between 0 and 1."))
    except InputError as error:
        return str(error)
    return ""


def blend(before: np.ndarray, full: np.ndarray, strength: float, target: np.ndarray) -> Iterator[float]:
    """Fill `target` with before + strength * (full - before), a few slices a step; yield the part done."""
    for slab in volumes.slabs(target):
        if strength == 1:
            target[slab] = full[slab]
        else:
            first = before[slab].astype(np.float32)
            target[slab] = first + np.float32(strength) * (full[slab] - first)
        yield slab.stop / len(target)


def removeLeftovers(root: Path) -> None:
    """Remove run folders untouched for days: Slicer was ended in the middle, and they hold voxels."""
    for folder in root.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


class EnhanceRun:
    """From input node to result node. Exactly one of the last three callbacks is called, when all is over.

    onProgress(WorkerProgress); onDone(result node, warnings); onFailed(sentence, details); onCancelled().
    """

    def __init__(
        self,
        inputNode: Any,
        outputNode: Any,
        settings: Settings,
        onProgress: Callable[[WorkerProgress], None],
        onDone: Callable[[Any, list[str]], None],
        onFailed: Callable[[str, str], None],
        onCancelled: Callable[[], None],
    ) -> None:
        self.inputNode, self.outputNode, self.settings = inputNode, outputNode, settings
        self._onProgress, self._onDone = onProgress, onDone
        self._onFailed, self._onCancelled = onFailed, onCancelled
        self._folder: Path | None = None
        self._steps: TimedSteps | None = None
        self._worker = Worker(self._load, self._fail, self._endCancelled, onProgress)
        self._warnings: list[str] = []
        self.active = False

    def start(self) -> None:
        """Begin; returns at once. Raises InputError for nodes that cannot be enhanced."""
        sentence = problem(self.inputNode, self.outputNode, self.settings.strength)
        if sentence:
            raise InputError(sentence)
        removeLeftovers(volumes.temporaryRoot())
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=volumes.temporaryRoot()))
        except OSError as error:
            raise CTEnhanceError(
                _("No temporary folder can be made ({reason}); check Slicer's temporary folder.").format(
                    reason=error.strerror or error
                )
            ) from error
        self.active = True
        self._image = self._full = None
        self._tell("prepare", 0.0)
        self._steps = TimedSteps(
            volumes.writeMetaImage(self.inputNode, self._folder / "input.mha"), self._compute, self._failWith
        )

    def cancel(self) -> None:
        """Stop; `onCancelled` is called once nothing of the run is left."""
        if not self.active:
            return
        if self._steps is not None:
            self._steps.cancel()
        if self._worker.running:
            self._worker.cancel()
            self._tell("cancel", 0.0)
        else:
            self._endCancelled()

    def kill(self) -> None:
        """Stop at once without any callback, for when the application or the module goes."""
        if self.active:
            if self._steps is not None:
                self._steps.cancel()
            self._worker.kill()
            self._cleanUp()

    def _compute(self) -> None:
        folder = self._files()
        paths = [str(folder / "input.mha"), str(folder / "output.nii")]
        options = [*self.settings.arguments(), "--report", str(folder / "report.json")]
        self._tell("start", 0.0)
        try:
            self._worker.start(["enhance", *paths, *options])
        except CTEnhanceError as error:
            self._fail(str(error))

    def _load(self, event: Mapping[str, Any]) -> None:
        self._warnings = [str(warning) for warning in event.get("warnings", [])]
        self._steps = TimedSteps(
            self._loading(), self._show, self._failWith, lambda part: self._tell("load", 100.0 * part)
        )

    def _loading(self) -> Iterator[float]:
        before = slicer.util.arrayFromVolume(self.inputNode)
        self._full, full = volumes.newImage(before.shape, np.float32)
        for fraction in volumes.readNifti(self._files() / "output.nii", before.shape, full):
            yield fraction / 2
        self._image, image = volumes.newImage(before.shape, np.float32)
        for fraction in blend(before, full, self.settings.strength, image):
            yield 0.5 + fraction / 2

    def _show(self) -> None:
        try:
            result = self._intoScene()
        except Exception as error:
            self._failWith(error)
            return
        self._cleanUp()
        self._onDone(result, self._warnings)

    def _intoScene(self) -> Any:
        if not slicer.mrmlScene.IsNodePresent(self.inputNode):
            raise CTEnhanceError(_("The input volume was removed meanwhile, so no result was added."))
        try:
            report = json.loads((self._files() / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CTEnhanceError(
                _("The report of the computation cannot be read; press Apply again.")
            ) from error
        report.setdefault("settings", {})["strength"] = round(self.settings.strength, 4)
        output = self.outputNode
        if output is not None and not slicer.mrmlScene.IsNodePresent(output):
            output = None
        name = _("{name} enhanced").format(name=self.inputNode.GetName())
        return placing.addResult(self.inputNode, output, name, self._image, self._full, report)

    def _failWith(self, error: Exception) -> None:
        if isinstance(error, CTEnhanceError):
            self._fail(str(error))
        elif isinstance(error, MemoryError):
            self._fail(_("There is not enough memory for the result: close other volumes or crop the input."))
        else:
            self._fail(_("Something unexpected happened ({error}).").format(error=error))

    def _fail(self, sentence: str) -> None:
        # The worker knows the volume by its temporary file only.
        readable = sentence.replace(str(self._files() / "input.mha"), self.inputNode.GetName())
        details = self._worker.log
        self._cleanUp()
        self._onFailed(readable, details)

    def _endCancelled(self) -> None:
        self._cleanUp()
        self._onCancelled()

    def _cleanUp(self) -> None:
        self.active = False
        self._steps = None
        self._image: vtk.vtkImageData | None = None
        self._full: vtk.vtkImageData | None = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self) -> Path:
        if self._folder is None:
            raise CTEnhanceError(_("The run has not been started."))
        return self._folder

    def _tell(self, stage: str, percent: float) -> None:
        self._onProgress(WorkerProgress(stage, percent, None))
