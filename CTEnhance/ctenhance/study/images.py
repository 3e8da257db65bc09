"""Blinded copies of a case's images: nothing but the picture itself may tell the arms apart.

All copies of a case get the same grid (the first arm's, to the last bit), the same voxel type and rounding
(int16), the same limits (-1024 to 3071 HU), the same values outside of the scanned field, a fresh header,
the same number of bytes (no compression: smooth images would pack smaller) and the same time stamp.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.files.volumes import sitk_image
from ctenhance.quality.compare import same_grid
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import why_not_written
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.study.design import Case
from ctenhance.study.fields import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

HU_LIMITS = (-1024, 3071)
SUFFIX = ".mha"
TIME_STAMP = 946_684_800  # 2000-01-01 00:00 UTC, for every file
# Outside of the field of view: one value, at least as low as air, in a patch that reaches the slice's border.
_AIR_HU = -1000
_SMALLEST_PATCH = 0.002  # of the slice


@dataclass(frozen=True)
class ImageFacts:
    """What there is to say of an image file: SHA-256 and number of its bytes, voxels (x, y, z)."""

    sha256: str
    bytes: int
    size: tuple[int, int, int]


def read_case(case: Case, cancel: Cancellable | None = None) -> dict[str, CTVolume]:
    """Return a case's volume for each arm.

    Raises InputError for what `CTVolume.read` refuses and for arms that are not on one grid, naming the case.
    """
    volumes: dict[str, CTVolume] = {}
    for arm, path in case.images.items():
        check(cancel)
        try:
            volumes[arm] = CTVolume.read(path, **case.choices.get(arm, {}))
            first = next(iter(volumes))
            same_grid(volumes[first], volumes[arm])
        except InputError as error:
            raise InputError(f"Case '{case.name}', arm '{arm}': {error}") from error
    return volumes


def blinded(volumes: Mapping[str, CTVolume], cancel: Cancellable | None = None) -> dict[str, np.ndarray]:
    """Return int16 arrays [z, y, x] in HU with one range, rounding and surroundings for all arms."""
    arrays = {
        arm: np.rint(np.clip(volume.array, *HU_LIMITS)).astype(np.int16) for arm, volume in volumes.items()
    }
    for k in range(len(next(iter(arrays.values())))):
        check(cancel)
        outside = np.logical_or.reduce([_outside(array[k]) for array in arrays.values()])
        for array in arrays.values():
            array[k][outside] = HU_LIMITS[0]
    return arrays


def _outside(plane: np.ndarray) -> np.ndarray:
    """Return where the slice [y, x] holds no measurement: its lowest value in patches at the border."""
    lowest = plane.min()
    mask = plane == lowest
    if lowest > _AIR_HU:
        return np.zeros_like(mask)
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    large = np.bincount(labels.ravel()) >= _SMALLEST_PATCH * plane.size
    keep = np.zeros(count + 1, bool)
    keep[border] = large[border]
    keep[0] = False
    return keep[labels]


def write_copy(array: np.ndarray, grid: CTVolume, path: Path) -> ImageFacts:
    """Write the int16 array [z, y, x] on the volume's grid as an uncompressed MetaImage; return its facts.

    Raises CTEnhanceError when the disk is full or cannot be written.
    """
    import SimpleITK as sitk  # noqa: N813 (its customary name)

    image = sitk_image(array, grid)
    try:
        sitk.WriteImage(image, os.fspath(path), useCompression=False)
        content = path.read_bytes()
        if len(content) < array.nbytes:
            raise OSError("the file is too short")
        os.utime(path, (TIME_STAMP, TIME_STAMP))
    except (RuntimeError, OSError) as error:
        if why_not_written(error, path.parent):
            raise  # to be said of the study's folder, whose name the user knows
        raise CTEnhanceError(
            f"Cannot write the image '{path.name}' into the study; choose another folder."
        ) from error
    z, y, x = array.shape
    return ImageFacts(sha256_of(content), len(content), (x, y, z))
