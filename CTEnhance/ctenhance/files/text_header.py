"""Text headers of NRRD and MetaImage files: what they say that ITK's readers do not heed or do not tell.

ITK takes any unit of length as the millimetre, any third axis as one of space and values as stored, and of a
field that is there twice one or the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctenhance.runtime.errors import InputError, NotCTError
from ctenhance.runtime.files import suffix_of

DAMAGED = "the file is damaged, cut off or not what its name says; copy it again from its source."
#: The name of the file of values that means the header's own.
LOCAL = b"LOCAL"
#: What parts a field's name from its value in NRRD, and in MetaImage, as ITK reads them.
_MARK = (re.compile(b":"), re.compile(b"[=:]"))
_MILLIMETRE = ("", "?", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_SPELLED = {"distanceunits": "DistanceUnits", "space units": "space units", "units": "units"}
UNPLACED = "its header does not say where the volume lies: left and right and the position may be wrong"
#: What a NRRD file calls an axis of space, or one that it does not explain.
_OF_SPACE = ("domain", "space", "none", "???", "stub")

#: MetaImage's names of one thing, of which ITK takes one or the other; and what may stand more than once.
_SAME = dict.fromkeys((b"position", b"origin"), b"offset") | dict.fromkeys(
    (b"rotation", b"orientation"), b"transformmatrix"
)
_OF_THE_MAKER = (b"", b"comment", b"name", b"content")

# Of the names of what a header says, those under which people write what it shows.
_DESCRIBES = re.compile(r"^(content|comment|name)\s*$|descri|comment|rescale ?_?type|units?$|quantity", re.I)
_OF_LENGTH = re.compile(r"space units|distanceunits", re.I)
# Bytes of a header whose texts are looked at, and that a line and the whole of it may have.
_MOST_TEXT, _LONGEST_LINE, _LONGEST_HEADER = 1 << 20, 1 << 20, 64 << 20
_SAME_SIZE = 0.01


def require_plain_meaning(path: Path) -> None:
    """Raise InputError for a NRRD or MetaImage header that says what ITK's readers do not heed.

    They take any unit of length as the millimetre, any third axis as one of space, values as stored, and of
    what is said twice one or the other.
    """
    meta_image = suffix_of(path) in (".mha", ".mhd")
    header = text_header(path)
    if header.contradiction:
        one, other = header.contradiction
        raise InputError(
            f"its header contradicts itself: '{one[:80]}' and '{other[:80]}'; delete the line that is wrong, "
            "or export the volume again."
        )
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in header.fields.items()}
    if meta_image:
        modality = fields.get("modality", "").upper().removeprefix("MET_MOD_")
        if modality in ("MR", "NM", "US"):
            raise NotCTError(f"its header calls it {modality} (Modality), no CT; give the CT.")
    else:
        _require_axes_of_space(fields)
        if "sample units" in fields:
            from ctenhance.files.dicom.units import unit_of  # pydicom takes a while to load

            unit = fields["sample units"].strip('" ')
            if unit_of(unit) not in ("", "HU"):
                raise NotCTError(
                    f"its values are in {unit}, not Hounsfield units (sample units in its header); give the "
                    "CT."
                )
    for name in ("distanceunits",) if meta_image else ("space units", "units"):
        value = fields.get(name, "")
        units = re.findall(r'"([^"]*)"', value) or value.split()
        for unit in units[:3]:
            if unit.strip().lower() not in _MILLIMETRE:
                raise InputError(
                    f"its header gives lengths in '{unit}' ({_SPELLED[name]}), and only mm are read; "
                    "convert the lengths in the header to mm, or export the volume again in mm."
                )
    if meta_image:
        slope = fields.get("elementtointensityfunctionslope", "1")
        offset = fields.get("elementtointensityfunctionoffset", "0")
        if not (_is_number(slope, 1) and _is_number(offset, 0)):
            raise InputError(
                f"its header stores a scaling of the values (ElementToIntensityFunctionSlope {slope}, "
                f"ElementToIntensityFunctionOffset {offset}), which is not applied in reading; convert the "
                "stored values to HU first, and set slope 1 and offset 0."
            )


def _require_axes_of_space(fields: dict[str, str]) -> None:
    """Raise InputError for a NRRD file of three axes whose third one is, say, time."""
    if fields.get("dimension") != "3":
        return
    directions = re.findall(r"\([^)]*\)|\S+", fields.get("space directions", ""))
    kinds = fields.get("kinds", "").lower().split()
    kind = kinds[2] if len(kinds) == 3 else ""
    if kind and kind not in _OF_SPACE:
        said = f"kinds: '{kind}'"
    elif len(directions) == 3 and directions[2].lower() == "none":
        said = "space directions: none"
    else:
        return
    raise InputError(
        f"the third axis in its header is none of space ({said}), so that it holds no slices of a volume; "
        "export the CT as a volume with three axes of space."
    )


def _is_number(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def taken_on_trust(path: Path, direction: np.ndarray) -> list[str]:
    """Return notes on what the header of a NRRD or MetaImage file does not tell, or tells otherwise.

    `direction`: 3 x 3, of the axes as ITK has read them, in LPS.
    """
    fields = text_header(path).fields
    notes = []
    sizes = (b"space directions", b"spacings", b"elementspacing", b"elementsize")
    if not any(name in fields for name in sizes):
        notes.append("its header gives no voxel size; taken as 1 mm")
    if suffix_of(path) in (".nrrd", ".nhdr"):
        space = fields.get(b"space", b"").decode("latin-1").lower().replace("_", "-")
        anatomical = re.search("(left|right)-(anterior|posterior)-(superior|inferior)|[lr][ap][si]", space)
        if not (anatomical and fields.get(b"space directions")):
            notes.append(UNPLACED)
        return notes
    if not fields.keys() & {
        b"transformmatrix",
        b"rotation",
        b"orientation",
        b"offset",
        b"position",
        b"origin",
    }:
        notes.append(UNPLACED)
    # Slices may be thicker than they are apart; pixels are as large as they are apart.
    size, spacing = (_numbers(fields.get(name, b"")) for name in (b"elementsize", b"elementspacing"))
    if len(size) == len(spacing) == 3 and not np.allclose(size[:2], spacing[:2], rtol=_SAME_SIZE, atol=0):
        said, taken = (" ".join(f"{one:.4g}" for one in three) for three in (size, spacing))
        notes.append(
            f"its header contradicts itself: ElementSize {said}, but ElementSpacing {taken}, which was "
            "taken; lengths and areas may be wrong"
        )
    # RAI and LPS are one orientation, by where the axes come from and by where they go to.
    code = fields.get(b"anatomicalorientation", b"").decode("latin-1").upper()
    goes_to = "".join(
        "LPS"[axis] if column[axis] > 0 else "RAI"[axis]
        for column, axis in ((column, int(np.abs(column).argmax())) for column in direction.T)
    )
    comes_from = goes_to.translate(str.maketrans("LPSRAI", "RAILPS"))
    if len(goes_to) == 3 and re.fullmatch("[LRAPSI]{3}", code) and code not in (goes_to, comes_from):
        notes.append(
            f"its header contradicts itself: AnatomicalOrientation {code}, but {comes_from} by its "
            "TransformMatrix, which was taken, as 3D Slicer does; left and right may be wrong"
        )
    return notes


def _numbers(said: bytes) -> list[float]:
    try:
        return [float(one) for one in said.split()]
    except ValueError:
        return []


def values_beside(path: Path) -> bool:
    """Say whether it is a NRRD or MetaImage header whose values lie in another file."""
    return suffix_of(path) in (".nrrd", ".nhdr", ".mha", ".mhd") and text_header(path).values != LOCAL


@dataclass(frozen=True)
class TextHeader:
    """The fields of a NRRD or MetaImage header by their names in lower case, where it ends, the name of the
    file of values (`LOCAL`: this one), and two lines that say one thing otherwise."""

    fields: dict[bytes, bytes]
    end: int
    values: bytes
    contradiction: tuple[str, ...]


def text_header(path: Path) -> TextHeader:
    meta_image = suffix_of(path) in (".mha", ".mhd")
    fields: dict[bytes, bytes] = {}
    lines: dict[bytes, tuple[bytes, bytes]] = {}
    contradiction: tuple[str, ...] = ()
    with path.open("rb") as stream:
        while line := stream.readline(_LONGEST_LINE):
            if stream.tell() > _LONGEST_HEADER:  # anything, of which no line ends a header
                raise InputError(DAMAGED)
            if not meta_image and b"\r" in line.rstrip(b"\r\n"):  # would end a line for ITK
                raise InputError(DAMAGED)
            name, value = (*_MARK[meta_image].split(line, 1), b"")[:2]
            if not meta_image and value.startswith(b"="):
                continue  # a NRRD key, which anybody may name as a field is named
            fields[key := name.strip().lower()] = value.strip()
            key = _SAME.get(key, key)
            earlier, before = lines.setdefault(key, (line, value))
            if key not in _OF_THE_MAKER and not _is_the_same(before, value):
                contradiction = tuple(one.decode("latin-1").strip() for one in (earlier, line))
            # The last line of either header.
            if b"elementdatafile" in fields if meta_image else not line.strip():
                break
        end = stream.tell()
    if meta_image:
        values = fields.get(b"elementdatafile", LOCAL)
    else:
        values = fields.get(b"data file") or fields.get(b"datafile") or LOCAL
    return TextHeader(fields, end, values, contradiction)


def _is_the_same(one: bytes, other: bytes) -> bool:
    first, second = _numbers(one), _numbers(other)
    if first and len(first) == len(second):
        return bool(np.allclose(first, second, rtol=1e-6, atol=1e-6))
    return one.strip().lower() == other.strip().lower()


def texts_of_header(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and values of what describes a NRRD or MetaImage file's content in its header."""
    meta_image = suffix_of(path) in (".mha", ".mhd")
    end = text_header(path).end
    with path.open("rb") as stream:
        lines = stream.read(min(end, _MOST_TEXT)).decode("utf-8", "replace").splitlines()
    for line in lines[0 if meta_image else 1 :]:
        mark = re.search("[=:]" if meta_image else ":=" if ":=" in line else ":", line)
        name, value = (line[: mark.start()], line[mark.end() :]) if mark else (line, "")
        if line.startswith("#"):
            yield "a comment", line[1:].strip()
        elif mark and _DESCRIBES.search(name) and not _OF_LENGTH.search(name):
            yield name.strip(), value.strip()
