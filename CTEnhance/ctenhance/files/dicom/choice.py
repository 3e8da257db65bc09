"""Which of the images in DICOM files are meant: conditions on their attributes, such as KVP=80.

A condition is an attribute's keyword and what it must be:

- a value: numbers as numbers, texts without regard to case; where the attribute has several values (Image
  Type) one of them, or all, with / between
- LOW..HIGH: a number in this range, both ends included; LOW..HIGH/STEP: every STEPth from LOW on
- #N: the Nth of its values in ascending order, for those that are long or identify somebody
- nothing: it is absent or empty
- any: whatever it is; images count as one scan even where this attribute differs
- resample, of GantryDetectorTilt: whatever it is; slices of a tilted gantry are laid straight (`tilt`)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import PersonName

from ctenhance.choices import LAID_STRAIGHT
from ctenhance.files.dicom.header import DicomFile, number
from ctenhance.files.dicom.names import kev_in
from ctenhance.runtime.errors import InputError

ANY = "any"
#: The condition that chooses nothing: slices of a tilted gantry are to be resampled.
(RESAMPLE_TILT,) = LAID_STRAIGHT.items()
Frame = tuple[DicomFile, int]
Values = tuple[str | float, ...]

_RANGE = re.compile(r"(-?[\d.]*\d)\.\.(-?[\d.]*\d)(?:/(\d+))?")
_TIME = re.compile(
    r"(?P<day>\d{8})?(?P<hours>\d{2}):?(?P<minutes>\d{2})?:?(?P<seconds>\d{2}(\.\d*)?)?([+-]\d{4})?"
)
_RANK = re.compile(r"#(\d+)")
_DIGITS = 1e-3  # DICOM writes numbers as text, and so do our sentences
_MOST_LISTED = 8
_MOST_NUMBERS, _MOST_WORDS = 3, 2  # of one value, to be named in full

# Keywords of a CT image, and those that say the same of a frame in a multi-frame image.
_OF_FRAMES = {
    "ImageType": "FrameType",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "AcquisitionDateTime": "FrameAcquisitionDateTime",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "XRayTubeCurrent": "XRayTubeCurrentInmA",
    "Exposure": "ExposureInmAs",
    "ExposureTime": "ExposureTimeInms",
    "ReconstructionDiameter": "ReconstructionFieldOfView",
}
# Value representations and further attributes that may reveal who, where or when.
_IDENTIFYING = ("UI", "PN", "DA", "DT", "LT", "ST", "UT", "AS")
_IDENTIFYING_TEXTS = (
    "PatientID", "DeviceSerialNumber", "StationName", "InstitutionName", "AccessionNumber", "StudyID",
    "SeriesDescription", "StudyDescription", "ProtocolName", "PatientSex", "PatientWeight", "PatientSize",
    "PerformedProcedureStepID",
)  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """What is asked of each image, by keyword; without any, all are meant."""

    asked: Mapping[str, str]

    @classmethod
    def of(cls, where: Mapping[str, Any] | None) -> Conditions:
        """Return the conditions of keywords and values; raises InputError for anything but a
        keyword, and for a range whose ends are exchanged."""
        asked = {_keyword(name): _as_asked(value) for name, value in (where or {}).items()}
        for keyword, value in asked.items():
            bounds = _RANGE.fullmatch(value.replace(" ", ""))
            low, high = (number(one) for one in bounds.groups()[:2]) if bounds else (None, None)
            if low is not None and high is not None and low > high:
                raise InputError(f"'{keyword}={value}' is no range: its lower end comes first.")
        return cls(asked)

    @property
    def keywords(self) -> list[str]:
        """The attributes to look at."""
        return [one for name in self.asked for one in places_of(name)]

    def ignores(self, keyword: str) -> bool:
        """Whether images count as one scan even where this attribute differs."""
        return self.asked.get(keyword) == ANY

    @property
    def take_as_one(self) -> bool:
        """Whether the user has declared slices of several scans one."""
        return ANY in self.asked.values()

    @property
    def resample_tilt(self) -> bool:
        """Whether slices of a tilted gantry are to be laid straight."""
        return RESAMPLE_TILT in self.asked.items()

    def files(self, files: Sequence[DicomFile]) -> list[DicomFile]:
        """Return the files with a frame that may be meant; raises InputError if there is none.

        Ranks (#N) are not looked at: they count the values of one series.
        """
        frames = [(file, frame) for file in files for frame in range(len(file.frames))]
        for keyword, asked in self.asked.items():
            if not _RANK.fullmatch(asked):
                frames = _meant(frames, keyword, asked)
        kept = {file for file, _ in frames}
        return [file for file in files if file in kept]

    def frames(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames of one series that are meant; raises InputError if there is none."""
        meant = list(frames)
        for keyword, asked in self.asked.items():
            meant = _meant(meant, keyword, asked)
        return meant

    def note(self) -> str | None:
        """Return what was chosen, as a note for the report; None where nothing was."""
        choices = [
            f"{keyword}={'…' if identifies(keyword) and not _RANK.fullmatch(asked) else asked}"
            for keyword, asked in self.asked.items()
            if (keyword, asked) != RESAMPLE_TILT
        ]
        return f"slices chosen by {' and '.join(choices)}" if choices else None


def _keyword(name: str) -> str:
    tag = tag_for_keyword(name.strip())
    if tag is not None:
        return name.strip()
    folded = name.strip().casefold()
    for *_, keyword in DicomDictionary.values():
        if folded and keyword.casefold() == folded:
            return str(keyword)
    raise InputError(
        f"'{name}' is no attribute of DICOM images; give its keyword, such as AcquisitionNumber, KVP or "
        "ConvolutionKernel."
    )


def _as_asked(value: Any) -> str:
    if isinstance(value, list | tuple | MultiValue):
        return "/".join(_as_asked(one) for one in value)
    return "" if value is None else str(value).strip()


def _meant(frames: Sequence[Frame], keyword: str, asked: str) -> list[Frame]:
    if asked == ANY or (keyword, asked) == RESAMPLE_TILT:
        return list(frames)
    found = values_of_all(frames, keyword)
    if rank := _RANK.fullmatch(asked):
        groups = grouped(found)
        place = int(rank[1]) - 1
        indices = sorted(groups[place][1]) if 0 <= place < len(groups) else []
        meant = [frames[index] for index in indices]
    else:
        meant = [frame for frame, values in zip(frames, found, strict=True) if _matches(values, asked)]
    if not meant:
        raise InputError(f"no slice has {keyword}={asked}; choose from: {listing(keyword, grouped(found))}.")
    return meant


def places_of(keyword: str) -> tuple[str, ...]:
    """Return the keywords under which an attribute stands, that of frames first."""
    return (_OF_FRAMES[keyword], keyword) if keyword in _OF_FRAMES else (keyword,)


def values_of(file: DicomFile, frame: int, keyword: str) -> Values:
    """Return an attribute's values in a frame, numbers as such; empty where it is absent."""
    return as_values(file.value(*places_of(keyword), frame=frame))


def values_of_all(frames: Iterable[Frame], keyword: str) -> list[Values]:
    """Return what `values_of` does of each frame: one object where they share what stands there."""
    places, known = places_of(keyword), dict[int, Values]()
    first, last = places[0], places[-1]
    found = []
    for file, frame in frames:
        values = file.frames[frame]
        value = values[first] if first in values else values.get(last)
        if id(value) not in known:
            known[id(value)] = as_values(value)
        found.append(known[id(value)])
    return found


def numbers_of_all(frames: Iterable[Frame], keyword: str) -> list[float | None]:
    """Return an attribute of each frame as a number, a time as seconds; None where it is absent or none."""
    is_time = dictionary_VR(keyword) in ("TM", "DT")
    return [_as_number(values, is_time) for values in values_of_all(frames, keyword)]


def _as_number(values: Values, is_time: bool) -> float | None:
    if not values or not is_time:
        return number(values[0]) if values else None
    match = _TIME.fullmatch(str(values[0]))
    if match is None:
        return None
    day = number(match["day"]) or 0.0
    hours, minutes, seconds = (number(match[part]) or 0.0 for part in ("hours", "minutes", "seconds"))
    return ((day * 24 + hours) * 60 + minutes) * 60 + seconds


def as_values(value: Any) -> Values:
    """Return the values of an attribute, numbers as such; empty where it is absent or no value."""
    if value is None or isinstance(value, DicomSequence | bytes):
        return ()
    several = list(value) if isinstance(value, MultiValue | list) else [value] if value != "" else []
    if several and isinstance(several[0], int | float):
        return tuple(float(one) for one in several)
    if several and isinstance(several[0], PersonName):  # 'A', 'A^' and 'A^^^' are one name
        return tuple(str(one).rstrip("^= ").strip() for one in several)
    return tuple(str(one).strip() for one in several)


def _matches(values: Values, asked: str) -> bool:
    if not asked or not values:
        return bool(values) == bool(asked)
    bounds = _RANGE.fullmatch(asked.replace(" ", ""))
    found = number(values[0])
    if bounds and found is not None:
        low, high, step = (number(bound) for bound in bounds.groups())
        inside = low is not None and high is not None and low - _DIGITS <= found <= high + _DIGITS
        if not inside or not step:
            return inside
        return abs(math.remainder(found - (low or 0.0), step)) <= _DIGITS
    several = re.split(r"[/\\]", asked)
    if len(several) > 1 and len(several) == len(values):
        return all(map(_same, values, several))
    return _same(shown(values), asked) or any(_same(one, asked) for one in values)


def _same(value: str | float, asked: str) -> bool:
    one, other = number(value), number(asked)
    if one is not None and other is not None:
        return abs(one - other) <= _DIGITS
    return str(value).casefold() == asked.strip().casefold()


def grouped(found: Sequence[Values]) -> list[tuple[Values, list[int]]]:
    """Return the different values in ascending order, and at which indices each stands.

    Numbers count as the same within a thousandth of themselves, unless they are whole; texts in any case.
    """
    by_value: dict[Values, list[int]] = {}
    spelled: dict[Values, Values] = {}
    before: Values | None = None
    for index, values in enumerate(found):
        if values is not before:
            folded = tuple(one.casefold() if isinstance(one, str) else one for one in values)
            members, before = by_value.setdefault(spelled.setdefault(folded, values), []), values
        members.append(index)
    groups: list[tuple[Values, list[int]]] = []
    for values in sorted(by_value, key=_order):
        if groups and _close(groups[-1][0], values):
            groups[-1][1].extend(by_value[values])
        else:
            groups.append((values, by_value[values]))
    return groups


def energies_named(groups: Sequence[tuple[Values, list[int]]]) -> list[str]:
    """Return which energies in keV the texts of groups name, as '40 keV (8 slices)'; none where it is one."""
    counts: dict[frozenset[float], int] = {}
    for values, members in groups:
        energies = kev_in(" ".join(map(str, values)))
        counts[energies] = counts.get(energies, 0) + len(members)
    if len(counts.keys() - {frozenset()}) < 2:
        return []
    named_ones = sorted((" and ".join(f"{one:g}" for one in sorted(some)), n) for some, n in counts.items())
    return [f"{said or 'no'} keV ({n} slice{'' if n == 1 else 's'})" for said, n in named_ones]


def _order(values: Values) -> list[tuple[float, str]]:
    return [(one, "") if isinstance(one, float) else (0.0, one) for one in values]


def _close(ones: Values, others: Values) -> bool:
    if len(ones) != len(others) or not ones:
        return False
    for one, other in zip(ones, others, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            return False
        if one != other and one.is_integer() and other.is_integer():
            return False
        if abs(one - other) > _DIGITS * max(1.0, abs(one)):
            return False
    return True


def of_single_slices(groups: Sequence[tuple[Values, list[int]]]) -> bool:
    """Say whether an attribute goes with the slice: each of more than two has a value of its own, or most."""
    sizes = [len(members) for _, members in groups]
    return sum(sizes) > 2 and 2 * len(sizes) > sum(sizes) and 2 * sizes.count(1) > len(sizes)


def identifies(keyword: str) -> bool:
    """Whether an attribute's values stay out of messages, since they may reveal who, where or when."""
    return dictionary_VR(keyword) in _IDENTIFYING or keyword in _IDENTIFYING_TEXTS


def shown(values: Values) -> str:
    """Return an attribute's values as a condition names them."""
    return "/".join(one if isinstance(one, str) else _digits(one) for one in values)


def _digits(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.6g}"


def named(keyword: str, groups: Sequence[tuple[Values, list[int]]]) -> list[str]:
    """Return for each of the different values what a condition on it says."""
    long = any(len(values) > _MOST_NUMBERS and isinstance(values[0], float) for values, _ in groups)
    if long or identifies(keyword):
        return [f"#{rank}" for rank in range(1, len(groups) + 1)]
    names = []
    for values, _ in groups:
        # Of many words (Image Type) the one that no other group has says most.
        others = {one for other, _ in groups if other is not values for one in other}
        own = [one for one in values if one not in others] if len(values) > _MOST_WORDS else []
        names.append(shown(tuple(own[:1]) or values))
    return names


def listing(keyword: str, groups: Sequence[tuple[Values, list[int]]]) -> str:
    """Return a listing such as 'KVP 80 (6 slices) and 140 (6 slices)'."""
    parts = [
        f"{name or 'none'} ({len(indices)} slice{'' if len(indices) == 1 else 's'})"
        for name, (_, indices) in zip(named(keyword, groups), groups, strict=True)
    ]
    if len(parts) > _MOST_LISTED:
        parts[_MOST_LISTED - 1 :] = [f"{len(parts) - _MOST_LISTED + 1} more"]
    return f"{keyword} " + (", ".join(parts[:-1]) + " and " if len(parts) > 1 else "") + parts[-1]
