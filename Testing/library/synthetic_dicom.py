"""DICOM files of the tests' own making: small CT series, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

ROWS, COLUMNS = 12, 16
INTERCEPT = -1024
STUDY, SERIES, FRAME = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "frame"))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def hounsfield(slices: int = 1, rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> np.ndarray:
    """Return whole HU [z, y, x]: air on the left, soft tissue on the right, noise."""
    draw = np.random.default_rng(seed)
    values = draw.normal(0, 15, (slices, rows, columns))
    values += np.where(np.arange(columns) < columns // 3, -950, 50)
    return np.rint(np.clip(values, INTERCEPT, None)).astype(np.int16)


def dataset(values: np.ndarray, position: Iterable[float], **changes: Any) -> FileDataset:
    """Return a CT image of HU [y, x]; `changes` sets attributes, or deletes those given None."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("transfer_syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = meta.MediaStorageSOPClassUID
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = STUDY, SERIES, FRAME
    made.Modality, made.Manufacturer, made.ManufacturerModelName = "CT", "ACME", "Scan 1"
    made.PatientName, made.PatientID = "Nobody^Known", "SECRET-7"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SeriesNumber, made.KVP, made.ConvolutionKernel = 2, 120, "B30f"
    made.SliceThickness, made.XRayTubeCurrent, made.Exposure = 5, 200, 100
    made.ImagePositionPatient = [float(one) for one in position]
    made.ImageOrientationPatient = list(AXIAL)
    made.PixelSpacing = [0.8, 0.7]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = values.shape
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, INTERCEPT, "HU"
    slope = float(changes.get("RescaleSlope") or 1)
    intercept = float(changes.get("RescaleIntercept", INTERCEPT) or 0)
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    made.PixelData = stored.astype("<i2" if changes.get("PixelRepresentation") else "<u2").tobytes()
    for keyword, value in changes.items():
        if value is not None:
            setattr(made, keyword, value)
        elif keyword in made:
            delattr(made, keyword)
    return made


def save(made: FileDataset, path: Path) -> Path:
    """Write the dataset as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    implicit = made.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    made.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    depths: Iterable[float] = (0.0, 2.5, 5.0, 7.5),
    orientation: Iterable[float] = AXIAL,
    sideways: float = 0.0,
    origin: Iterable[float] = (-100.0, -90.0, -400.0),
    prefix: str = "image",
    values: np.ndarray | None = None,
    **changes: Any,
) -> np.ndarray:
    """Write slices at the depths (mm along the normal, from the origin) and return their HU [z, y, x].

    `sideways` mm along the rows are added per slice (a gantry tilt). The files' names and instance numbers
    run against the order in space.
    """
    depths = list(depths)
    values = hounsfield(len(depths)) if values is None else values
    right, down = np.reshape(list(orientation), (2, 3))
    normal = np.cross(right, down)
    for index, depth in enumerate(depths):
        position = np.array(list(origin)) + depth * normal + index * sideways * right
        made = dataset(
            values[index],
            position,
            ImageOrientationPatient=[*right, *down],
            InstanceNumber=len(depths) - index,
            **changes,
        )
        save(made, folder / f"{prefix}{len(depths) - index:04d}.dcm")
    return values


def enhanced(values: np.ndarray, depths: Iterable[float], slopes: Iterable[float]) -> FileDataset:
    """Return a multi-frame Enhanced CT image of HU [z, y, x], one slope per frame."""
    made = dataset(values[0], (0, 0, 0), SOPClassUID=EnhancedCTImageStorage)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
        "RescaleType", "KVP", "ConvolutionKernel", "SliceThickness", "XRayTubeCurrent", "Exposure",
    ):  # fmt: skip
        delattr(made, keyword)

    def macro(**attributes: Any) -> Sequence:
        item = Dataset()
        for keyword, value in attributes.items():
            setattr(item, keyword, value)
        return Sequence([item])

    shared = Dataset()
    shared.PlaneOrientationSequence = macro(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = macro(PixelSpacing=[0.8, 0.7], SliceThickness=5)
    shared.CTReconstructionSequence = macro(ConvolutionKernel="Br40")
    shared.CTXRayDetailsSequence = macro(KVP=100.0)
    frames, stored = [], []
    for plane, depth, slope in zip(values, depths, slopes, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = macro(ImagePositionPatient=[-100.0, -90.0, float(depth)])
        frame.PixelValueTransformationSequence = macro(
            RescaleSlope=slope, RescaleIntercept=INTERCEPT, RescaleType="HU"
        )
        frame.CTExposureSequence = macro(XRayTubeCurrentInmA=150.0)
        frames.append(frame)
        stored.append(np.rint((plane - float(INTERCEPT)) / slope).astype("<u2"))
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    made.NumberOfFrames = len(frames)
    made.PixelData = np.stack(stored).tobytes()
    return made


def real_world(
    unit: str, slope: float = 0.02, intercept: float = -20.48, meaning: str = "", scheme: str = "UCUM"
) -> Sequence:
    """Return a Real World Value Mapping of stored values to this unit."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, scheme, meaning or unit
    item = Dataset()
    item.MeasurementUnitsCodeSequence, item.LUTLabel = Sequence([code]), "MAP"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 4095
    return Sequence([item])
