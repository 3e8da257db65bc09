"""The elements of a DICOM-CT-PD file (one view of a scan), by name, and how to read their values.

The format is that of the 'LDCT-and-Projection-data' collection (Moen et al., Med Phys 48:902, 2021, table IV;
Chen et al., Med Phys 42:6964, 2015).  Its attributes are private, so that files with implicit VR do not state
their types: these are listed here.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from ctenhance.runtime.errors import InputError

#: The private creator of every group, as the collection's files spell it.
CREATOR = "CtProjectionData-MayoClinc-v1"
PRIVATE_GROUPS = (0x7029, 0x7031, 0x7033, 0x7037, 0x7039, 0x7041)

#: name: (group, element, value representation)
ELEMENTS: dict[str, tuple[int, int, str]] = {
    "SOPClassUID": (0x0008, 0x0016, "UI"),
    "Manufacturer": (0x0008, 0x0070, "LO"),
    "ManufacturerModelName": (0x0008, 0x1090, "LO"),
    "KVP": (0x0018, 0x0060, "DS"),
    # of the 2016 challenge's files: what water attenuates, in mm⁻¹
    "HounsfieldFactor": (0x0018, 0x0061, "DS"),
    "DataCollectionDiameter": (0x0018, 0x0090, "DS"),
    "XRayTubeCurrent": (0x0018, 0x1151, "IS"),
    "PatientPosition": (0x0018, 0x5100, "CS"),
    "SeriesInstanceUID": (0x0020, 0x000E, "UI"),
    "InstanceNumber": (0x0020, 0x0013, "IS"),
    "Rows": (0x0028, 0x0010, "US"),
    "Columns": (0x0028, 0x0011, "US"),
    "BitsAllocated": (0x0028, 0x0100, "US"),
    "PixelRepresentation": (0x0028, 0x0103, "US"),
    "RescaleIntercept": (0x0028, 0x1052, "DS"),
    "RescaleSlope": (0x0028, 0x1053, "DS"),
    "DetectorElementTransverseSpacing": (0x7029, 0x1002, "FL"),
    "DetectorElementAxialSpacing": (0x7029, 0x1006, "FL"),
    "DetectorShape": (0x7029, 0x100B, "CS"),
    "NumberofDetectorRows": (0x7029, 0x1010, "US"),
    "NumberofDetectorColumns": (0x7029, 0x1011, "US"),
    "DetectorFocalCenterAngularPosition": (0x7031, 0x1001, "FL"),
    "DetectorFocalCenterAxialPosition": (0x7031, 0x1002, "FL"),
    "DetectorFocalCenterRadialDistance": (0x7031, 0x1003, "FL"),
    "ConstantRadialDistance": (0x7031, 0x1031, "FL"),
    "DetectorCentralElement": (0x7031, 0x1033, "FL"),
    "SourceAngularPositionShift": (0x7033, 0x100B, "FL"),
    "SourceAxialPositionShift": (0x7033, 0x100C, "FL"),
    "SourceRadialDistanceShift": (0x7033, 0x100D, "FL"),
    "FlyingFocalSpotMode": (0x7033, 0x100E, "CS"),
    "NumberofSourceAngularSteps": (0x7033, 0x1013, "US"),
    "NumberofSpectra": (0x7033, 0x1061, "US"),
    "PhotonStatistics": (0x7033, 0x1065, "FL"),
    "TypeofProjectionData": (0x7037, 0x1009, "CS"),
    "TypeofProjectionGeometry": (0x7037, 0x100A, "CS"),
    "LogFlag": (0x7039, 0x1009, "CS"),
    "WaterAttenuationCoefficient": (0x7041, 0x1001, "DS"),
}
# What programs write that do not know a private element's own representation.
_UNKNOWN = (None, "UN", "OB", "OW")
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


class View:
    """The values of one file."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def texts(self, name: str) -> list[str]:
        """Values as text; none if the element is absent or empty."""
        value = self._value(name)
        if isinstance(value, str):
            value = value.split("\\")
        values = value if isinstance(value, (list, tuple)) else [value]
        return [str(one).strip(" \0") for one in values if one is not None and str(one).strip(" \0")]

    def text(self, name: str) -> str:
        """The first value as text, '' if there is none."""
        return next(iter(self.texts(name)), "")

    def numbers(self, name: str) -> np.ndarray:
        """Values as float64 `[n]`, empty if the element is absent.  Raises InputError for no numbers."""
        value = self._value(name)
        if isinstance(value, np.ndarray):
            return value
        try:
            return np.array([float(text) for text in self.texts(name)], dtype=np.float64)
        except ValueError as error:
            raise InputError(f"its '{name}' is no number.") from error

    def number(self, name: str, default: float | None = None) -> float:
        """The first value.  Raises InputError where it is absent without a default, or not finite."""
        values = self.numbers(name)
        if values.size == 0:
            if default is None:
                raise InputError(f"its '{name}' ({_tag_of(name)}) is missing.")
            return default
        if not math.isfinite(values[0]):
            raise InputError(f"its '{name}' is {values[0]}.")
        return float(values[0])

    def hint(self, name: str) -> float | None:
        """The first value of an element that nothing depends on; None where there is none to be used."""
        try:
            return self.number(name)
        except InputError:
            return None

    def _value(self, name: str) -> Any:
        group, element, representation = ELEMENTS[name]
        tag = (group << 16) | element
        if tag not in self._dataset:
            return None
        found = self._dataset.get_item(tag)
        if isinstance(found, RawDataElement):
            known = representation if found.VR in _UNKNOWN else found.VR
            return _decoded(found.value or b"", known, found.is_little_endian)
        assert isinstance(found, DataElement)
        value = found.value
        if isinstance(value, bytes):
            return _decoded(value, representation, True)
        if value is None or isinstance(value, str):
            return value
        return list(value) if hasattr(value, "__iter__") else value


def _decoded(value: bytes, representation: str, little_endian: bool) -> Any:
    if representation not in _BINARY:
        return value.decode("latin-1")
    letter = _BINARY[representation]
    count = len(value) // struct.calcsize(letter)
    order = "<" if little_endian else ">"
    return np.array(struct.unpack_from(f"{order}{count}{letter}", value), dtype=np.float64)


def _tag_of(name: str) -> str:
    group, element, _ = ELEMENTS[name]
    return f"{group:04X},{element:04X}"
