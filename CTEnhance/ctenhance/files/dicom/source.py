"""The DICOM series that a derived one belongs to: what is kept of it, and of which of its images.

Patient and study are kept always; frame of reference and body part where the volume lies within the series;
what says how the scan was made (kVp, kernel, slice thickness, contrast, dose, times) only where the volume
has the series' own slices, since another scan of the same study may differ in each. A statement that the
source does not make is left out, not invented.
"""

from __future__ import annotations

import copy
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ctenhance.core.likeness import alike, extent, how_displaced, in_common, small_picture
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.header import DAMAGE, frames_of, text
from ctenhance.runtime.errors import InputError

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "OtherPatientIDsSequence", "PatientSpeciesDescription", "PatientBreedDescription", "ResponsiblePerson",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "QualityControlSubject",
    "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts", "Allergies", "PregnancyStatus",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ProcedureCodeSequence",
)  # fmt: skip
_PLACE = (
    "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined",
    "AnatomicRegionSequence", "Laterality",
)  # fmt: skip
_SCAN = (
    "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionUID",
    "IrradiationEventUID", "ProtocolName", "ScanOptions", "KVP", "DataCollectionDiameter",
    "DistanceSourceToDetector", "DistanceSourceToPatient", "GantryDetectorTilt", "TableHeight",
    "RotationDirection", "FilterType", "FilterMaterial", "GeneratorPower", "FocalSpots", "RevolutionTime",
    "SingleCollimationWidth", "TotalCollimationWidth", "TableSpeed", "TableFeedPerRotation",
    "SpiralPitchFactor", "DataCollectionCenterPatient",
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusRoute",
    "ContrastBolusAdministrationRouteSequence", "ContrastBolusVolume", "ContrastBolusStartTime",
    "ContrastBolusStopTime", "ContrastBolusTotalDose", "ContrastFlowRate", "ContrastFlowDuration",
    "ContrastBolusIngredient", "ContrastBolusIngredientConcentration",
    "TriggerTime", "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime",
)  # fmt: skip
# Of the dose and the reconstruction: not kept where a simulation has changed them.
_AS_SCANNED = (
    "ExposureTime", "XRayTubeCurrent", "Exposure", "ExposureInuAs", "ExposureModulationType",
    "EstimatedDoseSaving", "CTDIvol", "CTDIPhantomTypeCodeSequence", "ConvolutionKernel",
    "ConvolutionKernelGroup",
)  # fmt: skip
# Of the energy: kept by an image that is the source's own in another quality.
_ENERGY = (
    "MultienergyCTAcquisition", "MultienergyCTAcquisitionSequence", "MultienergyCTProcessingSequence",
    "MultienergyCTCharacteristicsSequence",
)  # fmt: skip
_KINDS_IN_HOUNSFIELD = ("VMI", "MAT_REMOVED", "MAT_MODIFIED")  # PS3.3 C.8.15.3.1.1, value 4
_SAME_FIELD = ("ReconstructionDiameter", "ReconstructionTargetCenterPatient")
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
# What an Enhanced CT image has instead, with the same unit.
_ENHANCED = {
    "ExposureTime": "ExposureTimeInms", "XRayTubeCurrent": "XRayTubeCurrentInmA", "Exposure": "ExposureInmAs",
    "AcquisitionDateTime": "FrameAcquisitionDateTime", "AcquisitionNumber": "FrameAcquisitionNumber",
}  # fmt: skip
_MARKS = (
    "BurnedInAnnotation", "RecognizableVisualFeatures", "QualityControlImage", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
_SCANNER = (
    "Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName", "DeviceSerialNumber",
    "SoftwareVersions",
)  # fmt: skip
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_THE_WHOLE = (*_PATIENT_AND_STUDY, *_PLACE, *_MARKS, *_SCANNER)
_ASKED = (
    *_PATIENT_AND_STUDY, *_PLACE, *_SCAN, *_AS_SCANNED, *_ENERGY, *_SAME_FIELD, *_WINDOW, *_MARKS, *_SCANNER,
    *_ENHANCED.values(), "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImageType", "SliceThickness",
    "SeriesNumber", "SeriesDescription", "InstanceNumber", "NumberOfFrames", "ImagePositionPatient",
    *_FUNCTIONAL_GROUPS,
)  # fmt: skip

# Compressions that always lose something, and those that may: these count as lossy unless the header denies.
_LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1", "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.111": "ISO_10918_1",  # JPEG XL without further loss, of a JPEG
}  # fmt: skip
_MAYBE_LOSSY = {
    "1.2.840.10008.1.2.4.81": "ISO_14495_1", "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.93": "ISO_15444_2", "1.2.840.10008.1.2.4.203": "ISO_15444_15",
    "1.2.840.10008.1.2.4.112": "ISO_18181_1",
}  # fmt: skip
# Body parts of PS3.16 Annex L without a side, as CT names them; of all others the side may matter.
_WITHOUT_SIDE = (
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN",
    "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON", "CORONARYARTERY", "CSPINE", "CTSPINE",
    "ESOPHAGUS", "FACE", "GALLBLADDER", "HEAD", "HEADNECK", "HEART", "JAW", "LARYNX", "LIVER", "LSPINE",
    "LSSPINE", "MAXILLA", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST", "NECKCHESTABDOMEN",
    "NECKCHESTABDPELV", "NOSE", "PANCREAS", "PELVIS", "PHARYNX", "PROSTATE", "RECTUM", "SKULL", "SPINE",
    "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYROID", "TLSPINE", "TRACHEA", "TSPINE", "UTERUS",
    "WHOLEBODY",
)  # fmt: skip
_SAME_DIRECTION = 1e-3
_OF_A_STEP = 0.1


@dataclass(frozen=True)
class SourceImage:
    """One image of the series: header, frame in it (0 if it is alone), attributes of it, place in mm."""

    header: Dataset
    frame: int
    values: Mapping[str, Any]
    position: np.ndarray

    def element(self, keyword: str) -> DataElement | None:
        """The attribute as an element of a single-frame image, None where it is absent, empty or damaged."""
        try:
            of_frames = any(one in self.header for one in _FUNCTIONAL_GROUPS) and keyword not in _OF_THE_WHOLE
            if not of_frames:
                # At the top alone: another patient's ID may stand within a sequence.
                element = copy.deepcopy(self.header[keyword]) if keyword in self.header else None
                if element is not None and element.VR == "SQ":
                    for item in element.value:  # decoded now, in the series' own character set
                        list(item.iterall())
                return element
            names = (keyword, _ENHANCED[keyword]) if keyword in _ENHANCED else (keyword,)
            value = next((self.values[name] for name in names if name in self.values), None)
            if value is None or (isinstance(value, MultiValue) and dictionary_VM(keyword) == "1"):
                return None  # two tubes have no kV in common
            if isinstance(value, float) and keyword in _ENHANCED:
                value = round(value)
            holder = Dataset()
            setattr(holder, keyword, copy.deepcopy(value))
            return holder[keyword]
        except DAMAGE:
            return None

    def put_energy(self, image: Dataset) -> None:
        """Put what the image says of its energy: the multi-energy macros, and value 4 of Image Type."""
        for keyword in _ENERGY:
            _put(image, self, keyword)
        kev = self.values.get("MonoenergeticEnergyEquivalent")
        if kev is not None and "MultienergyCTCharacteristicsSequence" not in image:  # of an Enhanced image
            item = Dataset()
            item.MonoenergeticEnergyEquivalent = float(kev)
            image.MultienergyCTCharacteristicsSequence = [item]
        kinds = text(self.values.get("FrameType") or self.values.get("ImageType")).split()
        image.ImageType = [*list(image.ImageType)[:3], *(one for one in kinds if one in _KINDS_IN_HOUNSFIELD)]

    def reference(self) -> Dataset:
        """An item that names the image as a source (PS3.3 table 10-3)."""
        item = Dataset()
        item.ReferencedSOPClassUID = UID(str(self.header.SOPClassUID))
        item.ReferencedSOPInstanceUID = UID(str(self.header.SOPInstanceUID))
        if (self.header.get("NumberOfFrames") or 1) > 1:
            item.ReferencedFrameNumber = self.frame + 1
        purpose = Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
        purpose.CodeMeaning = "Source image for image processing operation"
        item.PurposeOfReferenceCodeSequence = [purpose]
        return item


@dataclass(frozen=True)
class Source:
    """The series, and how a volume lies to it.

    `images` from the first slice to the last; `nearest`: for each slice of the volume the index of the image
    at the same place, None where the volume's slices are not the series'; `within`: whether the volume lies
    in the part of space that the series shows, at least in part; `same_field`: its slices have the same
    outline; `same_step`: they are as far apart; `displaced`: how a volume does not lie on the series where it
    should (`core.likeness.how_displaced`), `correlation`: how its parts correlate with the series' own.
    """

    images: list[SourceImage]
    sha256: str
    nearest: list[int] | None
    within: bool
    same_field: bool
    same_step: bool
    displaced: str = ""
    correlation: float = 1.0

    @property
    def series_uid(self) -> str:
        """The Series Instance UID; empty where there is none."""
        return text(self.images[0].header.get("SeriesInstanceUID"))

    @classmethod
    def of(
        cls,
        like: str | os.PathLike[str],
        volume: CTVolume,
        series: int | str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Source:
        """Read a series (`series` and `where` as in `CTVolume.read`) and compare the volume's grid with it.

        Raises InputError for anything but a DICOM CT series, and for damaged files.
        """
        reference = CTVolume.read(like, series, where=where)
        files = reference.meta.get("source_files")
        if not files:
            raise InputError(f"'{like}' is no DICOM series: give the folder of the patient's own images.")
        images = list(_images(files, reference.meta["source_frames"]))
        nearest = _nearest(volume, reference, images)
        low, high = extent(volume, reference)
        last = np.array(reference.array.shape[::-1]) - 0.5
        outline = np.concatenate([low[:2] + 0.5, high[:2] - last[:2]])
        displaced, correlation = _likeness(volume, reference)
        return cls(
            images,
            reference.identity()["sha256"],
            nearest,
            within=bool((low < last).all() and (high > -0.5).all()),
            same_field=nearest is not None and bool(np.abs(outline).max() < 0.5),
            same_step=abs(volume.spacing[2] - reference.spacing[2]) <= _OF_A_STEP * reference.spacing[2],
            displaced=displaced,
            correlation=correlation,
        )

    def at(self, index: int) -> SourceImage | None:
        """The image at the place of the volume's slice, None where there is none."""
        return None if self.nearest is None else self.images[self.nearest[index]]

    @property
    def number(self) -> int:
        """The number of the series; of one without any a number made of its UID, so that those of a study
        differ."""
        found = self.images[0].element("SeriesNumber")
        given = 0 if found is None or found.is_empty else int(found.value)
        return given if given > 0 else 1000 + zlib.crc32(self.series_uid.encode()) % 200_000

    @property
    def description(self) -> str:
        """The description of the series that the volume's slices are of; empty for none."""
        found = None if self.nearest is None else self.images[0].element("SeriesDescription")
        return "" if found is None else text(found.value)

    @property
    def against_the_volume(self) -> bool:
        """Whether the scanner counted its images against the order of the volume's slices."""
        if self.nearest is None or len(self.nearest) < 2:
            return False
        first, last = (self.images[self.nearest[end]].element("InstanceNumber") for end in (0, -1))
        if first is None or first.is_empty or last is None or last.is_empty:
            return False
        return int(first.value) > int(last.value)

    def put_series(self, image: Dataset) -> None:
        """Put what all images of the derived series take over into `image`."""
        first = self.images[0]
        for keyword in _PATIENT_AND_STUDY:
            _put(image, first, keyword)
        if self.within:
            for keyword in _PLACE:
                _put(image, first, keyword)
        for keyword in ("RecognizableVisualFeatures", "QualityControlImage"):
            _put(image, first, keyword)
        # Whether pixels were ever lost, and whether they name the patient, must not be forgotten: one image
        # of the series is enough, and whether the volume was made of it need not be certain.
        said = [_yes_or_no(one.header.get("BurnedInAnnotation")) for one in self.images]
        if "YES" in said or (self.nearest is not None and set(said) == {"NO"}):
            image.BurnedInAnnotation = "YES" if "YES" in said else "NO"
        self._say_compression(image)

    def _say_compression(self, image: Dataset) -> None:
        states = [_compression(one.header) for one in self.images]
        if "01" in states:
            lossy = self.images[states.index("01")]
            image.LossyImageCompression = "01"
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                _put(image, lossy, keyword)
            if "LossyImageCompressionMethod" not in image and (method := _method(lossy.header)):
                image.LossyImageCompressionMethod = method
        elif self.nearest is not None and set(states) == {"00"}:
            image.LossyImageCompression = "00"

    def put_image(
        self, image: Dataset, index: int, hounsfield: bool, simulated: bool, same_kind: bool
    ) -> None:
        """Put what slice `index` takes over: how it was scanned, and the window where the values are HU.

        `simulated`: its dose and sharpness are no longer the scan's; `same_kind`: it shows what the source
        shows, so that an image at 70 keV stays one.
        """
        source = self.at(index)
        if source is None:
            return
        for keyword in _SCAN:
            _put(image, source, keyword)
        if not simulated:
            for keyword in _AS_SCANNED:
                _put(image, source, keyword)
            if self.same_step:
                _put(image, source, "SliceThickness")
        if self.same_field:
            for keyword in _SAME_FIELD:
                _put(image, source, keyword)
        window = [source.element(keyword) for keyword in _WINDOW]
        if hounsfield and all(one is not None and not one.is_empty for one in window[:2]):
            for element in filter(None, window):
                image.add(element)
        if same_kind:
            source.put_energy(image)
        image.SourceImageSequence = [source.reference()]

    def scanner(self) -> Dataset | None:
        """The item of Contributing Equipment Sequence that says which scanner acquired the data, if known."""
        if self.nearest is None or self.images[0].element("Manufacturer") is None:
            return None
        item, purpose = Dataset(), Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator = "109101", "DCM"
        purpose.CodeMeaning = "Acquisition Equipment"
        item.PurposeOfReferenceCodeSequence = [purpose]
        for keyword in _SCANNER:
            _put(item, self.images[0], keyword)
        return item


def _put(image: Dataset, source: SourceImage, keyword: str) -> None:
    element = source.element(keyword)
    # An empty one says nothing, but does not take the place of what is known.
    if element is not None and not (element.is_empty and image.get(keyword)):
        image.add(element)


def say_side(image: Dataset) -> None:
    """Laterality (type 2C) is there, if only empty, unless the body part is known to have no side."""
    if str(image.get("BodyPartExamined") or "") in _WITHOUT_SIDE:
        if not image.get("Laterality"):
            image.pop("Laterality", None)
    elif "Laterality" not in image:
        image.Laterality = ""


def _yes_or_no(value: Any) -> str:
    """Return YES, NO or '', also of values that are written otherwise."""
    return {"Y": "YES", "T": "YES", "1": "YES", "N": "NO", "F": "NO", "0": "NO"}.get(
        text(value).upper()[:1], ""
    )


def _compression(header: Dataset) -> str:
    """'01' where the pixels were ever compressed with loss, '00' where the header denies it, else ''."""
    syntax = str(header.file_meta.get("TransferSyntaxUID") or "")
    said = text(header.get("LossyImageCompression")).strip()
    said = said.rjust(2, "0") if said else ""
    # Some name the ratio or the method alone.
    named = any(header.get(f"LossyImageCompression{what}") for what in ("Ratio", "Method"))
    if not said and named:
        said = "01"
    if said == "01" or syntax in _LOSSY or (syntax in _MAYBE_LOSSY and said != "00"):
        return "01"
    return "00" if said == "00" else ""


def _method(header: Dataset) -> str | None:
    return {**_LOSSY, **_MAYBE_LOSSY}.get(str(header.file_meta.get("TransferSyntaxUID") or ""))


def _images(files: Sequence[str], frames: Sequence[int]) -> Iterator[SourceImage]:
    """The image of each slice, by its file and its frame in it."""
    known: dict[str, list[SourceImage]] = {}
    for path, frame in zip(files, frames, strict=True):
        if path not in known:
            known[path] = _images_in(path)
        yield known[path][frame]


def _images_in(path: str) -> list[SourceImage]:
    images = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every small offence against the standard
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_ASKED))
            for frame, values in enumerate(frames_of(header)):
                place = np.array(values["ImagePositionPatient"], dtype=np.float64)
                images.append(SourceImage(header, frame, values, place))
    except DAMAGE as error:
        raise InputError(f"'{path}' cannot be read; copy it again from its source.") from error
    return images


def _nearest(volume: CTVolume, reference: CTVolume, images: Sequence[SourceImage]) -> list[int] | None:
    """For each slice of the volume the index of the image in the same plane, None unless all have one."""
    normal = reference.direction[:, 2]
    if abs(abs(float(volume.direction[:, 2] @ normal)) - 1) > _SAME_DIRECTION:
        return None
    places = np.array([image.position @ normal for image in images])
    step = volume.direction[:, 2] * volume.spacing[2]
    depths = np.array([(volume.origin + index * step) @ normal for index in range(len(volume.array))])
    nearest = np.abs(depths[:, None] - places[None]).argmin(1)
    away = np.abs(depths - places[nearest])
    low, high = extent(volume, reference)
    beside = (high[:2] < -0.5).any() or (low[:2] > np.array(reference.array.shape[:0:-1]) - 0.5).any()
    if beside or away.max() > _OF_A_STEP * reference.spacing[2]:
        return None
    return [int(index) for index in nearest]


def _likeness(volume: CTVolume, reference: CTVolume) -> tuple[str, float]:
    """Return how a volume does not lie where it does on the reference by their grids, and how their parts
    correlate; an empty text and 1 where they have too little in common to tell."""
    shape, size = volume.array.shape, np.array(reference.spacing)
    apart = np.abs(np.subtract(volume.origin, reference.origin)) / size
    one, other, step = reference.array, volume.array, 1
    if (
        shape != reference.array.shape
        or apart.max() > _OF_A_STEP
        or not np.allclose(volume.spacing, size, rtol=_SAME_DIRECTION)
        or not np.allclose(volume.direction, reference.direction, atol=_SAME_DIRECTION)
    ):
        one, other, step = in_common(reference, volume)
        if not other.size:
            return "", 1.0
    correlation = alike(small_picture(one), small_picture(other))
    return how_displaced(one, other, volume.spacing, step), correlation
