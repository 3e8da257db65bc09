"""One scan whose anonymiser gave each of its files a SeriesInstanceUID of its own: taken together again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ctenhance.files.dicom.header import DicomFile, number, text

#: What a person writes to take series of one number together: `--where SeriesInstanceUID=any`.
SERIES_UID = "SeriesInstanceUID"
SERIES_NUMBER = "SeriesNumber"
# What the slices of one series have in common.
_IN_COMMON = (
    "SeriesNumber", "SeriesDescription", "Modality", "SOPClassUID", "ImageType", "Rows", "Columns",
    "PixelSpacing", "ImageOrientationPatient", "Manufacturer", "ManufacturerModelName", "ConvolutionKernel",
    "KVP", "SliceThickness",
)  # fmt: skip
# So many single images are a stack and no chance; and where no number or no study ties them.
_FEWEST, _FEWEST_UNTIED = 3, 6
# Steps are even within this (of the step, and mm); so many must be, of slices that something else ties.
_UNEVEN, _ROUNDING_MM, _OFTEN = 0.05, 0.11, 0.6


def by_series(files: Iterable[DicomFile], as_one: bool = False) -> dict[str, list[DicomFile]]:
    """Return the files by SeriesInstanceUID; those that are one scan in spite of it by that of the first.

    These are single images that agree in all that the slices of a series have in common, and lie in even
    steps. Files without a UID are a series where they have one series number, by this. `as_one`: so are all.
    """
    found: dict[str, list[DicomFile]] = {}
    for file in files:
        found.setdefault(text(file.header.get(SERIES_UID)), []).append(file)
    found = _with_numbers(found.pop("", [])) | found
    if as_one:
        numbers: dict[str, list[DicomFile]] = {}
        for images in found.values():
            numbers.setdefault(text(images[0].header.get("SeriesNumber")), []).extend(images)
        return {text(images[0].header.get(SERIES_UID)) or one: images for one, images in numbers.items()}
    singles = {uid: images[0] for uid, images in found.items() if len(images) == 1}
    for uids in _parted({uid: file for uid, file in singles.items() if file.header.get(SERIES_UID)}):
        found[uids[0]] = [found[uid][0] for uid in uids]
        for uid in uids[1:]:
            del found[uid]
    return found


def _with_numbers(images: Sequence[DicomFile]) -> dict[str, list[DicomFile]]:
    """Return the images without a UID: by '' if they are of one series number."""
    found: dict[str, list[DicomFile]] = {}
    for file in images:
        found.setdefault(text(file.header.get("SeriesNumber")), []).append(file)
    return found if len(found) > 1 else {"": list(images)} if images else {}


def in_common(file: DicomFile) -> tuple[str, ...]:
    """Return what all slices of one series say alike."""
    return tuple(text(file.value(one)) for one in _IN_COMMON)


def _parted(singles: Mapping[str, DicomFile]) -> list[list[str]]:
    """Return those of the single images, by their UIDs, that are one scan: some lists of UIDs."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for uid, file in singles.items():
        if len(file.frames) == 1:
            alike.setdefault(in_common(file), []).append(uid)
    found = []
    for uids in alike.values():
        studies: dict[str, list[str]] = {}
        for uid in uids:
            studies.setdefault(text(singles[uid].header.get("StudyInstanceUID")), []).append(uid)
        # The study's UID may be another one in each file, too.
        apart = [members[0] for members in studies.values() if len(members) == 1]
        groups = [(members, True) for members in studies.values() if len(members) > 1] + [(apart, False)]
        for members, tied in groups:
            images = [singles[uid] for uid in members]
            if images and enough(images[0], len(images), tied) and _is_stack(images, tied):
                found.append(members)
    return found


def enough(file: DicomFile, count: int, tied: bool = True) -> bool:
    """Whether so many single images in even steps, of which `file` is one, are a stack and no chance."""
    numbered = number(file.header.get("SeriesNumber")) is not None
    return count >= (_FEWEST if tied and numbered else _FEWEST_UNTIED)


def looks_parted(series: Mapping[str, Sequence[DicomFile]]) -> bool:
    """Whether several of the series are single images of one number: a scan in parts, maybe."""
    numbers = [text(images[0].header.get("SeriesNumber")) for images in series.values() if len(images) == 1]
    return any(numbers.count(one) >= _FEWEST for one in set(numbers))


def _is_stack(images: Sequence[DicomFile], tied: bool) -> bool:
    """Whether slices of one orientation lie in even steps; some may be missing where they are `tied`."""
    places = [[number(one) for one in image.value("ImagePositionPatient") or ()] for image in images]
    axes = [number(one) for one in images[0].value("ImageOrientationPatient") or ()]
    if len(axes) != 6 or None in axes:
        return False
    if any(len(place) != 3 or None in place for place in places):
        return False
    normal = np.cross(*np.array(axes, float).reshape(2, 3))
    depths = np.sort(np.array(places, float) @ normal)
    steps = np.diff(depths)
    typical = float(np.median(steps))
    even = np.abs(steps - typical) <= max(_UNEVEN * typical, _ROUNDING_MM)
    return bool(steps.min() > typical / 2 > 0 and (even.mean() > _OFTEN if tied else even.all()))
