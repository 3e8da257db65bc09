"""A CT from DICOM files: find them, tell the series apart, stack the slices of one."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset

from ctenhance.dicom_header import DicomFile, attribute, number, read_header, text
from ctenhance.dicom_stack import read_stack
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.volume import CTVolume

_CT_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
)
_MOST_LISTED = 12
_DICOMDIR = "1.2.840.10008.1.3.10"

_TEXTS = {"kernel": "ConvolutionKernel", "manufacturer": "Manufacturer", "model": "ManufacturerModelName"}
_IDENTIFIERS = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "frame_of_reference_uid": "FrameOfReferenceUID",
}
# Keyword of a CT image, and the one that an Enhanced CT image has instead.
_NUMBERS = {
    "kvp": ("KVP",),
    "slice_thickness_mm": ("SliceThickness",),
    "tube_current_ma": ("XRayTubeCurrent", "XRayTubeCurrentInmA"),
    "exposure_mas": ("Exposure", "ExposureInmAs"),
}


def read_dicom(paths: Sequence[Path], series: int | str | None) -> CTVolume:
    """Return the CT in a DICOM folder, file or list of files; raises InputError with the reason alone."""
    with warnings.catch_warnings():
        # pydicom warns of every small offence against the standard; readers of CT scans cannot do anything.
        warnings.simplefilter("ignore")
        files = list(_dicom_files(paths))
        chosen, left_out = _ct_series(files)
        return _volume(_choose(chosen, series), left_out)


def _dicom_files(paths: Sequence[Path]) -> Iterator[DicomFile]:
    for path in paths:
        if not path.is_dir():
            header = read_header(path)
            if header is None:
                raise InputError(
                    f"'{path.name}' is no DICOM image; give a DICOM folder or DICOM files, or one file "
                    "ending in .nii.gz, .nii, .nrrd, .mha or .mhd."
                )
            if header.SOPClassUID == _DICOMDIR:
                raise InputError("it is a DICOMDIR, an index without images; give its folder.")
            yield DicomFile(path, header)
            continue
        for folder, subfolders, names in os.walk(path):
            subfolders.sort()
            for name in sorted(names):
                header = read_header(Path(folder, name))
                # A DICOMDIR is an index of the files, which are found without it.
                if header is not None and header.SOPClassUID != _DICOMDIR:
                    yield DicomFile(Path(folder, name), header)


def _ct_series(files: Sequence[DicomFile]) -> tuple[dict[str, list[DicomFile]], list[DicomFile]]:
    """Return the CT slices by SeriesInstanceUID, and the other files; raises InputError without slices.

    Raises InputError also for a slice without pixels.
    """
    series: dict[str, list[DicomFile]] = {}
    left_out = []
    for file in files:
        if _is_ct(file.header) and not _is_localizer(file.header) and _is_placed_image(file.header):
            if not file.header.get("Rows") or not file.header.get("Columns"):
                # Before the series are told apart: a file that is cut off may have lost its series, too.
                raise InputError(
                    f"'{file.path.name}' has no pixel data (it was cut off, or exported without its image); "
                    "copy it again from its source."
                )
            series.setdefault(text(file.header.get("SeriesInstanceUID")), []).append(file)
        else:
            left_out.append(file)
    if not series:
        raise InputError(_why_no_slice(left_out))
    return series, left_out


def _is_ct(header: Dataset) -> bool:
    # De-identification sometimes empties Modality.
    return header.Modality == "CT" or (not header.Modality and header.SOPClassUID in _CT_STORAGE)


def _is_localizer(header: Dataset) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or ())


def _is_placed_image(header: Dataset) -> bool:
    """Tell slices from dose reports, screen pictures and raw data, which also come with the modality CT.

    A proper CT image that lacks pixels or position counts as one, so that this is said and not passed over.
    """
    return header.SOPClassUID in _CT_STORAGE or "ImagePositionPatient" in header


def _why_no_slice(files: Sequence[DicomFile]) -> str:
    if not files:
        return (
            "there is no DICOM image in it; give a DICOM folder or file, or a .nii.gz, .nii, .nrrd, .mha or "
            ".mhd file."
        )
    ct = [file.header for file in files if _is_ct(file.header)]
    if not ct:
        return f"there is no CT in it but {_kinds(files)}; give a CT series."
    if any(_is_localizer(header) for header in ct):
        return "it holds localizer (scout) images only; give the series with the slices."
    if any((header.get("SamplesPerPixel") or 1) > 1 for header in ct):
        return "it holds colour pictures (RGB), as screen captures do; give the original CT slices."
    return "its CT objects are no slices with a position in the patient; give the original CT slices."


def _kinds(files: Sequence[DicomFile]) -> str:
    """Return a listing such as '24 MR and 1 SR objects'."""
    counts = Counter(file.header.Modality or "unnamed" for file in files)
    return " and ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) + (
        " object" if len(files) == 1 else " objects"
    )


def _choose(series: dict[str, list[DicomFile]], wanted: int | str | None) -> list[DicomFile]:
    """Return the files of the wanted series; the only one if none is wanted; raises InputError otherwise."""
    numbers = _series_numbers(series)
    if wanted is None and len(series) == 1:
        return next(iter(series.values()))
    if wanted is not None:
        for uid, files in series.items():
            if str(wanted).strip() in (uid, str(numbers[uid])):
                return files
    shown = sorted(series, key=numbers.__getitem__)
    listing = "; ".join(_label(numbers[uid], series[uid]) for uid in shown[:_MOST_LISTED])
    if len(shown) > _MOST_LISTED:
        listing += f"; and {len(shown) - _MOST_LISTED} more"
    if wanted is None:
        example = min(numbers.values())
        raise InputError(
            f"it holds {len(series)} CT series ({listing}); choose one by its number with "
            f"--series {example} (in Python series={example}), or give a folder with the files of only one."
        )
    raise InputError(f"it holds no CT series {wanted}; choose from: {listing}.")


def _series_numbers(series: dict[str, list[DicomFile]]) -> dict[str, int]:
    """Return a number for each series: its SeriesNumber where that tells all apart, else its rank from 1."""
    given = {uid: number(files[0].header.get("SeriesNumber")) for uid, files in series.items()}
    known = {uid: int(found) for uid, found in given.items() if found}
    if len(set(known.values())) == len(series):
        return known
    return {uid: rank for rank, uid in enumerate(sorted(series), start=1)}


def _label(rank: int, files: Sequence[DicomFile]) -> str:
    # Without the description, which may hold names.
    count = int(sum(number(file.header.get("NumberOfFrames")) or 1 for file in files))
    label = f"series {rank}: {count} slice" + ("" if count == 1 else "s")
    kernel = text(attribute(files[0].header, "ConvolutionKernel"))
    thickness = number(attribute(files[0].header, "SliceThickness"))
    return label + (f" of {thickness:g} mm" if thickness else "") + (f", kernel {kernel}" if kernel else "")


def _volume(files: Sequence[DicomFile], left_out: Sequence[DicomFile]) -> CTVolume:
    from ctenhance.volume import CTVolume

    stack = read_stack(files)
    notes = list(stack.notes)
    if left_out:
        notes.append(f"left out, as no slices of this CT: {_kinds(left_out)}")
    meta = {**_meta(stack.files), "source_files": [str(file.path) for file in stack.files], "notes": notes}
    return CTVolume(stack.array, stack.spacing, stack.origin, stack.direction, meta)


def _meta(files: Sequence[DicomFile]) -> dict[str, Any]:
    """Return what the headers of the slices, in their order, tell; empty attributes are left out."""
    first = files[0].header
    known: dict[str, Any] = {name: text(attribute(first, keyword)) for name, keyword in _TEXTS.items()}
    for name, keywords in _NUMBERS.items():
        per_slice = [number(attribute(file.header, *keywords)) for file in files]
        values = [value for value in per_slice if value is not None]
        known[name] = float(np.mean(values)) if values else None
    known |= {name: text(first.get(keyword)) for name, keyword in _IDENTIFIERS.items()}
    known["sop_instance_uids"] = [text(file.header.get("SOPInstanceUID")) for file in files]
    return {name: value for name, value in known.items() if value not in (None, "")}
