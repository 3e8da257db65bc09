"""What makes a note of a series: images listed in vain, copies among the slices, MR images as the source, a
size that contradicts the field of view, parts that were taken at other times."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
from pydicom.multival import MultiValue

from ctenhance.files.dicom.choice import Conditions, numbers_of_all
from ctenhance.files.dicom.header import DAMAGE, DicomFile, number, text
from ctenhance.files.dicom.padding import AIR_HU
from ctenhance.files.dicom.slices import Slice

_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"  # and its multi-frame kinds, .1, .3 and .4
_CT = r"(CT|TC|TDM|TAC)"
_FROM_MR = re.compile(
    rf"\b((PSEUDO|SUBSTITUTE|SYNTH\w*|SINT\w*) ?{_CT}|{_CT} (SYNTH\w*|SINTETIC\w*)"
    rf"|(CT|SCT) (FROM|OF|AUS|VON|DE|DA) (AN? )?(MR|MRI|MRT|IRM|RM)|MR ?(TO|2) ?CT|MRCAT"
    rf"|(MR|MRI|MRT|IRM|RM) ?(BASED|BASIERT\w*|DERIVED|GENERATED) (S?{_CT}|SYNTH\w*|PSEUDO\w*))\b"
)
_MOST_NAMED = 6
_FEW_ROWS = 16  # are asked first, whether two slices may be one
# Programs shrink images to a half or a quarter, or enlarge them. Of a field of view in full a circle is
# there, with so much around it.
_FACTORS, _OFF = (2.0, 3.0, 4.0, 8.0), 0.02
_OTHER_FIELD, _OVAL, _AROUND_CIRCLE, _CORNER = 1.1, 1.2, 0.1, 32
# When an image was made counts for scans with contrast medium that do not say when they were taken.
_TIMES, _OF_IMAGES, _DAY_S = ("AcquisitionTime", "AcquisitionDateTime", "ContentTime"), "ContentTime", 86400.0
_CONTRAST = ("ContrastBolusAgent", "ContrastBolusStartTime")
# A step-and-shoot scan goes on after a few seconds, or 15 where its tube has to cool, each time alike; the
# next phase is 20 or more later.
_LEAST_PAUSE_S, _CERTAIN_PAUSE_S, _TIMES_STEP, _FEW_PAUSES = 10.0, 20.0, 3.0, 3

# Slices from which on a line is one, off which by so much of its length they may lie, nearly across z.
_FEWEST_IN_LINE, _OFF_LINE, _UPRIGHT = 3, 0.01, 0.9
_CENTRE = "ReconstructionTargetCenterPatient"


def note_of_missing(index: Path, found: Container[str], series: str) -> str:
    """Return the note on images of a series that a DICOMDIR lists and that are neither among those `found`
    (SOPInstanceUIDs) nor where it says."""
    listed = missing = 0
    with contextlib.suppress(*DAMAGE):  # an index that cannot be read is not needed
        current = ""
        for item in pydicom.dcmread(index).get("DirectoryRecordSequence") or ():
            # The records of a series' images follow its own.
            current = text(item.get("SeriesInstanceUID") or current)
            value = item.get("ReferencedFileID")
            if current != series or not value:
                continue
            parts = [value] if isinstance(value, str) else [str(one) for one in value]
            uid = text(item.get("ReferencedSOPInstanceUIDInFile"))
            listed += 1
            missing += uid not in found and not index.parent.joinpath(*parts).exists()
    if not missing:
        return ""
    verb = "is" if missing == 1 else "are"
    return (
        f"the DICOMDIR lists {listed} images of this series, of which {missing} {verb} not there: copy the "
        "whole disc, unless you mean these alone"
    )


def notes_of_parts(files: Sequence[DicomFile]) -> list[str]:
    """Return the note on parts that are not there of an image that was split into several files."""
    parts: dict[str, dict[int, int]] = {}  # by image: of each of its files the number and how many there are
    for file in files:
        own = number(file.header.get("InConcatenationNumber"))
        if own is not None:
            of_all = number(file.header.get("InConcatenationTotalNumber")) or own
            parts.setdefault(text(file.header.get("ConcatenationUID")), {})[int(own)] = int(of_all)
    for found in parts.values():
        total = max(*found, *found.values())
        missing = [one for one in range(1, total + 1) if one not in found]
        if missing:
            these = ", ".join(map(str, missing[:_MOST_NAMED])) + (", …" if len(missing) > _MOST_NAMED else "")
            verb = "is" if len(missing) == 1 else "are"
            return [
                f"its header says that the image was split into {total} files, of which number {these} "
                f"{verb} not there: copy all of them, or slices are lost"
            ]
    return []


def notes_of_count(files: Sequence[DicomFile]) -> list[str]:
    """Return the note on fewer images than the headers say that the series, or an acquisition of it, has."""
    by_number: dict[str, list[DicomFile]] = {}
    for file in files:
        by_number.setdefault(text(file.value("AcquisitionNumber")), []).append(file)
    for keyword, parts in (
        ("NumberOfSeriesRelatedInstances", [list(files)]), ("ImagesInAcquisition", list(by_number.values())),
    ):  # fmt: skip
        for part in parts:
            said = {number(file.header.get(keyword)) for file in part}
            of_all = said.pop() if len(said) == 1 else None
            if of_all is not None and len(part) < of_all and not any(len(one.frames) > 1 for one in part):
                verb = "is" if len(part) == 1 else "are"
                return [
                    f"its headers tell of {of_all:.0f} images ({keyword}), of which {len(part)} {verb} "
                    "there: copy all of them, unless you mean these alone"
                ]
    return []


def notes_of_field(file: DicomFile, array: np.ndarray, padded: bool) -> list[str]:
    """Return the note on slices [z, y, x] whose pixels make another field of view than the header has, as
    where they were shrunk or enlarged and the pixel spacing was left as it was.

    A piece that was cut out is smaller, too, but holds no whole circle of a field of view (`padded`: what is
    around it was set to air), and hardly ever just a half or a quarter.
    """
    field = file.value("ReconstructionDiameter", "ReconstructionFieldOfView")
    field = number(field[0] if isinstance(field, list | MultiValue) else field)
    spacing = [number(one) or 0.0 for one in file.value("PixelSpacing") or ()]
    if len(spacing) != 2 or min(spacing) <= 0:
        return []
    rows, columns = array.shape[1:]
    height, across = rows * spacing[0], columns * spacing[1]
    whole = padded and _shows_circle(array[len(array) // 2])
    if whole and max(height, across) > _OVAL * min(height, across):
        return [
            f"its field of view touches all sides of its slices, and would be {across:.4g} mm wide and "
            f"{height:.4g} mm high by their pixels, where a scanner's is round: the values of PixelSpacing "
            "are wrong or exchanged, or the slices were stretched, and lengths are wrong"
        ]
    if not field or field <= 0:
        return []
    exchanged = rows * spacing[1], columns * spacing[0]
    if (
        max(abs(one / field - 1) for one in exchanged)
        < _OFF
        < min(abs(one / field - 1) for one in (height, across))
    ):
        return [
            f"its slices are {across:.4g} x {height:.4g} mm by their pixels, but the field of view in the "
            f"header (ReconstructionDiameter) is {field:.4g} mm, as they would be with the two values of "
            "PixelSpacing (of rows, of columns) exchanged: they are stretched, and lengths are wrong"
        ]
    width = max(height, across)
    times = max(width / field, field / width)
    plain = rows == columns and any(abs(times / one - 1) < _OFF for one in _FACTORS)
    if times < _OTHER_FIELD or not (whole or plain):
        return []
    how, off = ("shrunk", "small") if width < field else ("enlarged", "large")
    cut = "" if whole or width > field else "a piece was cut out of them, or "
    return [
        f"its slices are {width:.4g} mm wide by their pixels, but the field of view in the header "
        f"(ReconstructionDiameter) is {field:.4g} mm: {cut}they were {how} and the pixel spacing left as it "
        f"was, and all lengths are {times:.3g} times too {off}"
    ]


def notes_of_times(slices: Sequence[Slice], conditions: Conditions) -> list[str]:
    """Return the note on slices, sorted by depth, of which parts were taken at other times than the rest.

    No steps of one scan, which are alike, and no table that moves on, of which times change little by little.
    """
    frames = [(one.file, one.frame) for one in slices]
    one_time = False
    for keyword in _TIMES:
        if conditions.ignores(keyword):
            return []
        if keyword == _OF_IMAGES and (
            one_time or slices[0].file.value(*_CONTRAST, frame=slices[0].frame) is None
        ):
            return []
        known = [time for time in numbers_of_all(frames, keyword) if time is not None]
        if len(known) < len(slices):
            continue
        steps = np.abs(np.diff(known)) % _DAY_S
        steps = np.minimum(steps, _DAY_S - steps)  # at midnight
        some = steps[steps > 0]
        if not some.size:
            one_time = True
            continue
        least = max(_LEAST_PAUSE_S, _TIMES_STEP * float(np.median(some)))
        if some.size <= _FEW_PAUSES:
            least = min(least, _CERTAIN_PAUSE_S)
        pauses = np.flatnonzero(steps >= least)
        if not 0 < pauses.size <= _FEW_PAUSES:
            return []
        first = int(pauses[0])
        further = f", and {pauses.size - 1} more times," if pauses.size > 1 else ""
        return [
            f"from {slices[first].depth:.2f} to {slices[first + 1].depth:.2f} mm{further} the time at which "
            f"its slices were taken jumps by {steps[first]:.0f} s ({keyword}): with contrast medium such "
            "parts show different phases, and the patient may have moved; make sure that it is one scan"
        ]
    return []


def notes_of_direction(slices: Sequence[Slice]) -> list[str]:
    """Return the note on axial slices, sorted by depth, whose z runs against Slice Location and against what
    else says where they lie, as where a program changed the sign of z.

    Slice Location alone runs against z in sound images of some scanners. The reconstruction's centre is of
    the patient's axes by definition, and in images as GE's scanners make them Slice Location is z."""
    if len(slices) < _FEWEST_IN_LINE or abs(slices[0].axes[2][2]) < _UPRIGHT:
        return []
    z = np.array([one.position[2] for one in slices])

    def against(values: list[float | None]) -> bool:
        known = np.array([np.nan if value is None else value for value in values])
        return bool(np.ptp(z + known) < _OFF_LINE * abs(z[-1] - z[0]))

    frames = [(one.file, one.frame) for one in slices]
    if not against(list(numbers_of_all(frames, "SliceLocation"))):
        return []
    first = slices[0].file
    original = "ORIGINAL" in text(first.value("ImageType")).upper()
    if original and text(first.value("Manufacturer")).upper().startswith("GE "):
        why = "in images of GE's scanners both are the same"
    elif against([_third(one.file.value(_CENTRE, frame=one.frame)) for one in slices]):
        why = f"so does the centre of the reconstruction ({_CENTRE})"
    else:
        return []
    return [
        f"z of its positions (ImagePositionPatient) runs against Slice Location, and {why}: the sign of z "
        "may have been changed, and head and feet be exchanged; make sure that they are right"
    ]


def _third(value: object) -> float | None:
    return number(value[2]) if isinstance(value, list | MultiValue) and len(value) == 3 else None


def _shows_circle(plane: np.ndarray) -> bool:
    """Say whether air that was filled in surrounds a circle that touches all four sides of a slice [y, x]."""
    outside = plane == AIR_HU
    if outside.mean() < _AROUND_CIRCLE:
        return False
    height, width = (max(1, length // _CORNER) for length in plane.shape)
    corners = [
        outside[y, x]
        for y in (slice(height), slice(-height, None))
        for x in (slice(width), slice(-width, None))
    ]
    middles = [
        side[len(side) // 2 - len(side) // 16 : len(side) // 2 + len(side) // 16 + 1]
        for side in (outside[0], outside[-1], outside[:, 0], outside[:, -1])
    ]
    return all(one.all() for one in corners) and all(one.mean() < 0.5 for one in middles)


def notes_of_copies(array: np.ndarray, slices: Sequence[Slice]) -> list[str]:
    """Return the note on slices [z, y, x] that equal another one bit for bit, as no two of a scan do.

    Slices that are all one value, and volumes of mostly equal slices, as computed ones, are passed over.
    """
    known: dict[bytes, list[int]] = {}
    step = max(1, array.shape[1] // _FEW_ROWS)
    for index, plane in enumerate(array):
        some = plane[step // 2 :: step]
        if some.min() < some.max() or plane.min() < plane.max():
            known.setdefault(some.tobytes(), []).append(index)
    if 2 * (sum(map(len, known.values())) - len(known)) > len(array):
        return []
    pairs = []
    for alike in known.values():
        firsts: dict[bytes, int] = {}
        for index in alike if len(alike) > 1 else ():
            first = firsts.setdefault(sha256(np.ascontiguousarray(array[index]).data).digest(), index)
            if first != index:
                pairs.append((first, index))
    pairs.sort(key=lambda pair: pair[1])
    if not pairs:
        return []
    one, other = pairs[0]
    further = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return [
        f"the images at {slices[one].depth:.2f} and {slices[other].depth:.2f} mm{further} are exact copies, "
        "as no two of a scan are: a slice may have been lost"
    ]


def notes_of_derivation(file: DicomFile) -> list[str]:
    """Return the note on an image that was derived of MR images, by its sources or its description."""
    said = " ".join(text(file.value(keyword)) for keyword in ("DerivationDescription", "SeriesDescription"))
    named = _FROM_MR.search(re.sub(r"[^A-Z0-9]+", " ", said.upper()))
    derived = "DERIVED" in text(file.value("ImageType")).upper()
    if named or (derived and _has_mr_source(file)):
        return ["it is a synthetic CT, made of MR images and not measured with X-rays: its HU are estimates"]
    return []


def _has_mr_source(file: DicomFile) -> bool:
    # Asked of one file alone: each slice of a reformat may name hundreds of sources.
    with contextlib.suppress(*DAMAGE):
        header = pydicom.dcmread(
            file.path, stop_before_pixels=True, force=True, specific_tags=["SourceImageSequence"]
        )
        for item in header.get("SourceImageSequence") or file.value("SourceImageSequence") or ():
            kind = text(item.get("ReferencedSOPClassUID"))
            if kind == _MR_STORAGE or kind.startswith(f"{_MR_STORAGE}."):
                return True
    return False
