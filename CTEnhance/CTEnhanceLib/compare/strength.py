"""Another strength for a result that is there: blended from input and full effect, without a new run.

At once it is made where a view looks (`LiveBlend`); the result's voxels follow when the slider rests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.core.blend import blend
from CTEnhanceLib.process.steps import TimedSteps, restTimer
from CTEnhanceLib.scene import placing, volumes
from CTEnhanceLib.views.liveslices import LiveSlices

REST_MILLISECONDS = 300


def presets() -> list[tuple[str, float]]:
    """Return the strengths that have a name."""
    return [(_("Low"), 0.4), (_("Medium"), 0.7), (_("Full"), 1.0)]


def fillBlended(target: np.ndarray, before: np.ndarray, full: np.ndarray, strength: float) -> Iterator[float]:
    """Fill `target` with the blend of float32 arrays, a few slices a step; yield the part done."""
    for slab in volumes.slabs(target):
        if strength == 1:
            target[slab] = full[slab]
        else:
            target[slab] = blend(before[slab].astype(np.float32), full[slab], strength)
        yield slab.stop / len(target)


def canBlend(result: Any) -> bool:
    """Say whether the strength of this node can be changed: its input and its full effect are still there."""
    before, full = placing.inputOf(result), placing.fullEffectOf(result)
    return (
        before is not None
        and full is not None
        and volumes.sameGrid(before, full)
        and volumes.sameGrid(result, full)
    )


class LiveBlend(LiveSlices):
    """A result at the strength `setting`, under the result's name and with its display."""

    def __init__(self, result: Any, strength: float) -> None:
        before, full = placing.inputOf(result), placing.fullEffectOf(result)
        super().__init__(before, result.GetName(), strength, result.GetDisplayNode())
        self._sources = [slicer.util.arrayFromVolume(node) for node in (before, full)]

    def sources(self) -> Sequence[np.ndarray]:
        """Return input and full effect."""
        return self._sources

    def values(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        """Return their blend as float32."""
        before, full = (each.astype(np.float32) for each in samples)
        return blend(before, full, self.setting)


class StrengthWriter:
    """Writes the blended voxels into a result when the slider has come to rest, in short turns.

    `onWritten(result)` is called when the voxels are those of the last strength asked for.
    """

    def __init__(self, onWritten: Callable[[Any], None]) -> None:
        self._onWritten = onWritten
        self._result: Any = None
        self._strength = 1.0
        self._steps: TimedSteps | None = None
        self._rest = restTimer(REST_MILLISECONDS, self._write)

    @property
    def pending(self) -> bool:
        """Whether the voxels are not yet those of the last strength."""
        return self._result is not None

    def ask(self, result: Any, strength: float) -> None:
        """Take this strength; voxels are written once no other has come for a third of a second."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
        self._result, self._strength = result, strength
        self._rest.start()

    def forget(self) -> None:
        """Drop what was asked (the scene closes)."""
        self._rest.stop()
        if self._steps is not None:
            self._steps.cancel()
        self._steps = self._result = None

    def _write(self) -> None:
        result = self._result
        if result is None or not canBlend(result):
            self.forget()
            return
        before, full, target = (
            slicer.util.arrayFromVolume(node)
            for node in (placing.inputOf(result), placing.fullEffectOf(result), result)
        )
        self._steps = TimedSteps(
            fillBlended(target, before, full, self._strength), self._written, self._failed
        )

    def _written(self) -> None:
        result, self._steps, self._result = self._result, None, None
        slicer.util.arrayFromVolumeModified(result)
        placing.setReportedStrength(result, self._strength)
        self._onWritten(result)

    def _failed(self, error: Exception) -> None:
        self._steps = self._result = None
        raise error
