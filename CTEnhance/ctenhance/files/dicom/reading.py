"""A CT from DICOM files: find them, separate the series, stack the slices of one."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ParametricMapStorage

from ctenhance.core.volume import READABLE_SUFFIXES, CTVolume
from ctenhance.files.dicom.choice import Conditions, Frame
from ctenhance.files.dicom.header import (
    DicomFile,
    number,
    read_file,
    text,
    uncompressed_values,
    without_collecting,
)
from ctenhance.files.dicom.kinds import ATTRIBUTES as KIND_ATTRIBUTES
from ctenhance.files.dicom.kinds import is_capture, kinds, slices_of
from ctenhance.files.dicom.marks import ATTRIBUTES as SCAN_ATTRIBUTES
from ctenhance.files.dicom.parametric import read_map
from ctenhance.files.dicom.parted import SERIES_UID, looks_parted
from ctenhance.files.dicom.provenance import note_of_missing
from ctenhance.files.dicom.slices import HOUNSFIELD
from ctenhance.files.dicom.stack import read_stack
from ctenhance.files.names import BIG_ENDIAN, UNFINISHED, gaps, is_archive, is_big_endian, misnamed
from ctenhance.runtime.errors import InputError, SeveralSeriesError
from ctenhance.runtime.files import suffix_of
from ctenhance.runtime.large import Ahead

_MOST_LISTED = 12
DICOMDIR = "1.2.840.10008.1.3.10"
# Other files that hold images, by their suffix; an .img or .raw may be DICOM all the same.
_VOLUMES = {
    ".mgz": "a FreeSurfer volume", ".mgh": "a FreeSurfer volume", ".hdr": "half of a NIfTI or Analyze pair",
    ".img": "half of a NIfTI or Analyze pair", ".mnc": "a MINC volume", ".gipl": "a GIPL volume",
    ".vti": "a VTK volume", ".vtk": "a VTK volume", ".mrb": "a 3D Slicer scene", ".mrml": "a 3D Slicer scene",
}  # fmt: skip
_NOT_CT = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"), "a picture without HU"),
    **dict.fromkeys(
        (".npy", ".npz", ".mat", ".raw", ".bin", ".vol"), "an array without voxel size and position"
    ),
    **dict.fromkeys((".h5", ".hdf5"), "an HDF5 file (of projections 'ctenhance reconstruct' makes a CT)"),
}

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
_MEANS = ("tube_current_ma", "exposure_mas")  # tube-current modulation changes them along the patient


@without_collecting()  # as long as there are the headers' many objects, which are gone at its end
def read_dicom(
    paths: Sequence[Path], series: int | str | None, where: Mapping[str, Any] | None, check_hu: bool = True
) -> tuple[CTVolume, np.ndarray | None]:
    """Return the CT in a DICOM folder, file or list of files, and the ends of its slices (`ends_of`) if they
    are known; raises InputError with the reason alone.

    Without `check_hu` also a map that is stored as a CT; its `unit` then stands in `meta`.
    """
    with warnings.catch_warnings():
        # pydicom warns of every small offence against the standard; readers of CT scans cannot do anything.
        warnings.simplefilter("ignore")
        conditions = Conditions.of(where)
        indices: list[Path] = []
        with Ahead(_values_of_one_file(paths)) as memory:
            keywords = (*KIND_ATTRIBUTES, *SCAN_ATTRIBUTES, *conditions.keywords)
            files = list(files_of(paths, keywords, indices))
            if not files:
                raise InputError(_why_no_file(paths))
            if not check_hu and len(files) == 1 and files[0].header.SOPClassUID == ParametricMapStorage:
                return read_map(files[0].path), None
            found, left_out = slices_of(files, conditions.ignores(SERIES_UID))
            kept = set(conditions.files([file for images in found.values() for file in images]))
            meant = {uid: [file for file in images if file in kept] for uid, images in found.items()}
            chosen, of_number = _choose({uid: images for uid, images in meant.items() if images}, series)
            volume, ends = _volume(chosen, conditions, left_out, check_hu, memory)
            volume.meta["notes"] += of_number
        uid = text(chosen[0].header.get("SeriesInstanceUID"))
        known = {text(file.header.get("SOPInstanceUID")) for file in files}
        volume.meta["notes"] += filter(None, (note_of_missing(one, known, uid) for one in indices))
        return volume, ends


def _values_of_one_file(paths: Sequence[Path]) -> int:
    """Return how many values the uncompressed image has that is the only file among and below the paths."""
    files = list(
        islice((file for path in paths for file in ([path] if path.is_file() else files_below(path))), 2)
    )
    return uncompressed_values(files[0]) if len(files) == 1 else 0


def files_of(
    paths: Sequence[Path], keywords: Sequence[str], indices: list[Path] | None = None
) -> Iterator[DicomFile]:
    """The DICOM files among and below the paths, with the attributes that are asked for.

    A DICOMDIR, an index of files that are found without it, is only added to `indices`.
    """
    for path in paths:
        if not path.is_dir():
            file = read_file(path, keywords)
            if file is None:
                raise InputError(_why_no_dicom(path))
            if file.header.SOPClassUID == DICOMDIR:
                raise InputError("it is a DICOMDIR, an index without images; give its folder.")
            yield file
            continue
        found, others = [], []
        for one in files_below(path):
            file = read_file(one, keywords)
            if file is None:
                others.append(one)
            elif file.header.SOPClassUID != DICOMDIR:
                found.append(one)
                yield file
            elif indices is not None:
                indices.append(one)
        for _, why in gaps(found, others):
            raise InputError(why)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth; raises InputError for a folder that cannot be opened.

    Links to folders are followed, as a batch does, but no folder is visited twice.
    """
    visited = {os.path.realpath(one) for one in (folder, *folder.absolute().parents)}
    for here, subfolders, names in os.walk(folder, onerror=_raise_closed, followlinks=True):
        new = {place: name for name in sorted(subfolders) if (place := _place(here, name)) not in visited}
        subfolders[:] = sorted(new.values())
        visited |= new.keys()
        files = (Path(here, name) for name in sorted(names))
        # A broken link is reported when it is read; a pipe would block for ever.
        yield from (file for file in files if os.path.isfile(file) or not os.path.exists(file))


def home_of(files: Iterable[Path]) -> Path:
    """Return the folder that holds all of the files."""
    return Path(os.path.commonpath([file.parent for file in files]))


def _place(here: str, name: str) -> str:
    """Return where a folder really lies."""
    return os.path.realpath(os.path.join(here, name))


def _raise_closed(error: OSError) -> None:
    name = Path(os.fspath(error.filename)).name
    raise InputError(f"'{name}' cannot be opened ({error.strerror}); check its permissions.") from error


def _why_no_dicom(path: Path) -> str:
    if suffix_of(path) in UNFINISHED:
        return f"'{path.name}' is a download that was not finished; get the whole file."
    if reason := _other_format(path):
        return reason
    if reason := misnamed(path):
        return f"'{path.name}' {reason.removeprefix('it ')}"
    if is_archive(path):
        return f"'{path.name}' is an archive (zip or the like); unpack it first, and give the folder."
    with contextlib.suppress(OSError), path.open("rb") as stream:
        if is_big_endian(stream.read(3)):
            return f"'{path.name}' {BIG_ENDIAN.removeprefix('it ')}"
    return (
        f"'{path.name}' is no DICOM image; give a DICOM folder or DICOM files, or one file ending in "
        ".nii.gz, .nii, .nrrd, .mha or .mhd."
    )


def _other_format(path: Path) -> str:
    """Return what is wrong with a file that holds an image in another format; '' if it does not."""
    if kind := _VOLUMES.get(suffix_of(path)):
        return (
            f"'{path.name}' is {kind}, which is not read; give the DICOM series, or save it as .nii.gz, "
            ".nii, .nrrd, .mha or .mhd, for instance with 3D Slicer."
        )
    if kind := _NOT_CT.get(suffix_of(path)):
        return (
            f"'{path.name}' is {kind}; give the DICOM series, or a .nii.gz, .nii, .nrrd, .mha or .mhd file."
        )
    return ""


def _why_no_file(folders: Sequence[Path]) -> str:
    others = ""
    for path in (one for folder in folders for one in files_below(folder)):
        if suffix_of(path) in READABLE_SUFFIXES:
            return f"there is no DICOM image in it but the volume '{path.name}'; give that file itself."
        others = others or _other_format(path)
        if not others and (reason := misnamed(path)):
            return f"there is no DICOM image in it but '{path.name}': {reason}"
        if not others and is_archive(path):
            return f"there is no DICOM image in it but an archive, '{path.name}'; unpack it first."
    if others:
        return f"there is no DICOM image in it: {others}"
    if any(is_index(one) for folder in folders for one in files_below(folder)):
        return (
            "there is no DICOM image in it but a DICOMDIR, which only lists images; copy the whole disc, "
            "with its folders."
        )
    return (
        "there is no DICOM image in it; give a DICOM folder or file, or a .nii.gz, .nii, .nrrd, .mha or .mhd "
        "file."
    )


def is_index(path: Path) -> bool:
    """Say whether a file is a DICOMDIR, whatever its name."""
    file = read_file(path)
    return file is not None and file.header.SOPClassUID == DICOMDIR


def _choose(
    series: dict[str, list[DicomFile]], chosen: int | str | None
) -> tuple[list[DicomFile], list[str]]:
    """Return the files of the chosen series; the only one if none is; and a note where they are a part of one
    that shares its UID. Raises InputError otherwise."""
    numbers = series_numbers({uid: files[0] for uid, files in series.items()})
    if chosen is None and len(series) == 1:
        return next(iter(series.values())), []
    if chosen is not None:
        asked = str(chosen).strip()
        for uid, files in series.items():
            if asked == uid:
                return files, []
            if asked == str(numbers[uid]):
                return _of_number(files, asked) or (files, [])
        of_number = [part for files in series.values() if (part := _of_number(files, asked))]
        if len(of_number) == 1:
            return of_number[0]
    shown = sorted(series, key=numbers.__getitem__)
    studies = _studies({uid: files[0] for uid, files in series.items()})
    labels = [
        series_label(numbers[uid], series[uid][0], _count(series[uid]), studies.get(uid)) for uid in shown
    ]
    listing = "; ".join(labels[:_MOST_LISTED])
    if len(shown) > _MOST_LISTED:
        listing += f"; and {len(shown) - _MOST_LISTED} more"
    if chosen is None:
        example = min(numbers.values())
        parts = (
            f"; or, where {SERIES_UID} differs in all images of one scan, as some anonymisers write it, take "
            f"those of one number together with --where {SERIES_UID}=any"
            if looks_parted(series)
            else ""
        )
        raise SeveralSeriesError(
            f"it holds {len(series)} CT series ({listing}); choose one by its number with "
            f"--series {example} (in Python series={example}), or give a folder with the files of only one"
            f"{parts}.",
            [(numbers[uid], label) for uid, label in zip(shown, labels, strict=True)],
        )
    given = [str(files[0].header.get("SeriesNumber")).strip() for files in series.values()]
    alike = given.count(str(chosen).strip())
    several = f", as {alike} of its series have this number and are listed by others" if alike > 1 else ""
    raise InputError(f"it holds no CT series {chosen}{several}; choose from: {listing}.")


def _of_number(files: list[DicomFile], asked: str) -> tuple[list[DicomFile], list[str]] | None:
    """Return the files that have this SeriesNumber where files of others share their UID, as some anonymisers
    have it, with a note; None where none do."""
    those = [file for file in files if str(file.header.get("SeriesNumber")).strip() == asked]
    if not those or len(those) == len(files):
        return None
    note = f"{len(those)} of {len(files)} images with one {SERIES_UID}: those with SeriesNumber={asked}"
    return those, [note]


def series_numbers(series: Mapping[str, DicomFile]) -> dict[str, int]:
    """Return a number for each series: its SeriesNumber where no other has it, else one that no header has.

    `series` has an image of each by its UID.
    """
    given = {uid: int(number(file.header.get("SeriesNumber")) or 0) for uid, file in series.items()}
    times = Counter(given.values())
    numbers = {uid: found for uid, found in given.items() if found and times[found] == 1}
    others = sorted(series.keys() - numbers.keys())
    return numbers | {uid: rank for rank, uid in enumerate(others, start=max([0, *given.values()]) + 1)}


def _studies(series: Mapping[str, DicomFile]) -> dict[str, int]:
    """Return the rank of each series' study by date, if there are several."""
    keywords = ("StudyDate", "StudyTime", "StudyInstanceUID")
    of = {uid: tuple(text(file.header.get(one)) for one in keywords) for uid, file in series.items()}
    ranks = {study: rank for rank, study in enumerate(sorted(set(of.values())), start=1)}
    return {uid: ranks[study] for uid, study in of.items()} if len(ranks) > 1 else {}


def _count(files: Sequence[DicomFile]) -> int:
    return int(sum(number(file.header.get("NumberOfFrames")) or 1 for file in files))


def series_label(rank: int, first: DicomFile, count: int, study: int | None = None) -> str:
    """Return what a list of series says of one of `count` slices, such as 'series 3: 24 slices of 2 mm'.

    With the rank of its `study`, the earliest first, and, where it is listed by another number than its own,
    that and its first file.
    """
    # Without the description, which may hold names.
    label = f"series {rank}: {count} slice" + ("" if count == 1 else "s")
    kernel = text(first.value("ConvolutionKernel"))
    thickness = number(first.value("SliceThickness"))
    label += (f" of {thickness:g} mm" if thickness else "") + (f", kernel {kernel}" if kernel else "")
    label += f", of the {_ordinal(study)} study" if study else ""
    own = int(number(first.header.get("SeriesNumber")) or 0)
    if own in (rank, 0):
        return label
    return f"{label}, number {own} in its header, with '{first.path.parent.name}/{first.path.name}'"


def _ordinal(count: int) -> str:
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def _volume(
    files: Sequence[DicomFile],
    conditions: Conditions,
    left_out: Sequence[DicomFile],
    check_hu: bool,
    memory: Ahead,
) -> tuple[CTVolume, np.ndarray | None]:
    stack = read_stack(files, conditions, check_hu, memory)
    notes = list(stack.notes)
    if is_capture(files[0]):
        notes.append("the slices are secondary captures, taken as a CT because they lie in a stack")
    if chosen := conditions.note():
        notes.append(chosen)
    if left_out:
        notes.append(f"left out, as no slices of this CT: {kinds(left_out)}")
    sources = {
        "source_files": [str(file.path) for file, _ in stack.frames],
        "source_frames": [frame for _, frame in stack.frames],
    }
    meta = {**_meta(stack.frames), **sources, "notes": notes}
    if stack.unit != HOUNSFIELD:
        meta["unit"] = stack.unit
    return CTVolume(stack.array, stack.spacing, stack.origin, stack.direction, meta), stack.ends


def _meta(frames: Sequence[Frame]) -> dict[str, Any]:
    """Return what the headers of the slices, in their order, say.

    What is empty, or differs among slices that the user has declared one scan, is left out.
    """
    first = frames[0][0].header
    known: dict[str, Any] = {}
    for name, keyword in _TEXTS.items():
        texts = {text(file.value(keyword, frame=frame)) for file, frame in frames}
        known[name] = texts.pop() if len(texts) == 1 else ""
    for name, keywords in _NUMBERS.items():
        per_slice = [number(file.value(*keywords, frame=frame)) for file, frame in frames]
        values = [value for value in per_slice if value is not None]
        if values and (name in _MEANS or len(set(values)) == 1):
            known[name] = float(np.mean(values))
    known |= {name: text(first.get(keyword)) for name, keyword in _IDENTIFIERS.items()}
    known["sop_instance_uids"] = [text(file.header.get("SOPInstanceUID")) for file, _ in frames]
    return {name: value for name, value in known.items() if value not in (None, "")}
