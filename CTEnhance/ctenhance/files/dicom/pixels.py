"""The stored values of a DICOM image, frame by frame, whatever its transfer syntax.

pydicom decodes uncompressed (implicit, explicit, big endian, deflated), RLE, JPEG 2000 and high-throughput
JPEG 2000 (HTJ2K) pixels: it refuses data that are cut off, where GDCM fills up. The JPEG and JPEG-LS families
it cannot decode without a GPL plug-in; those go frame by frame through SimpleITK's GDCM, as bare words. What
of each word is the value is decided here, the same way for all: its Bits Stored, with the sign that Pixel
Representation tells. The bits above may be zeros, ones or a sign, and old scanners kept overlays there
(PS3.5, 8.1.1 and 8.1.2).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 (its customary name)
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    RLETransferSyntaxes,
    SecondaryCaptureImageStorage,
    UncompressedTransferSyntaxes,
    generate_uid,
)

from ctenhance.files.dicom.header import DAMAGE, OVERLAYS, DicomFile, number
from ctenhance.files.dicom.sizes import require_size
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import why_not_written

_GDCM_SYNTAXES = (
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
)
_READ = (*_GDCM_SYNTAXES, *UncompressedTransferSyntaxes, *JPEG2000TransferSyntaxes, *RLETransferSyntaxes)
# Of those that pydicom would take for JPEG 2000, the only one that knows signs and every precision.
_JPEG_2000_PLUGIN = "pylibjpeg"
_STANDARD_ERROR = 2
_FLOATS = {"FloatPixelData": "Float Pixel Data", "DoubleFloatPixelData": "Double Float Pixel Data"}
# Of a JPEG stream.
_LOSSLESS_FRAME, _START_OF_SCAN = b"\xff\xc3", b"\xff\xda"
_AMBIGUOUS_PREDICTORS = (5, 6, 7)
_FEWEST_CUT_OFF = 8  # pairs of neighbours
_JUMP = 5 / 8  # of the range of stored values, from one pixel to the next: with another sign a small step
_BELOW_HU, _DENSE_HU = -1100.0, 3000.0  # no value of an image, and no middle one
_SMOOTHER = 0.25  # of the mean step to the next, as bytes in their order are
_one_at_a_time = threading.Lock()


def stored_planes(file: DicomFile, frames: Iterable[int]) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Yield (frame, stored values [y, x], integers, whether bits above Bits Stored held something unsaid).

    Uncompressed frames are read one by one, so that a file of thousands needs the memory of one. A plane is
    valid until the next one is asked for. Raises InputError for pixels that cannot be decoded.
    """
    asked = sorted(set(frames))
    header, name = file.header, file.path.name
    bits = int(header.get("BitsAllocated") or 0)
    stored = int(header.get("BitsStored") or bits)
    # Where the value stands at the word's upper end is found out from all frames together.
    if file.words_at is None or int(header.get("HighBit") or stored - 1) + 1 > stored:
        pixels = _decoded(file.path)
        if len(pixels.values) <= asked[-1]:
            raise InputError(f"the pixel data of '{name}' do not fit its header; export the series again.")
        for frame in asked:
            yield frame, pixels.values[frame], pixels.beyond
        return
    words = np.empty((int(header.Rows), int(header.Columns)), f"<u{bits // 8}")
    try:
        with file.path.open("rb", buffering=0) as stream:
            for frame in asked:
                stream.seek(file.words_at + frame * words.nbytes)
                if stream.readinto(words.view(np.uint8).data) != words.nbytes:
                    raise EOFError
                plane = _values(words[None], header, name)
                yield frame, plane.values[0], plane.beyond
    except DAMAGE as error:
        raise InputError(
            f"the pixel data of '{name}' cannot be read to their end; copy it again from its source."
        ) from error


@dataclass(frozen=True)
class _Pixels:
    """The stored values [frame, y, x], integers; `beyond`: bits above Bits Stored held something unsaid."""

    values: np.ndarray
    beyond: bool


def _decoded(path: Path) -> _Pixels:
    """Return the stored values of all frames; raises InputError for pixels that cannot be decoded."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        # pydicom leaves out compressed pixel data that have no end.
        if floats := next((one for one in _FLOATS if one in dataset), None):
            raise InputError(
                f"'{path.name}' holds its pixels as floating-point numbers ({_FLOATS[floats]}), as a map "
                "does and no CT from a scanner; give the original CT, or save it as .nii.gz or .nrrd first."
            )
        if "PixelData" not in dataset:
            raise InputError(
                f"'{path.name}' has no complete pixel data (it was cut off, or exported without its image); "
                "copy it again from its source."
            )
        if "TransferSyntaxUID" not in dataset.file_meta:
            # A file stripped of its first part: uncompressed, and pydicom has found out in which way.
            implicit, _ = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            )
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax in (*_GDCM_SYNTAXES, *JPEG2000TransferSyntaxes):
            require_size(_frames(dataset), int(dataset.Rows), int(dataset.Columns), path.name)
        if syntax in _GDCM_SYNTAXES:
            words = _words_by_gdcm(dataset, path.name)
        else:
            plugin = _JPEG_2000_PLUGIN if syntax in JPEG2000TransferSyntaxes else ""
            dataset.pixel_array_options(decoding_plugin=plugin, correct_unused_bits=False)
            words = dataset.pixel_array
            if syntax in JPEG2000TransferSyntaxes:
                words = _with_one_sign(dataset, words, path.name)
        return _values(words if words.ndim == 3 else words[None], dataset, path.name)
    except DAMAGE as error:
        if why := why_not_written(error):
            raise CTEnhanceError(f"Cannot write to the folder '{tempfile.gettempdir()}': {why}.") from error
        raise InputError(_not_decoded(path)) from error


def _not_decoded(path: Path) -> str:
    """Return why the pixels of a file cannot be decoded."""
    syntax = UID("")
    with contextlib.suppress(*DAMAGE):
        syntax = UID(pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    if not syntax or syntax in _READ:
        return (
            f"the pixel data of '{path.name}' cannot be decoded (cut off or damaged); copy it again from its "
            "source."
        )
    named = "a private one" if syntax.is_private else "no known one" if syntax.name == syntax else syntax.name
    return (
        f"the pixel data of '{path.name}' cannot be decoded: its transfer syntax, {syntax} ({named}), is not "
        "read; export it uncompressed (Explicit VR Little Endian), or convert it with gdcmconv --raw or a "
        "program of its maker."
    )


def _values(words: np.ndarray, header: Dataset, name: str) -> _Pixels:
    """Return the values in decoded words [frame, y, x]: of each its Bits Stored, signed if so declared."""
    size = 8 * words.dtype.itemsize
    stored = int(header.get("BitsStored") or size)
    unsigned = np.dtype(f"u{words.dtype.itemsize}")
    meant = np.dtype(f"i{words.dtype.itemsize}") if header.get("PixelRepresentation") else unsigned
    bits = words.astype(words.dtype.newbyteorder("="), copy=False).view(unsigned)
    if stored >= size:
        return _Pixels(bits.view(meant), False)
    values, clean = _lowest(bits, stored, meant)
    below = int(header.get("HighBit") or stored - 1) + 1 - stored
    if below > 0 and not clean:
        # Very old files have the value at the upper end of the word; others only say so.
        if np.any(bits & unsigned.type((1 << below) - 1)):
            raise InputError(
                f"the pixel data of '{name}' do not stand where its header says (High Bit "
                f"{below + stored - 1}, Bits Stored {stored}); export the series again."
            )
        values, clean = _lowest(bits >> unsigned.type(below), stored, meant)
    overlaid = _has_embedded_overlay(header)
    # Clean, too, are words with zeros above signed values, and such of which the largest became negative.
    whole = not clean and not overlaid and below <= 0
    if whole and (how := _bytes_otherwise(bits, stored, meant)):
        raise InputError(
            f"the bytes of the pixel data of '{name}' {how} by their values; export the series again, or "
            "copy it from its source."
        )
    if not overlaid and below <= 0 and _are_cut_off(values, bits.view(meant), stored):
        raise InputError(
            f"the header of '{name}' says that its values have {stored} bits (Bits Stored), and they use "
            "more, which would be cut off; set Bits Stored and High Bit to what the pixels have (often 12 "
            "and 11, or 16 and 15), or export the series again."
        )
    return _Pixels(values, not clean and not overlaid)


def _are_cut_off(values: np.ndarray, whole: np.ndarray, stored: int) -> bool:
    """Say whether the whole words [frame, y, x] are the values, and `values`, their lowest bits, are not.

    Where the bits above begin to be used, as beside dense bone, the word goes on from its neighbour and its
    lower bits jump; at the edge of an overlay it is the word that jumps. Many such places settle it, and most
    of few.
    """
    steep = 1 << (stored - 1)
    cut_off = overlaid = many = 0
    for cut, word in zip(values, whole, strict=True):
        more = cut != word
        if not more.any():
            continue
        for axis in (0, 1):
            edges = np.diff(more, axis=axis)
            in_cut, in_word = (np.abs(np.diff(one.astype(np.int64), axis=axis)[edges]) for one in (cut, word))
            cut_off += int(np.count_nonzero(in_word < in_cut))
            overlaid += int(np.count_nonzero(in_word > in_cut))
            many += int(np.count_nonzero((in_cut > steep) & (in_word < steep)))
    return many >= _FEWEST_CUT_OFF or cut_off > overlaid


def _bytes_otherwise(bits: np.ndarray, stored: int, meant: np.dtype) -> str:
    """Say how the bytes of words [frame, y, x] lie, where that makes them fit their bits, and smooth."""
    if bits.dtype.itemsize != 2:
        return ""
    late = np.frombuffer(bits.astype("<u2").tobytes()[1:] + b"\0", "<u2").astype(bits.dtype)
    ways = {
        "stand in the other order (big endian for little endian)": bits.byteswap(),
        "begin one byte late": late.reshape(bits.shape),
    }
    fit = {how: _roughness(one.view(meant)) for how, one in ways.items() if _lowest(one, stored, meant)[1]}
    best = min(fit, key=lambda how: fit[how], default="")
    return best if best and fit[best] < _SMOOTHER * _roughness(bits.view(meant)) else ""


def _roughness(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values.astype(np.int32), axis=-1)).mean())


def _lowest(bits: np.ndarray, stored: int, meant: np.dtype) -> tuple[np.ndarray, bool]:
    """Return the values in the lowest `stored` bits, and whether the bits above hold nothing else."""
    unused = bits.dtype.type(8 * bits.dtype.itemsize - stored)
    values = (bits << unused).view(meant) >> meant.type(unused)
    above = bits >> bits.dtype.type(stored)
    return values, bool(above.min() == above.max()) or np.array_equal(values.view(bits.dtype), bits)


def _has_embedded_overlay(header: Dataset) -> bool:
    positions = (header.get(tag) for tag in OVERLAYS)
    return any(position is not None and position.value for position in positions)


def _frames(dataset: Dataset) -> Iterator[bytes]:
    """The compressed streams of the frames."""
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    yield from generate_frames(
        dataset.PixelData,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=(offsets[0], offsets[1]) if offsets[0] and offsets[1] else None,
    )


def _words_by_gdcm(dataset: Dataset, name: str) -> np.ndarray:
    """Return the words [frame, y, x], unsigned, of JPEG or JPEG-LS compressed pixel data."""
    count, frames = int(dataset.get("NumberOfFrames") or 1), _frames(dataset)
    with tempfile.TemporaryDirectory(prefix="ctenhance-") as folder:
        path = Path(folder, "frame.dcm")
        words = []
        for _, frame in zip(range(count), frames, strict=False):
            _as_bare_image(dataset, frame).save_as(path, enforce_file_format=True)
            with _quiet():
                image = sitk.ReadImage(os.fspath(path), imageIO="GDCMImageIO")
            words.append(sitk.GetArrayFromImage(image).reshape(image.GetHeight(), image.GetWidth()))
            _require_one_meaning(frame, words[-1], name)
    if len(words) != count:
        raise ValueError("fewer frames than declared")
    return np.stack(words)


def _with_one_sign(dataset: Dataset, words: np.ndarray, name: str) -> np.ndarray:
    """Return the words of JPEG 2000 data, whose header has the last word on what is a sign.

    Data without a sign, of fewer bits than the header's signed values, fit these as they are. Raises
    InputError where data and header contradict each other on the sign, and that matters: negative words that
    the header calls unsigned, and signed ones that make sense without a sign only.
    """
    first = next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))
    said = get_j2k_parameters(first)
    signed, own = bool(dataset.get("PixelRepresentation")), int(said.get("precision") or 0)
    if not 0 < own <= 16 or said.get("is_signed") == signed:
        return words
    bits = words.astype(words.dtype.newbyteorder("="), copy=False).view(f"u{words.dtype.itemsize}")
    stored = int(dataset.get("BitsStored") or 16)
    if not signed:  # bits above those stored may be an overlay
        if own <= stored and int((bits & bits.dtype.type((1 << own) - 1)).max()) >> (own - 1):
            raise InputError(
                f"the header of '{name}' says that its pixels are unsigned, its JPEG 2000 data say that they "
                "are signed, and some are negative if so; export the series again, or from its source."
            )
        return words
    used = min(own, stored)
    bits = bits & bits.dtype.type((1 << used) - 1)
    if not int(bits.max()) >> (used - 1):
        return words
    wrapped, kept = _jumps(bits, used, dataset.get("PixelPaddingValue"))
    if own < stored:
        return words if kept > wrapped else bits.astype(np.uint16)
    if wrapped > kept or (wrapped == kept and _fits_unsigned_only(bits, used, dataset)):
        raise InputError(
            f"the header of '{name}' says that its pixels are signed, its JPEG 2000 data say that they are "
            "unsigned, and what is densest would be far below air if they were signed; set Pixel "
            "Representation to 0, or export the series again, or from its source."
        )
    return words


def _jumps(bits: np.ndarray, stored: int, padding: object) -> tuple[int, int]:
    """Return how many neighbours in words of so many bits [..., y, x] jump across the range with a sign and
    not without, and how many the other way round. `padding`, and the lowest value, are no neighbours."""
    none = [1 << (stored - 1)]
    if isinstance(padding, int):
        none.append(padding & ((1 << stored) - 1))
    shown = ~np.isin(bits, none)
    plain = bits.astype(np.int32)
    signed = plain - ((plain >> (stored - 1)) << stored)
    wrapped = kept = 0
    for axis in (-2, -1):
        both = np.delete(shown, -1, axis) & np.delete(shown, 0, axis)
        without, with_sign = (np.abs(np.diff(one, axis=axis))[both] for one in (plain, signed))
        jump, step = _JUMP * (1 << stored), (1 - _JUMP) * (1 << stored)
        wrapped += int(np.count_nonzero((with_sign > jump) & (without < step)))
        kept += int(np.count_nonzero((without > jump) & (with_sign < step)))
    return wrapped, kept


def _fits_unsigned_only(bits: np.ndarray, stored: int, header: Dataset) -> bool:
    """Say whether words [..., y, x] with their highest bit as a sign lie below all HU, and without among
    them, as metal in soft tissue does, or all of an image whose words begin at the middle of their range."""
    slope, intercept = (number(header.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    plain = bits.astype(np.float64) * (slope or 1.0) + (intercept or 0.0)
    signed = plain[bits >> (stored - 1) != 0] - (slope or 1.0) * (1 << stored)
    below = np.unique(signed[signed < _BELOW_HU])
    return below.size > 1 and float(np.median(plain)) < _DENSE_HU  # one value may be unsaid padding


def _require_one_meaning(frame: bytes, words: np.ndarray, name: str) -> None:
    """Raise InputError for JPEG lossless data that old programs wrote in another way than the standard's.

    Predictors 5 to 7 halve a sum or a difference of neighbours. Some encoders did that with signed words of
    16 bits: DicomObjects until 4.2.199, and whatever wrote the files for which DCMTK has its option +w6.
    Nothing says so, and decoders make another picture of it where words are 32768 or more, as those of
    negative HU are.
    """
    place = frame.find(_START_OF_SCAN)
    if _LOSSLESS_FRAME not in frame[: max(place, 0)] or words.dtype.itemsize < 2 or words.max() < 1 << 15:
        return
    predictor = frame[place + 7]  # after marker, length, one component's number and tables
    if predictor in _AMBIGUOUS_PREDICTORS:
        raise InputError(
            f"'{name}' is compressed as JPEG lossless with predictor {predictor}, which some encoders got "
            "wrong for signed pixels without a trace; decompress it with dcmdjpeg, or, if its picture is "
            "garbled then, with dcmdjpeg +w6."
        )


def _as_bare_image(dataset: Dataset, frame: bytes) -> FileDataset:
    """Return an image of this frame alone that has no rescaling, no sign, no overlay and no patient."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(dataset.file_meta.TransferSyntaxUID)
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.Rows, image.Columns = dataset.Rows, dataset.Columns
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = dataset.BitsAllocated
    image.HighBit, image.PixelRepresentation = dataset.BitsAllocated - 1, 0
    image.PixelData = encapsulate([frame])
    image["PixelData"].VR = "OB"
    return image


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what GDCM says there while it tries its decoders one after the other."""
    with _one_at_a_time, open(os.devnull, "wb") as nowhere:
        sys.stderr.flush()
        kept = os.dup(_STANDARD_ERROR)
        try:
            os.dup2(nowhere.fileno(), _STANDARD_ERROR)
            yield
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
