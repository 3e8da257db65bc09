"""What the texts of a header say in passing: that an image was turned or its values changed, or is a map.

They are written by people and programs into many attributes, so they make a note and no more, but where the
values look like a map's, too.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from ctenhance.files.dicom.header import DAMAGE, DicomFile, before_frames, number, text
from ctenhance.files.dicom.names import (
    LIKE_HU,
    QUANTITIES,
    UNIT,
    WITHOUT_AIR,
    capitals,
    note_of_projected,
    note_with_air,
    projected,
    quantity,
    words,
)
from ctenhance.files.dicom.slices import Slice
from ctenhance.runtime.errors import NotCTError

_PLACES = ("DerivationDescription", "ImageComments")
_NOT = r"(?<!\bNOT )(?<!\bNO )(?<!\bNON )(?<!\bNICHT )(?<!\bWITHOUT )"
_TURNED = re.compile(
    rf"\b{_NOT}(FLIP(PED|H|V|LR|UD)?|MIRROR(ED|ING)?|ROTATED|ROTATION (BY|OF|9|1|2)|TRANSPOSED|UPSIDE DOWN"
    r"|(LEFT|L) ?(AND|/)? ?(RIGHT|R) (SWAPPED|EXCHANGED|REVERSED|INVERTED)|GESPIEGELT|GEDREHT|ROTIERT"
    r"|MIROIR|RETOURNEE?|PIVOTEE?|ESPEJ(O|AD[AO])|VOLTEAD[AO]|ROTAD[AO]|GIRAD[AO]|SPECCHIAT[AO]|RUOTAT[AO]"
    r"|CAPOVOLT[AO]|GESPIEGELD|GEDRAAID|ESPELHAD[AO]|SPEGLAD|OBROCON\w*)\b"
)
_CHANGED = re.compile(
    rf"\b{_NOT}(CLIPPED|CLAMPED|CLIPPING|THRESHOLDED|WINDOWED|WINDOW(ING)? (LEVEL(ING)? )?APPLIED"
    r"|NORMALI[SZ](ED|ATION|IERT)|EQUALI[SZ](ED|ATION)|INVERTED|GRA?E?Y ?SCALE INVERSION|8 ?BITS?)\b"
)
_KINDS_OF_TEXT = ("LO", "SH", "ST", "LT", "UT", "UC", "CS")
# Of the person, the contrast agent (with its concentration), the place, and what all images of CT have there.
_OTHERS = re.compile(
    r"Contrast|Patient|Institution|Physician|Operator|Station|Person|Identi|Accession|StudyID|Serial|Address"
    r"|Medical|Occupation|Allerg|Ethnic|Smok|Pregnan|Code(Value|Version)|CodingScheme|LossyImage|Character"
    r"|^(Modality|PhotometricInterpretation|ImageType|FrameType|RescaleType|SeriesDescription)$"
)
_EXAMINATION = re.compile(
    r"Protocol|Study|Request|Procedure|Reason|Diagnos|Software|Scheduled|Model|Manufact"
)
# Read of a file of many frames, of which the whole header is long.
_TEXTS = [tag for tag, (vr, *_, name) in DicomDictionary.items() if vr in _KINDS_OF_TEXT and name]
#: Derived slices from so thick on that overlap so many times may be slabs.
_SLAB_MM, _OVERLAP = 8.0, 1.9
_BELOW_MAPS_HU, _FEWEST_BELOW = -5.0, 0.002


def notes_of_remarks(slices: Sequence[Slice]) -> list[str]:
    """Return the notes on slices that were turned or changed by what describes them."""
    found: dict[str, str] = {}
    for said in {text(one.file.value(place, frame=one.frame)) for one in slices for place in _PLACES}:
        for kind, named in (("turned", _TURNED), ("changed", _CHANGED)):
            if match := named.search(words(said)):
                found[kind] = match[0].strip().lower()
    notes = []
    if word := found.get("turned"):
        notes.append(
            f"its header says that it was turned ({word}), which positions and orientation need not have "
            "followed: make sure that left and right, front and back are right"
        )
    if word := found.get("changed"):
        notes.append(
            f"its header says that its values were changed ({word}): make sure that they are Hounsfield "
            "units all the same"
        )
    return notes


def note_of_projection(file: DicomFile, pitch_mm: float) -> list[str]:
    """Return the note on a derived image that its description, not its type, calls a MIP or the like, or of
    which slices so far apart overlap as slabs do."""
    if "ORIGINAL" in text(file.value("ImageType")).upper():
        return []
    if named := projected(words(text(file.value("SeriesDescription")))):
        return [note_of_projected("its description", named)]
    thickness = number(file.value("SliceThickness", frame=0)) or 0.0
    if "DERIVED" in text(file.value("ImageType")).upper() and thickness >= max(_SLAB_MM, _OVERLAP * pitch_mm):
        return [
            f"its slices were computed from others, {thickness:g} mm thick and {pitch_mm:.3g} mm apart, as "
            "slabs are: if they are projections (MIP, MinIP), their HU are the highest or lowest; give "
            "the slices that they were made from"
        ]
    return []


def note_of_density(file: DicomFile) -> list[str]:
    """Return the note on an image that a text of its header, not of its examination, calls electron density
    or effective Z, of which air shows nothing."""
    for keyword, said in _texts(file):
        if not _EXAMINATION.search(keyword) and (named := quantity(words(said), LIKE_HU)):
            return [note_with_air(f"a text in its header ({keyword})", named)]
    return []


def notes_of_hidden_names(file: DicomFile, array: np.ndarray) -> list[str]:
    """Return the note on a volume without air [z, y, x] that any text of its header calls a map.

    Raises NotCTError where nothing in it is below zero, either.
    """
    for keyword, said in _texts(file):
        unit = UNIT.search(capitals(said))
        named = (
            said[slice(*unit.span())].strip() if unit else quantity(words(said), (*QUANTITIES, *WITHOUT_AIR))
        )
        if not named:
            continue
        if np.count_nonzero(array < _BELOW_MAPS_HU) < _FEWEST_BELOW * array.size:
            raise NotCTError(
                f"a text in '{file.path.name}' ({keyword}) tells of {named}, and neither air at -1000 HU nor "
                "fat shows that it is a CT all the same; give the CT series."
            )
        return [
            f"a text in its header ({keyword}) tells of {named}, and there is no air (-1000 HU) in it: make "
            "sure that it is a CT and no map"
        ]
    return []


def _texts(file: DicomFile) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file's header, each with its keyword."""
    with contextlib.suppress(*DAMAGE):
        if len(file.frames) > 1:  # what is said of thousands of frames takes a second
            yield from _of_dataset(before_frames(file.path, [*_TEXTS], force=True))
        else:
            yield from _of_dataset(pydicom.dcmread(file.path, stop_before_pixels=True, force=True))


def _of_dataset(header: Dataset) -> Iterator[tuple[str, str]]:
    for element in header:
        place = element.keyword or "a private attribute"
        if _OTHERS.search(place):
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _of_dataset(item)
        elif element.VR in _KINDS_OF_TEXT and element.value:
            yield place, text(element.value)
