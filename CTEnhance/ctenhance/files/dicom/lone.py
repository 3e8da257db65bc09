"""One or two images alone that may be scouts although their headers do not say so, as where an anonymiser
took Image Type away.

A scout lies from the front or the side, or shows more of the patient than the bore does of a slice, or has
pixels that are not square. So may slices that a workstation cut (they say DERIVED), or a single one that lost
its Image Type: values tell. A scout has no scale in HU: air is not at -1000, or tissue not at 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctenhance.core.hounsfield import has_air
from ctenhance.core.scale import levels_of
from ctenhance.files.dicom.header import text
from ctenhance.files.dicom.kinds import MOST_SCOUTS, is_axial
from ctenhance.files.dicom.slices import Slice
from ctenhance.runtime.errors import NotCTError

#: No scanner's field is larger, and pixels of slices are square, nearly at least.
_LARGEST_FIELD_MM, _SQUARE = 850.0, 0.25
#: Soft tissue of a CT lies within this of water; where none is flat it is this part of the image at least.
_TISSUE_HU, _LEAST_TISSUE = 200.0, 0.3


def may_be_scouts(slices: Sequence[Slice]) -> str:
    """Return why these may be scouts by what they are ('lies from the front or the side'); '' where nothing
    tells."""
    if len(slices) > MOST_SCOUTS:
        return ""
    first = slices[0]
    if "DERIVED" in text(first.file.value("ImageType", frame=first.frame)).upper():
        return ""
    if not is_axial(first.file):
        return "lies from the front or the side"
    height, width = first.pixel_spacing[1], first.pixel_spacing[0]
    longest = max(height * first.shape[0], width * first.shape[1])
    if longest > _LARGEST_FIELD_MM:
        return f"shows {longest:.0f} mm of the patient, more than the field of a slice"
    if abs(height / width - 1) > _SQUARE:
        return f"has pixels that are not square ({height:g} x {width:g} mm)"
    return ""


def notes_of_lone_images(slices: Sequence[Slice], array: np.ndarray) -> list[str]:
    """Return the note on one or two images [z, y, x] that may be scouts; raises NotCTError, with the reason
    alone, where their values are no slice's either."""
    why = may_be_scouts(slices)
    if not why:
        return []
    tissue = levels_of(array).tissue
    no_air = not any(has_air(plane[None], varying=True) for plane in array)
    if tissue is not None:
        is_slice, values = abs(tissue) <= _TISSUE_HU, f"what is flat in it is near {tissue:.0f} HU"
    else:
        is_slice = not no_air or float(np.mean(np.abs(array) < _TISSUE_HU)) > _LEAST_TISSUE
        values = "there is no air at -1000 HU in it and little near 0"
    if not is_slice:
        raise NotCTError(
            f"'{slices[0].file.path.name}' is likely a localizer (scout): an image that {why}, and "
            f"{values}; give the series with the slices."
        )
    return [f"it is an image alone that {why}, as scouts do: make sure that it is a slice"]
