"""From the DICOM files of one CT series to values in HU on a regular grid.

Where each slice lies is taken from its position and orientation in the patient, never from file names,
instance numbers or the slice thickness. Every slice, and every frame of a multi-frame image, has its own
rescaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np
from pydicom.multival import MultiValue

from ctenhance.core.hounsfield import (
    HIGHEST_AIR_HU,
    doubt_of_scale,
    has_air,
    require_air_around,
    require_air_in_place,
    sampled,
)
from ctenhance.core.limits import require_whole_words
from ctenhance.core.padding import padding_to_air
from ctenhance.files.dicom.choice import Conditions, Frame
from ctenhance.files.dicom.grid import Grid, grid_of
from ctenhance.files.dicom.header import DAMAGE, DicomFile, number, text, without_collecting
from ctenhance.files.dicom.kinds import MOST_SCOUTS, is_axial, slice_frames
from ctenhance.files.dicom.lone import notes_of_lone_images
from ctenhance.files.dicom.padding import AIR_HU, declared_padding, fill_padding
from ctenhance.files.dicom.pixels import stored_planes
from ctenhance.files.dicom.provenance import (
    notes_of_copies,
    notes_of_count,
    notes_of_derivation,
    notes_of_direction,
    notes_of_field,
    notes_of_parts,
    notes_of_times,
)
from ctenhance.files.dicom.remarks import (
    note_of_density,
    note_of_projection,
    notes_of_hidden_names,
    notes_of_remarks,
)
from ctenhance.files.dicom.rescaling import require_like_rescaling
from ctenhance.files.dicom.scans import choice_by, how_to_tell, require_one_scan
from ctenhance.files.dicom.slices import HOUNSFIELD, Measure, Slice
from ctenhance.files.dicom.tilt import notes_of_tilt, straighten
from ctenhance.files.dicom.units import (
    common_unit,
    doubts,
    is_ct_all_the_same,
    is_hounsfield,
    measure_of,
)
from ctenhance.runtime.errors import InputError, NotCTError
from ctenhance.runtime.large import Ahead

_SAME_PLACE_MM, _LEAST_WIDTH_MM = 0.01, 1.0
_READERS = 2  # at once, of uncompressed slices
_SAME_DIRECTION = 1e-3
_NUMBERS = (
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
    "Rows", "Columns",
)  # fmt: skip
_ORTHONORMAL_TOLERANCE = 1e-2
_EXACT_FLOAT32 = 1 << 23  # whole numbers up to here, and sums of two


@dataclass(frozen=True)
class Stack:
    """The slices as one volume: array float32 [z, y, x], its grid, file and frame of each slice, notes.

    `ends`: what `ends_of` gives of the array, None where it was changed since; `unit`: HU, unless the values
    are said to be something else.
    """

    array: np.ndarray
    ends: np.ndarray | None
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray
    frames: list[Frame]
    notes: list[str]
    unit: str


def read_stack(files: Sequence[DicomFile], conditions: Conditions, check_hu: bool, memory: Ahead) -> Stack:
    """Return the volume of what is meant of one series; raises InputError with the reason alone.

    `check_hu`: refuse what is said to be no HU, and what is neither said to be HU nor shows it. `memory`: for
    the voxels.
    """
    slices, (pitch, origin, notes, shear), unit, repeated = laid_out(files, conditions, check_hu)
    array = memory.array((len(slices), *slices[0].shape))
    padded, beyond, air, ends = _fill(array, slices, check_hu)
    if unit == HOUNSFIELD:
        require_like_rescaling(slices, array, ends)
    named = next((one.measure.named for one in slices if one.measure.named), "")
    if unit == HOUNSFIELD and named and not check_hu and not is_ct_all_the_same(array):
        unit = named
    scale = ""
    if unit == HOUNSFIELD and check_hu:
        require_whole_words(array, ends)  # before what is low is taken for padding
        some = sampled(array)
        require_air_in_place(array, some)
        scale = doubt_of_scale(array, some)
    # Some scanners do not declare the value outside the field of view, or declare another one.
    padding = padding_to_air(array, AIR_HU, float(ends[:, 0].min())) if unit == HOUNSFIELD else None
    if unit == HOUNSFIELD and check_hu and padded:
        _require_air_beside_padding(array, slices)
    if repeated:
        notes.append(f"repeated slices left out: {repeated}")
    if padded or padding is not None:
        notes.append(f"padding outside the field of view set to {AIR_HU:g} HU")
    if beyond:
        notes.append(
            "bits above Bits Stored left out of the values (an overlay of an old scanner, or metal too dense "
            "for them)"
        )
    if check_hu:
        notes += [*doubts(slices, array, air), *filter(None, [scale])]
        notes += [*notes_of_copies(array, slices), *notes_of_derivation(slices[0].file)]
        notes += notes_of_direction(slices)
        notes += [*notes_of_remarks(slices), *notes_of_tilt(slices, shear)]
        notes += [*note_of_projection(slices[0].file, pitch), *notes_of_lone_images(slices, array)]
        notes += notes_of_field(slices[0].file, array, padded or padding is not None)
        if unit == HOUNSFIELD and not named:
            first = slices[0].file
            shows_air = is_ct_all_the_same(array)
            notes += note_of_density(first) if shows_air else notes_of_hidden_names(first, array)
    if shear is not None:
        outside = AIR_HU if unit == HOUNSFIELD else 0.0
        array, moved, note = straighten(array, slices[0].pixel_spacing, pitch, shear, outside)
        notes.append(note)
        origin = origin + moved @ slices[0].axes[:2]
    x, y, z = origin.tolist()
    return Stack(
        array=array,
        ends=ends if padding is None and shear is None else None,
        spacing=(*slices[0].pixel_spacing, pitch),
        origin=(x, y, z),
        direction=slices[0].axes.T.copy(),
        frames=[(one.file, one.frame) for one in slices],
        notes=notes,
        unit=unit,
    )


def _require_air_beside_padding(array: np.ndarray, slices: Sequence[Slice]) -> None:
    """Raise NotCTError where the padding that was declared is as high as a map has it, without air."""
    highest = max(one.padding[1] for one in slices if one.padding is not None)
    if highest > HIGHEST_AIR_HU:
        require_air_around(array, highest)


@without_collecting()
def laid_out(
    files: Sequence[DicomFile], conditions: Conditions, check_hu: bool
) -> tuple[list[Slice], Grid, str, int]:
    """Return what is meant of one series by the headers: slices in order, grid with notes, unit, how many
    repeated slices were left out.

    Raises InputError, with the reason alone, for all that `read_stack` refuses without the voxels.
    """
    frames = conditions.frames([frame for file in files for frame in _frames_of(file)])
    measures: dict[tuple[int, ...], Measure] = {}
    slices = [_slice_of(file, frame, measures) for file, frame in frames]
    if not slices:
        raise InputError(f"'{files[0].path.name}' says that it has no frames; export the series again.")
    _require_one_kind(slices)
    unit = common_unit(slices, check_hu)
    slices.sort(key=lambda one: one.depth)
    slices, repeated = _without_repetitions(slices, conditions)
    notes = require_one_scan(slices, conditions)
    notes += [*notes_of_parts(files), *([] if conditions.asked else notes_of_count(files))]
    notes += notes_of_times(slices, conditions)
    grid = grid_of(slices, conditions)
    if scouts := sum(len(file.frames) - len(slice_frames(file)) for file in files):
        notes = [*notes, f"{scouts} frame{'' if scouts == 1 else 's'} left out, as localizers (scouts)"]
    return slices, grid._replace(notes=[*notes, *grid.notes]), unit, repeated


def _fill(array: np.ndarray, slices: Sequence[Slice], check_hu: bool) -> tuple[bool, bool, bool, np.ndarray]:
    """Read the slices into the array [z, y, x]; return whether there was declared padding, whether words
    held more than their values, whether there is air, and what `ends_of` gives.

    Without `check_hu` padding as high as a map has it stays.
    """
    ends = np.empty((len(slices), 2), np.float32)

    def fill(begin: int, end: int) -> tuple[bool, bool, bool]:
        padded = beyond = air = False
        for index, plane, more in _rescaled(slices[begin:end], array[begin:end]):
            beyond |= more
            air = air or has_air(plane[None])
            padding = slices[begin + index].padding
            if check_hu or padding is None or padding[1] <= HIGHEST_AIR_HU:
                padded |= fill_padding(plane, padding)
            ends[begin + index] = plane.min(), plane.max()
        return padded, beyond, air

    # What is compressed is decoded a file at a time.
    parts = _READERS if all(one.file.words_at is not None for one in slices) else 1
    bounds = [len(slices) * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        padded, beyond, air = zip(*pool.map(fill, bounds, bounds[1:]), strict=True)
    return any(padded), any(beyond), any(air), ends


def _frames_of(file: DicomFile) -> list[Frame]:
    """Return the file with each of its frames' indices; raises InputError for anything but an image in HU."""
    name = file.path.name
    header = file.header
    try:
        if file.value("ModalityLUTSequence") is not None:
            raise InputError(_table_of(name, file))
        frames = int(header.get("NumberOfFrames") or 1)
        described = file.described
        if described and described != frames:
            raise InputError(
                f"the header of '{name}' contradicts itself: it gives {frames} as the number of frames, and "
                f"describes {described} of them (Per-Frame Functional Groups), as when frames were taken out "
                "or lost; export the series again."
            )
        if frames > 1 and not described:
            raise InputError(
                f"'{name}' holds {frames} frames without saying where each lies; export single slices."
            )
        return [(file, frame) for frame in (slice_frames(file) if described else range(frames))]
    except DAMAGE as error:
        raise InputError(f"the header of '{name}' is damaged; export the series again.") from error


def _table_of(name: str, file: DicomFile) -> str:
    """Return why an image whose values a table maps (Modality LUT) is not read."""
    unit = next((text(one.get("ModalityLUTType")) for one in file.value("ModalityLUTSequence")), "")
    if not unit or is_hounsfield(unit):
        return (
            f"'{name}' maps its values by a table (Modality LUT), as no CT image may, and is not read; "
            "export it with Rescale Slope and Rescale Intercept, or give the original CT."
        )
    return f"'{name}' maps its values by a table to {unit}, not to Hounsfield units; give the original CT."


def _slice_of(file: DicomFile, frame: int, measures: dict[tuple[int, ...], Measure]) -> Slice:
    """Return a frame as a plane in space; raises InputError for anything but a plane of HU."""
    try:
        return _slice(file, frame, measures)
    except DAMAGE as error:
        raise InputError(_damage_of(file, frame)) from error


def _damage_of(file: DicomFile, frame: int) -> str:
    """Return what is wrong with a header in which a number cannot be read."""
    for keyword in _NUMBERS:
        value = file.value(keyword, frame=frame)
        several = value if isinstance(value, MultiValue | list) else [value]
        if value is None or all(number(one) is not None for one in several):
            continue
        said = "\\".join(map(str, several))
        if "," in said:
            return (
                f"'{file.path.name}' has the {keyword} {said[:40]}, with commas where DICOM has decimal "
                "points; export the series with a program that writes points, or correct them."
            )
        return f"'{file.path.name}' has the {keyword} '{said[:40]}', no number; export the series again."
    return f"the header of '{file.path.name}' is damaged; export the series again."


def _slice(file: DicomFile, frame: int, measures: dict[tuple[int, ...], Measure]) -> Slice:
    shape = int(file.value("Rows")), int(file.value("Columns"))

    def numbers(keyword: str, count: int) -> np.ndarray:
        value = file.value(keyword, frame=frame)
        if value is None:
            raise InputError(
                f"'{file.path.name}' does not say where it lies ({keyword} is missing); export the series "
                "again with its geometry."
            )
        several = value if isinstance(value, MultiValue | list) else [value]
        found = np.array([float(one) for one in several])
        if found.size != count or not np.isfinite(found).all():
            raise ValueError(keyword)
        return found

    axes = _axes(tuple(numbers("ImageOrientationPatient", 6).tolist()))
    between_rows, between_columns = numbers("PixelSpacing", 2).tolist()
    if min(between_rows, between_columns) <= 0:
        raise ValueError("PixelSpacing")
    height, width = between_rows * shape[0], between_columns * shape[1]
    if max(width, height) < _LEAST_WIDTH_MM:
        raise InputError(
            f"'{file.path.name}' is {width:.3g} x {height:.3g} mm wide by its header, as if that gave "
            "metres; correct PixelSpacing, or export the series again."
        )
    measure = measure_of(file, frame, measures)
    found = file.value("RescaleSlope", frame=frame)
    # Without them the stored values count as HU; whether they are is asked of the whole volume later.
    slope = 1.0 if found is None else float(found)
    intercept = float(file.value("RescaleIntercept", frame=frame) or 0.0)
    if measure.slope is not None:
        slope, intercept = measure.slope, measure.intercept
    if slope <= 0:
        raise InputError(
            f"'{file.path.name}' has a slope of {slope:g} from stored values to its unit, where one above 0 "
            "must be; export the series again."
        )
    return Slice(
        file=file,
        frame=frame,
        shape=shape,
        position=numbers("ImagePositionPatient", 3),
        axes=axes,
        pixel_spacing=(between_columns, between_rows),
        measure=measure,
        slope=slope,
        intercept=intercept,
        padding=None if measure.is_other else declared_padding(file.header, slope, intercept),
    )


@lru_cache(maxsize=16)
def _axes(written: tuple[float, ...]) -> np.ndarray:
    """Return the unit vectors along rows and columns, and their normal; raises ValueError for no such two."""
    orientation = np.reshape(written, (2, 3))
    right = orientation[0] / np.linalg.norm(orientation[0])
    # Written with few digits, the two are perpendicular only roughly; the grid wants them exactly so.
    down = orientation[1] - (orientation[1] @ right) * right
    if not (np.abs(orientation @ orientation.T - np.eye(2)).max() < _ORTHONORMAL_TOLERANCE):
        raise ValueError("ImageOrientationPatient")
    down /= np.linalg.norm(down)
    axes = np.stack([right, down, np.cross(right, down)])
    axes.flags.writeable = False
    return axes


def _require_one_kind(slices: Sequence[Slice]) -> None:
    """Raise InputError unless all slices have the same matrix, pixel size and orientation."""
    first = slices[0]
    for other in slices[1:]:
        if (other.shape, other.pixel_spacing) == (
            first.shape,
            first.pixel_spacing,
        ) and other.axes is first.axes:
            continue
        if other.shape != first.shape:
            what = f"sizes ({_size(first)} and {_size(other)} pixels)"
            keyword = "Rows" if other.shape[0] != first.shape[0] else "Columns"
        elif not np.allclose(other.pixel_spacing, first.pixel_spacing, rtol=_SAME_DIRECTION, atol=0):
            (x, y), (other_x, other_y) = first.pixel_spacing, other.pixel_spacing
            what = f"pixel sizes ({x:g} x {y:g} and {other_x:g} x {other_y:g} mm)"
            keyword = "PixelSpacing"
        elif np.abs(other.axes - first.axes).max() > _SAME_DIRECTION:
            what, keyword = "orientations", "ImageOrientationPatient"
        else:
            continue
        if len(slices) <= 2 * MOST_SCOUTS and not any(is_axial(one.file) for one in slices):
            raise NotCTError(
                f"its {len(slices)} images lie from the front or the side, and not alike, as localizers "
                "(scouts) do; give the series with the slices."
            )
        raise InputError(
            f"{_named(first, other)} are of one series but have different {what}; "
            f"{choice_by(slices, keyword)}, or put the files that belong together into a folder of their own."
        )


def _size(one: Slice) -> str:
    return f"{one.shape[1]} x {one.shape[0]}"


def _named(one: Slice, other: Slice) -> str:
    if one.file is other.file:
        return f"frames {one.frame + 1} and {other.frame + 1} of '{one.name}'"
    return f"'{one.name}' and '{other.name}'"


def _without_repetitions(slices: Sequence[Slice], conditions: Conditions) -> tuple[list[Slice], int]:
    """Return the slices, sorted by depth, without copies of the same image, and how many those were."""
    kept: list[Slice] = []
    again: list[tuple[Slice, Slice]] = []
    for one in slices:
        if not kept or np.linalg.norm(one.position - kept[-1].position) > _SAME_PLACE_MM:
            kept.append(one)
        else:
            again.append((kept[-1], one))
    both = list({id(one): one for pair in again for one in pair}.values())
    # By their hashes, so that each file is opened once and no slice is kept.
    known = {id(both[index]): sha256(values.tobytes()).digest() for index, values, _ in _rescaled(both)}
    for first, one in again:
        if known[id(first)] != known[id(one)]:
            apart = np.linalg.norm(slices[-1].position - slices[0].position)
            kinds = {text(each.file.value("ImageType", frame=each.frame)) for each in slices}
            if len(slices) > 2 and apart <= _SAME_PLACE_MM and len(kinds) == 1:
                raise InputError(
                    f"its {len(slices)} images all lie at one place ({one.depth:.2f} mm), as those of bolus "
                    "tracking or a test bolus do, and are no volume; give the series with the slices."
                )
            raise InputError(
                f"two different images lie at {one.depth:.2f} mm ({_named(first, one)}), "
                f"{how_to_tell(slices, first, one, conditions)}."
            )
    return kept, len(again)


def _rescaled(
    slices: Sequence[Slice], into: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Yield (index, values [y, x], whether its words held more) of every slice, opening each file once.

    The values are float32, planes of `into` [z, y, x] where that is given.
    """
    by_file: dict[DicomFile, dict[int, int]] = {}
    for index, one in enumerate(slices):
        by_file.setdefault(one.file, {})[one.frame] = index
    for file, indices in by_file.items():
        for frame, plane, beyond in stored_planes(file, indices):
            one = slices[indices[frame]]
            if plane.shape != one.shape:
                raise InputError(
                    f"the pixel data of '{one.name}' do not fit its header; export the series again."
                )
            values = np.empty(one.shape, np.float32) if into is None else into[indices[frame]]
            _put_in_units(plane, one, values)
            yield indices[frame], values, beyond


def _put_in_units(plane: np.ndarray, one: Slice, values: np.ndarray) -> None:
    """Put stored values into `values` (float32) in the slice's unit."""
    whole = one.slope == 1 and one.intercept.is_integer() and plane.dtype.itemsize <= 2
    if whole and abs(one.intercept) < _EXACT_FLOAT32:
        np.add(plane, one.intercept, out=values, dtype=np.float32)
    else:
        # In float64, as slope and intercept are decimal numbers; rounded to float32 once.
        values[...] = plane * np.float64(one.slope) + np.float64(one.intercept)
