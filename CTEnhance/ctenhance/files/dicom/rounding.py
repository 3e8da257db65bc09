"""Positions that were rounded: which even stacks they may come from, and what the headers say of those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ctenhance.files.dicom.header import number

if TYPE_CHECKING:
    from ctenhance.files.dicom.slices import Slice

COARSEST_ROUNDING_MM = 0.1
EXACT_MM = 1e-3
_ROUNDINGS_MM = (1.0, 0.1, 0.01)
CERTAIN = 3  # so many wide gaps, each where rounding makes one, are no missing slices
_LARGEST_GAP_OF_THICKNESS = 1.05
_OF_A_STEP = 1e-3
_STARTS = 101  # of lines that are tried, within a rounding step


class Holes(NamedTuple):
    """The distance (mm) of slices whose positions were rounded, and how many are missing in each gap."""

    pitch: float
    missing: np.ndarray


def rounding_of(positions: np.ndarray) -> np.ndarray:
    """Return the step in which each coordinate is written, as far as it shows: 1, 0.1, 0.01 mm, or 0."""
    found = np.zeros(3)
    for step in reversed(_ROUNDINGS_MM):
        found[np.abs(positions - np.rint(positions / step) * step).max(axis=0) < step * _OF_A_STEP] = step
    return found


def rounded_to_whole(slices: Sequence[Slice], depths: np.ndarray, rounding: float) -> float | None:
    """Return the distance (mm) of even slices whose positions were rounded to whole millimetres; else None.

    0, 1, 2, 4, 5, 6 may be slices of 1.25 mm, or of 1 mm of which one is missing: what the headers say of
    thickness, distance and number decides, and where they say nothing that rounding makes many such steps.
    """
    if rounding <= COARSEST_ROUNDING_MM:
        return None
    least, most = pitches(depths, rounding)
    gaps = np.diff(depths)
    if least > most or gaps.min() < 1 - EXACT_MM or np.ptp(gaps) > 1 + EXACT_MM:
        return None
    distance, thickness = _declared(slices)
    # Rounding leaves a whole distance even: where that is what the header says, a wider gap is a hole.
    if gaps.min() in (distance, thickness) and float(np.median(gaps)) == gaps.min():
        return None
    declared = next((one for one in (distance, thickness) if one and least <= one <= most), None)
    numbers = _numbers(slices)
    steps = np.diff(numbers)
    in_a_row = bool((steps == steps[0]).all() and steps[0])
    if not in_a_row and (bool((steps > 0).all()) or bool((steps < 0).all())):
        return None  # numbers are missing, too
    if not in_a_row and declared is None:
        wide = int(np.count_nonzero(gaps > gaps.min() + 0.5))
        holes = thickness is not None and least > _LARGEST_GAP_OF_THICKNESS * thickness
        if holes or min(wide, len(gaps) - wide) < CERTAIN:
            return None
    fitted = float(np.polyfit(np.arange(len(depths)), depths, 1)[0])
    return declared or min(max(fitted, least), most)


def holes_among_rounded(slices: Sequence[Slice], depths: np.ndarray, rounding: float) -> Holes | None:
    """Return where slices are missing whose positions were rounded to whole millimetres; None if unknown.

    Instance numbers tell it where they lie on a line with the depths, else the distance or thickness does.
    """
    if rounding <= COARSEST_ROUNDING_MM:
        return None
    declared = [one for one in _declared(slices) if one]
    found = None
    numbers = _numbers(slices)
    numbers = numbers if numbers[-1] > numbers[0] else -numbers
    steps = np.diff(numbers)
    if np.isfinite(steps).all() and steps.min() > 0:
        places = (numbers - numbers[0]) / steps.min()
        least, most = pitches(depths, rounding, places)
        if least <= most and (np.rint(places) == places).all() and places[-1] >= len(depths):
            found = Holes(_likely(least, most, declared), np.diff(places).astype(int) - 1)
    for pitch in declared if found is None else ():
        missing = _gaps_filled(depths, pitch, rounding)
        if missing is not None and missing.any():
            found = Holes(pitch, missing)
            break
    return found


def _gaps_filled(depths: np.ndarray, pitch: float, rounding: float) -> np.ndarray | None:
    """Return how many slices are missing in each gap, if they are this far apart (mm) and rounded; else None.

    None, too, where that is not certain, or where most gaps would have to be holes.
    """
    found: set[tuple[int, ...]] = set()
    for start in depths[0] + np.linspace(-rounding, rounding, _STARTS):
        places = np.rint((depths - start) / pitch)
        steps = np.diff(places)
        on_line = np.abs(depths - start - places * pitch).max() <= rounding + EXACT_MM
        if on_line and steps.min() >= 1 and np.median(steps) == 1:
            found.add(tuple((steps - 1).astype(int).tolist()))
    # Rounding may leave open in which of two gaps, but not how many.
    if len({sum(one) for one in found}) != 1:
        return None
    return np.array(max(found, key=lambda one: (np.array(one) * np.diff(depths)).sum()))


def distance_of_met(slices: Sequence[Slice]) -> float | None:
    """Return the distance (mm) of slices of which several lie at one place since positions were rounded.

    None where nothing speaks for it: sorted by depth they have to be even but for the rounding, and are so by
    their instance numbers, where they have some. Where as many lie at each place as at any other, they may be
    of several scans, and only a thickness or distance that fits speaks for one.
    """
    positions = np.array([one.position for one in slices])
    rounding = float(np.abs(slices[0].axes[2]) @ rounding_of(positions) / 2)
    if rounding <= COARSEST_ROUNDING_MM:
        return None
    depths = positions @ slices[0].axes[2]
    numbers = _numbers(slices)
    if len(set(numbers[np.isfinite(numbers)])) <= 1:
        numbers = np.arange(len(slices), dtype=float)
    order = np.argsort(numbers, kind="stable")
    numbers, depths = numbers[order], depths[order]
    if depths[0] > depths[-1]:
        depths = -depths
    if not np.isfinite(numbers).all() or np.diff(numbers).min() <= 0 or np.diff(depths).min() < -EXACT_MM:
        return None
    least, most = pitches(depths, rounding, numbers)
    if not max(least, EXACT_MM) <= most:
        return None
    declared = [one for one in _declared(slices) if one and least <= one <= most]
    counts = set(Counter(np.round(depths, 2).tolist()).values())
    return _likely(least, most, declared) if declared or len(counts) > 1 else None


def _declared(slices: Sequence[Slice]) -> tuple[float | None, float | None]:
    """Return the distance and the thickness (mm) that the headers give, None where not one for all slices."""
    distinct = [
        {number(one.file.value(keyword, frame=one.frame)) for one in slices}
        for keyword in ("SpacingBetweenSlices", "SliceThickness")
    ]
    distance, thickness = (next(iter(found)) if len(found) == 1 else None for found in distinct)
    return (abs(distance) if distance else None), (abs(thickness) if thickness else None)


def _numbers(slices: Sequence[Slice]) -> np.ndarray:
    """Return the instance numbers, NaN where there is none."""
    found = (number(one.file.value("InstanceNumber")) for one in slices)
    return np.array([np.nan if one is None else one for one in found])


def _likely(least: float, most: float, declared: Sequence[float]) -> float:
    """Return the likeliest distance in this range: a declared one, a whole one, or the middle."""
    whole = float(round((least + most) / 2))
    fitting = [one for one in (*declared, whole) if least <= one <= most]
    return fitting[0] if fitting else (least + most) / 2


def is_rounded_line(depths: np.ndarray, rounding: float) -> bool:
    """Say whether there are evenly spaced depths that differ from these by no more than the rounding (mm)."""
    least, most = pitches(depths, rounding)
    return least <= most


def pitches(depths: np.ndarray, rounding: float, places: np.ndarray | None = None) -> tuple[float, float]:
    """Return least and largest distance of even depths that these are within the rounding (mm).

    Every two slices lie as far apart as their steps say, within twice the rounding. None if least > largest.
    `places`: where they are in the stack, ascending; None: one after the other.
    """
    tolerance = rounding + EXACT_MM * rounding
    least, most = -np.inf, np.inf
    places = np.arange(len(depths)) if places is None else places
    for further in range(1, len(depths)):
        distances = depths[further:] - depths[:-further]
        steps = places[further:] - places[:-further]
        least = max(least, float(((distances - 2 * tolerance) / steps).max()))
        most = min(most, float(((distances + 2 * tolerance) / steps).min()))
    return least, most
