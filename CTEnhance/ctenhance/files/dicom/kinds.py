"""Which CT objects of a study are slices: scanners send scouts, exam summaries and pictures along with them.

The standard's word for a scout is LOCALIZER in Image Type. Scanners use others, or none, and store exam
summaries, dose pages and pictures of the screen as secondary captures or as CT images, some with a position.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pydicom.uid import UID, ParametricMapStorage

from ctenhance.files.dicom.header import DicomFile, number, text
from ctenhance.files.dicom.names import EXTREMES, FOR_PROJECTION
from ctenhance.files.dicom.parted import by_series
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.words import counted, noun

K = TypeVar("K", bound=Hashable)

CT_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds, .1 to .4

_SCOUT = re.compile(
    r"\b(LO[CK]ALI[SZ](ER|ADOR|ATOR|ATION)|SURVIEW|SCOUT ?(VIEW)?|TOPO(GRAM\w*)?|PILOT|CONSTANT ANGLE"
    r"|E?S[CK]ANO(GRAM\w*|SCOPE|VIEW)?)\b"
)
_PAGE = re.compile(
    r"\b(DOSE (INFO|INFORMATION|REPORT|RECORD|SHEET|SUMMARY|PAGE)|PATIENT(EN)? ?PROTO[CK]OLL?|PROTOCOL PAGE"
    r"|DOSIS ?(BERICHT|INFO|PROTOKOLL|REPORT)|(INFORME|RAPPORT|RELATORIO|REPORT|RESUM[EN]+) (DE|DI) DOS(E|IS)"
    r"|PROTOCOLL?[OE]? (DE |DEL |DELLA |DI |DO |DU )?PA[CTZ]I?EN[TC]\w*|DOSIS ?(RAPPORT|BLATT)|DOSERAPPORT"
    r"|UNTERSUCHUNGS ?(PROTOKOLL|UBERSICHT)|(HOJA|FEUILLE|FICHE|FOGLIO) (DE|DI) DOS(E|IS)"
    r"|RAPPORTO (DI )?DOSE|(RESUMEN|RESUME|RESUMO|RIEPILOGO) (DE L |DEL |DELL |DO |D )?(ESAME|EXAMEN?)"
    r"|(EXAM|SCAN) (SUMMARY|PROTOCOL|PAGE)|SOM\d+ PROT|SCREEN ?(SAVE|SHOT|CAPTURE)S?|SAVED SCREEN|SSAVE"
    r"|BLACK IMAGE|^DOS(E|IS)$)\b"
)
_RENDERING = re.compile(
    rf"\b({EXTREMES}|PROJECTION IMAGE|VRT|SSD|(VOLUME|SURFACE|3D|CINEMATIC) ?RENDER(ED|ING)?)\b"
)
_CURVE = re.compile(r"\b(CURVED( MPR)?|CPR)\b")
# Slices that somebody chose, often with arrows and text burned in.
_KEY_IMAGES = re.compile(
    r"\b(?<!FOR )(?<!NO )((KEY|SIGNIFICANT|SIGNIFIKANTE|MARKED|REPRESENTATIVE) ?IMAGES?|SCHLUSSELBILD(ER)?"
    r"|SIGNIFIKANTE BILDER|IMAGES? (CLES?|CLEF?S?)|IMAGEN(ES)? CLAVES?|IMMAGIN[EI] CHIAVE|IMAGE[NM]S? CHAVE"
    r"|SLEUTELBEELD(EN)?|NYCKELBILD(ER)?)\b"
)
_ACQUIRED, _SAID_DERIVED = re.compile(r"ORIGINAL PRIMARY\b"), re.compile(r"DERIVED\b")  # in Image Type
_WORDS_IN = ("ImageType", "FrameType", "ScanOptions", "AcquisitionType", "VolumeBasedCalculationTechnique")
# Only where a series has so few images is its description believed: 'after scout' may describe slices. Of a
# longer one it is where it tells of pages and the images are said to be derived or secondary, as pages are.
_FEW_IMAGES = 3
MOST_SCOUTS = 2  # from one side
ATTRIBUTES = (*_WORDS_IN, "SeriesDescription", "BurnedInAnnotation")

# CT objects other than slices: what they are, and what to give instead.
_KINDS = {
    "localizer (scout) images": "give the series with the slices",
    "pictures of the screen or pages of an exam summary": "give the original CT slices",
    "colour pictures (RGB)": "give the original CT slices",
    "projections through the volume (MIP or rendering)": "give the slices that they were made from",
    "reformats along a curve (CPR)": "give the slices that they were made from",
    "key images (a choice of slices)": "give the series that they were taken from",
}
_SCOUTS, _PAGES, _COLOURS, _RENDERINGS, _CURVES, _KEYS = _KINDS
_BOLUS, _DERIVED = "images at one place", "derived images"
# One, and several, of those that were left out.
_AS_WORDS: dict[str, tuple[str, ...]] = {
    _SCOUTS: ("scout",),
    _PAGES: ("page or picture of the screen", "pages or pictures of the screen"),
    _COLOURS: ("colour picture",),
    _RENDERINGS: ("rendering",),
    _CURVES: ("reformat along a curve", "reformats along a curve"),
    _KEYS: ("key image",),
    _DERIVED: ("derived image, as a dose page is", "derived images, as dose pages are"),
    _BOLUS: ("image at one place, as of bolus tracking", "images at one place, as of bolus tracking"),
}
# Objects that only refer to images, or hold none, by modality.
_REFERRING = {
    "KO": "list of key images", "PR": "presentation state", "SR": "structured report",
    "REG": "registration", "FID": "fiducials", "ANN": "annotations", "PLAN": "plan", "HC": "hard copy",
    "RTSTRUCT": "structures", "RTPLAN": "treatment plan", "RTRECORD": "treatment record", "AU": "sound",
    "RWV": "real world value mapping", "DOC": "document", "ECG": "curves", "EPS": "curves",
}  # fmt: skip


_slice_frames: WeakKeyDictionary[DicomFile, list[int]] = WeakKeyDictionary()  # asked again and again


class NoSlicesError(InputError):
    """There is no CT slice among the files; `str()` says what there is."""


@dataclass(frozen=True)
class Outline:
    """What distinguishes a series of slices from other objects of modality CT, apart from their texts."""

    slices: int
    parallel: int  # most slices in one direction
    placed: bool
    axial: bool
    captures: bool
    at_one_place: bool  # several, as of bolus tracking


def no_pixels(path: Path) -> str:
    """The sentence of a slice without its image."""
    return (
        f"'{path.name}' has no pixel data (it was cut off, or exported without its image); copy it again "
        "from its source."
    )


def slices_of(
    files: Sequence[DicomFile], as_one: bool = False
) -> tuple[dict[str, list[DicomFile]], list[DicomFile]]:
    """Return the CT slices by SeriesInstanceUID, and the other files; `as_one` as in `by_series`.

    Raises NoSlicesError when there is none, with what there is, and InputError for a slice without pixels.
    """
    series = by_series(filter(_is_ct, files), as_one)
    found = {uid: [file for file in images if _kind(file, images) is None] for uid, images in series.items()}
    # Converters write slices as secondary captures, too; beside a proper CT they are something else.
    for proper in (True, False):
        chosen = {
            uid: [file for file in images if _is_proper(file) == proper] for uid, images in found.items()
        }
        chosen = {uid: images for uid, images in chosen.items() if images and (proper or _is_stack(images))}
        if chosen:
            break
    else:
        raise NoSlicesError(_why_no_slice(files))
    for file in (file for images in chosen.values() for file in images):
        if not file.header.get("Rows") or not file.header.get("Columns"):
            # Before the series are separated: a file that is cut off may have lost its series, too.
            raise InputError(no_pixels(file.path))
    chosen = {uid: _without_strays(images) for uid, images in chosen.items()}
    kept_uids = meant({uid: outline(images) for uid, images in chosen.items()})
    chosen = {uid: images for uid, images in chosen.items() if uid in kept_uids}
    kept = {file for images in chosen.values() for file in images}
    return chosen, [file for file in files if file not in kept]


def _is_ct(file: DicomFile) -> bool:
    # De-identification sometimes empties Modality.
    modality, kind = file.header.Modality, file.header.SOPClassUID
    return modality == "CT" or (not modality and kind in CT_STORAGE)


def is_capture(file: DicomFile) -> bool:
    """Whether this is a secondary capture: a screenshot, or what some converters write slices as."""
    return str(file.header.SOPClassUID).startswith(_SECONDARY_CAPTURE)


def slice_frames(file: DicomFile) -> list[int]:
    """Return the frames of an image that are slices: all but scouts among them, if there are others.

    A scout says so, or is one of at most two frames from another side.
    """
    if file not in _slice_frames:
        _slice_frames[file] = _find_slice_frames(file)
    return _slice_frames[file]


def _find_slice_frames(file: DicomFile) -> list[int]:
    frames = list(range(len(file.frames)))
    if len(frames) == 1:
        return frames
    spoken = [frame for frame in frames if not _SCOUT.search(_said_of_frame(file, frame))]
    planes = {frame: _plane(file, frame) for frame in spoken}
    counts = Counter(planes.values())
    if counts and max(counts.values()) > MOST_SCOUTS:
        spoken = [frame for frame in spoken if counts[planes[frame]] > MOST_SCOUTS]
    return spoken or frames


def _said_of_frame(file: DicomFile, frame: int) -> str:
    kind = file.value("FrameType", "ImageType", frame=frame)
    others = (text(file.value(one, frame=frame)) for one in _WORDS_IN[2:])
    return _in_capitals(" ".join([text(kind), *others]))


def _is_placed(file: DicomFile) -> bool:
    return file.value("ImagePositionPatient", frame=slice_frames(file)[0]) is not None


def _is_proper(file: DicomFile) -> bool:
    """Whether this is a CT image; one without a position counts, so that its lack is reported."""
    return file.header.SOPClassUID in CT_STORAGE or (_is_placed(file) and not is_capture(file))


def _is_stack(captures: Sequence[DicomFile]) -> bool:
    return len({text(file.value("ImagePositionPatient")) for file in captures if _is_placed(file)}) > 1


def _without_strays(images: Sequence[DicomFile]) -> list[DicomFile]:
    """Return the images of a series without what some scanners put among its slices.

    One or two from another side (scouts) beside more slices, and pages: they lie nowhere, as no slice does
    of which that was lost, and have another size or Image Type. And key images, derived with annotations
    burned in, beside more original slices; and pages that have the header of a slice.
    """
    keys = {file for file in images if _is_annotated(file)}
    if 2 * len(keys) < len(images) and sum(map(_is_acquired, images)) > len(keys):
        images = [file for file in images if file not in keys]
    pages = _with_headers_of_slices(images)
    images = [file for file in images if file not in pages]
    planes = {file: _plane(file, slice_frames(file)[0]) for file in images}
    counts = _slices_by_plane(planes)
    if max(counts.values(), default=0) <= MOST_SCOUTS:
        return list(images)
    looks = {_look(file) for file, plane in planes.items() if plane is not None}
    return [
        file
        for file, plane in planes.items()
        if (_look(file) in looks if plane is None else counts[plane] > MOST_SCOUTS)
    ]


def _with_headers_of_slices(images: Sequence[DicomFile]) -> set[DicomFile]:
    """Return a few derived images that lie where a slice of another Image Type lies, or have no slice's size.

    So some programs export a dose page: as a CT image with all that the first slice says of its place.
    """
    types = {file: text(file.value("ImageType")) for file in images if len(file.frames) == 1}
    counts = Counter(types.values())
    rare = {file for file, kind in types.items() if counts[kind] <= _FEW_IMAGES and not _is_acquired(file)}
    rest = [file for file in images if file not in rare]
    if not 0 < len(rare) <= _FEW_IMAGES or len(rest) <= 2 * len(rare):
        return set()
    places = {text(file.value("ImagePositionPatient")) for file in rest}
    sizes = {_size(file) for file in rest}
    return {
        file
        for file in rare
        if _size(file) not in sizes or text(file.value("ImagePositionPatient")) in places - {""}
    }


def _size(file: DicomFile) -> tuple[Any, Any]:
    return file.header.get("Rows"), file.header.get("Columns")


def _is_acquired(file: DicomFile) -> bool:
    return bool(_ACQUIRED.match(_in_capitals(text(file.value("ImageType")))))


def _is_annotated(file: DicomFile) -> bool:
    burned_in = text(file.value("BurnedInAnnotation")).strip().upper() == "YES"
    return burned_in and len(file.frames) == 1 and not _is_acquired(file)


def _slices_by_plane(planes: Mapping[DicomFile, int | None]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for file, plane in planes.items():
        if plane is not None:
            counts[plane] += len(slice_frames(file))
    return counts


def _look(file: DicomFile) -> tuple[Any, ...]:
    return (*_size(file), text(file.value("ImageType")))


def _plane(file: DicomFile, frame: int) -> int | None:
    """Return the axis (x, y, z) nearest to a frame's normal; None for an image that lies nowhere."""
    orientation = [number(one) or 0.0 for one in file.value("ImageOrientationPatient", frame=frame) or ()]
    if len(orientation) != 6:
        return 2 if file.value("ImagePositionPatient", frame=frame) is not None else None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = [abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d)]
    return normal.index(max(normal))


def _kind(file: DicomFile, series: Sequence[DicomFile]) -> str | None:
    """Return which of the `_KINDS` a CT object of this series is; None for a slice."""
    if len(file.frames) == 1:
        words = _in_capitals(" ".join(text(file.value(keyword)) for keyword in _WORDS_IN))
    else:
        words = _said_of_frame(file, slice_frames(file)[0])
    described = _in_capitals(text(file.value("SeriesDescription")))
    if len(series) <= _FEW_IMAGES:
        words += " " + described
    if _SCOUT.search(words):
        return _SCOUTS
    in_colours = file.header.get("PhotometricInterpretation") == "PALETTE COLOR"
    if in_colours or (number(file.header.get("SamplesPerPixel")) or 1) != 1:
        return _COLOURS
    # Eight bits without a slope hold no HU; a whole stack of them may be what somebody made of a CT.
    bits, slope = number(file.header.get("BitsAllocated")), number(file.value("RescaleSlope"))
    eight_bits = (bits or 16) <= 8 and (slope or 1) <= 1 and len(series) <= _FEW_IMAGES
    derived = not _is_acquired(file)
    by_description = (derived or len(series) <= _FEW_IMAGES) and _PAGE.search(described)
    if _PAGE.search(words) or by_description or eight_bits:
        return _PAGES
    if _CURVE.search(words):
        return _CURVES
    if _RENDERING.search(words) and not FOR_PROJECTION.search(words):
        return _RENDERINGS
    return _KEYS if _KEY_IMAGES.search(words + " " + described) else None


@lru_cache(maxsize=256)
def _in_capitals(said: str) -> str:
    """Return a text in capital letters without accents, other signs as spaces."""
    said = unicodedata.normalize("NFKD", said).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9]+", " ", said.upper())


def outline(images: Sequence[DicomFile]) -> Outline:
    """Return the outline of a series."""
    frames = [(file, frame) for file in images for frame in slice_frames(file)]
    slices = len(frames)
    captures = not any(map(_is_proper, images))
    stacked = Counter(_plane(file, frame) for file, frame in frames)
    places = {text(file.value("ImagePositionPatient", frame=frame)) for file, frame in frames}
    return Outline(
        slices,
        max(stacked.values()),
        any(map(_is_placed, images)),
        is_axial(images[0]),
        captures,
        slices > 1 == len(places),
    )


def meant(series: Mapping[K, Outline]) -> set[K]:
    """Return which of the series of a study may be meant, where there are several.

    Without captures beside a proper CT, without those that have no position at all, as dose pages stored as
    CT images, and, beside a series of more slices, without one or two images from the front or the side,
    which is a scout whatever it says, without several at one place, which are bolus tracking, and without the
    one image alone that shows its place before.
    """
    proper = {uid: one for uid, one in series.items() if not one.captures} or series
    placed = {uid: one for uid, one in proper.items() if one.placed}
    most = max((one.parallel for one in placed.values() if not one.at_one_place), default=0)
    tracked = any(one.at_one_place for one in placed.values())
    beside = {
        uid
        for uid, one in placed.items()
        if one.at_one_place
        or (one.parallel <= MOST_SCOUTS and not one.axial)
        or (tracked and one.slices == 1)
    }
    return (set(placed) - beside if most > MOST_SCOUTS else set(placed)) or set(proper)


def is_axial(file: DicomFile) -> bool:
    """Say whether the slice lies across the patient's long axis (within 45 degrees), as far as it says."""
    found = file.value("ImageOrientationPatient", frame=slice_frames(file)[0])
    orientation = [number(one) or 0.0 for one in found or ()]
    if len(orientation) != 6:
        return True
    right, down = orientation[:3], orientation[3:]
    return abs(right[0] * down[1] - right[1] * down[0]) > 0.7


def _why_no_slice(files: Sequence[DicomFile]) -> str:
    ct = [file for file in files if _is_ct(file)]
    if any(file.header.SOPClassUID == ParametricMapStorage for file in files) and not ct:
        return (
            f"there is no CT in it but {kinds(files)}: a parametric map holds another quantity than "
            "Hounsfield units. Give the CT series; compare-maps takes maps, and in Python check_hu=False "
            "reads one."
        )
    if not ct:
        without_pixels = all(file.header.Modality in _REFERRING for file in files)
        why = f" without images of {'its' if len(files) == 1 else 'their'} own" if without_pixels else ""
        return f"there is no CT in it but {kinds(files)}{why}; give a CT series."
    found = {_kind(file, images) for images in by_series(ct).values() for file in images}
    named = [kind for kind in _KINDS if kind in found]
    captures = any(is_capture(file) for file in ct)
    if named:
        return f"it holds {' and '.join(named)} only; {_KINDS[named[0]]}."
    if captures:
        return f"it holds {_PAGES} only (secondary captures); {_KINDS[_PAGES]}."
    return "its CT objects are no slices with a position in the patient; give the original CT slices."


def _storage(file: DicomFile) -> str:
    """Return what an object without a modality is stored as, such as 'Color Palette'."""
    kind = UID(file.header.SOPClassUID)
    known = kind.name != kind  # pydicom knows its name
    return re.sub(r" Storage.*", "", kind.name) if known else "unnamed"


def kinds(files: Sequence[DicomFile]) -> str:
    """Return a listing such as '24 MR and 1 SR (structured report) objects' or '2 CT objects (2 scouts)'."""
    counts = Counter(file.header.Modality or _storage(file) for file in files)
    names = {kind: f"{kind} ({_REFERRING[kind]})" if kind in _REFERRING else kind for kind in counts}
    listed = " and ".join(f"{count} {names[kind]}" for kind, count in sorted(counts.items()))
    ct = by_series(filter(_is_ct, files)).values()
    known = Counter(what for images in ct for file in images if (what := _left_as(file, images)))
    named = ", ".join(counted(count, *_AS_WORDS[what]) for what, count in known.items())
    return f"{listed} {noun(len(files), 'object')}" + (f" ({named})" if named else "")


def _left_as(file: DicomFile, series: Sequence[DicomFile]) -> str:
    """Return which of `_AS_WORDS` a CT object is that was left out; '' where nothing tells."""
    if known := _kind(file, series):
        return known
    if _is_annotated(file):
        return _KEYS
    if is_capture(file):
        return _PAGES
    if not is_axial(file):
        return _SCOUTS
    if outline(series).at_one_place:
        return _BOLUS
    return _DERIVED if _SAID_DERIVED.match(_in_capitals(text(file.value("ImageType")))) else ""
