"""Which CT series there are among many files, without their pixels: what `batch` goes through.

What is a CT slice and what is not is decided as for a single CT (`kinds`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.dicom.header import DicomFile, number, read_file, text
from ctenhance.files.dicom.kinds import ATTRIBUTES, NoSlicesError, Outline, meant, outline, slices_of
from ctenhance.files.dicom.parted import SERIES_NUMBER, SERIES_UID, by_series, enough, in_common
from ctenhance.files.dicom.reading import DICOMDIR, home_of, series_label, series_numbers
from ctenhance.files.names import gaps
from ctenhance.runtime.errors import InputError

# How far the steps between slices of one stack differ: positions rounded to 0.1 mm, and a little.
_ROUNDING_MM = 0.11
_UNEVEN = 0.05


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """A CT series: its files, and one of them with its header.

    `positions` are those of its slices in the patient (mm); empty where they are not to be had. `excluded`
    says why none of its images is meant, `problem` why it cannot be read, or they are empty. `parted`: its
    images have a UID each. `numbers` are the SeriesNumbers of its images: several where scans share its UID.
    """

    uid: str
    files: tuple[Path, ...]
    first: DicomFile
    positions: frozenset[tuple[float, ...]]
    outline: Outline
    excluded: str
    problem: str = ""
    parted: bool = False
    numbers: frozenset[str] = frozenset()

    @property
    def home(self) -> Path:
        """The folder that holds all its files."""
        return home_of(self.files)

    @property
    def study(self) -> str:
        """The UID of its study, or ''."""
        return text(self.first.header.get("StudyInstanceUID"))


def search(
    files: Iterable[Path], conditions: Conditions, indices: list[Path] | None = None
) -> tuple[list[FoundSeries], str]:
    """Return the CT series among the files of one folder, and why there is none where there are others.

    An index (DICOMDIR, whatever its name) is only added to `indices`, and files other than DICOM are passed
    over.
    Raises InputError, with the reason alone, for a file that is damaged, or cannot be opened, in such a way
    that it might be of any series.
    """
    found, others = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `read_dicom`
        for path in files:
            file = read_file(path, (*ATTRIBUTES, *conditions.keywords))
            if file is None:
                others.append(path)
            elif file.header.SOPClassUID != DICOMDIR:
                found.append(file)
            elif indices is not None:
                indices.append(path)
        for _, why in gaps([file.path for file in found], others):
            raise InputError(why)
        if not found:
            return [], ""
        try:
            slices, _ = slices_of(found, conditions.ignores(SERIES_UID))
        except NoSlicesError as error:
            return [], str(error)
        except InputError:
            return _each_for_itself(found, conditions), ""
        return [_series(uid, members, conditions) for uid, members in slices.items()], ""


def _each_for_itself(files: Sequence[DicomFile], conditions: Conditions) -> list[FoundSeries]:
    """Return the series of a folder of which one or more have a slice without pixels."""
    as_one = conditions.ignores(SERIES_UID)
    found = []
    for uid, images in by_series(files, as_one).items():
        try:
            found += [_series(uid, slices, conditions) for slices in slices_of(images, as_one)[0].values()]
        except NoSlicesError:
            continue
        except InputError as error:
            if not uid:  # cut off so early that it might be of any series
                raise
            found.append(replace(_series(uid, images, conditions), problem=str(error)))
    return found


def _series(uid: str, members: Sequence[DicomFile], conditions: Conditions) -> FoundSeries:
    places = [_position(member) for member in members]
    known = frozenset(place for place in places if place)
    complete = len(known) == len(members)
    excluded = ""
    try:
        conditions.files(members)
    except InputError as error:
        excluded = str(error)
    return FoundSeries(
        uid,
        tuple(member.path for member in members),
        members[0],
        known if complete else frozenset(),
        outline(members),
        excluded,
        parted=len({text(member.header.get(SERIES_UID)) for member in members}) > 1,
        numbers=frozenset(text(member.header.get(SERIES_NUMBER)).strip() for member in members),
    )


def _position(file: DicomFile) -> tuple[float, ...]:
    values = [number(value) for value in file.header.get("ImagePositionPatient") or ()]
    return tuple(round(value, 3) for value in values if value is not None) if len(values) == 3 else ()


def join(series: Iterable[FoundSeries]) -> list[FoundSeries]:
    """Return the series with those made one whose slices lie in several folders, as some discs have them.

    Parts belong together when all their slices are one evenly spaced stack. Else they are copies, or scans to
    which an anonymiser gave one UID: each a series of its own. So do single images of one scan to which it
    gave a UID each.
    """
    series = list(series)
    times = Counter(part.uid for part in series)
    parts: dict[object, list[FoundSeries]] = {}
    for part in series:
        frame = text(part.first.header.get("FrameOfReferenceUID"))
        key: object = (part.uid, part.study, frame) if part.uid else part.files
        if part.uid and times[part.uid] == 1 and (part.parted or part.outline.slices == 1):
            key = (part.study, *in_common(part.first))
        parts.setdefault(key, []).append(part)
    joined: list[FoundSeries] = []
    for members in parts.values():
        count = sum(member.outline.slices for member in members)
        tied = len({member.uid for member in members}) == 1 or enough(members[0].first, count)
        if len(members) > 1 and tied and _one_stack([member.positions for member in members]):
            joined.append(_joined(members))
        else:
            joined += members
    return joined


def _one_stack(parts: Sequence[frozenset[tuple[float, ...]]]) -> bool:
    places = np.array(sorted(place for part in parts for place in part))
    if not all(parts) or len(np.unique(places, axis=0)) < len(places):
        return False
    along = np.ptp(places, axis=0).argmax()
    steps = np.diff(places[places[:, along].argsort()], axis=0)
    typical = np.median(steps, axis=0)
    return bool((np.abs(steps - typical) <= max(_ROUNDING_MM, _UNEVEN * np.abs(typical).max())).all())


def _joined(parts: Sequence[FoundSeries]) -> FoundSeries:
    first = parts[0]
    outlines = [part.outline for part in parts]
    return FoundSeries(
        first.uid,
        tuple(file for part in parts for file in part.files),
        first.first,
        frozenset().union(*(part.positions for part in parts)),
        replace(
            first.outline,
            slices=sum(one.slices for one in outlines),
            parallel=sum(one.parallel for one in outlines),
            at_one_place=False,
        ),
        first.excluded if all(part.excluded for part in parts) else "",
        next((part.problem for part in parts if part.problem), ""),
        numbers=frozenset().union(*(part.numbers for part in parts)),
    )


def bystanders(series: Sequence[FoundSeries]) -> set[FoundSeries]:
    """Return those of the series that are no CT to be meant, beside the others of their study."""
    studies: dict[str, list[FoundSeries]] = {}
    for one in series:
        if one.study:
            studies.setdefault(one.study, []).append(one)
    found: set[FoundSeries] = set()
    for members in studies.values():
        found |= set(members) - meant({one: one.outline for one in members})
    return found


def numbered(series: Sequence[FoundSeries]) -> dict[int, FoundSeries]:
    """Return the series of one folder by the numbers with which `--series` chooses them."""
    by_uid: dict[str, FoundSeries] = {}
    for one in series:
        # Anonymisers may give one UID to the series of several studies.
        by_uid[one.uid if one.uid not in by_uid else f"{one.uid} {len(by_uid)}"] = one
    numbers = series_numbers({uid: one.first for uid, one in by_uid.items()})
    return {numbers[uid]: one for uid, one in by_uid.items()}


def label(rank: int, series: FoundSeries) -> str:
    """Return what a list of series says of it, such as 'series 3: 24 slices of 2 mm, kernel B30f'."""
    return series_label(rank, series.first, series.outline.slices)
