"""The image that is made of projections: what the user asked for, or else what they suggest."""

from __future__ import annotations

import math

from ctenhance.physics.geometry import Geometry
from ctenhance.runtime.errors import InputError
from ctenhance.scan.projections import Projections

_IMAGE_SIDES = (16, 4096)


def image_geometry(
    projections: Projections,
    image_size: int | tuple[int, int] | None = None,
    pixel_mm: float | None = None,
    fov_mm: float | None = None,
) -> Geometry:
    """The scan with an image of `image_size` pixels a side (or rows, columns), of `pixel_mm` or over `fov_mm`
    on its larger side; as the projections suggest where nothing is given.

    Raises InputError for sizes that make no image, and for both a pixel size and a field of view."""
    rows, columns = (
        projections.image_shape
        if image_size is None
        else ((image_size, image_size) if isinstance(image_size, int) else image_size)
    )
    low, high = _IMAGE_SIDES
    if not (low <= rows <= high and low <= columns <= high):
        raise InputError(f"The image matrix is {rows} x {columns}: choose {low} to {high} pixels a side.")
    for name, length in (("pixel size", pixel_mm), ("field of view", fov_mm)):
        if length is not None and not (math.isfinite(length) and length > 0):
            raise InputError(f"The {name} is {length} mm: choose a positive length.")
    if pixel_mm is not None and fov_mm is not None:
        raise InputError("Pixel size and field of view say the same thing: give one of them.")
    if fov_mm is not None:
        pixel_mm = fov_mm / max(rows, columns)
    elif pixel_mm is None and image_size is not None and projections.image_pixel_mm is not None:
        # another matrix shows the same field
        pixel_mm = projections.image_pixel_mm * max(projections.image_shape) / max(rows, columns)
    return projections.scan_geometry(rows, columns, pixel_mm)
