"""The regular grid on which the slices of a stack lie, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ctenhance.files.dicom.header import number
from ctenhance.files.dicom.rounding import (
    CERTAIN,
    COARSEST_ROUNDING_MM,
    EXACT_MM,
    holes_among_rounded,
    is_rounded_line,
    rounded_to_whole,
    rounding_of,
)
from ctenhance.files.dicom.scans import change_at, even_parts, overlapping
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.files.dicom.choice import Conditions
    from ctenhance.files.dicom.slices import Slice

# A slice may lie this far from its place in the grid: up to 0.1 mm, but never more than a tenth of the slice
# spacing or a fifth of a pixel; and as far as its position is rounded: to a tenth of a millimetre, and along
# the normal even to whole ones, where nothing says that slices are missing.
_TOLERANCE_MM = 0.1
_TOLERANCE_OF_SPACING = 0.1
_TOLERANCE_OF_PIXEL = 0.2
# Rounding by more than this share of the spacing would hide a missing slice.
_ROUNDING_OF_SPACING = 0.25
_RESAMPLE = "resample it to a rectangular grid first"


class Grid(NamedTuple):
    """The slices' distance and the position of the first one, mm, and notes.

    `shear`: how far each lies beside the one before, mm along rows and columns per mm of depth; None: not."""

    pitch: float
    origin: np.ndarray
    notes: list[str]
    shear: np.ndarray | None = None


def grid_of(slices: Sequence[Slice], conditions: Conditions) -> Grid:
    """Return the grid of slices that are sorted by depth, one at each place.

    Raises InputError if they form no rectangular grid; a shear alone is one where the conditions say so.
    """
    first = slices[0]
    if len(slices) == 1:
        # There is no distance to measure; the thickness is what the slice covers.
        thickness = first.file.value("SliceThickness", "SpacingBetweenSlices", frame=first.frame)
        return Grid(max(number(thickness) or 0.0, 0.0) or 1.0, first.position, [])
    positions = np.array([one.position for one in slices])
    depths = positions @ first.axes[2]
    # How far the rounding of three coordinates may move a slice along its rows, its columns and the normal.
    written = rounding_of(positions)
    fine = np.where(written > COARSEST_ROUNDING_MM, COARSEST_ROUNDING_MM, written)
    *beside, along = (np.abs(first.axes) @ fine / 2).tolist()
    sideways = (positions - first.position) @ first.axes[:2].T
    tolerance = max(min(_TOLERANCE_MM, _TOLERANCE_OF_PIXEL * min(first.pixel_spacing)), *beside)
    shift = _shift(sideways, depths, tolerance)
    shear = shift.shear if shift is not None and conditions.resample_tilt else None
    if shear is not None:
        shift = None
        sideways = sideways - np.outer(depths - depths[0], shear)
    whole = float(np.abs(first.axes[2]) @ written / 2)
    spacing = _uneven(slices, depths, along, whole, conditions)
    pitch = None
    if spacing is not None:
        pitch = rounded_to_whole(slices, depths, whole)
        spacing = spacing if pitch is None else None
    faults = [fault for fault in (shift, spacing) if fault is not None]
    if faults:
        if len(faults) > 1:  # what lays a tilted stack straight does not space it evenly
            faults = [
                fault._replace(advice=_RESAMPLE) if fault.shear is not None else fault for fault in faults
            ]
        raise InputError(_sentence(faults))
    steps = np.arange(len(slices))
    if pitch is not None:
        start = float(np.mean(depths - pitch * steps))
        note = f"the positions of its slices are rounded to whole millimetres; taken as {pitch:.4g} mm apart"
        return Grid(pitch, first.position + (start - depths[0]) * first.axes[2], [note], shear)
    pitch = (depths[-1] - depths[0]) / (len(slices) - 1)
    if np.abs(depths - depths[0] - steps * pitch).max() <= EXACT_MM:
        return Grid(float(pitch), first.position, [], shear)
    # Rounded or a little uneven: the straight line through all of them, not through the two at the ends.
    pitch, start = np.polyfit(steps, depths, 1)
    origin = first.position + sideways.mean(axis=0) @ first.axes[:2] + (start - depths[0]) * first.axes[2]
    return Grid(float(pitch), origin, [], shear)


class _Fault(NamedTuple):
    """What is wrong with a stack, the figures, what to do, and dcm2niix' name for a file without it."""

    what: str
    figures: str
    advice: str
    remedy: str = ""
    shear: np.ndarray | None = None


def _sentence(faults: Sequence[_Fault]) -> str:
    faulty = ", and ".join(fault.what for fault in faults)
    if " missing" not in faults[0].what:
        faulty = f"its slices are {faulty}"
    resampling_helps = all(fault.remedy for fault in faults)
    advice = faults[0].advice if resampling_helps else ", and ".join(fault.advice for fault in faults)
    if remedy := "".join(fault.remedy for fault in faults):
        advice += f" (of the files that dcm2niix writes, take the one with {remedy} in its name)"
    return f"{faulty}{faults[-1].figures}; {advice}."


def _shift(sideways: np.ndarray, depths: np.ndarray, tolerance: float) -> _Fault | None:
    """Return what is wrong with where the slices lie in their own planes, None if they lie above each other.

    The shift [slice, 2] of a tilted gantry grows with the depth (mm), however the slices are spaced.
    """
    if np.abs(sideways - sideways.mean(axis=0)).max() <= tolerance:
        return None
    slope, start = np.polyfit(depths, sideways, 1)
    if np.abs(sideways - start - depths[:, None] * slope).max() > tolerance:
        widest = float(np.ptp(sideways, axis=0).max())
        return _Fault(
            "shifted sideways against each other",
            f" by up to {widest:.2f} mm",
            "give a series reconstructed with one centre",
        )
    shear = float(np.linalg.norm(slope))
    step = shear * float(np.median(np.diff(depths)))
    return _Fault(
        f"sheared by {np.degrees(np.arctan(shear)):.1f} degrees (gantry tilt)",
        f": each lies {step:.2f} mm sideways of the one before, which no rectangular grid can hold",
        f"{_RESAMPLE}, or here with --resample-tilt",
        "_Tilt",
        slope,
    )


def _uneven(
    slices: Sequence[Slice], depths: np.ndarray, rounding: float, whole: float, conditions: Conditions
) -> _Fault | None:
    """Return what is wrong with the distances of slices at these depths (mm), None if they are even.

    `rounding`: how far it may move a slice (mm) and be passed over; `whole`: how far it did, as it seems.
    """
    gaps = np.diff(depths)
    typical = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    rounding = min(rounding, _ROUNDING_OF_SPACING * typical)
    steps = np.arange(len(depths))
    off = np.abs(depths - np.polyval(np.polyfit(steps, depths, 1), steps)).max()
    if off <= min(_TOLERANCE_MM, _TOLERANCE_OF_SPACING * typical) or is_rounded_line(depths, rounding):
        return None
    marks, choice = overlapping(slices)
    if marks:
        return _Fault("those of several scans that overlap", f", told apart by {marks}", choice)
    worst = int(np.argmax(np.abs(gaps - typical)))
    place = f"{depths[worst]:.2f} and {depths[worst + 1]:.2f} mm"
    change = change_at(slices, worst, conditions)
    where = f"{place}, {change}," if change else place
    part = ", or the part on one side of it" if change else ""
    holes = holes_among_rounded(slices, depths, whole)
    if holes is not None and not float(holes.pitch).is_integer():
        worst = int(np.argmax(holes.missing))
        return _Fault(
            f"{_missing(int(holes.missing.sum()), int(holes.missing[worst]))} between "
            f"{depths[worst]:.2f} and {depths[worst + 1]:.2f} mm",
            f" (its slices are {holes.pitch:.3g} mm apart, their positions rounded to whole millimetres)",
            "export the complete series, with exact positions",
        )
    steps_wide = np.rint(gaps / typical)
    missing = int(steps_wide.sum()) - len(gaps)
    # Holes are whole numbers of steps wide, and everything else is one.
    if (
        missing > 0
        and np.abs(gaps / typical - steps_wide).max() < _TOLERANCE_OF_SPACING + 2 * rounding / typical
    ):
        # Steps of 1 and 2 mm may be rounded ones of 1.25 mm; from steps of 2 mm on rounding shows otherwise.
        maybe_rounded = whole > COARSEST_ROUNDING_MM and holes is None and typical < 1 + EXACT_MM
        if maybe_rounded and missing > CERTAIN and np.count_nonzero(steps_wide == 2) >= CERTAIN:
            return _Fault(
                "unevenly spaced",
                f": between {where} the distance is {gaps[worst]:.2f} mm, usually {typical:.2f}, and "
                "positions look rounded to whole millimetres, so that it cannot be told how many are missing",
                f"export the complete series with exact positions{part}",
            )
        return _Fault(
            f"{_missing(missing, int(steps_wide[worst]) - 1)} between {where}",
            f" (a gap of {gaps[worst]:.2f} mm instead of {typical:.2f})",
            f"export the complete series{part}",
        )
    parts, choice = even_parts(slices, conditions)
    if parts:
        return _Fault("unevenly spaced", f": {parts}", f"{choice}, or {_RESAMPLE}", "_Eq")
    return _Fault(
        "unevenly spaced",
        f": between {where} the distance is {gaps[worst]:.2f} mm, usually {typical:.2f}",
        f"give an evenly spaced series{part}, or {_RESAMPLE}",
        "_Eq",
    )


def _missing(count: int, here: int) -> str:
    """Return that slices are missing, `here` of them at the place that is named next."""
    if count == 1:
        return "a slice is missing"
    part = "" if here == count else ", most of them" if 2 * here > count else f", {here} of them"
    return f"{count} slices are missing{part}"
