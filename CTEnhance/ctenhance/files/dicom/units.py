"""What the values of a DICOM CT image are: Hounsfield units, another quantity, or unsaid.

Scanners and workstations store material, perfusion and other maps as CT images. What such an image shows may
stand in its Real World Value Mapping, in Rescale Type, in value 4 of Image Type (PS3.3 C.8.2.1.1.1 and
C.8.15.3.1) or in the vendor's own words there, or only in the description of the series. The Real World Value
Mapping is made to say it, so it is believed first. Rescale Type is free text that is written by hand as often
as not: every way to write Hounsfield is HU, units and names of quantities are what they say, and any other
word says nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from pydicom.dataset import Dataset

from ctenhance.core.hounsfield import (
    doubt_of_span,
    doubt_of_surroundings,
    doubt_without_air,
    has_air,
    require_hounsfield,
)
from ctenhance.files.dicom.choice import identifies, shown, values_of
from ctenhance.files.dicom.header import DicomFile, number, text
from ctenhance.files.dicom.names import (
    AT_AN_ENERGY,
    IN_IMAGE_TYPE,
    LIKE_HU,
    OF_MATERIALS,
    OF_PERFUSION,
    OF_TUBES,
    QUANTITIES,
    SHOWN_ALONE,
    TAKEN_OUT,
    UNIT,
    WITHOUT_AIR,
    Names,
    capitals,
    note_of_derived,
    note_with_air,
    quantity,
    virtual,
    words,
)
from ctenhance.files.dicom.slices import HOUNSFIELD, Measure, Slice
from ctenhance.runtime.errors import InputError, NotCTError

# With a slope of 1 an intercept from here down is made to hold HU as unsigned numbers.
_INTERCEPT_OF_HU = -1000.0

_BELOW_MAPS_HU, _FEWEST_BELOW = -200.0, 0.002
_NO_UNIT = "no unit"
_STORED_ENDS = (0.0, 1000.0)  # where two ways to HU are compared
_LARGEST_CONTRADICTION_HU = 0.5
#: With this the note on computed images begins.
VIRTUAL = "it is a virtual image by its header"
_NAME = "HOUNSFIELD"
_LIKENESS = 0.8  # of 'Houndsfeld' to the name: 0.9
_HU_WORDS = {
    "HU",
    "UH",
    "HE",
    "HUS",
    "HUMOD",
    "HNSF",
    "HNSFU",
    "CTNUMBER",
    "CTNUMBERS",
    "CTVALUE",
    "CTVALUES",
    "CTNO",
    "CTN",
    "CTZAHL",
    "CTWERT",
    "HOUNS",
    "HOUNSF",
    "HNSFLD",
    "HUNIT",
    "HUNITS",
    "HOUNSU",
    "UNIDADESH",
    "UNITESH",
}
# With HU they say nothing else.
_WITH_HU = {
    "HU", "CT", "NUMBER", "NUMBERS", "NO", "VALUE", "VALUES", "UNIT", "UNITS", "EINHEIT", "EINHEITEN",
    "UNITES", "UNIDADES", "UNITA", "IN", "MODIFIED", "MOD", "ORIGINAL", "ORIG", "CALIBRATED", "STANDARD",
    "SCALE",
}  # fmt: skip
# Around the name: Hounsfield units, unités Hounsfield, Hounsfield-Einheiten, modified Hounsfield units.
_AROUND_NAME = re.compile(r"UNIT[EÉ]?S?|UNIDADES|UNIT[AÀ]|EINHEIT(EN)?|SCALE|VALUES?|NUMBERS?|MODIFIED")

# The standard's words in Rescale Type (C.11.1.1.2) and Image Type, with the unit or quantity they mean.
_RESCALE_TYPES = {
    "OD": "optical density", "MGML": "mg/ml", "ZEFF": "effective atomic number", "ED": "10^23 electrons/ml",
    "EDW": "electron density relative to water", "PCT": "%", "BQML": "Bq/ml", "GML": "g/ml",
    "Z": "effective atomic number", "RHO": "electron density", "RED": "electron density",
    "SPR": "stopping power ratio", "RSP": "stopping power ratio", "SECONDS": "s", "UNITLESS": "no unit",
}  # fmt: skip
_IMAGE_TYPES = {
    "MATSPECIFIC": "density of a material", "MATFRACTIONAL": "fraction of a material",
    "MATVALUEBASED": "values of a material", "EFFATOMICNUM": "effective atomic number",
    "ELECTRONDENSITY": "electron density", "SUBTRACTION": "differences", "DIVISION": "ratios",
    "STDDEVIATION": "standard deviations", "QUANTITY": "another quantity", "SUBTRACT": "differences",
    "SUBTRACTED": "differences", "RHO": "electron density", "Z": "effective atomic number",
    "SPR": "stopping power ratio", "RSP": "stopping power ratio",
}  # fmt: skip
_HU_IMAGE_TYPES = {"VMI", "MATREMOVED", "MATMODIFIED"}
_UNSPECIFIED = {"US", "UNSPECIFIED", "UNSPEC", "NONE", "UNKNOWN", "NA"}

# Of all series of an examination: they say less than the description.
_PROTOCOLS = ("ProtocolName", "AcquisitionProtocolName", "PerformedProcedureStepDescription")
_REMARKS = (
    "ImageComments", "DerivationDescription", "WindowCenterWidthExplanation", "ImageFilterDescription",
)  # fmt: skip
_OF_KIND = ("ImageType", "FrameType", "DerivedPixelContrast")
_MEASURE_RESTS_ON = (
    "RealWorldValueMappingSequence", *_OF_KIND, "RescaleType", "SeriesDescription", *_REMARKS, *_PROTOCOLS,
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
# Siemens' kernels of DirectDensity.
_DIRECT_DENSITY = re.compile(r"\bS[DM]\d\d|DIRECT ?DENSITY")

_UNIT_ATOMS = re.compile(
    r"(\d*([KMUNµμ]?(G|L|M|S|GY|BQ|MOL)|([MUµμ]|MC)G(I|IODINE|CA|HAP|H2O|WATER)?|C[MC]|DL|M?SEC|MIN|HZ|KEV|KV"
    r"|CGY|CPS)|I|IODINE|CA|HAP|H2O|WATER|CNTS|COUNTS|E-?|ELECTRONS|PCT|PERCENT|%|PPM|SUV\w*|°C|DEGC|CELSIUS"
    r"|10+|10\^\d+(ELECTRONS)?|1)(\^?-?[123])?"
)
# Before a unit, as in 10^-3 g/cm3.
_POWER = re.compile(r"^[X×*]?(\d+(\.\d+)?(E[+-]?\d+)|10(\^|\*\*?)?[+-]?\d+|0?\.\d+)[X×*·]?")
_TIMES_TEN = re.compile(r"(?<![\d.^])10+(?!\d)")  # as in HU*10


def measure_of(file: DicomFile, frame: int, known: dict[tuple[int, ...], Measure] | None = None) -> Measure:
    """Return what the values of a frame are; `known`: where to keep it for frames that share what it rests
    on."""
    if known is None:
        return _measure_of(file, frame)
    values = file.frames[frame]
    shared = tuple(id(values.get(keyword)) for keyword in _MEASURE_RESTS_ON)
    if shared not in known:
        known[shared] = _measure_of(file, frame)
    return known[shared]


def _measure_of(file: DicomFile, frame: int) -> Measure:
    mapped = _of_mapping(file.value("RealWorldValueMappingSequence", frame=frame) or ())
    kind = _of_image_type(file, frame)
    said = text(file.value("RescaleType", frame=frame)).strip()[:64]
    rescaled = Measure(unit_of(said), "Rescale Type", said) if said else Measure()
    others = [measure for measure in (mapped, rescaled, kind) if measure.is_other]
    if mapped.is_other and mapped.unit == _NO_UNIT and len(others) > 1:
        return replace(mapped, unit=others[1].unit)
    if others:
        return others[0]
    # A scan of which perfusion is computed may be named after it; no CT is named after a map of a material.
    in_hu = HOUNSFIELD in (mapped.unit, rescaled.unit, kind.unit)
    known: Names = (*LIKE_HU, *OF_MATERIALS) if in_hu else QUANTITIES
    description = words(file.value("SeriesDescription", frame=frame) or "")
    if at_an_energy := bool(AT_AN_ENERGY.search(description)):
        known = tuple(one for one in known if one not in OF_MATERIALS)
    described = _of_words(file, frame, known)
    if described.is_other and HOUNSFIELD not in (mapped.unit, kind.unit):
        return described
    said_twice = HOUNSFIELD in (mapped.unit, kind.unit)
    named = _of_words(file, frame, WITHOUT_AIR if said_twice else (*OF_MATERIALS, *WITHOUT_AIR)).unit
    named = named or _of_texts(file, frame, _REMARKS, (*LIKE_HU, *OF_MATERIALS, *OF_PERFUSION))
    if not (said_twice or at_an_energy or TAKEN_OUT.search(description)):
        named = named or _of_texts(file, frame, _PROTOCOLS, OF_MATERIALS)
    if not in_hu:
        return replace(rescaled, named=named)
    mapping = None if mapped.slope is None else (mapped.slope, mapped.intercept)
    # The mapping's own slope only where the image has no rescaling, or one to something unspecified.
    own = file.value("RescaleSlope", "RescaleIntercept", frame=frame) is not None
    used = mapped if mapped.unit and (not own or (said and not rescaled.unit)) else Measure(HOUNSFIELD)
    return replace(used, named=named, mapping=mapping)


def common_unit(slices: Sequence[Slice], check_hu: bool) -> str:
    """Return the unit of the values; raises InputError where it is not HU and must be, or not the same."""
    others = [one for one in slices if one.measure.is_other]
    if check_hu and others:
        kind = NotCTError if len(others) == len(slices) else InputError
        raise kind(f"'{others[0].name}' holds {others[0].measure}; {_instead(slices)}.")
    units = {one.measure.unit or HOUNSFIELD: one for one in slices}
    if len(units) > 1:
        (first, one), (second, other) = list(units.items())[:2]
        raise InputError(
            f"'{one.name}' and '{other.name}' are of one series but hold different quantities ({first} and "
            f"{second}); put the files that belong together into a folder of their own."
        )
    return next(iter(units))


def _instead(slices: Sequence[Slice]) -> str:
    """Return what to give instead of slices that are not all HU: those that are, if there are any."""
    by_kind = {one.measure.is_other: one for one in slices}
    if len(by_kind) > 1:
        for keyword in ("RescaleType", "ImageType", "SeriesDescription"):
            other, in_hu = (
                values_of(by_kind[kind].file, by_kind[kind].frame, keyword) for kind in (True, False)
            )
            if in_hu and in_hu != other and not identifies(keyword):
                return f'take only those in HU, for instance with --where "{keyword}={shown(in_hu)}"'
    return "give the CT series"


def doubts(slices: Sequence[Slice], array: np.ndarray, air: bool) -> list[str]:
    """Return notes where the header leaves doubt that it is HU but the values do not, or raise InputError.

    `array`: the volume; `air`: whether there is air in it, padding aside.
    """
    named, name = next(((one.measure.named, one.name) for one in slices if one.measure.named), ("", ""))
    notes = []
    if named == SHOWN_ALONE and not is_ct_all_the_same(array):
        notes.append(
            f"its description may tell of {named}, and there is no air (-1000 HU) in it: make sure that it "
            "is a CT and no map"
        )
    elif named and not is_ct_all_the_same(array):
        raise NotCTError(
            f"a description in '{name}' tells of {named}, and no air at -1000 HU shows that it is a CT all "
            "the same; give the CT series."
        )
    derived = note_of_derived(named) if _is_computed(slices[0]) else ""
    notes += filter(None, [note_with_air("its description", named), derived])
    if _DIRECT_DENSITY.search(
        " ".join(words(slices[0].file.value(one) or "") for one in ("SeriesDescription", "ConvolutionKernel"))
    ):
        notes.append(
            "its kernel or description is that of DirectDensity: its values are relative electron or mass "
            "densities on the scale of Hounsfield units, bone and contrast agent lower than these"
        )
    if computed := _virtual(slices[0]):
        notes.append(
            f"{VIRTUAL} ({computed}), computed from a spectral scan: its HU and "
            "its noise are not those of a routine CT"
        )
    if not air or not is_ct_all_the_same(array):
        unsaid = not any(one.measure.unit or one.measure.word for one in slices)
        # Most scanners' values are stored with such an intercept.
        unusual = any(one.intercept > _INTERCEPT_OF_HU for one in slices)
        like_map = unsaid or unusual
        like_map &= bool(np.count_nonzero(array < _BELOW_MAPS_HU) < _FEWEST_BELOW * array.size)
        if like_map or air or _may_lack_intercept(slices, array):
            notes += filter(None, [doubt_without_air(array)])
        else:
            notes += filter(None, [doubt_of_span(array) or doubt_of_surroundings(array)])
    return notes + _contradiction(slices) + _doubts_of_type(slices, array, air)


def _virtual(one: Slice) -> str:
    """Return what the header calls a virtual image: at an energy, or without a material; '' for others."""
    kinds = one.file.value("ImageType", frame=one.frame)
    said = [
        text(one.file.value(keyword, frame=one.frame)) for keyword in ("SeriesDescription", *_REMARKS[:2])
    ]
    said += map(str, () if isinstance(kinds, str) else kinds or ())
    return next((name for name in map(virtual, map(words, said)) if name), "")


def _is_computed(one: Slice) -> bool:
    """Say whether the header calls an image derived, and its description not one of the tubes' own."""
    kinds = one.file.value("ImageType", frame=one.frame)
    first = kinds if isinstance(kinds, str) else next(iter(kinds or ()), "")
    described = words(one.file.value("SeriesDescription", frame=one.frame) or "")
    return words(first).startswith("DERIVED") and not OF_TUBES.search(described)


def is_ct_all_the_same(array: np.ndarray) -> bool:
    """Say whether there is air in the volume [z, y, x] that is no filling, whatever the texts call it."""
    return any(has_air(plane[None], varying=True) for plane in array)


def _may_lack_intercept(slices: Sequence[Slice], array: np.ndarray) -> bool:
    """Say whether the header leads to no negative value, or only says nothing of an intercept."""
    for one in slices:
        found = number(one.file.value("RescaleIntercept", frame=one.frame))
        if one.measure.slope is not None or (found is not None and found != 0):
            continue
        if found is None or not one.file.header.get("PixelRepresentation") or float(array.min()) >= 0:
            return True
    return False


def _contradiction(slices: Sequence[Slice]) -> list[str]:
    for one in slices:
        if one.measure.mapping is not None:
            slope, intercept = one.measure.mapping
            ends = [(slope - one.slope) * stored + intercept - one.intercept for stored in _STORED_ENDS]
            if max(map(abs, ends)) > _LARGEST_CONTRADICTION_HU:
                return [
                    "its Real World Value Mapping gives other HU than its rescaling, which was taken "
                    f"({ends[0]:+.3g} HU where 0 is stored)"
                ]
    return []


def _doubts_of_type(slices: Sequence[Slice], array: np.ndarray, air: bool) -> list[str]:
    doubtful = next((one for one in slices if one.measure.is_doubtful), None)
    if doubtful is None:
        return []
    word = doubtful.measure.word
    if not air and not (doubtful.slope == 1 and doubtful.intercept <= _INTERCEPT_OF_HU):
        require_hounsfield(array)  # what it finds says more
        raise InputError(
            f"'{doubtful.name}' does not say that its values are Hounsfield units (Rescale Type {word}), and "
            "no air at -1000 shows it; give the CT series."
        )
    return [f"Rescale Type '{word}' is no known unit; taken for Hounsfield units by the values themselves"]


@lru_cache(maxsize=256)
def unit_of(said: str) -> str:
    """Return the unit that a Rescale Type means: HU, another one, or empty for any other word."""
    if _TIMES_TEN.search(said) and is_hounsfield(
        re.sub(r"[*/×]|\bX\b", "", _TIMES_TEN.sub("", said.upper()))
    ):
        return said
    if is_hounsfield(said):
        return HOUNSFIELD
    letters = _letters(said)
    if letters in _UNSPECIFIED:
        return ""
    known = _RESCALE_TYPES.get(letters) or _IMAGE_TYPES.get(letters) or quantity(words(said))
    return known or (said if _is_unit(said) else "")


def is_hounsfield(said: str) -> bool:
    """Say whether a text is a way to write HU: in any case, with a typing slip, in another language."""
    if _letters(said) in _HU_WORDS or _is_hu_alone(said):
        return True
    rest = _letters(_AROUND_NAME.sub("", said.upper()))
    for word in (_letters(said), rest, rest.removesuffix("HU"), *map(_letters, said.split())):
        if (
            abs(len(word) - len(_NAME)) <= 3
            and difflib.SequenceMatcher(None, word, _NAME).ratio() >= _LIKENESS
        ):
            return True
    return False


def _is_hu_alone(said: str) -> bool:
    found = {*re.findall("[A-Z]+", said.upper())}
    plain = found <= {"HU", "CT"} or not re.search(r"[0-9/^%×]", said)
    return "HU" in found and found <= _WITH_HU and plain


def _of_mapping(items: Sequence[Dataset]) -> Measure:
    """Return what the Real World Value Mapping says: of several units HU, if it is among them."""
    found = []
    for item in items:
        for definition in item.get("QuantityDefinitionSequence") or ():
            for code in definition.get("ConceptCodeSequence") or ():
                meant = text(code.get("CodeMeaning"))
                if name := quantity(words(meant), (*IN_IMAGE_TYPE, *WITHOUT_AIR)):
                    return Measure(name, "Real World Value Mapping", meant.strip()[:16])
        for code in item.get("MeasurementUnitsCodeSequence") or ():
            value, meaning = (text(code.get(name)).strip() for name in ("CodeValue", "CodeMeaning"))
            value = value or text(code.get("LongCodeValue")).strip()
            if value or meaning:
                found.append(_mapped(item, value, meaning))
    in_hu = [measure for measure in found if measure.unit == HOUNSFIELD]
    return (in_hu or found or [Measure()])[0]


def unit_of_code(value: str, meaning: str) -> str:
    """Return the unit that a code names: its value, but of other schemes than UCUM, where it is a number or a
    name, its meaning."""
    return value if re.search(r"[a-z%/]|^1$", value) else meaning or value


def _mapped(item: Dataset, value: str, meaning: str) -> Measure:
    unit = unit_of_code(value, meaning)
    if is_hounsfield(value) or is_hounsfield(meaning):
        unit = HOUNSFIELD
    slope = number(item.get("RealWorldValueSlope"))
    return Measure(
        _NO_UNIT if unit in ("1", "{no units}", "no units") else unit[:64],
        "Real World Value Mapping",
        text(item.get("LUTLabel")).strip()[:16],
        slope,
        number(item.get("RealWorldValueIntercept")) or 0.0,
    )


def _of_image_type(file: DicomFile, frame: int) -> Measure:
    values: list[str] = []
    for keyword in _OF_KIND:
        value = file.value(keyword, frame=frame)
        several = [value] if isinstance(value, str) else list(value or ())
        values += [str(one) for one in several[0 if keyword == "DerivedPixelContrast" else 2 :]]
    return measure_of_kinds(values)


def measure_of_kinds(values: Sequence[str]) -> Measure:
    """Return what values of Image Type say, without the first two."""
    in_hu = any(_letters(one) in _HU_IMAGE_TYPES or TAKEN_OUT.search(words(one)) for one in values)
    for value in values:
        # Beside VMI or VNC the name of a material is that of what was looked for, or taken out.
        known = _IMAGE_TYPES.get(_letters(value))
        known = known or ("" if in_hu else quantity(words(value), IN_IMAGE_TYPE))
        if known:
            return Measure(known, "Image Type", value.strip()[:16])
    if any(_letters(value) in _HU_IMAGE_TYPES for value in values):
        return Measure(HOUNSFIELD)
    return Measure()


def _of_words(file: DicomFile, frame: int, known: Names) -> Measure:
    """Return what the texts beside the image say, which are written for people: a unit, or a `known` name."""
    places = {"series description": text(file.value("SeriesDescription", frame=frame))}
    for item in file.value("RealWorldValueMappingSequence", frame=frame) or ():
        places["LUT label"] = f"{text(item.get('LUTLabel'))} {text(item.get('LUTExplanation'))}"
    for place, said in places.items():
        if unit := UNIT.search(capitals(said)):
            start, end = unit.span()
            return Measure(said[start:end].strip(), place, said[start:end].strip())
        if name := quantity(words(said), known):
            return Measure(name, place, "")
    return Measure()


def _of_texts(file: DicomFile, frame: int, keywords: tuple[str, ...], known: Names) -> str:
    """Return the unit or `known` quantity that texts name which may be of anything beside the image."""
    for keyword in keywords:
        said = text(file.value(keyword, frame=frame))
        if unit := UNIT.search(capitals(said)):
            return said[slice(*unit.span())].strip()
        if name := quantity(words(said), known):
            return name
    return ""


def _is_unit(said: str) -> bool:
    """Say whether a text is a unit such as ml/100g/min, 1/cm or %."""
    squeezed = _POWER.sub("", re.sub(r"\s", "", capitals(said)), count=1)
    parts = [part for part in re.split(r"[/*·\[\](){}]+", squeezed) if part]
    return bool(re.search(r"[^\W\d]|%", said)) and all(_UNIT_ATOMS.fullmatch(part) for part in parts)


@lru_cache(maxsize=256)
def _letters(said: str) -> str:
    return re.sub(r"[^A-Z0-9%]", "", capitals(said))
