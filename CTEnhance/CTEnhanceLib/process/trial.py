"""How long a run will take here: two slices are tried, in the background, and the time is carried over.

A figure from another computer would say nothing: processors differ tenfold, graphics cards a hundredfold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.steps import TimedSteps
from CTEnhanceLib.process.worker import Worker
from CTEnhanceLib.scene import volumes

SLICES = 2


@dataclass(frozen=True)
class Pace:
    """What two slices took: all of it (seconds), and the second slice alone."""

    whole: float
    slice: float

    def seconds(self, slices: int) -> float:
        """Return what so many slices take."""
        return self.whole + max(0, slices - SLICES) * self.slice


class Trial:
    """Tries the middle of a volume; `onDone(Pace or None)` is called when it is over, None: it has failed.

    arguments(input, output): the command line for files of these paths; stage: what its slices report.
    """

    def __init__(self, onDone: Callable[[Pace | None], None]) -> None:
        self._onDone = onDone
        self._folder: Path | None = None
        self._steps: TimedSteps | None = None
        self._worker: Worker | None = None
        self._times: list[tuple[int, float]] = []
        self._stage, self._started = "", 0.0

    @property
    def running(self) -> bool:
        """Whether it is on its way."""
        return self._folder is not None

    def start(self, node: Any, arguments: Callable[[Path, Path], list[str]], stage: str) -> None:
        """Begin; returns at once."""
        self.stop()
        self._stage, self._times = stage, []
        try:
            self._folder = folder = transfer.runFolder()
        except CTEnhanceError:
            self._end(None)
            return
        few = _middle(node)
        self._steps = TimedSteps(
            _written(few, folder / "input.mha"), lambda: self._run(arguments), lambda _error: self._end(None)
        )

    def stop(self) -> None:
        """Leave it; nobody is told."""
        if self._steps is not None:
            self._steps.cancel()
        if self._worker is not None:
            self._worker.kill()
        self._clear()

    def _run(self, arguments: Callable[[Path, Path], list[str]]) -> None:
        if self._folder is None:
            return
        self._steps, self._started = None, time.monotonic()
        self._worker = Worker(
            lambda _event: self._end(self._pace()),
            lambda _sentence: self._end(None),
            lambda: None,
            lambda _progress: None,
            {},
            self._take,
        )
        try:
            self._worker.start(arguments(self._folder / "input.mha", self._folder / "output.nii"))
        except CTEnhanceError:
            self._worker = None
            self._end(None)

    def _take(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "progress" and event.get("stage") == self._stage:
            self._times.append((int(event["done"]), time.monotonic()))

    def _pace(self) -> Pace:
        whole = time.monotonic() - self._started
        first, last = (self._times[0], self._times[-1]) if self._times else ((0, 0.0), (0, 0.0))
        steps = last[0] - first[0]
        # Where both came at once nothing tells one slice from the start of the engine: both count half.
        each = (last[1] - first[1]) / steps if steps > 0 else whole / SLICES
        return Pace(whole, each)

    def _end(self, pace: Pace | None) -> None:
        self._worker = None
        self._clear()
        self._onDone(pace)

    def _clear(self) -> None:
        self._steps = self._worker = None
        if self._folder is not None:
            transfer.removeFolder(self._folder)
            self._folder = None


def _middle(node: Any) -> Any:
    """Return a node, in no scene, with the two slices in the middle of a volume."""
    array = slicer.util.arrayFromVolume(node)
    start = max(0, len(array) // 2 - SLICES // 2)
    part = array[start : start + SLICES]
    image, values = volumes.newImage(part.shape, part.dtype if part.dtype != np.int64 else np.float64)
    values[...] = part
    few = slicer.vtkMRMLScalarVolumeNode()
    few.SetName(node.GetName())
    few.CopyOrientation(node)
    few.SetAndObserveImageData(image)
    return few


def _written(node: Any, path: Path) -> Iterator[float]:
    """Write the node; it lives as long as this goes on."""
    yield from transfer.writeMetaImage(node, path)
