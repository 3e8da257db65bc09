"""Pixels of every transfer syntax, and what their words may hold beside the value."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from synthetic_dicom import dataset, enhanced, hounsfield

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom import stack
from ctenhance.runtime.errors import InputError

HU = hounsfield(1, rows=48, columns=64)[0].astype(np.int32)
HU[5, 5:8] = 1500, 2047, -1000
BEYOND = (
    "bits above Bits Stored left out of the values (an overlay of an old scanner, or metal too dense for "
    "them)"
)

OVERLAY = np.zeros(HU.shape, np.uint16)
OVERLAY[10:20, 10:30] = 0x8000
OVERLAY[30:40, 3:40] |= 0x1000

SIGNED = HU.astype(np.int16).view(np.uint16)
UNSIGNED = (HU + 1024).astype(np.uint16)

# Words, Pixel Representation, Bits Stored, intercept, whether the bits above hold something unsaid.
WORDS: dict[str, tuple[np.ndarray, int, int, int, bool]] = {
    "16 bits": (UNSIGNED, 0, 16, -1024, False),
    "16 bits signed": (SIGNED, 1, 16, 0, False),
    "12 bits": (UNSIGNED, 0, 12, -1024, False),
    "12 bits with an overlay": (UNSIGNED | OVERLAY, 0, 12, -1024, True),
    "12 bits signed, the sign carried on": (SIGNED, 1, 12, 0, False),
    "12 bits signed, zeros above": (SIGNED & 0x0FFF, 1, 12, 0, False),
    "12 bits signed, ones above": (SIGNED | 0xF000, 1, 12, 0, False),
    "12 bits signed with an overlay": ((SIGNED & 0x0FFF) | OVERLAY, 1, 12, 0, True),
}

Encoder = Callable[[np.ndarray], bytes]


def codecs() -> Any:
    return pytest.importorskip("imagecodecs", reason="no encoder (imagecodecs) is on this machine")


def precision(words: np.ndarray) -> int:
    return 12 if words.max() < 4096 else 16


def rle(words: np.ndarray) -> bytes:
    rows, columns = words.shape
    return RLELosslessEncoder.encode(
        words.tobytes(), rows=rows, columns=columns, samples_per_pixel=1, bits_allocated=16, bits_stored=16,
        pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1,
    )  # fmt: skip


def jpeg_lossless(words: np.ndarray, predictor: int) -> bytes:
    return codecs().jpeg_encode(words, bitspersample=precision(words), lossless=True, predictor=predictor)


def jpeg_2000(words: np.ndarray, **settings: Any) -> bytes:
    return codecs().jpeg2k_encode(words, codecformat="j2k", level=0, reversible=True, **settings)


LOSSLESS: dict[str, tuple[UID, Encoder]] = {
    "RLE": (RLELossless, rle),
    "JPEG lossless": (JPEGLossless, lambda words: jpeg_lossless(words, 4)),
    "JPEG lossless SV1": (JPEGLosslessSV1, lambda words: jpeg_lossless(words, 1)),
    "JPEG-LS": (JPEGLSLossless, lambda words: codecs().jpegls_encode(words)),
    "JPEG 2000": (JPEG2000Lossless, lambda words: jpeg_2000(words, bitspersample=precision(words))),
    "JPEG 2000 of signed words": (JPEG2000Lossless, lambda words: jpeg_2000(words.view(np.int16))),
    "HTJ2K": (HTJ2KLossless, lambda words: codecs().htj2k_encode(words)),
    "HTJ2K of signed words": (HTJ2KLossless, lambda words: codecs().htj2k_encode(words.view(np.int16))),
    "HTJ2K RPCL": (HTJ2KLosslessRPCL, lambda words: codecs().htj2k_encode(words)),
}


def image(case: str, **changes: Any) -> FileDataset:
    words, signed, stored, intercept, _ = WORDS[case]
    made = dataset(
        HU, (0, 0, 0), PixelRepresentation=signed, BitsStored=stored, HighBit=stored - 1,
        RescaleIntercept=intercept, **changes,
    )  # fmt: skip
    made.PixelData = words.tobytes()
    return made


def compress(made: FileDataset, syntax: UID, frames: list[bytes]) -> FileDataset:
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([bytes(frame) for frame in frames])
    made["PixelData"].VR = "OB"
    return made


def read(made: FileDataset, path: Path) -> CTVolume:
    made.save_as(path, enforce_file_format=True)
    return CTVolume.read(path)


def check(volume: CTVolume, case: str) -> None:
    np.testing.assert_array_equal(volume.array[0], HU)
    assert volume.meta["notes"] == ([BEYOND] if WORDS[case][-1] else [])


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_codecs_give_the_value_alone(tmp_path: Path, codec: str, case: str, capfd: Any):
    syntax, encode = LOSSLESS[codec]
    words = WORDS[case][0]
    check(read(compress(image(case), syntax, [encode(words)]), tmp_path / "a.dcm"), case)
    # GDCM tries its decoders one after the other, and each complains on standard error.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_uncompressed_pixels_give_the_value_alone(tmp_path: Path, syntax: UID, case: str):
    made = image(case, transfer_syntax=syntax)
    if syntax == ExplicitVRBigEndian:
        made.PixelData = WORDS[case][0].astype(">u2").tobytes()
    made["PixelData"].VR = "OW"
    dcmwrite(
        tmp_path / "a.dcm", made, implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian, force_encoding=True,
    )  # fmt: skip
    check(CTVolume.read(tmp_path / "a.dcm"), case)


def test_an_overlay_that_the_header_declares_needs_no_note(tmp_path: Path):
    made = image("12 bits with an overlay")
    made.add_new((0x6000, 0x0100), "US", 16)
    made.add_new((0x6000, 0x0102), "US", 15)
    volume = read(made, tmp_path / "a.dcm")
    np.testing.assert_array_equal(volume.array[0], HU)
    assert volume.meta["notes"] == []


@pytest.mark.parametrize("case", ["16 bits", "16 bits signed"])
@pytest.mark.parametrize("stored", [9, 10, 11])
def test_bits_stored_that_cut_the_values_off_are_refused(tmp_path: Path, stored: int, case: str):
    """The bits above hold values, not an overlay: wrapped tissue would look like an image all the same."""
    made = image(case)
    values = np.clip(np.linspace(-1000, 1900, HU.size).reshape(HU.shape) + HU % 20, -1000, 2000).astype(int)
    made.PixelData = (values + (0 if made.PixelRepresentation else 1024)).astype("<i2").tobytes()
    made.BitsStored, made.HighBit = stored, stored - 1
    with pytest.raises(InputError, match=rf"have {stored} bits \(Bits Stored\), and they use more"):
        read(made, tmp_path / "a.dcm")
    made.BitsStored, made.HighBit = 12, 11
    np.testing.assert_array_equal(read(made, tmp_path / "a.dcm").array[0], values)


def test_bits_stored_that_cut_water_off_are_refused(tmp_path: Path):
    """Of 10 bits, water (1024 stored) looks like air, and the edge between them is gone."""
    y, x = np.indices(HU.shape)
    noise = np.random.default_rng(4).normal(0, 6, HU.shape)
    values = np.rint(np.where(np.hypot(y - 24, x - 32) < 18, noise, -1000 + noise)).astype(int)
    made = image("16 bits")
    made.PixelData = (values + 1024).astype("<u2").tobytes()
    made.BitsStored, made.HighBit = 10, 9
    with pytest.raises(InputError, match="have 10 bits"):
        read(made, tmp_path / "a.dcm")


def test_the_value_at_the_upper_end_of_the_word(tmp_path: Path):
    """As files from before 1993 have it; others only claim it."""
    for words in (UNSIGNED << 4, UNSIGNED):
        made = dataset(HU, (0, 0, 0), BitsStored=12, HighBit=15)
        made.PixelData = words.tobytes()
        np.testing.assert_array_equal(read(made, tmp_path / "a.dcm").array[0], HU)
    made.PixelData = (UNSIGNED << 4 | OVERLAY >> 12).tobytes()
    with pytest.raises(InputError, match=r"do not stand where its header says \(High Bit 15, Bits Stored 12"):
        read(made, tmp_path / "a.dcm")


LOSSY: dict[str, tuple[UID, Encoder, float]] = {
    "JPEG extended": (
        JPEGExtended12Bit, lambda words: codecs().jpeg_encode(words, bitspersample=12, level=75), 40,
    ),
    "JPEG-LS near-lossless": (JPEGLSNearLossless, lambda words: codecs().jpegls_encode(words, level=2), 2),
    "JPEG 2000": (
        JPEG2000,
        lambda words: codecs().jpeg2k_encode(words, codecformat="j2k", level=60, bitspersample=12),
        30,
    ),
    "HTJ2K": (HTJ2K, lambda words: codecs().htj2k_encode(words, level=0.0005), 60),
}  # fmt: skip


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("case", ["12 bits", "12 bits signed, zeros above"])
def test_lossy_codecs_stay_near_the_value(tmp_path: Path, codec: str, case: str):
    syntax, encode, tolerance = LOSSY[codec]
    # Nothing below zero: a signed word wraps around there, which no lossy coder gets over.
    given = 300 + np.arange(HU.shape[1]) * 4 + np.random.default_rng(2).normal(0, 10, HU.shape).astype(int)
    words = (given if "signed" in case else given + 1024).astype(np.uint16)
    volume = read(compress(image(case), syntax, [encode(words)]), tmp_path / "a.dcm")
    assert 0 < np.abs(volume.array[0] - given).max() <= tolerance


def test_jpeg_baseline_of_eight_bits(tmp_path: Path):
    """A CT squeezed into 8 bits by a slope is still in HU."""
    stored = np.rint((HU + 1024) / 16).clip(0, 255).astype(np.uint8)
    made = dataset(HU, (0, 0, 0), BitsAllocated=8, BitsStored=8, HighBit=7, RescaleSlope=16)
    made = compress(made, JPEGBaseline8Bit, [codecs().jpeg_encode(stored, level=100)])
    volume = read(made, tmp_path / "a.dcm")
    assert np.abs(volume.array[0] - (stored * 16.0 - 1024)).max() <= 16 * 2


@pytest.mark.parametrize("codec", ["JPEG lossless SV1", "JPEG-LS", "JPEG 2000", "RLE"])
@pytest.mark.parametrize("extended", [False, True])
def test_compressed_frames_keep_their_own_rescaling(tmp_path: Path, codec: str, extended: bool):
    syntax, encode = LOSSLESS[codec]
    values = hounsfield(3, rows=16, columns=24)
    values = values - values % 2
    slopes = [1, 2, 1]
    made = enhanced(values, depths=(0, 2, 4), slopes=slopes)
    frames = [
        bytes(encode(((plane + 1024) // slope).astype(np.uint16)))
        for plane, slope in zip(values, slopes, strict=True)
    ]
    compress(made, syntax, frames)
    if extended:
        made.PixelData, made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    np.testing.assert_array_equal(read(made, tmp_path / "a.dcm").array, values)


def test_frames_that_are_missing_are_said(tmp_path: Path):
    _, encode = LOSSLESS["JPEG-LS"]
    made = enhanced(hounsfield(3), depths=(0, 2, 4), slopes=[1, 1, 1])
    compress(made, JPEGLSLossless, [encode((plane + 1024).astype(np.uint16)) for plane in hounsfield(3)[:2]])
    with pytest.raises(InputError, match="cannot be decoded"):
        read(made, tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        ("1.2.840.113619.5.2", "1.2.840.113619.5.2 (a private one)"),  # GE's, of old workstations
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_named(tmp_path: Path, syntax: str, named: str):
    made = image("12 bits")
    made.PixelData = encapsulate([WORDS["12 bits"][0].tobytes()])
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    with pytest.raises(InputError, match="export it uncompressed") as caught:
        CTVolume.read(tmp_path / "a.dcm")
    assert "its transfer syntax" in str(caught.value) and named in str(caught.value)


@pytest.mark.parametrize(
    ("way", "said"), [("swapped", "stand in the other order (big endian"), ("late", "begin one byte late")]
)
def test_bytes_that_lie_otherwise_are_called_so(tmp_path: Path, way: str, said: str):
    made = image("12 bits")
    words = UNSIGNED.astype("<u2")
    made.PixelData = words.byteswap().tobytes() if way == "swapped" else b"\0" + words.tobytes()[:-1]
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError) as caught:
        CTVolume.read(tmp_path / "a.dcm")
    assert said in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_in_another_encoding_is_no_hindrance(tmp_path: Path):
    """ITK would end the process at one; it is not given it."""
    made = compress(image("12 bits"), JPEGLosslessSV1, [jpeg_lossless(UNSIGNED, 1)])
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    os.rename(tmp_path / "a.dcm", os.fsencode(tmp_path) + b"/\xfc.dcm")
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array[0], HU)


@pytest.mark.parametrize("predictor", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("case", ["16 bits", "16 bits signed"])
def test_predictors_of_jpeg_lossless_that_old_encoders_got_wrong_for_signed_words(
    tmp_path: Path, predictor: int, case: str
):
    """Of signed words nobody can tell which way they were written; of all others there is one way only."""
    words = WORDS[case][0]
    made = image(case, transfer_syntax=JPEGLossless)
    made.PixelData = encapsulate([jpeg_lossless(words, predictor)])
    dcmwrite(tmp_path / "one.dcm", made, enforce_file_format=True)
    if case == "16 bits signed" and predictor >= 5:
        with pytest.raises(InputError, match=f"with predictor {predictor}, .* dcmdjpeg"):
            CTVolume.read(tmp_path / "one.dcm")
    else:
        np.testing.assert_array_equal(CTVolume.read(tmp_path / "one.dcm").array[0], HU)


@pytest.mark.parametrize("name", ["JPEG 2000 of signed words", "HTJ2K of signed words"])
def test_jpeg_2000_and_its_header_contradict_each_other_on_the_sign(tmp_path: Path, name: str):
    """Negative numbers in the stream would be HU above 64000; without any there is nothing to contradict."""
    syntax, encode = LOSSLESS[name]
    for case, agrees in (("16 bits", True), ("16 bits signed", False)):
        made = image(case, transfer_syntax=syntax, PixelData=None)
        made.PixelRepresentation = 0
        made.PixelData = encapsulate([encode(WORDS[case][0])])
        made["PixelData"].VR = "OB"
        dcmwrite(tmp_path / "one.dcm", made, enforce_file_format=True)
        if agrees:
            np.testing.assert_array_equal(CTVolume.read(tmp_path / "one.dcm").array[0], HU)
        else:
            with pytest.raises(InputError, match=r"says that its pixels are unsigned, its JPEG 2000 data"):
                CTVolume.read(tmp_path / "one.dcm")


def of_jpeg_2000(path: Path, words: np.ndarray, bits: int, stored: int, intercept: int) -> None:
    """Words without a sign, of so many bits, under a header of signed values."""
    made = image("12 bits", transfer_syntax=JPEG2000Lossless, PixelData=None)
    made.BitsStored, made.HighBit = stored, stored - 1
    made.PixelRepresentation, made.RescaleIntercept = 1, intercept
    made.PixelData = encapsulate([jpeg_2000(words.astype(np.uint16), bitspersample=bits)])
    made["PixelData"].VR = "OB"
    dcmwrite(path, made, enforce_file_format=True)


@pytest.mark.parametrize(("most", "agrees"), [(1023, True), (1077, False), (1500, False), (2494, False)])
def test_jpeg_2000_without_a_sign_under_a_header_with_one(tmp_path: Path, most: int, agrees: bool):
    """Words of 1024 more than HU: from 1024 HU on their highest bit would be a sign, and bone 4096 lower."""
    hu = np.random.default_rng(5).normal(40, 12, HU.shape).round().clip(-1024, 1023)
    hu[:, : hu.shape[1] // 3] = -1000
    hu[4:7, -6:-3] = [[900, 1000, 900], [1000, most, 1000], [900, 1000, 900]]
    of_jpeg_2000(tmp_path / "one.dcm", hu + 1024, 12, 12, -1024)
    if agrees:
        np.testing.assert_array_equal(CTVolume.read(tmp_path / "one.dcm").array[0], hu)
    else:
        with pytest.raises(InputError, match=r"its pixels are signed, its JPEG 2000 data say .* unsigned"):
            CTVolume.read(tmp_path / "one.dcm")


@pytest.mark.parametrize("stored", [13, 16])
@pytest.mark.parametrize(("intercept", "metal"), [(-1024, 3500), (-4096, 1500), (-5120, 900)])
def test_jpeg_2000_of_13_bits_without_a_sign_under_a_header_with_one(
    tmp_path: Path, stored: int, intercept: int, metal: int
):
    """Metal alone, all that is dense, or all, begin above the middle of the range; 16 signed bits hold it."""
    hu = np.random.default_rng(5).normal(40, 12, HU.shape).round()
    hu[:, : hu.shape[1] // 3] = -1000
    hu[4:6, -6:-4] = [[metal, metal + 50], [metal - 50, metal]]
    of_jpeg_2000(tmp_path / "one.dcm", hu - intercept, 13, stored, intercept)
    if stored == 16:
        np.testing.assert_array_equal(CTVolume.read(tmp_path / "one.dcm").array[0], hu)
    else:
        with pytest.raises(InputError, match=r"its pixels are signed, its JPEG 2000 data say .* unsigned"):
            CTVolume.read(tmp_path / "one.dcm")


@pytest.mark.parametrize(
    ("bits", "stored", "tissue"), [(13, 13, 40), (13, 13, -990), (16, 13, 40), (12, 16, 40)]
)
def test_signed_words_in_jpeg_2000_without_a_sign_are_read(
    tmp_path: Path, bits: int, stored: int, tissue: int
):
    """As some scanners write them: the sign is that of so many bits, though the stream tells of none."""
    hu = np.random.default_rng(5).integers(-1010, -1000, HU.shape)
    hu[:, hu.shape[1] // 3 :] += 1000 + tissue
    hu[0] = -2000  # unsaid padding
    of_jpeg_2000(tmp_path / "one.dcm", hu & ((1 << bits) - 1), bits, stored, 0)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "one.dcm").array[0], hu.clip(-1024))


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_uncompressed_frames_are_read_one_by_one(tmp_path: Path, undefined: bool, bits: int):
    """Whatever the sequences' lengths, and in the order of the slices, not of the frames in the file."""
    values = hounsfield(7, rows=15, columns=17).clip(-1024, None)
    values = values - values % 16
    depths, slopes = [0, 4, 8, 12, 2, 6, 10], [1 if bits == 16 else 8] * 6 + [16]
    made = enhanced(values, depths=depths, slopes=slopes)
    if bits == 8:
        made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
        stored = [(plane + 1024) // slope for plane, slope in zip(values, slopes, strict=True)]
        made.PixelData = np.stack(stored).astype(np.uint8).tobytes() + b"\0"  # an even length
    if undefined:
        made["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        for group in made.PerFrameFunctionalGroupsSequence:
            group.is_undefined_length_sequence_item = True
            for element in group:
                element.is_undefined_length = True
    volume = read(made, tmp_path / "a.dcm")
    np.testing.assert_array_equal(volume.array, values[np.argsort(depths)])
    assert volume.meta["source_frames"] == [0, 4, 1, 5, 2, 6, 3]


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = enhanced(hounsfield(3), depths=(0, 2, 4), slopes=[1, 1, 1])
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    grid = stack.grid_of

    def cut_then(*arguments: Any) -> Any:
        os.truncate(tmp_path / "a.dcm", (tmp_path / "a.dcm").stat().st_size - 100)
        return grid(*arguments)

    monkeypatch.setattr(stack, "grid_of", cut_then)
    with pytest.raises(InputError, match="cannot be read to their end"):
        CTVolume.read(tmp_path / "a.dcm")


@pytest.mark.parametrize("case", ["16 bits", "16 bits signed"])
def test_a_few_pixels_that_bits_stored_cuts_off(tmp_path: Path, case: str):
    """Of 11 bits only dense bone wraps: its edge goes on in the words, and jumps in their lower bits."""
    made = image(case)
    y, x = np.indices(HU.shape)
    values = np.clip(np.rint(1120 - 40 * np.hypot(y - 20, x - 30)), 40, None).astype(int) + HU % 5
    made.PixelData = (values + (0 if made.PixelRepresentation else 1024)).astype("<i2").tobytes()
    made.BitsStored, made.HighBit = 11, 10
    with pytest.raises(InputError, match=r"have 11 bits \(Bits Stored\), and they use more"):
        read(made, tmp_path / "a.dcm")
