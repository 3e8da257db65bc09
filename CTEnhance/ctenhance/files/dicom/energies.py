"""What the headers of a CT image tell of its energy, and of whose scan and when it is.

The standard has the energy of a monoenergetic image in the Multi-energy CT Characteristics (PS3.3
C.8.15.3.12). Scanners and workstations older than that, and some newer ones, write it into texts only, always
with its unit: 'Mono+ 40 keV', 'MonoE 70keV', 'GSI MONO 55 keV', 'VMI_65KEV'. KVP is the tube's voltage of any
image: it is the energy of one that is not monoenergetic.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ctenhance.core.volume import READABLE_SUFFIXES, CTVolume
from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.dicom.header import DicomFile, number, read_file, text
from ctenhance.files.dicom.kinds import slices_of
from ctenhance.files.dicom.names import kev_in, taken_out, words
from ctenhance.files.dicom.reading import files_of, series_numbers
from ctenhance.files.dicom.units import measure_of
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

#: Images acquired further apart, in seconds, are of two scans.
APART_S = 10.0
_ENERGY = "MonoenergeticEnergyEquivalent"
_TEXTS = (
    "ImageType",
    "FrameType",
    "SeriesDescription",
    "DerivationDescription",
    "ImageComments",
    "FrameComments",
)
ATTRIBUTES = (
    *_TEXTS, "MultienergyCTCharacteristicsSequence", "FilterMaterial", "FilterType", "ProtocolName",
    "PatientID", "PatientName", "PatientBirthDate", "AcquisitionDateTime", "FrameAcquisitionDateTime",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber",
)  # fmt: skip
_KV = re.compile(r"(?<![A-Z0-9])(SN)?[ _]?(\d{2,3})[ _]?KVP?\b", re.I)
_MONOENERGETIC = re.compile(r"\b(VMI|MONO\w*|MONOENERGETIC|MONOCHROMATIC|GSI)\b")
#: What is of no one energy: blends of two voltages.
_BLEND = re.compile(r"\b(M_-?\d*\.?\d+|MIXED|BLEND(ED)?|COMPOSED|AVERAGE WEIGHTED|DE_MIX\w*)\b")
#: Maps, and images from which a material was taken: of what Image Type says (PS3.3 C.8.15.3.1.1).
_OF_MATERIALS = re.compile(r"\b(MAT_\w+|EFF_ATOMIC_NUM|ELECTRON_DENSITY|VNC|DE_VNC\w*|IODINE\w*)\b")
_TAKEN_OUT = re.compile(r"\bMAT_(REMOVED|MODIFIED)\b")
_ACQUISITION = "AcquisitionNumber"
#: What images of one scan may differ in, and what that makes of a decomposition.
_HOW = {
    "ConvolutionKernel": "edges of one are sharper, which makes false materials there",
    "SliceThickness": "where anatomy changes along the slices it makes false materials",
}
_PHASES = {
    "native": re.compile(r"\b(NATI[VF]\w*|PLAIN|UNENHANCED|NON ?CONTRAST|SANS (IV|INJ\w*)|SIN CONTRASTE)\b"),
    "arterial": re.compile(r"\b(\w*ARTERI\w*|ART)\b"),
    "venous": re.compile(r"\b(\w*VEN(OUS|OES|OS|OSE|OSA|OSO|EUSE|EUX)\w*|PORTAL\w*|PV|VEN)\b"),
    "late": re.compile(r"\b(LATE|DELAYED|SPAT\w*|TARDI\w*|RETARD\w*|EXCRET\w*)\b"),
}
_TIN = re.compile(r"\b(TIN|SN)\b")


@dataclass(frozen=True)
class ScanHeader:
    """`energy` as images are named ('40', '80kV', 'Sn140kV'), empty where nothing tells it, and the
    attribute (`place`) that tells it; `patient` and `frame_of_reference` as hashes, empty where unknown;
    `when` the data were acquired; `without`: what says that a material was taken out of the image; kernel,
    thickness and acquisition number by their keywords, and the contrast `phase` of the description."""

    energy: str = ""
    place: str = ""
    patient: str = ""
    frame_of_reference: str = ""
    when: datetime | None = None
    without: str = ""
    phase: str = ""
    how: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesEnergies:
    """A series of a folder: its UID and number, and the energies of its images, rising; `without`:
    what says that something was taken out of its first image."""

    uid: str
    number: int
    energies: tuple[str, ...]
    within: bool  # several, told apart by the standard's attribute, so that one can be chosen
    without: str = ""


def scan_header(file: DicomFile, frame: int = 0) -> ScanHeader:
    """What a frame's attributes tell."""
    energy, place = _energy(file, frame)
    person = "|".join(
        text(file.value(name, frame=frame)).strip().upper()
        for name in ("PatientID", "PatientName", "PatientBirthDate")
    )
    place_uid = text(file.value("FrameOfReferenceUID", frame=frame))
    return ScanHeader(
        energy,
        place,
        _hash(person) if person.strip("|^ ") else "",
        _hash(place_uid) if place_uid else "",
        _when(file, frame),
        _without(file, frame),
        _phase(words(file.value("SeriesDescription", frame=frame) or "")),
        {name: _plain(text(file.value(name, frame=frame))) for name in (*_HOW, _ACQUISITION)},
    )


def scan_header_of(volume: CTVolume) -> ScanHeader:
    """What the headers of the first image tell; nothing for a volume that is not from DICOM, or whose files
    are gone."""
    files, frames = volume.meta.get("source_files"), volume.meta.get("source_frames")
    if not files or not frames:
        return ScanHeader()
    if not Path(files[0]).is_file():
        return ScanHeader()
    found = read_file(Path(files[0]), ATTRIBUTES)
    return ScanHeader() if found is None else scan_header(found, int(frames[0]))


def energies_in(path: Path, where: Mapping[str, str] | None = None) -> list[SeriesEnergies]:
    """The series of a DICOM folder or file that have images as `where` of `CTVolume.read` asks, with the
    energies of these; raises InputError."""
    conditions = Conditions.of(where)
    files = list(files_of([path], (*ATTRIBUTES, *conditions.keywords)))
    series, _ = slices_of(files) if files else ({}, [])
    numbers = series_numbers({uid: images[0] for uid, images in series.items()})
    if where and series:
        meant = set(conditions.files([image for images in series.values() for image in images]))
        series = {uid: kept for uid, images in series.items() if (kept := [x for x in images if x in meant])}
    found = []
    for uid, images in series.items():
        standard: dict[str, bool] = {}
        for image in images:
            for frame in range(len(image.frames)):
                energy, _ = _energy(image, frame)
                standard[energy] = image.value(_ENERGY, frame=frame) is not None
        names = tuple(sorted(standard, key=lambda name: (number(name) or 1e9, name)))
        within = len(standard) > 1 and all(standard.values())
        found.append(SeriesEnergies(uid, numbers[uid], names, within, _without(images[0], 0)))
    return sorted(found, key=lambda one: one.number)


def read_at(
    path: Path,
    energy: str,
    check_hu: bool = True,
    series: str | None = None,
    where: Mapping[str, str] | None = None,
) -> CTVolume:
    """The volume of a DICOM folder, or a file of any format, at an energy ('40', '80kV'), if that is what
    tells its series or frames apart; `series`, `where` and what is raised are those of `CTVolume.read`."""
    is_file = path.is_file() and suffix_of(path) in READABLE_SUFFIXES
    if not path.exists() or is_file or series is not None:
        return CTVolume.read(path, series, where=where, check_hu=check_hu)
    found = energies_in(path, where)
    fitting = [one for one in found if energy in one.energies]
    named = f"'{path.name}'"
    if len(fitting) > 1:
        numbers = ", ".join(str(one.number) for one in fitting)
        raise InputError(
            f"{named} holds {len(fitting)} series at {energy} (numbers {numbers}): give the folder of one, "
            f"or choose it with --series {fitting[0].number}."
        )
    held = sorted({name for one in found for name in one.energies if name})
    if not fitting and not where and (len(found) > 1 or len(held) > 1):
        what, other = (f"{len(found)} series", "folder") if len(found) > 1 else ("images", "file")
        raise InputError(
            f"{named} holds {what}, none at {energy} but at {', '.join(held) or 'no known energy'}: give one "
            f"of these energies, or the {other} of another."
        )
    if len(fitting) == 1 and (len(found) > 1 or len(fitting[0].energies) > 1):
        one = fitting[0]
        chosen = {**(where or {}), **({_ENERGY: energy} if one.within else {})}
        return CTVolume.read(path, one.uid or None, where=chosen or None, check_hu=check_hu)
    return CTVolume.read(path, where=where, check_hu=check_hu)


def _energy(file: DicomFile, frame: int) -> tuple[str, str]:
    kinds = (
        f"{text(file.value('ImageType', frame=frame))} {text(file.value('FrameType', frame=frame))}".upper()
    )
    if measure_of(file, frame).is_other or _OF_MATERIALS.search(kinds):
        return "", ""  # its energy, if it tells one, is that of what it was made of
    kev = number(file.value(_ENERGY, frame=frame))
    if kev is not None:
        return f"{kev:g}", _ENERGY
    said = {name: text(file.value(name, frame=frame)).upper().replace("\\", " ") for name in _TEXTS}
    for name, one in said.items():
        values = kev_in(one)
        if len(values) == 1:
            return f"{min(values):g}", name
        if values:  # '40-70 keV' and the like: no one of them is the image's for sure
            return "", ""
    if any(map(_MONOENERGETIC.search, said.values())):
        return "", ""
    if any(_BLEND.search(said[name]) for name in ("ImageType", "FrameType", "SeriesDescription")):
        return "", ""
    kvp = file.value("KVP", frame=frame)
    known = number(kvp)
    spoken = {(bool(tin), volts) for one in said.values() for tin, volts in _KV.findall(one)}
    if known is None:
        if len(spoken) == 1:
            tin, volts = spoken.pop()
            return f"{'Sn' if tin else ''}{int(volts)}kV", "SeriesDescription"
        return "", ""
    filters = text(file.value("FilterMaterial", frame=frame)).upper()
    tin = bool(_TIN.search(filters)) or (True, f"{known:g}") in spoken
    return f"{'Sn' if tin else ''}{known:g}kV", "KVP"


def energy_named(said: str) -> str:
    """Return the one energy that a text such as a file's name tells, as images are named ('40', 'Sn140kV');
    '' for none or several."""
    plain = re.sub(r"[^\w.]+|_+", " ", said)
    kev = kev_in(plain)
    if kev:
        return f"{min(kev):g}" if len(kev) == 1 else ""
    volts = {f"{'Sn' if tin else ''}{int(one)}kV" for tin, one in _KV.findall(plain)}
    return volts.pop() if len(volts) == 1 else ""


def _plain(said: str) -> str:
    """Return a number as it is best written, any other text as it is."""
    value = number(said)
    return said.strip() if value is None else f"{value:g}"


def _without(file: DicomFile, frame: int) -> str:
    """What says that a material was taken out of the image, such as 'VNC'; '' where nothing does."""
    said = {name: text(file.value(name, frame=frame)) for name in _TEXTS[:4]}
    for name in ("ImageType", "FrameType"):
        if named := _TAKEN_OUT.search(said[name].upper().replace("\\", " ")):
            return named[0]
    return next((found for one in said.values() if (found := taken_out(words(one)))), "")


def _phase(said: str) -> str:
    """Return the contrast phase that a description names in one of several languages, '' for none or two."""
    found = [phase for phase, names in _PHASES.items() if names.search(said)]
    return found[0] if len(found) == 1 else ""


def differences(headers: Sequence[ScanHeader], names: Sequence[str]) -> list[str]:
    """Return sentences on how images were made otherwise than the first, calling them by `names`: what does
    not forbid to compare them, but makes false differences."""
    found = []
    first, called = headers[0], names[0]
    for other, name in zip(headers[1:], names[1:], strict=True):
        both = f"The images {called} and {name}"
        for keyword, makes in _HOW.items():
            one, another = first.how.get(keyword, ""), other.how.get(keyword, "")
            if one and another and one != another:
                found.append(f"{both} differ in {keyword} ({one} and {another}): {makes}.")
        if first.phase and other.phase and first.phase != other.phase:
            found.append(
                f"{both} are of two contrast phases by their descriptions ({first.phase} and {other.phase}): "
                "give images of one scan, or what the contrast agent did meanwhile is taken for a material."
            )
        one, another = first.how.get(_ACQUISITION, ""), other.how.get(_ACQUISITION, "")
        if one and another and one != another and not (first.when and other.when):
            found.append(
                f"{both} differ in {_ACQUISITION} ({one} and {another}), and no times tell whether they were "
                "acquired together: make sure that they are of one scan."
            )
    return found


def _when(file: DicomFile, frame: int) -> datetime | None:
    whole = text(file.value("FrameAcquisitionDateTime", "AcquisitionDateTime", frame=frame))
    if not whole:
        day, hour = (text(file.value(f"Acquisition{name}", frame=frame)) for name in ("Date", "Time"))
        whole = day + hour if day and hour else ""
    digits = re.match(r"(\d{14})(\.\d{1,6})?", whole)
    if digits is None:
        return None
    try:
        return datetime.strptime(digits[1] + (digits[2] or ".0"), "%Y%m%d%H%M%S.%f")
    except ValueError:
        return None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def require_one_scan(headers: Sequence[ScanHeader], names: Sequence[str], apart_s: float = APART_S) -> None:
    """Raise InputError where images are of other patients or frames of reference, or were acquired more than
    `apart_s` seconds apart, calling them by `names`; what the headers do not tell is not asked."""
    questions: tuple[tuple[str, str], ...] = (
        ("patient", "are of different patients: give images of one scan"),
        ("frame_of_reference", "have different frames of reference, so they need not lie over each other: "
                               "give images of one scan, or registered volumes without DICOM headers"),
    )  # fmt: skip
    for attribute, sentence in questions:
        known = [
            (getattr(one, attribute), name)
            for one, name in zip(headers, names, strict=True)
            if getattr(one, attribute)
        ]
        for value, name in known[1:]:
            if value != known[0][0]:
                raise InputError(f"The images {known[0][1]} and {name} {sentence}.")
    times: list[tuple[Any, str]] = [
        (one.when, name) for one, name in zip(headers, names, strict=True) if one.when
    ]
    for when, name in times[1:]:
        seconds = abs((when - times[0][0]).total_seconds())
        if seconds > apart_s:
            raise InputError(
                f"The images {times[0][1]} and {name} were acquired {seconds:.0f} s apart, beyond the "
                f"{apart_s:g} s tolerated: contrast and position change meanwhile; give images of one scan."
            )
