"""Writing a volume as a derived DICOM CT series: one image a slice, with unit, energy and lineage.

CT Image Storage with Image Type DERIVED\\SECONDARY; Rescale Type and Real World Value Mapping say the unit,
the multi-energy macros (PS3.3 C.8.15.3.12 and .13) the energy and the basis. Patient and study are those of a
series that the volume belongs to, where one is given; otherwise the study is made up from what the volume was
computed of, so that all images of one scan share it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

import ctenhance
from ctenhance.dicom_header import DAMAGE
from ctenhance.io.dicom_quantities import QUANTITIES, Code, Quantity, material_code
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_when_done
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.volume import CTVolume

_MOST = 32767
_NAMESPACE = uuid.UUID("6a0f3a7e-6c2b-4a55-9a53-4b1e6f0d9c11")
#: Kept of the series that a volume belongs to: patient, study, frame of reference.
_KEPT = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined", "ContrastBolusAgent",
)  # fmt: skip


@dataclass(frozen=True)
class Derivation:
    """What a volume is and how it was made.

    `quantity`: a name of `QUANTITIES`; `kev` of a monoenergetic image; `material` of a density; `report`:
    that of the run that made it; `like`: a DICOM folder or file of the patient's study; `low_noise`: the
    monoenergetic image was made of guided maps, too. Raises InputError for a quantity without what it needs.
    """

    quantity: str = "hu"
    kev: float | None = None
    material: str | None = None
    description: str | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    like: str | os.PathLike[str] | None = None
    low_noise: bool = False

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise InputError(f"There is no quantity '{self.quantity}': choose {', '.join(QUANTITIES)}.")
        if (self.quantity == "vmi") != (self.kev is not None):
            raise InputError("An energy in keV belongs to the quantity vmi, and to it alone.")
        if self.kev is not None and not 1 <= self.kev <= 1000:
            raise InputError(f"A monoenergetic image at {self.kev:g} keV is not possible.")
        if self.low_noise and self.kev is None:
            raise InputError("Low noise belongs to the quantity vmi, and to it alone.")
        if (self.quantity == "density") != (self.material is not None):
            raise InputError("A material belongs to the quantity density, and to it alone.")

    @property
    def meaning(self) -> Quantity:
        """The quantity in DICOM's terms."""
        return QUANTITIES[self.quantity]

    def text(self) -> str:
        """The series' description."""
        if self.description:
            return self.description[:64]
        if self.kev is not None:
            return f"{self.meaning.text} {self.kev:g} keV{' low noise' if self.low_noise else ''}"
        if self.material is not None:
            return f"{self.material.capitalize()} mg/mL"[:64]
        return self.meaning.text

    def lineage(self) -> str:
        """How it was made, in a sentence, for Derivation Description."""
        verb = str(self.report.get("verb") or "ctenhance")
        basis = self._basis()
        parts = [self.text(), f"by CTEnhance {self.report.get('ctenhance', ctenhance.__version__)} ({verb})"]
        parts += [f"from maps of {', '.join(basis)}"] if basis else []
        model = self.report.get("model") or {}
        parts += [f"model {model['name']} {str(model.get('sha256', ''))[:12]}"] if model.get("name") else []
        return "; ".join(parts)[:1024]

    def _basis(self) -> list[str]:
        settings = self.report.get("settings") or {}
        return [str(name) for name in settings.get("basis") or ()]


def write_series(
    volume: CTVolume,
    folder: str | os.PathLike[str],
    derivation: Derivation | None = None,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> Path:
    """Write a volume as files `slice0001.dcm` … into a folder that is made, or empty; return the folder.

    Values become 16-bit integers with one rescale slope: HU to a whole unit where they fit, others to a part
    in 32767 of the largest one. Raises InputError for a folder with files in it and for a study that cannot
    be read, Cancelled when asked to stop; the folder is then as it was.
    """
    made = derivation or Derivation()
    shared = _shared(volume, made)
    sources = [] if made.like is None else _take_over(shared, made.like)
    slope = _slope(volume.array, made.meaning)
    with folder_when_done(folder) as temporary:
        for index in range(len(volume.array)):
            if index % 4 == 0:
                check(cancel)
                progress("write", index, len(volume.array))
            image = _image(shared, volume, index, slope, made.meaning)
            if sources:
                place = np.array([float(value) for value in image.ImagePositionPatient])
                nearest = min(sources, key=lambda source: abs((source[0] - place) @ volume.direction[:, 2]))
                image.SourceImageSequence = [_reference(nearest[1])]
            image.save_as(temporary / f"slice{index + 1:04d}.dcm", enforce_file_format=True)
    progress("write", len(volume.array), len(volume.array))
    return Path(folder)


def _slope(array: np.ndarray, meaning: Quantity) -> float:
    most = max(abs(float(array.min())), abs(float(array.max())), 1e-6)
    if meaning.is_hounsfield and most <= _MOST:
        return 1.0
    # A decimal string of DICOM has 16 characters.
    return float(f"{most / (_MOST - 1):.9g}")


def _shared(volume: CTVolume, made: Derivation) -> Dataset:
    """The attributes that all images of the series have."""
    now = datetime.now()
    image = Dataset()
    image.PatientName, image.PatientID = "CTEnhance^Research", "CTENHANCE"
    image.PatientBirthDate = image.PatientSex = image.StudyDate = image.StudyTime = ""
    image.StudyID = image.AccessionNumber = image.ReferringPhysicianName = ""
    origin = str((made.report.get("input") or {}).get("sha256") or volume.identity()["sha256"])
    image.StudyInstanceUID, image.FrameOfReferenceUID = (
        _uid(f"{what} {origin}") for what in ("study", "frame")
    )
    image.PositionReferenceIndicator, image.PatientPosition = "", "HFS"
    image.SOPClassUID = CTImageStorage
    image.Modality = "CT"
    image.SeriesInstanceUID = generate_uid(prefix=None)
    image.SeriesNumber = 9000 + (round(made.kev) if made.kev is not None else 0)
    image.SeriesDescription = made.text()
    image.SeriesDate = image.ContentDate = image.InstanceCreationDate = now.strftime("%Y%m%d")
    image.SeriesTime = image.ContentTime = image.InstanceCreationTime = now.strftime("%H%M%S")
    image.Manufacturer, image.ManufacturerModelName = "CTEnhance", "CTEnhance"
    image.SoftwareVersions = str(made.report.get("ctenhance", ctenhance.__version__))
    image.ImageType = [
        "DERIVED",
        "SECONDARY",
        "AXIAL",
        *([made.meaning.image_type] if made.meaning.image_type else []),
    ]
    image.DerivationDescription = made.lineage()
    image.ContributingEquipmentSequence = [_equipment(made)]
    image.ImageComments = "Research use only; not for diagnosis."
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.AcquisitionNumber = None
    image.KVP = _decimal(volume.meta.get("kvp"))
    image.ConvolutionKernel = str(
        (made.report.get("settings") or {}).get("kernel") or volume.meta.get("kernel") or ""
    )
    _say_energy(image, made)
    return image


def _take_over(image: Dataset, like: str | os.PathLike[str]) -> list[tuple[np.ndarray, str]]:
    """Take patient, study and frame of reference from a series; return its images' places and UIDs."""
    reference = CTVolume.read(like)
    files = reference.meta.get("source_files")
    if not files:
        raise InputError(f"'{like}' is no DICOM series: give the folder of the patient's own images.")
    try:
        header = pydicom.dcmread(files[0], stop_before_pixels=True)
        for keyword in _KEPT:
            if keyword in header:
                image.add(header[keyword])
    except DAMAGE as error:
        raise InputError(f"'{files[0]}' cannot be read; copy it again from its source.") from error
    step = reference.direction[:, 2] * reference.spacing[2]
    uids = reference.meta.get("sop_instance_uids", ())
    return [(np.array(reference.origin) + index * step, str(uid)) for index, uid in enumerate(uids)]


def _reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, UID(uid)
    return item


def _equipment(made: Derivation) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(("109102", "DCM", "Processing Equipment"))]
    item.Manufacturer, item.ManufacturerModelName = "CTEnhance", "CTEnhance"
    item.SoftwareVersions = str(made.report.get("ctenhance", ctenhance.__version__))
    item.ContributionDescription = made.lineage()
    return item


def _say_energy(image: Dataset, made: Derivation) -> None:
    """The multi-energy macros: the energy of a monoenergetic image, and the basis that all were made of."""
    if made.kev is not None:
        characteristics = Dataset()
        characteristics.MonoenergeticEnergyEquivalent = float(made.kev)
        image.MultienergyCTCharacteristicsSequence = [characteristics]
    if made.report.get("verb") == "decompose":
        processing = Dataset()
        processing.DecompositionMethod = "PROJECTION_BASED"
        processing.DecompositionDescription = "Maximum likelihood of the counts in energy bins, ray by ray"
        processing.DecompositionMaterialSequence = [_material(name) for name in made._basis()]
        image.MultienergyCTProcessingSequence = [processing]


def _material(name: str) -> Dataset:
    item = Dataset()
    item.MaterialCodeSequence = [_code(material_code(name))]
    return item


def _image(shared: Dataset, volume: CTVolume, index: int, slope: float, meaning: Quantity) -> FileDataset:
    """One slice as a file's content."""
    instance = generate_uid(prefix=None)
    header = FileMetaDataset()
    header.MediaStorageSOPClassUID, header.MediaStorageSOPInstanceUID = CTImageStorage, instance
    header.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", dict(shared.items()), file_meta=header, preamble=b"\0" * 128)
    image.SOPInstanceUID = instance
    image.InstanceNumber = index + 1
    x, y, z = volume.direction.T
    position = np.array(volume.origin) + z * volume.spacing[2] * index
    image.ImagePositionPatient = [_decimal(value) for value in position]
    image.ImageOrientationPatient = [_decimal(value) for value in (*x, *y)]
    image.PixelSpacing = [_decimal(volume.spacing[1]), _decimal(volume.spacing[0])]
    image.SliceThickness = image.SpacingBetweenSlices = _decimal(volume.spacing[2])
    stored = np.rint(volume.array[index] / slope).astype("<i2")
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = _decimal(slope), "0", meaning.rescale_type
    image.WindowWidth, image.WindowCenter = _window(volume.array, meaning)
    image.RealWorldValueMappingSequence = [_real_world(slope, meaning)]
    image.PixelData = stored.tobytes()
    return image


def _window(array: np.ndarray, meaning: Quantity) -> tuple[str, str]:
    if meaning.is_hounsfield:
        return "400", "50"
    high = float(np.percentile(array[:: max(1, len(array) // 8), ::4, ::4], 99.5))
    width = max(high, 1e-3)
    return _decimal(width), _decimal(width / 2)


def _real_world(slope: float, meaning: Quantity) -> Dataset:
    item = Dataset()
    item.LUTExplanation, item.LUTLabel = meaning.text[:64], meaning.rescale_type[:16]
    item.MeasurementUnitsCodeSequence = [_code(meaning.unit)]
    item.add_new("RealWorldValueFirstValueMapped", "SS", -_MOST - 1)
    item.add_new("RealWorldValueLastValueMapped", "SS", _MOST)
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.0
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _uid(text: str) -> UID:
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, text).int}")


def _decimal(value: float | None) -> str:
    """A decimal string of at most 16 characters; empty for None."""
    if value is None:
        return ""
    return next(text for digits in range(15, 0, -1) if len(text := f"{float(value):.{digits}g}") <= 16)
