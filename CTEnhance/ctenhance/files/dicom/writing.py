"""Writing a volume as a derived DICOM series: CT images, one a slice, or a Parametric Map (`parametric`).

CT Image Storage with Image Type DERIVED\\SECONDARY; Rescale Type and Real World Value Mapping say the unit,
the multi-energy macros (PS3.3 C.8.15.3.12 and .13) the energy and the basis. Patient and study are those of a
series that the volume belongs to, where one is given (`source` has the rules); otherwise the study is
made up from what the volume was computed of, so that all images of one scan share it.
"""

from __future__ import annotations

import io
import os
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctenhance.core.likeness import ONE_BODY
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.claims import require_true
from ctenhance.files.dicom.derivation import RESEARCH, Derivation
from ctenhance.files.dicom.header import text
from ctenhance.files.dicom.quantities import Code, Quantity, material_code
from ctenhance.files.dicom.source import Source, say_side
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_when_done
from ctenhance.runtime.progress import Cancellable, Progress, check, silent

__all__ = ["Derivation", "write_series"]

_MOST = 32767
_NAMESPACE = uuid.UUID("6a0f3a7e-6c2b-4a55-9a53-4b1e6f0d9c11")
_TEXT_VRS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
# The verbs whose results are slices as thick as they are apart, and those that change dose or sharpness.
_FROM_PROJECTIONS = ("reconstruct", "decompose")
_SIMULATED = (*_FROM_PROJECTIONS, "degrade")


def write_series(
    volume: CTVolume,
    folder: str | os.PathLike[str],
    derivation: Derivation | None = None,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
    warn: Callable[[str], None] | None = None,
    name: str = "",
) -> Path:
    """Write a volume as files `slice0001.dcm` … into a folder that is made, or empty; return the folder.

    Values become 16-bit integers with one rescale slope: HU to a whole unit where they fit, others to a part
    in 32767 of the largest one. `warn` gets a sentence on what does not fit the patient's series, or what the
    volume is to be called; `name`: its file's, which may tell. Raises InputError for a folder with files in
    it, for a study that cannot be read and for a volume that is clearly something else, Cancelled when asked
    to stop; the folder is then as it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every small offence of the patient's own series
        return _write(volume, Path(folder), derivation or Derivation(), progress, cancel, warn, name)


def _write(
    volume: CTVolume,
    folder: Path,
    derivation: Derivation,
    progress: Progress,
    cancel: Cancellable | None,
    warn: Callable[[str], None] | None,
    name: str,
) -> Path:
    unit = volume.meta.get("unit")
    if unit and derivation.meaning.is_hounsfield:
        raise InputError(
            f"The volume is a map with the unit '{unit}', not HU: say what it is with the quantity "
            "(--quantity)."
        )
    require_true(volume, derivation, name, warn)
    source = (
        None
        if derivation.like is None
        else Source.of(derivation.like, volume, derivation.series, derivation.where)
    )
    if source is not None:
        _require_upright(source, derivation)
    shared = _shared(volume, derivation, source)
    if source is not None and warn is not None:
        _tell_misfit(source, derivation, warn)
    slope = _slope(volume.array, derivation.meaning)
    backwards = source is not None and source.against_the_volume
    if derivation.as_map:
        from ctenhance.files.dicom.parametric import FILE, write_map

        progress("write", 0, 1)
        check(cancel)
        with folder_when_done(folder) as temporary:
            write_map(
                temporary / FILE, volume, shared, derivation, source, lambda what: _new_uid(derivation, what)
            )
        progress("write", 1, 1)
        return folder
    with folder_when_done(folder) as temporary:
        for index in range(len(volume.array)):
            if index % 4 == 0:
                check(cancel)
                progress("write", index, len(volume.array))
            instance = _new_uid(derivation, f"image {index}")
            image = _image(shared, volume, index, slope, derivation.meaning, instance)
            if backwards:  # so that viewers that go by the number scroll both series the same way
                image.InstanceNumber = len(volume.array) - index
            if source is not None:
                same_kind = derivation.quantity == "hu" and derivation.verb not in _FROM_PROJECTIONS
                simulated = derivation.verb in _SIMULATED and not derivation.from_images
                source.put_image(image, index, derivation.meaning.is_hounsfield, simulated, same_kind)
            image.save_as(temporary / f"slice{index + 1:04d}.dcm", enforce_file_format=True)
    progress("write", len(volume.array), len(volume.array))
    return folder


def _require_upright(source: Source, derivation: Derivation) -> None:
    """Raise InputError for a volume on the grid of the patient's series that shows the body turned."""
    if "turned" in source.displaced:
        raise InputError(
            f"The volume and '{derivation.like}' {source.displaced}, though their headers say the same: its "
            "slices would stand at wrong places in the patient; turn its voxels, as a program that lost or "
            "changed the orientation has left them, or give the volume as it was computed."
        )


def _tell_misfit(source: Source, derivation: Derivation, warn: Callable[[str], None]) -> None:
    if source.displaced:
        warn(
            f"The volume and '{derivation.like}' {source.displaced}: check that its slices stand where they "
            "belong."
        )
    elif derivation.meaning.is_hounsfield and source.correlation < ONE_BODY:
        warn(
            f"The volume and '{derivation.like}' hardly look like one body, though they lie at one place "
            f"(their parts correlate by {source.correlation:.2f}, those of one scan by 0.98 and more): check "
            "that it is the same patient's, and lies as its header says."
        )
    if not source.within:
        warn(
            f"The volume lies outside of what '{derivation.like}' shows: patient and study are taken from "
            "it, but not its frame of reference, so viewers will not lay one over the other."
        )
    elif source.nearest is None:
        warn(
            f"The volume's slices are not those of '{derivation.like}': patient, study and frame of "
            "reference are taken from it, but not how it was scanned (kVp, kernel, slice thickness, contrast "
            "agent)."
        )
    elif derivation.verb in ("enhance", "degrade"):
        given = derivation.report.get("input") or {}
        # Where the series is named, other programs' reading of it counts, which differs outside of the image.
        named = given.get("series") == source.series_uid
        if given.get("sha256", source.sha256) != source.sha256 and not named:
            warn(
                f"The report is of a run on other voxels than those of '{derivation.like}', though on "
                "the same slices: check that it is the series that was used, since kVp, kernel, slice "
                "thickness and contrast agent are taken from it."
            )


def _slope(array: np.ndarray, meaning: Quantity) -> float:
    most = max(abs(float(array.min())), abs(float(array.max())), 1e-6)
    if meaning.is_hounsfield and most <= _MOST:
        return 1.0
    # A decimal string of DICOM has 16 characters.
    return float(f"{most / (_MOST - 1):.9g}")


def _shared(volume: CTVolume, derivation: Derivation, source: Source | None) -> Dataset:
    """The attributes that all images of the series have."""
    now = datetime.now()
    image = Dataset()
    # Nothing of a patient's study is invented: what its series does not state stays empty.
    name, number = ("CTEnhance^Research", "CTENHANCE") if source is None else ("", "")
    image.PatientName, image.PatientID = name, number
    image.PatientBirthDate = image.PatientSex = image.StudyDate = image.StudyTime = ""
    image.StudyID = image.AccessionNumber = image.ReferringPhysicianName = ""
    origin = str((derivation.report.get("input") or {}).get("sha256") or volume.identity()["sha256"])
    image.StudyInstanceUID, image.FrameOfReferenceUID = (
        _uid(f"{what} {origin}") for what in ("study", "frame")
    )
    image.PositionReferenceIndicator = image.PatientPosition = ""
    image.SOPClassUID = CTImageStorage
    image.Modality = "CT"
    image.SeriesInstanceUID = _new_uid(derivation, "series")
    image.SeriesDate = image.ContentDate = image.InstanceCreationDate = now.strftime("%Y%m%d")
    image.SeriesTime = image.ContentTime = image.InstanceCreationTime = now.strftime("%H%M%S")
    image.Manufacturer, image.ManufacturerModelName = "CTEnhance", "CTEnhance"
    image.SoftwareVersions = derivation.version
    axial = abs(volume.direction[2, 2]) > max(abs(volume.direction[:2, 2]))
    kind = [derivation.meaning.image_type] if derivation.meaning.image_type else []
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if axial else "REFORMATTED", *kind]
    image.DerivationDescription = derivation.lineage()
    image.ContributingEquipmentSequence = [_equipment(derivation)]
    image.ImageComments = RESEARCH
    image.AcquisitionNumber = None
    image.KVP = _decimal(volume.meta.get("kvp"))
    anew = derivation.verb in _FROM_PROJECTIONS and not derivation.from_images
    known = {} if derivation.verb in _SIMULATED and not derivation.from_images else volume.meta
    thick = volume.spacing[2] if anew else known.get("slice_thickness_mm")
    image.SliceThickness = _decimal(thick)
    if kernel := derivation.setting("kernel") or known.get("kernel"):
        image.ConvolutionKernel = str(kernel)[:16]
    if derivation.verb == "decompose" and not derivation.from_images:  # of counts, which have neither
        image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    _say_energy(image, derivation)
    image.WindowWidth, image.WindowCenter = _window(volume.array, derivation.meaning)
    series, described, slices = None, "", ""
    if source is not None:
        source.put_series(image)
        if scanner := source.scanner():
            image.ContributingEquipmentSequence.append(scanner)
        series, described = source.number, source.description
        if source.nearest is None:
            slices = str([volume.array.shape, volume.spacing, volume.origin, volume.direction.tolist()])
    say_side(image)
    image.SeriesNumber = derivation.number(series, slices)
    image.SeriesDescription = derivation.text(described)
    _choose_character_set(image)
    return image


def _equipment(derivation: Derivation) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(("109102", "DCM", "Processing Equipment"))]
    item.Manufacturer, item.ManufacturerModelName = "CTEnhance", "CTEnhance"
    item.SoftwareVersions = derivation.version
    # Anonymisers that empty the comments leave this one.
    item.ContributionDescription = f"{derivation.lineage()}. {RESEARCH}"
    return item


def _say_energy(image: Dataset, derivation: Derivation) -> None:
    """The multi-energy macros: the energy of a monoenergetic image, and the basis that all were made of."""
    if derivation.kev is not None:
        characteristics = Dataset()
        characteristics.MonoenergeticEnergyEquivalent = float(derivation.kev)
        image.MultienergyCTCharacteristicsSequence = [characteristics]
    if derivation.verb == "decompose":
        processing = Dataset()
        what = ("PROJECTION_BASED", "counts in energy bins, ray by ray")
        if derivation.from_images:
            what = ("IMAGE_BASED", "images at several energies, voxel by voxel")
        processing.DecompositionMethod = what[0]
        processing.DecompositionDescription = f"Maximum likelihood of the {what[1]}"
        processing.DecompositionMaterialSequence = [_material(name) for name in derivation.basis()]
        image.MultienergyCTProcessingSequence = [processing]


def _material(name: str) -> Dataset:
    item = Dataset()
    item.MaterialCodeSequence = [_code(material_code(name))]
    return item


def _choose_character_set(image: Dataset) -> None:
    """Keep the series' own character set, unless it lacks letters of what is written: then UTF-8."""
    texts = Dataset()
    for element in image:
        if element.VR in (*_TEXT_VRS, "SQ") or element.keyword == "SpecificCharacterSet":
            texts.add(element)
    own = f"{image.SeriesDescription}{image.DerivationDescription}"
    undeclared = not image.get("SpecificCharacterSet") and not own.isascii()
    if undeclared or not _comes_back(texts):
        image.SpecificCharacterSet = "ISO_IR 192"


def _comes_back(texts: Dataset) -> bool:
    """Whether the texts are the same once written and read."""
    stream = io.BytesIO()
    try:
        pydicom.dcmwrite(stream, texts, implicit_vr=False, little_endian=True)  # what it lacks becomes '?'
        stream.seek(0)
        again = pydicom.dcmread(stream, force=True)
        return [_spelled(one) for one in again.iterall()] == [_spelled(one) for one in texts.iterall()]
    except (UnicodeError, LookupError):
        return False


def _spelled(element: pydicom.DataElement) -> str:
    return f"{element.tag} {'' if element.VR == 'SQ' else text(element.value)}".rstrip()


def _image(
    shared: Dataset, volume: CTVolume, index: int, slope: float, meaning: Quantity, instance: UID
) -> FileDataset:
    """One slice as a file's content."""
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
    if len(volume.array) == 1:  # of several the positions say it, and the CT Image IOD has no such attribute
        image.SpacingBetweenSlices = _decimal(volume.spacing[2])
    stored = np.rint(volume.array[index] / slope).astype("<i2")
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = _decimal(slope), "0", meaning.rescale_type
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
    # Anonymisers that empty the comments leave this one, too.
    item.LUTExplanation = f"{meaning.text}; research use only"[:64]
    item.LUTLabel = meaning.rescale_type[:16]
    item.MeasurementUnitsCodeSequence = [_code(meaning.unit)]
    # As SS the first would lose its sign wherever implicit VR is made explicit again within an item.
    item.DoubleFloatRealWorldValueFirstValueMapped = float(-_MOST - 1)
    item.DoubleFloatRealWorldValueLastValueMapped = float(_MOST)
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.0
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _uid(text: str) -> UID:
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, text).int}")


def _new_uid(derivation: Derivation, what: str) -> UID:
    return generate_uid(prefix=None) if derivation.uids_of is None else _uid(f"{what} {derivation.uids_of}")


def _decimal(value: float | None) -> str:
    """A decimal string of at most 16 characters; empty for None."""
    if value is None:
        return ""
    return next(text for digits in range(15, 0, -1) if len(text := f"{float(value):.{digits}g}") <= 16)
