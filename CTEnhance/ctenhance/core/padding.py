"""What fills the outside of the field of view, and how it becomes air.

Scanners write one value there that nobody measures (-2000, -3024, ...); lossy compression and resampling
blur it into the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctenhance.core.ends import ends_of

LOWEST_HU = -1500.0  # air is -1000, and noise and overshoot around sharp edges take some of it lower
_PADDING_SHARE, _PADDING_SHARE_AT_EDGE = 0.01, 0.001
_RIM_PIXELS = 4  # as far as the ringing of JPEG 2000 and of an 8 x 8 block reaches
_MIXED_HU, _MIXED_PIXELS = -1100.0, 8  # what goes on from blurred padding below this is mixed with it
# What is as low inside the field: of the padding's level, or a large flat piece, as of a face taken out.
_NEAR_LEVEL, _FEWEST_NEAR = 150.0, 9
_FLAT_SHARE, _FLAT_HU, _EDGE_PIXELS = 0.005, 100.0, 3


@dataclass(frozen=True)
class Padding:
    """What fills the outside of the field of view, below anything a scanner measures (under -1500 HU).

    `value`: one value repeated in at least one voxel in a hundred, or, at the slices' edges, in a thousand;
    or None: no measurement repeats one impossible value so often. `blurred`: lossy compression or resampling
    has spread it, so that it is what `outside_field` finds, one voxel in a thousand or more.
    """

    value: float | None
    blurred: bool

    def mask(self, plane: np.ndarray) -> np.ndarray:
        """Say for each pixel of a slice [y, x] whether it is padding."""
        inside = np.zeros(plane.shape, bool) if self.value is None else plane == self.value
        return inside | outside_field(plane) if self.blurred else inside


def outside_field(plane: np.ndarray, level: float | None = None) -> np.ndarray:
    """Return the mask of what is under -1500 HU in a slice [y, x] and is no measurement.

    That is what is connected to its edge, pieces inside of the same `level` (by default the median at the
    edge), and large flat ones. Undershoot of metal is smaller, and not flat.
    """
    from scipy import ndimage

    low = plane < LOWEST_HU
    if not low.any():
        return low
    regions, count = ndimage.label(low, structure=np.ones((3, 3)))
    at_edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    at_edge = at_edge[at_edge > 0]
    outside = np.isin(regions, at_edge)
    if count > len(at_edge):
        if level is None and len(at_edge):
            level = float(np.median(plane[outside]))
        inside = [index for index in _large(regions) if index not in at_edge]
        outside |= np.isin(regions, [one for one in inside if _is_padding(plane, regions == one, level)])
    return outside


def _large(regions: np.ndarray) -> np.ndarray:
    """Return the labels of regions that are more than a few pixels."""
    return 1 + np.flatnonzero(np.bincount(regions.ravel())[1:] >= _FEWEST_NEAR)


def _is_padding(plane: np.ndarray, piece: np.ndarray, level: float | None) -> bool:
    from scipy import ndimage

    # Its rim has been mixed with what is around it; a small piece is nearly all rim.
    inner = ndimage.binary_erosion(piece)
    middle = float(np.median(plane[inner if inner.any() else piece]))
    if level is not None and abs(middle - level) < _NEAR_LEVEL:
        return True
    core = ndimage.binary_erosion(inner, iterations=_EDGE_PIXELS - 1)
    if not core.any() or piece.sum() < _FLAT_SHARE * plane.size:
        return False
    low, high = np.percentile(plane[core], (25, 75))
    return bool(high - low < _FLAT_HU)


def find_padding(array: np.ndarray, lowest: float | None = None) -> Padding | None:
    """Return what pads the volume [z, y, x], or None; `lowest`: its lowest value, where that is known."""
    lowest = float(array.min()) if lowest is None else lowest
    if lowest >= LOWEST_HU:
        return None
    repeated = at_edge = spread = 0
    # Slice by slice: a mask of the whole volume would cost a quarter of its memory again.
    for plane in array:
        filled, outside = plane == lowest, outside_field(plane)
        repeated += int(np.count_nonzero(filled))
        at_edge += int(np.count_nonzero(outside))
        spread += int(np.count_nonzero(outside & ~filled))
    least, least_at_edge = _PADDING_SHARE * array.size, _PADDING_SHARE_AT_EDGE * array.size
    sharp = repeated >= (least_at_edge if at_edge - spread >= least_at_edge else least)
    # A few more beside a sharp value are undershoot of metal or overlap of neighbouring slices.
    blurred = at_edge >= least_at_edge and spread >= (min(least, at_edge) / 10 if sharp else least_at_edge)
    return Padding(lowest if sharp else None, blurred) if sharp or blurred else None


def padding_to_air(array: np.ndarray, air: float, lowest: float | None = None) -> Padding | None:
    """Set the padding of HU [z, y, x] to `air` in place, and return what it was; None where there is none.

    `lowest`: the lowest value, where it is known.
    """
    padding = find_padding(array, float(ends_of(array)[:, 0].min()) if lowest is None else lowest)
    if padding is not None:
        for plane in array:
            set_to_air(plane, padding.mask(plane), air, padding.blurred)
    return padding


def set_to_air(plane: np.ndarray, outside: np.ndarray, air: float, blurred: bool) -> None:
    """Set what is outside to `air` in place; where it is blurred also what is below air in its rim."""
    if blurred and outside.any():
        from scipy import ndimage

        outside = outside | _mixed_with(plane, outside)
        plane[ndimage.binary_dilation(outside, iterations=_RIM_PIXELS) & (plane < air)] = air
    plane[outside] = air


def _mixed_with(plane: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the mask of what is below air and goes on from blurred padding, near it or at the slice's edge.

    A round field of view touches the edge: there padding is so thin that it is nowhere below -1500 HU. Only
    neighbours along rows and columns count: across diagonals the noise of air would go on for ever.
    """
    from scipy import ndimage

    near = ndimage.binary_dilation(outside, iterations=_MIXED_PIXELS)
    for end in (slice(None, _MIXED_PIXELS), slice(-_MIXED_PIXELS, None)):
        near[end] = near[:, end] = True
    regions, _ = ndimage.label((near & (plane < _MIXED_HU)) | outside)
    return np.isin(regions, np.unique(regions[outside]))


def doubt_of_padding(array: np.ndarray, lowest: float) -> str:
    """Return the note on a volume [z, y, x] whose padding is blurred and was not set to air; '' for others.

    Sharp padding needs none: it is known by its value, and ends where the image begins. `lowest`: as for
    `find_padding`.
    """
    padding = find_padding(array, lowest)
    if padding is None or not padding.blurred:
        return ""
    return (
        f"what lies outside its field of view, down to {lowest:.0f} HU, is not of one value, as where lossy "
        "compression or resampling has blurred it: results near its rim mean nothing; set it to -1024 with "
        "its rim, or give the DICOM series"
    )
