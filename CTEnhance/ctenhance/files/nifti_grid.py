"""Where the voxels of a NIfTI-1 file lie: one rule for files whose header says it twice.

A NIfTI header has two transforms from voxel indices to millimetres (RAS): the qform, a rotation with the
voxel size of `pixdim`, and the sform, any matrix; a code above 0 says that one is there. Where they disagree,
programs part: nibabel and FSL take the sform, ITK and 3D Slicer mostly the qform. Here it is what 3D Slicer
shows, so that a panel and the command agree:

- the only one that is there;
- of two, the sform if it is of the scanner's own space (code 1) and has the voxel size of `pixdim`, or if ITK
  takes the two for the same, mirror images with one offset among them; else the qform.

A disagreement of more than a tenth of a voxel is noted, with its size. A sform so sheared that the nearest
rectangular grid misses a voxel by more than a tenth of one is refused; a lesser shear is noted, unless it is
no more than rounding makes. Refused is, too, an sform alone of another voxel size than `pixdim`, and one
beside a qform whose size is another by more than a registration scales, as where a script thinned the voxels
and changed the sform alone, unless its code is an atlas's. (NIfTI-1 standard, nifti1.h: "3D IMAGE (VOLUME)
ORIENTATION AND LOCATION IN SPACE", methods 1 to 3.)
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctenhance.runtime.errors import InputError

HEADER_BYTES = 348
_SCANNER = 1
_ITK_SAME = 1e-4
_TOLERANCE = 0.1  # of a voxel, at the corner that is furthest off
_LARGEST_QUATERNION = 1.01  # the squares of the three stored parts, at most 1 but for rounding
# A gantry tilt leaves the voxels of a slice as long as they are; codes of atlases.
_SCALED, _OF_ATLASES = 0.01, (3, 4)
_MOST_SCALED = 1.25  # by a registration to another image of the same kind
# The cosine between two axes that rounding makes: of a matrix in float32, or printed with few digits.
_ROUNDED_SHEAR = 1e-4
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # xyzt_units: metres, micrometres
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


_UNPLACED = (
    "its header does not say where the volume lies (neither sform nor qform): left and right and the "
    "position may be wrong"
)

_NO_SIZE = "its header gives no voxel size (pixdim); that of its sform was taken"
_LARGEST_VOXEL_MM = 100.0


@dataclass(frozen=True)
class NiftiGrid:
    """What a header says of its grid, and in `notes` what it says besides.

    `to_lps`: 4 x 4, rectangular, from voxel index (i, j, k) to mm in LPS; None where the header says nothing.
    """

    to_lps: np.ndarray | None
    notes: list[str]


def grid_of_nifti(header: bytes) -> NiftiGrid:
    """Return the grid by the first 348 bytes of a NIfTI-1 file.

    Raises InputError, with the reason alone, for a sheared grid and for contradictory voxel sizes, and
    struct.error for anything but such a header.
    """
    order = "<" if struct.unpack_from("<i", header)[0] == HEADER_BYTES else ">"
    dimensions = struct.unpack_from(f"{order}8h", header, 40)
    size = np.maximum([dimensions[axis] if axis <= dimensions[0] else 1 for axis in (1, 2, 3)], 1)
    unit = _MILLIMETRES.get(header[123] & 7, 1.0)
    pixdim = np.array(struct.unpack_from(f"{order}8f", header, 76))
    given = np.isfinite(pixdim[1:4]) & (pixdim[1:4] != 0)
    voxel = unit * np.where(given, np.abs(pixdim[1:4]), 1.0)
    known = bool((given | (size == 1)).all())  # of a single slice the thickness need not be
    qform_code, sform_code = struct.unpack_from(f"{order}2h", header, 252)
    qform = sform = None
    notes: list[str] = []
    stored = struct.unpack_from(f"{order}6f", header, 256)
    if qform_code > 0 and sum(part * part for part in stored[:3]) > _LARGEST_QUATERNION:
        if sform_code <= 0:
            raise InputError(
                "its qform is no rotation (its header is damaged); copy it again from its source."
            )
    elif qform_code > 0 and known:
        qform, _ = _rectangular("qform", _qform(stored, voxel, pixdim[0] < 0, unit), size)
    if sform_code > 0:
        rows = np.reshape(struct.unpack_from(f"{order}12f", header, 280), (3, 4)) * unit
        matrix = np.vstack([rows, [0, 0, 0, 1]])
        scaled = known and not np.allclose(lengths_of(matrix)[:2], voxel[:2], rtol=_SCALED)
        sform, sheared = _rectangular("sform", matrix, size, scaled or sform_code in _OF_ATLASES)
        notes += sheared
    if not known and sform is None:
        raise InputError(
            "its header gives no voxel size (pixdim is 0 or no number); export the volume again."
        )
    _require_likely(voxel if sform is None or known else lengths_of(sform), unit)
    if sform is None:
        return NiftiGrid(None, [_UNPLACED]) if qform is None else NiftiGrid(_RAS_TO_LPS @ qform, [])
    if not known:
        return NiftiGrid(_RAS_TO_LPS @ sform, [*notes, _NO_SIZE])
    tolerance = _TOLERANCE * float(voxel.min())
    as_pixdim = sform.copy()
    as_pixdim[:3, :3] *= voxel / lengths_of(sform)
    one_size = apart(sform, as_pixdim, size) <= tolerance
    if qform is None or sform_code not in _OF_ATLASES:
        times = lengths_of(sform) / voxel
        if not one_size and (qform is None or max(times.max(), 1 / times.min()) > _MOST_SCALED):
            sizes = [" x ".join(f"{one:.4g}" for one in lengths) for lengths in (lengths_of(sform), voxel)]
            raise InputError(
                f"its header gives two voxel sizes, {sizes[0]} mm (sform) and {sizes[1]} mm (pixdim); "
                "correct it, or export the volume again."
            )
    if qform is None:
        return NiftiGrid(_RAS_TO_LPS @ sform, notes)
    by_sform = (sform_code == _SCANNER and one_size) or _same_to_itk(sform, qform)
    taken, other = ("sform", "qform") if by_sform else ("qform", "sform")
    if taken == "qform":
        notes = []
    if (distance := apart(sform, qform, size)) > tolerance:
        mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
        how = ", as mirror images of each other" if mirrored else ""
        notes.append(
            f"its header places the voxels twice, up to {distance:.3g} mm apart{how} (sform and qform); the "
            f"{taken} was taken, as 3D Slicer does, where other programs may take the {other}"
        )
    return NiftiGrid(_RAS_TO_LPS @ (sform if taken == "sform" else qform), notes)


def _same_to_itk(sform: np.ndarray, qform: np.ndarray) -> bool:
    """Whether ITK's NIfTI reader takes two transforms for the same and reads the sform, whatever its code: by
    offset and the left singular vectors in single precision, which axes that are mirrored along themselves
    may share (itkNiftiImageIO.cxx, ITK 5.4)."""
    if np.abs(sform[:3, 3] - qform[:3, 3]).max() > _ITK_SAME:
        return False
    (u, w, _), (v, x, _) = (np.linalg.svd(one[:3, :3].astype(np.float32)) for one in (sform, qform))
    return bool(np.abs(u @ v.T - np.eye(3)).max() < _ITK_SAME and np.abs(w - x).max() < _ITK_SAME)


def _require_likely(voxel: np.ndarray, unit: float) -> None:
    if voxel.max() > _LARGEST_VOXEL_MM:
        size = " x ".join(f"{one:.4g}" for one in voxel)
        in_metres = ", as its unit is the metre" if unit == _MILLIMETRES[1] else ""
        raise InputError(
            f"its voxels would be {size} mm{in_metres}; correct the header (xyzt_units, pixdim), or export "
            "the volume again."
        )


def _qform(stored: Sequence[float], voxel: np.ndarray, left_handed: bool, unit: float) -> np.ndarray:
    """Return the qform: a unit quaternion whose first part is left out, and an offset, are stored of it."""
    b, c, d = stored[:3]
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:  # a half turn, and rounding
        b, c, d = np.array([b, c, d]) / np.sqrt(b * b + c * c + d * d)
        rest = 0.0
    a = np.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * voxel * [1.0, 1.0, -1.0 if left_handed else 1.0]
    matrix[:3, 3] = np.array(stored[3:]) * unit
    return matrix


def _rectangular(
    name: str, matrix: np.ndarray, size: np.ndarray, registered: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Return the matrix with its axes made exactly perpendicular, and the note on what that changed.

    `registered`: it is likely to be of an affine registration. Raises InputError where they are not, so that
    a voxel would be misplaced.
    """
    lengths = lengths_of(matrix)
    if not np.isfinite(matrix).all() or not lengths.all():
        raise InputError(f"its {name} is no grid (its header is damaged); copy it again from its source.")
    axes = matrix[:3, :3] / lengths
    nearest = matrix.copy()
    # The longest sides stay as they are, so that it does the least.
    order = np.argsort(lengths * size)[::-1]
    upright, rest = np.linalg.qr(axes[:, order])
    nearest[:3, order] = upright * np.sign(np.diag(rest)) * lengths[order]
    middle = np.append((size - 1) / 2, 1.0)
    nearest[:3, 3] += ((matrix - nearest) @ middle)[:3]
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    angle, distance = np.degrees(np.arcsin(min(1.0, shear))), apart(matrix, nearest, size)
    if np.abs(np.diag(rest)).min() < 1e-3 or distance > _TOLERANCE * lengths.min():
        what = f"the axes of its grid are not perpendicular (its {name} is sheared by {angle:.2g} degrees)"
        if registered:
            raise InputError(
                f"{what}, as an affine registration to another image or an atlas leaves it; resample it with "
                "that transform, or give the file from before the registration."
            )
        raise InputError(
            f"{what}; resample it to a rectangular grid first, or take the one of dcm2niix's files that ends "
            "in _Tilt."
        )
    if shear <= _ROUNDED_SHEAR:
        return nearest, []
    return nearest, [
        f"the axes of its grid are not quite perpendicular (its {name} is sheared by {angle:.2g} degrees) "
        f"and were made so, which moves no voxel by more than {distance:.2g} mm"
    ]


def lengths_of(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrix[:3, :3], axis=0)


def apart(one: np.ndarray, other: np.ndarray, size: np.ndarray) -> float:
    """Return how far apart two matrices place the same voxel at most, mm: at one of the corners."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, length - 1) for length in size))])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())
