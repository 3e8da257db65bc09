"""A map that is not in HU as a DICOM Parametric Map (PS3.3 A.75): one file, a float32 frame a slice.

highdicom (MIT) builds it. Frames stand in the order of the volume's slices, and Frame Anatomy is there, since
dcmqi reads no others rightly.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, CTImageStorage

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.derivation import Derivation
from ctenhance.files.dicom.header import DAMAGE, frames_of, text
from ctenhance.files.dicom.units import unit_of_code
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.files.dicom.source import Source

FILE = "slice0001.dcm"  # all slices in one; the name under which scripts look for those of a series
_SAME_PLACE_MM, _TOLERANCE_MM = 1e-3, 0.1
# Of what the images of a series share: what a Parametric Map says of itself, or highdicom from its source.
_TAKEN_OVER = (
    "FrameOfReferenceUID", "PositionReferenceIndicator", "SeriesDescription", "SeriesDate", "SeriesTime",
    "ImageComments", "DerivationDescription", "ContributingEquipmentSequence", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BurnedInAnnotation", "StudyDescription",
    "IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence", "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "RecognizableVisualFeatures",
)  # fmt: skip
_OF_SOURCES = (
    "ReferencedSeriesSequence",
    "StudiesContainingOtherReferencedInstancesSequence",
    "SourceImageSequence",
)
_REGIONS = {
    "CHEST": ("51185008", "SCT", "Chest"), "ABDOMEN": ("818981001", "SCT", "Abdomen"),
    "HEAD": ("69536005", "SCT", "Head"), "NECK": ("45048000", "SCT", "Neck"),
    "PELVIS": ("816092008", "SCT", "Pelvis"),
}  # fmt: skip
_ANYWHERE = ("38266002", "SCT", "Entire body")


def write_map(
    path: Path,
    volume: CTVolume,
    shared: Dataset,
    derivation: Derivation,
    source: Source | None,
    new_uid: Callable[[str], UID],
) -> None:
    """Write a map; `shared`: what all images of a CT series of it would say, `new_uid`: gives its UIDs."""
    try:
        import highdicom as hd
    except ModuleNotFoundError as error:
        raise InputError(
            "A parametric map needs the package highdicom: install it, or write CT images with --storage ct."
        ) from error

    logging.getLogger("highdicom").setLevel(logging.ERROR)  # it tells of the stand-ins, which go
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meaning = derivation.meaning
        x, y, z = volume.direction.T
        places = [
            np.array(volume.origin) + z * volume.spacing[2] * index for index in range(len(volume.array))
        ]
        mapping = hd.pm.RealWorldValueMapping(
            lut_label=meaning.rescale_type[:16],
            lut_explanation=f"{meaning.text}; research use only"[:64],
            unit=hd.sr.CodedConcept(*meaning.unit),
            value_range=(float(volume.array.min()), float(volume.array.max())),
            slope=1.0,
            intercept=0.0,
        )
        image = hd.pm.ParametricMap(
            [_stand_in(shared, volume, place, new_uid) for place in places],
            volume.array,
            shared.SeriesInstanceUID,
            int(shared.SeriesNumber),
            new_uid("map"),
            1,
            "CTEnhance",
            "CTEnhance",
            str(shared.SoftwareVersions),
            "none",  # there is no device
            str(shared.get("RecognizableVisualFeatures") or "NO") == "YES",
            [mapping],
            voi_lut_transformations=[
                hd.VOILUTTransformation(float(shared.WindowCenter), float(shared.WindowWidth))
            ],
            pixel_measures=hd.PixelMeasuresSequence(
                (volume.spacing[1], volume.spacing[0]), volume.spacing[2], volume.spacing[2]
            ),
            plane_orientation=hd.PlaneOrientationSequence("PATIENT", [*x.tolist(), *y.tolist()]),
            plane_positions=[hd.PlanePositionSequence("PATIENT", place.tolist()) for place in places],
            content_label="MAP",
            content_description=derivation.text(),
            derived_pixel_contrast="QUANTITY",
        )
        for keyword in _TAKEN_OVER:
            if keyword in shared:
                image[keyword] = copy.deepcopy(shared[keyword])
        _put_in_order(image, places)
        _name_sources(image, source)
        _say_region(image, shared)
        image.save_as(path, enforce_file_format=True)


def _stand_in(shared: Dataset, volume: CTVolume, place: np.ndarray, new_uid: Callable[[str], UID]) -> Dataset:
    """What highdicom takes patient, study and place from: a CT image of a slice, without pixels."""
    image = copy.copy(shared)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, new_uid(f"stand-in {place.tolist()}")
    x, y, _ = volume.direction.T
    image.ImagePositionPatient = place.tolist()
    image.ImageOrientationPatient = [*x.tolist(), *y.tolist()]
    image.PixelSpacing = [volume.spacing[1], volume.spacing[0]]
    _, image.Rows, image.Columns = volume.array.shape
    return image


def _name_sources(image: Dataset, source: Source | None) -> None:
    """Name the patient's images of which each frame was made, instead of the stand-ins."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    for keyword in _OF_SOURCES:
        image.pop(keyword, None)
    named: dict[str, Dataset] = {}
    series = ""
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        group.pop("DerivationImageSequence", None)
        found = None if source is None else source.at(index)
        if found is None:
            continue
        item, reference = Dataset(), Dataset()
        item.DerivationCodeSequence = [hd.sr.CodedConcept.from_code(codes.DCM.UnspecifiedMethodOfCalculation)]
        item.SourceImageSequence = [found.reference()]
        group.DerivationImageSequence = [item]
        reference.ReferencedSOPClassUID = UID(str(found.header.SOPClassUID))
        reference.ReferencedSOPInstanceUID = UID(str(found.header.SOPInstanceUID))
        named[str(reference.ReferencedSOPInstanceUID)] = reference
        series = text(found.header.get("SeriesInstanceUID"))
    if named and series:
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedInstanceSequence = list(named.values())
        image.ReferencedSeriesSequence = [item]


def _say_region(image: Dataset, shared: Dataset) -> None:
    region, anatomy = Dataset(), Dataset()
    code = _REGIONS.get(str(shared.get("BodyPartExamined") or ""), _ANYWHERE)
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code
    known = shared.get("AnatomicRegionSequence")
    anatomy.AnatomicRegionSequence = copy.deepcopy(known) if known else [region]
    anatomy.FrameLaterality = str(shared.get("Laterality") or "U")
    image.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]


def _put_in_order(image: Dataset, places: Sequence[np.ndarray]) -> None:
    """Make frame n slice n: highdicom puts them from the head down."""
    groups = list(image.PerFrameFunctionalGroupsSequence)
    found = np.array(
        [group.PlanePositionSequence[0].ImagePositionPatient for group in groups], dtype=np.float64
    )
    apart = np.linalg.norm(found[None] - np.array(places)[:, None], axis=2)
    order = apart.argmin(axis=1)
    if len(set(order.tolist())) < len(groups) or apart.min(axis=1).max() > _SAME_PLACE_MM:
        raise RuntimeError("highdicom has put frames elsewhere")
    pixels = np.frombuffer(image.FloatPixelData, "<f4").reshape(len(groups), -1)
    image.FloatPixelData = pixels[order].tobytes()
    image.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        values = group.FrameContentSequence[0].DimensionIndexValues
        several = list(values) if isinstance(values, MultiValue) else [values]
        group.FrameContentSequence[0].DimensionIndexValues = [*several[:-1], index + 1]


def read_map(path: Path) -> CTVolume:
    """Read a Parametric Map of one quantity on a regular grid; `meta` has its `unit`.

    Raises InputError for a damaged one, several mappings, and frames that are no even stack."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path)
            return _volume(header, path.name)
    except DAMAGE as error:
        raise InputError(
            f"The parametric map '{path.name}' is damaged; copy it again from its source."
        ) from error


def _volume(image: Dataset, name: str) -> CTVolume:
    frames = frames_of(image)
    mappings: list[Any] = [frame.get("RealWorldValueMappingSequence") or [] for frame in frames]
    if any(len(one) != 1 for one in mappings):
        raise InputError(
            f"'{name}' has no one mapping from its values to a quantity; give a map of one quantity."
        )
    values = image.pixel_array.reshape(len(frames), image.Rows, image.Columns).astype(np.float64)
    codes = [one[0].MeasurementUnitsCodeSequence[0] for one in mappings]
    units = {unit_of_code(text(code.CodeValue), text(code.get("CodeMeaning"))) for code in codes}
    orientations = {tuple(map(float, frame["ImageOrientationPatient"])) for frame in frames}
    places = np.array([frame["ImagePositionPatient"] for frame in frames], dtype=np.float64)
    right, down = np.array(orientations.pop(), dtype=np.float64).reshape(2, 3)
    axes = np.stack([right, down, np.cross(right, down)])
    order = np.argsort(places @ axes[2], kind="stable")
    first, last = places[order[0]], places[order[-1]]
    count = len(frames)
    rows, columns = map(float, frames[0]["PixelSpacing"])
    pitch = float((last - first) @ axes[2]) / max(count - 1, 1) or float(frames[0].get("SliceThickness") or 1)
    off = places[order] - (first + pitch * np.arange(count)[:, None] * axes[2])
    if orientations or len(units) > 1 or np.abs(off).max() > _TOLERANCE_MM or pitch <= 0:
        raise InputError(f"The frames of '{name}' are no even stack of one quantity; give such a map.")
    array = np.stack(
        [
            values[frame] * float(mappings[frame][0].RealWorldValueSlope)
            + float(mappings[frame][0].RealWorldValueIntercept)
            for frame in order
        ]
    )
    meta: dict[str, Any] = {"unit": units.pop(), "notes": []}
    return CTVolume(
        array.astype(np.float32), (columns, rows, pitch), tuple(first.tolist()), axes.T.copy(), meta
    )
