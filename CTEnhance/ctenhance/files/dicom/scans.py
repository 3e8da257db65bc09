"""Are the slices of a series one scan? Scanners and archives put several under one SeriesInstanceUID.

Interleaved phases, energies or kernels make an even stack of half the spacing in which every other slice is
of another scan, and nothing looks wrong. So every attribute that differs between scans is compared:

- what is one for a whole scan (tube voltage, kernel, frame of reference, patient, study ...) must be the
  same in all slices;
- what may change on the way along the patient (acquisition, contrast phase, thickness ...) may do so, from
  one block of slices to the next, as in step-and-shoot scans, but not to and fro;
- what differs from slice to slice anyway (times, tube current, window, comments) must not alternate.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydicom.datadict import keyword_for_tag

from ctenhance.files.dicom.choice import (
    Conditions,
    Values,
    as_values,
    energies_named,
    grouped,
    identifies,
    listing,
    named,
    numbers_of_all,
    of_single_slices,
    places_of,
    shown,
    values_of,
    values_of_all,
)
from ctenhance.files.dicom.header import number
from ctenhance.files.dicom.marks import (
    DATES,
    OF_EACH_SLICE,
    OF_ENERGIES,
    OF_IMAGES_AT_ONE_PLACE,
    ONE_FOR_A_BLOCK,
    ONE_FOR_A_ROTATION,
    ONE_FOR_A_SCAN,
)
from ctenhance.files.dicom.rounding import distance_of_met
from ctenhance.files.dicom.slices import parted_by_names
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.files.dicom.slices import Slice

_IN_ORDER = ("InstanceNumber", "AcquisitionTime", "AcquisitionDateTime", "ContentTime")
_MOST_INTERLEAVED = 4
_FEW_STRAYS = 3  # at places of slices, that may be no slices
_UNEVEN = 0.1
_PLAIN = re.compile(r"[\w=.#/+-]+")
_MOST_NAMED = 3
_FEWEST_TO_ALTERNATE = 3
# Where frames lie is what makes a stack of them.
_PLACES = ("ImagePositionPatient", "ImageOrientationPatient", "InStackPositionNumber", "SliceLocation")


@dataclass(frozen=True)
class _Difference:
    """An attribute that differs between scans: a condition on it for each of them, and a text for people.

    `names` begin with the scan of most slices; empty where no condition picks one scan.
    """

    keyword: str
    text: str
    names: Sequence[str] = ()
    count: int = 2


def require_one_scan(slices: Sequence[Slice], conditions: Conditions) -> list[str]:
    """Return notes on what changes along the slices (sorted by depth, one at each place).

    Raises InputError, naming what differs and how to choose, where they are of several scans.
    """
    differences, changing, notes = [], [], []
    for keyword, groups in _of_files(slices):
        if not conditions.ignores(keyword) and _blocks(groups, len(slices)) > len(groups):
            differences.append(_Difference(keyword, listing(keyword, groups), count=len(groups)))
    for keyword in _marks(slices, conditions):
        groups = _groups(slices, keyword)
        if len(groups) == 1:
            continue
        if not groups[0][0] and len(groups) == 2 and keyword in ONE_FOR_A_SCAN:
            # Lost on the way in some slices rather than said otherwise.
            if _alternate(groups, len(slices)):
                differences.append(_difference(keyword, groups))
            else:
                notes.append(f"{keyword} does not stand in all slices")
        elif len(groups) == len(slices) > 2 and identifies(keyword):
            if keyword in ONE_FOR_A_SCAN:
                notes.append(
                    f"{keyword} differs in all slices, as some anonymisers write it, and was passed over"
                )
        elif (
            keyword in ONE_FOR_A_SCAN
            or (keyword in DATES and _days(groups) > 1)
            or _to_and_fro(keyword, groups, len(slices))
        ):
            differences.append(_difference(keyword, groups))
        elif len(groups) < len(slices):
            changing.append(keyword)
    known = [one.keyword for one in differences]
    differences += [one for one in _at_energies(slices, conditions) if one.keyword not in known]
    if not differences and not conditions.take_as_one:
        differences = list(_alternating(slices))
    if differences:
        differences.sort(key=lambda one: identifies(one.keyword))  # values that are shown say more
        what = "file" if len({one.file for one in slices}) == 1 else "series"
        together = " ".join(f"--where {one.keyword}=any" for one in differences)
        raise InputError(
            f"it mixes {max(one.count for one in differences)} scans in one {what}, told apart by "
            f"{_texts(differences)}; {_choose(differences, what)}, or take them as one scan with {together}."
        )
    if changing:
        shown_ones = [keyword for keyword in changing if not identifies(keyword)] or changing
        named_ones = shown_ones[:_MOST_NAMED]
        verb = "changes" if len(named_ones) == 1 else "change"
        notes.append(f"taken as one scan, though {' and '.join(named_ones)} {verb} along the stack")
    return notes


def _at_energies(slices: Sequence[Slice], conditions: Conditions) -> Iterable[_Difference]:
    """Find texts that name another energy in keV in some slices than in others."""
    for keyword in OF_ENERGIES:
        groups = [] if conditions.ignores(keyword) else _groups(slices, keyword)
        if len(groups) > 1 and (parts := energies_named(groups)):
            names = _difference(keyword, groups).names if len(groups) == len(parts) else ()
            yield _Difference(keyword, f"{keyword} with {' and '.join(parts)}", names, len(parts))


def how_to_tell(slices: Sequence[Slice], one: Slice, other: Slice, conditions: Conditions) -> str:
    """Return why two different images lie at one position, and how to choose; ends a sentence."""
    several = "as when a series holds several phases or reconstructions"
    differences = []
    for keyword in (*_marks(slices, conditions), *OF_IMAGES_AT_ONE_PLACE):
        groups = _groups(slices, keyword)
        if _apart(groups, slices.index(one), slices.index(other)) and not of_single_slices(groups):
            differences.append(_difference(keyword, groups))
    differences += [
        _Difference(keyword, listing(keyword, groups), count=len(groups))
        for keyword, groups in _of_files(slices)
        if _apart(groups, slices.index(one), slices.index(other))
    ]
    if not any(one.keyword not in OF_IMAGES_AT_ONE_PLACE for one in differences):
        distance = distance_of_met(slices)
        if distance is not None:
            return (
                "since positions look rounded to whole millimetres, too coarsely for slices "
                f"about {distance:.3g} mm apart; export the series again with exact positions"
            )
    differences = differences or list(_one_after_the_other(slices))
    if differences:
        return f"{several}; {_texts(differences)}; {_choose(differences)}"
    if advice := _in_turn(slices):
        return f"{several}; {advice}"
    if one.file is other.file:
        return f"{several}; nothing in its header tells them apart; split the file into series first"
    nothing = f"{several}; nothing in their headers tells them apart"
    if names := parted_by_names(slices):
        return f"{nothing}, only the names of the files: {names}; put each into a folder of its own"
    if len(slices) - len({one.depth for one in slices}) <= _FEW_STRAYS < len(slices) // 2:
        return f"{nothing}; look at both, and take away what is no slice, such as a dose page with its header"
    return f"{nothing}; put the files of one into a folder"


def change_at(slices: Sequence[Slice], index: int, conditions: Conditions) -> str:
    """Return what changes from slice `index` to the next, and not just before or after it; '' if nothing.

    Such as 'where SliceThickness changes from 2.5 to 5'.
    """
    near = slices[max(index - 1, 0) : index + 3]
    place = index - max(index - 1, 0)
    for keyword in _marks(near, conditions):
        values = [values_of(one.file, one.frame, keyword) for one in near]
        groups = grouped(values)
        if len(groups) == 2 and not identifies(keyword) and _blocks(groups, len(near)) == 2:
            before, after = shown(values[place]), shown(values[place + 1])
            if before != after:
                return f"where {keyword} changes from {before or 'none'} to {after or 'none'}"
    return ""


def overlapping(slices: Sequence[Slice]) -> tuple[str, str]:
    """Return how scans differ that were taken one after the other and overlap, and how to choose.

    Each is an even stack by itself, together they are none. Empty texts where there is nothing of the kind.
    """
    depths = np.array([one.depth for one in slices])
    for keyword in _IN_ORDER:
        values = _numbers(slices, keyword)
        known = np.array([value for value in values if value is not None])
        if len(known) < len(slices):
            continue
        order = np.argsort(known, kind="stable")
        steps = np.sign(np.diff(depths[order]))
        scans = np.split(order, np.flatnonzero(steps != np.sign(np.median(steps))) + 1)
        if not 2 <= len(scans) <= _MOST_INTERLEAVED or min(map(len, scans)) < _FEWEST_TO_ALTERNATE:
            continue
        gaps = [np.diff(np.sort(depths[scan])) for scan in scans]
        even = all(np.ptp(one) <= _UNEVEN * np.median(one) for one in gaps)
        if even and max(depths[scan].min() for scan in scans) < min(depths[scan].max() for scan in scans):
            difference = _ranges(slices, keyword, [scan.tolist() for scan in scans])
            return _texts([difference]), _choose([difference])
    return "", ""


def even_parts(slices: Sequence[Slice], conditions: Conditions) -> tuple[str, str]:
    """Return what changes once along an uneven stack that is even on either side, and how to choose.

    Such as slices of 3 mm below and 5 mm above. Empty texts where there is nothing of the kind.
    """
    depths = np.array([one.depth for one in slices])
    for keyword in _marks(slices, conditions):
        groups = _groups(slices, keyword)
        gaps = [np.diff(depths[sorted(members)]) for _, members in groups]
        blocks = len(groups) > 1 and _blocks(groups, len(slices)) == len(groups) and all(map(len, gaps))
        if blocks and all(np.ptp(one) <= _UNEVEN * np.median(one) for one in gaps):
            difference = _difference(keyword, groups)
            return difference.text, _choose([difference])
    return "", ""


def choice_by(slices: Sequence[Slice], keyword: str) -> str:
    """Return how to choose by an attribute in which slices differ, as part of a sentence."""
    return _choose([_difference(keyword, _groups(slices, keyword))])


def _marks(slices: Sequence[Slice], conditions: Conditions) -> Iterable[str]:
    """Return the attributes to compare: the known ones, and what a file's own dimensions are."""
    own: list[str] = []
    for file in {one.file for one in slices if len(one.file.frames) > 1}:
        for item in file.header.get("DimensionIndexSequence") or ():
            keyword = keyword_for_tag(item.get("DimensionIndexPointer") or 0)
            if keyword and keyword not in _PLACES:
                own.append(keyword)
    known = dict.fromkeys((*ONE_FOR_A_SCAN, *ONE_FOR_A_BLOCK, *own))
    there = set[str]().union(*(one.file.frames[one.frame] for one in slices))
    return [one for one in known if not conditions.ignores(one) and not there.isdisjoint(places_of(one))]


def _of_files(slices: Sequence[Slice]) -> Iterable[tuple[str, list[tuple[Values, list[int]]]]]:
    """Return what several multi-frame files say of themselves and each of their frames says otherwise."""
    if len({one.file for one in slices}) == 1 or all(len(one.file.frames) == 1 for one in slices):
        return
    for keyword in ONE_FOR_A_BLOCK:
        if len(places_of(keyword)) > 1:
            groups = grouped([as_values(one.file.header.get(keyword)) for one in slices])
            if len(groups) > 1 and len(_groups(slices, keyword)) == 1:
                yield keyword, groups


def _groups(slices: Sequence[Slice], keyword: str) -> list[tuple[Values, list[int]]]:
    return grouped(values_of_all(((one.file, one.frame) for one in slices), keyword))


def _numbers(slices: Sequence[Slice], keyword: str) -> list[float | None]:
    return numbers_of_all(((one.file, one.frame) for one in slices), keyword)


def _blocks(groups: Sequence[tuple[Values, list[int]]], count: int) -> int:
    """Return how many runs of slices of one group there are along the stack."""
    return 1 + int(np.count_nonzero(np.diff(_group_of_each(groups, count))))


def _group_of_each(groups: Sequence[tuple[Values, list[int]]], count: int) -> np.ndarray:
    group = np.empty(count, dtype=int)
    for index, (_, members) in enumerate(groups):
        group[members] = index
    return group


def _days(groups: Sequence[tuple[Values, list[int]]]) -> int:
    """Return how many days lie between dates, of those that are some."""
    days = []
    for values, _ in groups:
        with contextlib.suppress(ValueError):
            days.append(datetime.strptime(str(values[0])[:8] if values else "", "%Y%m%d").toordinal())
    return max(days) - min(days) if days else 0


def _to_and_fro(keyword: str, groups: Sequence[tuple[Values, list[int]]], count: int) -> bool:
    """Say whether slices of several groups are mixed, rather than one group after the other."""
    if _blocks(groups, count) <= len(groups):
        return False
    group = _group_of_each(groups, count)
    runs = np.diff(np.flatnonzero(np.diff(group)))  # without the first and the last one
    return keyword not in ONE_FOR_A_ROTATION or bool(runs.min() < 2)


def _alternate(groups: Sequence[tuple[Values, list[int]]], count: int) -> bool:
    """Say whether every second slice (third, fourth) is of one group, in turn, without exception."""
    scans = len(groups)
    group = _group_of_each(groups, count)
    return 1 < scans <= min(_MOST_INTERLEAVED, count // 3) and bool((group[scans:] == group[:-scans]).all())


def _apart(groups: Sequence[tuple[Values, list[int]]], one: int, other: int) -> bool:
    return not any(one in members and other in members for _, members in groups)


def _difference(keyword: str, groups: Sequence[tuple[Values, list[int]]]) -> _Difference:
    names: Sequence[str] = ()
    if not of_single_slices(groups):
        largest = sorted(range(len(groups)), key=lambda index: -len(groups[index][1]))
        all_names = named(keyword, groups)
        names = [all_names[index] for index in largest]
    return _Difference(keyword, listing(keyword, groups), names, len(groups))


def _alternating(slices: Sequence[Slice]) -> Iterable[_Difference]:
    """Find attributes by which every second slice (or third, fourth) is like none of those between.

    So far apart that no change along the patient could make it: each step within a scan is at most half as
    wide as any step between the scans.
    """
    for keyword in OF_IMAGES_AT_ONE_PLACE:
        groups = _groups(slices, keyword)
        if _alternate(groups, len(slices)):
            yield _difference(keyword, groups)
    for keyword, (least, least_of_mean) in OF_EACH_SLICE.items():
        if not any(one in slices[0].file.frames[slices[0].frame] for one in places_of(keyword)):
            continue
        values = _numbers(slices, keyword)
        known = np.array([value for value in values if value is not None])
        if len(known) < len(slices):
            continue
        for scans in range(2, min(_MOST_INTERLEAVED, len(slices) // 3) + 1):
            within = np.abs(known[scans:] - known[:-scans]).max()
            between = min(np.abs(known[step:] - known[:-step]).min() for step in range(1, scans))
            if between >= max(2 * within, least, least_of_mean * np.abs(known).mean()) and between > 0:
                yield _ranges(slices, keyword, [range(first, len(slices), scans) for first in range(scans)])
                break
            if keyword == "InstanceNumber" and _stand_together(known, scans):
                yield _Difference(keyword, f"InstanceNumber, of which each stands {scans} times", count=scans)
                break


def _stand_together(numbers: np.ndarray, scans: int) -> bool:
    """Say whether each number stands in as many neighbouring slices as there are scans, and nowhere else."""
    if len(numbers) % scans:
        return False
    rows = numbers.reshape(-1, scans)
    return bool((rows == rows[:, :1]).all()) and len(np.unique(rows[:, 0])) == len(rows)


def _one_after_the_other(slices: Sequence[Slice]) -> Iterable[_Difference]:
    """Find numbers or times by which scans at the same places came one after the other."""
    places = [tuple(np.round(one.position, 2)) for one in slices]
    scans = max(places.count(place) for place in set(places))
    if len(slices) % scans:
        return
    for keyword in _IN_ORDER:
        values = _numbers(slices, keyword)
        known = [(value, index) for index, value in enumerate(values) if value is not None]
        if len(known) < len(slices):
            continue
        order = [index for _, index in sorted(known)]
        size = len(slices) // scans
        blocks = [order[first : first + size] for first in range(0, len(slices), size)]
        if all(len({places[index] for index in block}) == size for block in blocks):
            yield _ranges(slices, keyword, blocks)


def _in_turn(slices: Sequence[Slice]) -> str:
    """Return how to choose where each place was imaged several times before the next (cine); or ''."""
    places: dict[tuple[float, ...], list[Slice]] = {}
    for one in slices:
        places.setdefault(tuple(np.round(one.position, 2)), []).append(one)
    for keyword in _IN_ORDER:
        ranges = []
        for found in places.values():
            values = _numbers(found, keyword)
            ranges.append(sorted(np.nan if value is None else value for value in values))
        ranges.sort()
        known = np.isfinite(np.concatenate(ranges)).all()
        if not known or any(before >= after for before, after in pairwise(np.concatenate(ranges))):
            continue
        counts = {len(found) for found in ranges}
        if min(counts) == 1:
            continue
        several = str(counts.pop()) if len(counts) == 1 else "several"
        sentence = f"{several} were taken at each place, one after the other by {keyword} (cine or perfusion)"
        numbers = np.concatenate(ranges)
        if keyword == "InstanceNumber" and several != "several" and (np.diff(numbers) == 1).all():
            name = f"{int(numbers[0])}..{int(numbers[-1])}/{several}"
            return (
                f"{sentence}; choose the first of each place, for instance, with --where {keyword}={name} "
                f"(in Python where={{'{keyword}': '{name}'}})"
            )
        return f"{sentence}; put one image of each place into a folder"
    return ""


def _ranges(slices: Sequence[Slice], keyword: str, scans: Sequence[Sequence[int]]) -> _Difference:
    """Return the difference of an attribute of which each scan has a range of values."""
    if identifies(keyword):
        groups = _groups(slices, keyword)
        constant = len(groups) == len(scans)  # within each
        return _difference(keyword, groups) if constant else _Difference(keyword, keyword, count=len(scans))
    bounds = []
    for scan in scans:
        found = [values_of(slices[index].file, slices[index].frame, keyword) for index in scan]
        ordered = sorted(found, key=lambda values: number(values[0]) or 0.0)
        bounds.append((ordered[0], ordered[-1]))
    names = [
        shown(low) if shown(low) == shown(high) else f"{shown(low)}..{shown(high)}" for low, high in bounds
    ]
    ranges = [
        f"{name} ({len(scan)} slice{'' if len(scan) == 1 else 's'})"
        for name, scan in zip(names, scans, strict=True)
    ]
    ends = sorted([number(end[0]) or 0.0 for end in pair] for pair in bounds)
    overlap = any(high >= low for (_, high), (low, _) in pairwise(ends))
    return _Difference(keyword, f"{keyword} {' and '.join(ranges)}", () if overlap else names, len(scans))


def _texts(differences: Sequence[_Difference]) -> str:
    texts = "; ".join(one.text for one in differences[:_MOST_NAMED])
    further = len(differences) - _MOST_NAMED
    return texts + (f"; and {further} further attribute{'' if further == 1 else 's'}" if further > 0 else "")


def _choose(differences: Sequence[_Difference], what: str = "series") -> str:
    """Return how to choose by the attribute that parts the slices most finely, the first of such."""
    best = max((one for one in differences if one.names), key=lambda one: one.count, default=None)
    if best is None:
        several = "export each as a series of its own, from the scanner or the archive"
        return several if what == "file" else "put the files of each into a folder of their own"
    name = next(name for name in best.names if name)
    where = f"--where {_quoted(f'{best.keyword}={name}')}"
    option = f"--acquisition {name}" if best.keyword == "AcquisitionNumber" else where
    value = name if number(name) is not None else repr(name)
    return f"choose one, for instance with {option} (in Python where={{'{best.keyword}': {value}}})"


def _quoted(condition: str) -> str:
    return condition if _PLAIN.fullmatch(condition) else f'"{condition}"'
