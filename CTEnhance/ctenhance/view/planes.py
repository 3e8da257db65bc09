"""The three planes of a volume: which slices they have, and where these lie for Slicer's slice views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctenhance.view.shared import SharedVolume

AXIAL, CORONAL, SAGITTAL = "axial", "coronal", "sagittal"
PLANES = (AXIAL, CORONAL, SAGITTAL)
# In RAS: to the right of the screen, up on it, and the way in which slices are counted up.
_SCREEN = {
    AXIAL: ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    CORONAL: ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    SAGITTAL: ((0, -1, 0), (0, 0, 1), (1, 0, 0)),
}
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # where each RAS axis comes from, and goes to


@dataclass(frozen=True)
class Plane:
    """A stack of slices of a volume, along the axis of its grid that is nearest to the plane's normal.

    axis       the array axis [z, y, x] that the slices are counted along
    count      how many there are
    right, up, normal  unit vectors in RAS: of the screen, and the way in which the slice number grows there
    backward   whether the index falls along the normal
    corner     RAS of the centre of voxel 0, and `step`, from a slice to the next (mm, RAS)
    middle     RAS of the middle of the volume
    width, height  of the slices in mm
    """

    name: str
    axis: int
    count: int
    right: np.ndarray
    up: np.ndarray
    normal: np.ndarray
    backward: bool
    corner: np.ndarray
    step: np.ndarray
    middle: np.ndarray
    width: float
    height: float

    @classmethod
    def of(cls, volume: SharedVolume, name: str) -> Plane:
        """Return the plane of this name of a volume, whose axes need not be those of the patient."""
        matrix = volume.ijk_to_ras()
        lengths = np.array(volume.shape[::-1], float)
        units = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
        axes, vectors = _assigned(units, name)
        spans = lengths * np.linalg.norm(matrix[:3, :3], axis=0)
        middle = matrix[:3, 3] + matrix[:3, :3] @ ((lengths - 1) / 2)
        step = matrix[:3, axes[2]]
        return cls(
            name=name, axis=2 - axes[2], count=volume.shape[2 - axes[2]],
            right=vectors[0], up=vectors[1], normal=vectors[2], backward=bool(step @ vectors[2] < 0),
            corner=matrix[:3, 3], step=step, middle=middle,
            width=float(spans[axes[0]]), height=float(spans[axes[1]]),
        )  # fmt: skip

    def centre(self, index: int) -> np.ndarray:
        """Return the point in RAS in the middle of a slice."""
        return self.middle + (index - (self.count - 1) / 2) * self.step

    def index_of(self, point: np.ndarray) -> int:
        """Return the slice nearest to a point in RAS, one that there is."""
        along = (point - self.corner) @ self.step / (self.step @ self.step)
        return int(np.clip(np.round(along), 0, self.count - 1))

    def letters(self) -> dict[str, str]:
        """Return which side of the patient is at the left, right, top and bottom of the screen."""
        ends = {}
        for vector, (low, high) in ((self.right, ("left", "right")), (self.up, ("bottom", "top"))):
            main = int(np.argmax(np.abs(vector)))
            first, last = _LETTERS[main] if vector[main] > 0 else _LETTERS[main][::-1]
            ends[low], ends[high] = first, last
        return ends


def _assigned(units: np.ndarray, name: str) -> tuple[list[int], list[np.ndarray]]:
    """Return the voxel axes (x, y, z) nearest to right, up and normal, each but once, and their
    directions."""
    ideal = [np.array(vector, float) for vector in _SCREEN[name]]
    best: tuple[float, list[int]] = (-1.0, [])
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        likeness = sum(abs(units[:, axis] @ vector) for axis, vector in zip(order, ideal, strict=True))
        if likeness > best[0] + 1e-9:
            best = (float(likeness), list(order))
    vectors = [
        units[:, axis] * (1.0 if units[:, axis] @ vector >= 0 else -1.0)
        for axis, vector in zip(best[1], ideal, strict=True)
    ]
    return best[1], vectors
