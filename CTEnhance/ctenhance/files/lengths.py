"""Are the lengths in a volume's header those of a patient, in mm?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.files.volumes import StoredVolume

# A patient in metres is narrower than the first, and his pixels in centimetres than the second. No scanner's
# field is wider than 820 mm; a patient is up to 2.2 m long, whichever axis his header gives that to.
_LEAST_WIDTH_MM, _LEAST_PIXEL_MM, _LARGEST_VOXEL_MM = 1.0, 0.1, 100.0
_WIDEST_FIELD_MM, _WIDEST_MM = 1100.0, 2200.0
# So many slices that lie within one's thickness, less than this part of it apart, are of one place.
_FEWEST_IN_ONE_PLACE, _OF_THICKNESS = 3, 0.15


def require_likely_lengths(volume: CTVolume | StoredVolume) -> None:
    """Raise InputError where lengths in the header are no millimetres but of another unit."""
    across = np.multiply(volume.array.shape[:0:-1], volume.spacing[:2])
    size = " x ".join(f"{one:.4g}" for one in volume.spacing)
    widest = max(_across_patient(volume))
    if across.max() >= _LEAST_WIDTH_MM and max(volume.spacing) <= _LARGEST_VOXEL_MM and widest <= _WIDEST_MM:
        return
    what = f"its slices {across[0]:.3g} x {across[1]:.3g} mm"
    raise InputError(
        f"its voxels would be {size} mm, and {what if widest <= _WIDEST_MM else f'it {widest:.4g} mm wide'}, "
        "as if its header gave lengths in another unit; correct it, or export the volume again in mm."
    )


def doubts_of_lengths(volume: CTVolume | StoredVolume) -> list[str]:
    """Return the notes on lengths that may be in another unit, or nobody's."""
    doubts = (_doubt_of_pixels, _doubt_of_field, _doubt_of_pitch)
    return [said for doubt in doubts if (said := doubt(volume))]


def _across_patient(volume: CTVolume | StoredVolume) -> list[float]:
    """Return the volume's lengths, mm, along the axes that run nearest to right-left and to front-back."""
    axes = np.abs(volume.direction).argmax(axis=0)
    lengths = np.multiply(volume.array.shape[::-1], volume.spacing)
    return [float(length) for length, axis in zip(lengths, axes, strict=True) if axis < 2] or [0.0]


def _doubt_of_pixels(volume: CTVolume | StoredVolume) -> str:
    width = min(volume.spacing[:2])
    if width >= _LEAST_PIXEL_MM:
        return ""
    return (
        f"its pixels are {width:.3g} mm wide, less than those of a patient's CT: make sure that the lengths "
        "in its header are mm"
    )


def _doubt_of_field(volume: CTVolume | StoredVolume) -> str:
    width = max(_across_patient(volume))
    if width <= _WIDEST_FIELD_MM:
        return ""
    return (
        f"it is {width:.4g} mm wide, more than any scanner's field: make sure that the lengths in its header "
        "are mm"
    )


def _doubt_of_pitch(volume: CTVolume | StoredVolume) -> str:
    """Return the note on slices that hardly lie apart, as images of one place at several times; or ''."""
    count, pitch = len(volume.array), volume.spacing[2]
    thickness = float(volume.meta.get("slice_thickness_mm") or min(volume.spacing[:2]))
    if count < _FEWEST_IN_ONE_PLACE or pitch >= _OF_THICKNESS * thickness or (count - 1) * pitch >= thickness:
        return ""
    return (
        f"its {count} slices lie {pitch:.3g} mm apart, all of them within the {thickness:g} mm of one, as "
        "images of one place at several times (bolus tracking, perfusion) do: make sure that they "
        "are a volume"
    )
