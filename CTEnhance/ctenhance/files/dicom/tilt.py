"""Slices of a tilted gantry laid straight above each other, each moved within its own plane.

The slices keep their orientation and their distance; only along rows and columns is there an interpolation.
So nothing is blurred from slice to slice, and a slice that moves by whole pixels keeps its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)

from ctenhance.files.dicom.header import number, text
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.large import in_memory

if TYPE_CHECKING:
    from ctenhance.files.dicom.slices import Slice

_LEAST_TILT = 0.5  # degrees
_MOST_GROWTH = 4  # times as many pixels: more is no gantry's tilt (30 degrees), but a wrong position
_WHOLE = 1e-3


class Straightened(NamedTuple):
    """The array [z, y, x], how far its first pixel lies from the old one (mm along rows, columns), a note."""

    array: np.ndarray
    offset: np.ndarray
    note: str


def notes_of_tilt(slices: Sequence[Slice], shear: np.ndarray | None) -> list[str]:
    """Return the note on slices as measured whose header tells of a tilt that their positions do not show."""
    one = slices[0]
    tilt = abs(number(one.file.value("GantryDetectorTilt", frame=one.frame)) or 0.0)
    acquired = "ORIGINAL" in text(one.file.value("FrameType", "ImageType", frame=one.frame)).upper()
    if tilt < _LEAST_TILT or shear is not None or not acquired:
        return []
    leaning = float(np.degrees(np.arccos(min(1.0, np.abs(one.axes[2]).max()))))
    if len(slices) == 1 and abs(leaning - tilt) < _LEAST_TILT:
        return []
    return [
        f"its header gives a gantry tilt of {tilt:g} degrees, but its slices lie straight above each other "
        "by their positions: if they were tilted, the volume is sheared and its lengths and angles are wrong"
    ]


def straighten(
    array: np.ndarray, pixel_spacing: tuple[float, float], pitch: float, shear: np.ndarray, outside: float
) -> Straightened:
    """Move each slice of `array` [z, y, x] by minus what the tilt has moved it.

    `pixel_spacing` along rows and columns, `pitch` between slices, mm; `shear`: mm along rows and columns per
    mm of depth. By cubic B-splines, bounded by the slice's own values; what no slice shows becomes `outside`.
    Raises InputError for a stack so sheared that it is no tilted gantry's.
    """
    spacing = np.array(pixel_spacing)
    moved = np.arange(len(array))[:, None] * pitch * shear / spacing  # pixels (x, y) of each slice
    moved = np.where(np.abs(moved - np.rint(moved)) < _WHOLE, np.rint(moved), moved)
    low = np.floor(moved.min(axis=0)).astype(int)
    size = np.array(array.shape[:0:-1]) + np.ceil(moved.max(axis=0)).astype(int) - low
    if size.prod() > _MOST_GROWTH * array[0].size:
        raise InputError(
            f"its slices lie up to {np.abs(moved * spacing).max():.0f} mm beside each other, too far for a "
            "tilted gantry; export the series again."
        )
    straight = in_memory((len(array), int(size[1]), int(size[0])))
    for plane, values, move in zip(straight, array, moved, strict=True):
        _move(plane, values, move - low, outside)
    degrees = np.degrees(np.arctan(np.linalg.norm(shear)))
    note = (
        f"resampled for a gantry tilt of {degrees:.1f} degrees: each slice was moved in its own plane by up "
        f"to {np.abs(moved * spacing).max():.1f} mm (cubic B-spline), which made {size[0]} x {size[1]} "
        f"pixels of {array.shape[2]} x {array.shape[1]}"
    )
    return Straightened(straight, low * spacing, note)


def _move(plane: np.ndarray, values: np.ndarray, move: np.ndarray, outside: float) -> None:
    """Put `values` [y, x] into `plane`, moved by pixels (x, y)."""
    if np.array_equal(move, np.rint(move)):
        x, y = move.astype(int)
        plane[...] = outside
        plane[y : y + values.shape[0], x : x + values.shape[1]] = values
        return
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(move.tolist())
    moved = sitk.Resample(
        image, plane.shape[::-1], sitk.Transform(), sitk.sitkBSpline, (0.0, 0.0), (1.0, 1.0),
        (1.0, 0.0, 0.0, 1.0), float(outside), sitk.sitkFloat32,
    )  # fmt: skip
    low, high = min(float(values.min()), outside), max(float(values.max()), outside)
    np.clip(sitk.GetArrayViewFromImage(moved), low, high, out=plane)
