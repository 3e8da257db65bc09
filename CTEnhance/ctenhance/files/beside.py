"""What texts say of an image file: its header's, the .json file that a converter wrote, and its name.

A map that dcm2niix made of DICOM is a NIfTI file whose header says hardly anything, beside a .json file with
the description and the Image Type of the series (BIDS, `Units` among them). The rules are those of DICOM.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctenhance.core.hounsfield import has_air
from ctenhance.files.damage import NIFTI, nifti_header, nifti_layout
from ctenhance.files.dicom.names import (
    AT_AN_ENERGY,
    LIKE_HU,
    NOTED,
    OF_MATERIALS,
    TAKEN_OUT,
    UNIT,
    WITH_AIR,
    WITHOUT_AIR,
    capitals,
    note_of_projected,
    note_with_air,
    projected,
    quantity,
    words,
)
from ctenhance.files.text_header import texts_of_header
from ctenhance.runtime.errors import NotCTError
from ctenhance.runtime.files import stem_of, suffix_of

_LARGEST_TEXT = 1 << 20  # bytes of a .json file
_UNITS = ("Units", "RescaleType")
# In an image's header these are of its voxels' places, not of its values.
_LENGTHS = {"m", "cm", "mm", "um", "µm", "in", "inch", "meter", "metre", "millimeter", "millimetre"}
# Distance and thickness of slices, and times as much or as little as a voxel's side may be.
_APART = {"SpacingBetweenSlices": 1.05, "SliceThickness": 2.5}
#: In a .json file, what describes the image.
DESCRIPTIONS = ("SeriesDescription", "ImageComments", "DerivationDescription")
# Of the NIfTI header: name of the field, where it begins, its bytes.
_FIELDS = (("descrip", 148, 80), ("aux_file", 228, 24), ("intent_name", 328, 16))
_INTENT_AT, _STATISTICS, _LABELS = 68, range(2, 25), {1001: "an estimate", 1002: "labels", 1003: "labels"}


def notes_on_texts(path: Path, array: np.ndarray, spacing: Sequence[float]) -> list[str]:
    """Return notes on an image file whose texts may tell of a map, or of other lengths; its values: `array`
    [z, y, x], `spacing` x, y, z in mm.

    Raises NotCTError where they say so for sure, or where no air contradicts them.
    """
    beside = json_beside(path)
    place = f"'{stem_of(path)}.json' beside it"
    if beside:
        _require_hounsfield(beside, place)
    is_nifti = suffix_of(path) in NIFTI
    header = nifti_header(path) if is_nifti else b""
    of_header = list(_texts_of_nifti(header) if is_nifti else texts_of_header(path))
    for where, said in [] if is_nifti else of_header:
        if where.lower().endswith(("type", "unit", "units")) and said.strip('" ').lower() not in _LENGTHS:
            _require_unit(said, "its header", where)
    texts = [(f"{place} ({key})", str(beside.get(key) or "")) for key in DESCRIPTIONS]
    texts += [(f"its header ({name[:40]})", said) for name, said in of_header]
    air = None
    for where, said in texts:
        found = words(said)
        if match := UNIT.search(capitals(said)):
            unit = said[slice(*match.span())].strip()
            raise NotCTError(f"{where} tells of values in {unit}, not Hounsfield units; give the CT.")
        if named := quantity(found, LIKE_HU):
            raise NotCTError(f"{where} tells of values of {named}, not Hounsfield units; give the CT.")
        known = WITHOUT_AIR if AT_AN_ENERGY.search(found) else (*OF_MATERIALS, *WITHOUT_AIR)
        if named := quantity(found, known):
            air = any(has_air(plane[None], varying=True) for plane in array) if air is None else air
            if not air:
                raise NotCTError(
                    f"{where} tells of {named}, and no air at -1000 HU shows that it is a CT all the same; "
                    "give the CT."
                )
            if note := note_with_air(where, named):
                return [note]
    kinds = beside.get("ImageType")
    texts += [(f"{place} (ImageType)", " ".join(map(str, kinds)))] if isinstance(kinds, list) else []
    texts.append(("its name", stem_of(path)))
    slabs = [note_of_projected(where, named) for where, said in texts if (named := projected(words(said)))]
    notes = [*(_notes_of_intent(header) if is_nifti else []), *_note_of_name(path), *slabs[:1]]
    return [*notes, *_note_of_lengths(beside, place, spacing)]


def _note_of_lengths(beside: Mapping[str, Any], place: str, spacing: Sequence[float]) -> list[str]:
    for key, most in _APART.items():
        said = beside.get(key)
        if not isinstance(said, int | float) or not said > 0:
            continue
        # Whichever axis it is: a volume may have been turned.
        times = min(max(said / one, one / said) for one in spacing)
        if times <= most:
            return []
        size = " x ".join(f"{one:.4g}" for one in spacing)
        return [
            f"{place} says {key} {said:g} mm, and its voxels are {size} mm: unless it was resampled, lengths "
            "were lost on the way; make sure that they are right"
        ]
    return []


def _require_hounsfield(beside: Mapping[str, Any], place: str) -> None:
    from ctenhance.files.dicom.units import measure_of_kinds  # pydicom takes a while to load

    for key in _UNITS:
        _require_unit(str(beside.get(key) or ""), place, key)
    kinds = beside.get("ImageType")
    if isinstance(kinds, list) and (kind := measure_of_kinds([str(one) for one in kinds[2:]])).is_other:
        raise NotCTError(f"{place} says that it holds {kind}; give the CT.")


def _require_unit(said: str, place: str, key: str) -> None:
    from ctenhance.files.dicom.slices import HOUNSFIELD  # pydicom takes a while to load
    from ctenhance.files.dicom.units import unit_of

    said = said.strip('" ')[:64]
    if said and (unit := unit_of(said)) not in ("", HOUNSFIELD):
        raise NotCTError(f"{place} says that it holds values of {unit} ({key} {said}); give the CT.")


def _note_of_name(path: Path) -> list[str]:
    said = words(stem_of(path))
    named = "" if TAKEN_OUT.search(said) else quantity(said, LIKE_HU)
    other = quantity(said, (*OF_MATERIALS, *WITHOUT_AIR))
    named = named or (other if other in (*NOTED, *WITH_AIR) else "")
    return [f"its name tells of {named}: make sure that its values are Hounsfield units"] if named else []


def _notes_of_intent(header: bytes) -> list[str]:
    (code,) = struct.unpack_from(f"{nifti_layout(header).order}h", header, _INTENT_AT)
    meant = "a statistic" if code in _STATISTICS else _LABELS.get(code, "")
    return [f"its header says that it is {meant} (intent_code {code}): make sure it is a CT"] if meant else []


def _texts_of_nifti(header: bytes) -> Iterator[tuple[str, str]]:
    for name, start, length in _FIELDS:
        yield name, header[start : start + length].split(b"\0")[0].decode("latin-1")


def json_beside(path: Path) -> Mapping[str, Any]:
    """Return what a .json file of the same name tells; nothing where there is none that can be read."""
    beside = path.with_name(f"{stem_of(path)}.json")
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if beside.stat().st_size <= _LARGEST_TEXT:
            found = json.loads(beside.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
    return {}
