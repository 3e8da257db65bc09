"""CTVolume: Hounsfield units on a regular grid in space."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import ctenhance
from ctenhance.core.hounsfield import not_finite
from ctenhance.runtime import large
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 (its customary name)

# SimpleITK takes a third of a second to load: so what needs it below imports it when it is called.

WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
READABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ".nhdr")

# Directions come from text with six digits or from float32 headers; anything further off is shear.
_ORTHONORMAL_TOLERANCE = 1e-4
_AT_ONCE = 2  # threads that look at voxels

# Entries of `meta` that say something of each slice, or along which axis slices are thick.
_OF_SLICES = ("slice_thickness_mm", "sop_instance_uids", "source_files", "source_frames")

AnyPath = str | os.PathLike[str]


@dataclass(eq=False, repr=False)
class CTVolume:
    """A CT image: values, where they lie, and what is known of their making.

    array      float32 [z, y, x], Hounsfield units, finite; an array of another type is converted, a
               C-contiguous float32 one is taken as it is, not copied
    spacing    mm, (x, y, z), each > 0
    origin     mm, (x, y, z) of the centre of voxel [0, 0, 0], in LPS (x to the patient's left, y to
               posterior, z to superior), as in DICOM and SimpleITK
    direction  3 x 3 float64; its columns are the unit vectors along which x, y and z indices grow, orthogonal
               to 1e-4. Left-handed ones (mirrored axes, as some NIfTI files have) are kept as they are.
    meta       what the source says, for later use in memory and for derived DICOM: `kvp`, `kernel`,
               `manufacturer`, `model`, `slice_thickness_mm`, `tube_current_ma` and `exposure_mas` (means over
               the slices), `study_instance_uid`, `series_instance_uid`, `frame_of_reference_uid`,
               `sop_instance_uids` (slice by slice), `source_files` and `source_frames` (likewise; frames of
               a file count from 0), `notes` (sentences, free of identifiers, on what the reader changed or
               left out), `unit` (of a map read from DICOM, such as mg/ml; never HU). Absent keys are unknown.

    Raises InputError for what breaks these rules. Values are not asked to be plausible HU here: maps
    (uncertainty, differences, densities) are CTVolumes, too; `read` asks.
    """

    array: np.ndarray
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.array = _checked_array(self.array)
        self.spacing = _three_numbers(self.spacing, "spacing")
        if min(self.spacing) <= 0:
            raise InputError(f"The voxel spacing must be positive, but it is {self.spacing} mm (x, y, z).")
        self.origin = _three_numbers(self.origin, "origin")
        self.direction = _checked_direction(self.direction)
        self.meta = dict(self.meta)

    def __repr__(self) -> str:
        # Without `meta`: representations end in logs, UIDs and paths must not.
        size = " x ".join(str(length) for length in reversed(self.array.shape))
        spacing = " x ".join(f"{length:g}" for length in self.spacing)
        return f"CTVolume({size} voxels of {spacing} mm)"

    @classmethod
    def read(
        cls,
        path: AnyPath | Sequence[AnyPath],
        series: int | str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        check_hu: bool = True,
    ) -> CTVolume:
        """Read a CT from a NIfTI, NRRD or MetaImage file, a DICOM folder, a DICOM file or a list of those.

        A folder is searched with all its subfolders; anything but DICOM CT slices is left out. `series` picks
        one of several series, by its number as the error sentence lists it or by its SeriesInstanceUID.
        `where` takes the images with these attributes only, such as {"KVP": 80} or {"AcquisitionNumber": 2}
        (`files.dicom.choice` says all that a value may be). `check_hu=False` takes values that are not
        Hounsfield units, for reading back maps; where DICOM says their unit (`files.dicom.units`), it is kept
        in `meta`.

        DICOM values are slope * stored value + intercept of each slice; padding outside the field of view
        (declared, or recognised by `padding.Padding`) becomes -1024 HU, with a note in `meta`. Other
        files keep their values exactly (float64 and int32 ones as far as float32 holds them).

        Raises InputError with one sentence that says what is wrong, where, and what to do, for anything that
        is not one CT on one regular grid: other modalities, several series, missing or unevenly spaced
        slices, a sheared (gantry-tilted) stack, colour, 4-D, NaN, values that are no HU, damaged files.
        """
        return ctenhance.read(path, series, where=where, check_hu=check_hu)

    def write(self, path: AnyPath) -> None:
        """Write to .nii.gz, .nii, .nrrd, .mha or .mhd (with its .raw), whole or not at all.

        Voxels are int16 when all are whole numbers in its range (-0.0 counts as 0), else float32: reading
        gives identical values. The grid comes back exactly from MetaImage; from NRRD within 1e-15 relative
        (it stores direction times spacing); NIfTI stores float32, so there each spacing comes back within
        1e-7 relative, each origin coordinate within 1e-7 of itself, direction cosines within 1e-6. `meta` is
        not written: it may identify the patient.

        Raises InputError for another suffix or a folder that cannot be written, CTEnhanceError when writing
        fails (disk full).
        """
        ctenhance.write(self, path)

    def with_array(self, array: np.ndarray, **meta: Any) -> CTVolume:
        """Return a volume of other values on the same grid; `meta` adds to or replaces entries of this one's.

        Raises InputError when the array's shape differs from this volume's.
        """
        if np.shape(array) != self.array.shape:
            raise InputError(
                f"The new values have the shape {np.shape(array)}, but the volume has {self.array.shape}."
            )
        return CTVolume(array, self.spacing, self.origin, self.direction.copy(), {**self.meta, **meta})

    def axial(self) -> CTVolume:
        """Return the same voxels with axes of the grid exchanged, so that its slices [y, x] are axial.

        z becomes the axis nearest to the patient's long one, x of the others the one nearest to right-left.
        Nothing is mirrored (see `upright`) or resampled: an oblique volume keeps its slices when those are
        the nearest to axial. The volume itself where they are axial already (most are; sagittal ones come
        from reformatting and some NIfTI archives), else without the entries of `meta` that are of slices.
        """
        order = self._axial_order()
        if order == (0, 1, 2):
            return self
        axes = [2 - axis for axis in reversed(order)]  # of the grid, (x, y, z)
        meta = {name: value for name, value in self.meta.items() if name not in _OF_SLICES}
        spacing = (self.spacing[axes[0]], self.spacing[axes[1]], self.spacing[axes[2]])
        return CTVolume(self.array.transpose(order), spacing, self.origin, self.direction[:, axes], meta)

    def from_axial(self, array: np.ndarray) -> np.ndarray:
        """Return values [z, y, x] of the grid of `axial()` in this volume's own order of axes."""
        return np.ascontiguousarray(array.transpose(np.argsort(self._axial_order())))

    def upright(self) -> tuple[slice, slice, slice]:
        """Return an index of an array [z, y, x] of this grid that gives a view whose x runs to the patient's
        left, y to the back and z to the head, each as nearly as an axis can; it is its own inverse.

        So one scan is worked on alike however its rows, columns and slices are stored."""
        steps = [-1 if axis[np.abs(axis).argmax()] < 0 else 1 for axis in self.direction.T[::-1]]
        z, y, x = (slice(None, None, step) for step in steps)
        return z, y, x

    def _axial_order(self) -> tuple[int, ...]:
        """The axes of the array that `axial` makes z, y and x, in this order."""
        right, _, up = np.abs(self.direction)
        # A little in favour of how it is stored: at 45 degrees rounding must not decide.
        z = 2 if up[2] >= up.max() - _ORTHONORMAL_TOLERANCE else int(up.argmax())
        x, y = sorted({0, 1, 2} - {z})
        if right[y] > right[x] + _ORTHONORMAL_TOLERANCE:
            x, y = y, x
        return 2 - z, 2 - y, 2 - x

    def require_hu(self) -> None:
        """Raise InputError if this is known to be a map of something else than Hounsfield units."""
        unit = self.meta.get("unit")
        if unit:
            raise InputError(f"This volume is a map with the unit '{unit}', not a CT in HU; give the CT.")

    def to_sitk(self) -> sitk.Image:
        """Return a SimpleITK image of type float32 with the same grid (a copy of the values)."""
        return sitk_image(self.array, self)

    @classmethod
    def from_sitk(cls, image: sitk.Image, meta: dict[str, Any] | None = None) -> CTVolume:
        """Return the volume of a SimpleITK image of real numbers; a 2-D one becomes a single slice.

        Raises InputError for colour, vector, complex and 4-D images and for what the class itself refuses.
        """
        import SimpleITK as sitk  # noqa: N813

        require_scalar_volume(image.GetSize(), image.GetNumberOfComponentsPerPixel(), image.GetPixelID())
        if image.GetDimension() == 2:
            image = sitk.JoinSeries(image)
        # The view does not copy; the volume must, because the view dies with the image.
        view = sitk.GetArrayViewFromImage(image)
        array = large.empty(view.shape)
        for slab in large.slabs(array):
            array[slab] = view[slab]
        return cls(array, image.GetSpacing(), image.GetOrigin(), np.array(image.GetDirection()), meta or {})

    def identity(self) -> dict[str, Any]:
        """Return what says which volume this is and nothing of whose: `shape`, `spacing` (mm), `sha256`.

        The hash is over the float32 values, little-endian, in [z, y, x] order, with -0.0 taken as 0.0, so it
        is the same after a round trip through a file.
        """
        digest = hashlib.sha256()
        for slab in large.slabs(self.array):
            digest.update((self.array[slab] + np.float32(0)).astype("<f4", copy=False).data)
        return {
            "shape": list(self.array.shape),
            "spacing": [float(length) for length in self.spacing],
            "sha256": digest.hexdigest(),
        }

    def input_report(self) -> dict[str, Any]:
        """Return `identity` and, where there are any, the `notes` of the reader: a report's `input`."""
        notes = self.meta.get("notes")
        return {**self.identity(), **({"notes": list(notes)} if notes else {})}


def _checked_array(array: Any) -> np.ndarray:
    given = np.asarray(array)
    if given.dtype.kind not in "iuf":
        raise InputError(f"The voxels must be real numbers, but they are of the type {given.dtype}.")
    if given.ndim != 3:
        raise InputError(f"A volume has three axes (z, y, x), but this one has {given.ndim}.")
    if given.size == 0:
        raise InputError(f"The volume is empty: its shape is {given.shape}.")
    # A float64 beyond float32 becomes infinite and is reported as such just below.
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(given, dtype=np.float32)
    # Minimum and maximum show NaN and infinity without a mask as large as the volume.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ends = list(pool.map(lambda slab: _ends_of(values, slab), large.slabs(values)))
    if not np.isfinite(ends).all():
        count = sum(int(np.count_nonzero(~np.isfinite(plane))) for plane in values)
        z = next(index for index, plane in enumerate(values) if not np.isfinite(plane).all())
        y, x = np.argwhere(~np.isfinite(values[z]))[0]
        raise InputError(not_finite(count, z, y, x))
    return values


def _ends_of(values: np.ndarray, slab: slice) -> tuple[float, float]:
    part = values[slab]
    ends = float(part.min()), float(part.max())
    large.let_go(values)
    return ends


def _three_numbers(values: Any, name: str) -> tuple[float, float, float]:
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    if numbers.size != 3 or not np.isfinite(numbers).all():
        raise InputError(f"The {name} must be three finite numbers (x, y, z) in mm, but it is {values}.")
    x, y, z = numbers.tolist()
    return x, y, z


def _checked_direction(direction: Any) -> np.ndarray:
    matrix = np.array(direction, dtype=np.float64)
    if matrix.size != 9:
        raise InputError(f"The direction must be a 3 x 3 matrix, but it has {matrix.size} elements.")
    matrix = matrix.reshape(3, 3)
    # Written so that NaN fails, too.
    if not np.abs(matrix.T @ matrix - np.eye(3)).max() <= _ORTHONORMAL_TOLERANCE:
        raise InputError(
            "The axes of its grid are not perpendicular unit vectors (a sheared or scaled direction matrix); "
            "resample it to a rectangular grid first."
        )
    return matrix


def sitk_image(array: np.ndarray, grid: CTVolume) -> sitk.Image:
    """Return a SimpleITK image of the array [z, y, x] on the volume's grid."""
    import SimpleITK as sitk  # noqa: N813

    if array.nbytes < large.LEAST_BYTES:
        image = sitk.GetImageFromArray(array)
    else:
        image = sitk.Image(array.shape[::-1], sitk.GetImageFromArray(array[:1, :1, :1]).GetPixelID())
        for slab in large.slabs(array):
            image[:, :, slab.start : min(slab.stop, len(array))] = sitk.GetImageFromArray(array[slab])
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def require_scalar_volume(size: tuple[int, ...], components: int, pixel_type: int) -> None:
    """Raise InputError unless it is 2-D, 3-D or 4-D with one time point, of one real number a voxel."""
    import SimpleITK as sitk  # noqa: N813

    complex_numbers = pixel_type in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
    if components != 1 or complex_numbers:
        what = "complex numbers" if complex_numbers else f"{components} values a voxel (colour or vectors)"
        raise InputError(f"it holds {what}, where a CT has one real number; give the original CT.")
    if len(size) > 4 or (len(size) == 4 and size[3] != 1):
        if len(size) == 4 and size[2] == 1:
            raise InputError(
                f"its {size[3]} slices lie one behind the other in time (along the fourth axis of its "
                "header; the third has one); put them along the third, with their distance, or export the "
                "volume again."
            )
        count = size[3] if len(size) == 4 else "several"
        raise InputError(f"it is {len(size)}-D and holds {count} volumes; save one of them as a file.")
