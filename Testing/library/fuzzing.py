"""Damaged and hostile files for every parser: what is tried, and what may come of it.

A target writes sound files, each kind in a folder of its own; a trial takes one of these, changes one file by
a number that everything follows from, and reads. Either it can be read, or it is refused in one sentence;
nothing else may happen: no other exception, no end of the process, no wait, no file changed or written. The
tests make a few trials; `benchmarks/fuzz.py` makes thousands, each in a process that can be ended.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
from helical_scan import HelicalScan
from projection_cases import fan, saved, spectral
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from study_arms import write_arms
from synthetic_dicom import enhanced, hounsfield, save, write_series
from test_dicom_codecs import LOSSLESS, UNSIGNED, compress, image

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.files.ctpd.writing import write_ctpd
from ctenhance.runtime.failures import sentence_and_code
from ctenhance.study import Study, create, design_from_folders
from ctenhance.study.study_file import canonical, sha256_of

#: What stands in lengths, counts and indices of files that mean harm, or were hit by it.
_NUMBERS = (
    "0",
    "-1",
    "1",
    "65535",
    "4294967295",
    "99999999999999999999",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-300",
)
_WORDS = (
    b"../../../etc/passwd",
    b"%n%s%n",
    b"\0" * 16,
    b"\xff" * 16,
    b"\xfe\xff\xdd\xe0",
    b"<" * 40,
    b"{" * 400,
)
_LONG_SENTENCE = 700


@dataclass(frozen=True)
class Target:
    """A parser: `write` makes sound inputs, each in a folder of its own below the given one; `read` reads
    such a folder; `hostile` changes a file in a way that only its format knows, and says whether it did."""

    write: Callable[[Path], None]
    read: Callable[[Path], object]
    hostile: Callable[[Path, random.Random], bool] = lambda path, draw: False


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The bytes with one to four changes."""
    values = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if not values:
            break
        # Headers are small beside what they describe, and what matters most.
        at = draw.randrange(min(len(values), draw.choice((64, 600, 4000, len(values)))))
        kind = draw.randrange(8)
        if kind == 0:
            values[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            values[at] = draw.randrange(256)
        elif kind == 2:
            width = draw.choice((1, 2, 4, 8))
            number = draw.choice(
                (0, 1, (1 << (8 * width)) - 1, (1 << (8 * width - 1)) - 1, 1 << (8 * width - 1))
            )
            values[at : at + width] = number.to_bytes(width, draw.choice(("little", "big")))
        elif kind == 3:
            del values[at:]
        elif kind == 4:
            del values[at : at + draw.choice((1, 2, 4, 16, 132, 1000))]
        elif kind == 5:
            piece = values[at : at + draw.choice((1, 8, 64, 1000))]
            values[at:at] = piece * draw.choice((1, 2, 50))
        elif kind == 6:
            values[at:at] = draw.choice(_WORDS)
        else:
            found = [*re.finditer(rb"-?\d+(\.\d+)?", bytes(values[: 1 << 16]))]
            if found:
                one = draw.choice(found)
                values[one.start() : one.end()] = draw.choice(_NUMBERS).encode()
    return bytes(values)


# --- DICOM ---


def _write_dicom(folder: Path) -> None:
    write_series(folder / "series", (0, 2.5, 5))
    values = hounsfield(4)
    (folder / "frames").mkdir()
    save(enhanced(values, range(4), [1.0] * 4), folder / "frames" / "a.dcm")
    syntaxes = {
        "RLE": RLELossless,
        "JPEG lossless SV1": JPEGLosslessSV1,
        "JPEG-LS": JPEGLSLossless,
        "JPEG 2000": JPEG2000Lossless,
        "HTJ2K": LOSSLESS["HTJ2K"][0],
    }
    for name, syntax in syntaxes.items():
        made = compress(image("16 bits"), syntax, [LOSSLESS[name][1](UNSIGNED)])
        (folder / name).mkdir()
        made.save_as(folder / name / "a.dcm", enforce_file_format=True)


_HOSTILE: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 65535),
    "Columns": (0, 1, 65535),
    "NumberOfFrames": ("0", "-3", "2147483647", "99999"),
    "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 17, 65535),
    "HighBit": (0, 40, 65535),
    "PixelRepresentation": (2, 65535),
    "SamplesPerPixel": (0, 3, 65535),
    "PhotometricInterpretation": ("RGB", "PALETTE COLOR", "../x"),
    "PixelSpacing": ([0, 0], [-1, 1], [1e30, 1e-30], None),
    "ImagePositionPatient": ([1e30, 0, 0], [0, 0], None),
    "ImageOrientationPatient": ([0] * 6, [1, 0, 0, 1, 0, 0], [1e9] * 6),
    "RescaleSlope": (0, -1, 1e300, None),
    "RescaleIntercept": (1e300, -1e9, None),
    "SeriesInstanceUID": ("../../../tmp/x", "", "1." * 200, "/etc/passwd"),
    "SOPInstanceUID": ("../../x", "/dev/null"),
    "SOPClassUID": ("1.2.3", "../x"),
    "SpecificCharacterSet": ("ISO 2022 IR 999", ["", "ISO 2022 IR 87"], "../x"),
    "SeriesDescription": ("ä" * 5000, "a\nb\x1b[31m", "../../x"),
    "PixelData": (b"", b"\0", b"\xff" * 100_000),
}


def _nested(path: Path, depth: int) -> bool:
    """Sequences within sequences, deeper than anybody nests, before all else in the data set."""
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    ends = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(data[:start] + depth * sequence + depth * ends + data[start:])
    return True


def _hostile_dicom(path: Path, draw: random.Random) -> bool:
    kind, keyword = draw.randrange(4), ""
    if kind == 0:
        return _nested(path, draw.choice((50, 300, 2000, 20_000)))
    made = pydicom.dcmread(path)
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    if kind == 1 and made.file_meta.TransferSyntaxUID.is_compressed:
        # the packed picture of another size than the header's
        made.Rows, made.Columns = draw.choice(((65535, 65535), (1, 1), (4096, 4096)))
    elif kind == 2 and made.file_meta.TransferSyntaxUID.is_compressed:
        made.PixelData = encapsulate([draw.randbytes(draw.choice((1, 100, 5000)))])
        made["PixelData"].VR = "OB"
    else:
        keyword = draw.choice(sorted(_HOSTILE))
        value = draw.choice(_HOSTILE[keyword])
        if value is None:
            made.pop(keyword, None)
        else:
            setattr(made, keyword, value)
    if made.file_meta.TransferSyntaxUID.is_compressed and keyword == "PixelData":
        made.PixelData = encapsulate([made.PixelData.ljust(2, b"\0")])
    try:
        made.save_as(path, enforce_file_format=False)
    except Exception:  # not everything can be written
        return False
    return True


# --- volume files ---


def _write_volumes(folder: Path, suffix: str) -> None:
    for number, values in enumerate((hounsfield(3), hounsfield(3) + 0.5)):
        place = folder / str(number)
        place.mkdir()
        CTVolume(values.astype(np.float32), (0.7, 0.7, 2.0)).write(place / f"a{suffix}")


def _read_volume(folder: Path) -> object:
    return CTVolume.read(next(path for path in sorted(folder.iterdir())))


# --- projections ---


def _write_projections(folder: Path) -> None:
    for name, projections in (("fan", fan()), ("spectral", spectral())):
        (folder / name).mkdir()
        saved(folder / name / "scan.ctproj.h5", projections)


def _hostile_projections(path: Path, draw: random.Random) -> bool:
    with h5py.File(path, "r+") as file:
        names = [name for name, entry in file.items() if isinstance(entry, h5py.Dataset)]
        name = draw.choice(names)
        kind = draw.randrange(6)
        if kind == 0:
            del file[name]
        elif kind == 1:  # lines up to a petabyte, with nothing behind them
            old = file[name]
            shape = tuple(draw.choice((0, 1, 10**5, 10**9)) for _ in old.shape) or (10**9,)
            del file[name]
            chunks = tuple(min(length, 16) or 1 for length in shape)
            file.create_dataset(name, shape, "f4", chunks=chunks, maxshape=(None,) * len(shape))
        elif kind == 2:
            del file[name]
            file[name] = h5py.SoftLink(draw.choice(("/" + name, "/nowhere", "/")))
        elif kind == 3:
            del file[name]
            file[name] = h5py.ExternalLink("../../../etc/passwd", "/")
        elif kind == 4:
            old = np.array(file[name])
            del file[name]
            file[name] = np.full(old.shape, draw.choice((np.nan, np.inf, -1e30, 0.0)))
        else:
            attribute = draw.choice([*file.attrs, "meta"])
            file.attrs[attribute] = draw.choice((np.nan, "../x", "{" * 2000, -1, 10**15, np.zeros(3)))
    return True


def _write_ctpd(folder: Path) -> None:
    scan = HelicalScan(
        rows=6, columns=40, views_per_turn=36, turns=2.0, spacing=14.0, central=(20.25, 3.25),
        angle_shifts=(0.002,), z_shifts=(0.4,), radius_shifts=(0.0,), cylinder_center=(12.0, -20.0),
        sphere=(30.0, 40.0, -25.0), sphere_radius=25.0,
    )  # fmt: skip
    write_ctpd(folder / "implicit", scan.helix())
    write_ctpd(folder / "explicit", scan.helix(), explicit=True)


# --- studies ---


def _write_study(folder: Path) -> None:
    arms = folder.parent / f"{folder.name}-arms"
    write_arms(arms, cases=2)
    design, _ = design_from_folders(arms / "before", arms / "after", ("ann",))
    create(design, folder / "study")
    shutil.rmtree(arms)
    for path in folder.iterdir():  # the key lies beside the study, and is none of what is read
        if path.name != "study":
            path.unlink()
    for path in (folder / "study").rglob("*"):
        if path.is_file() and path.name != "study.json":
            path.unlink()


def _hostile_study(path: Path, draw: random.Random) -> bool:
    """A study whose hash is right and whose contents are not."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("sha256")
    here: Any = values
    for _ in range(draw.randint(0, 5)):
        inner = [
            one for one in (here.values() if isinstance(here, dict) else here) if isinstance(one, dict | list)
        ]
        inner = [one for one in inner if one]
        if not inner:
            break
        here = draw.choice(inner)
    wrong = draw.choice((None, -1, 1e300, "", "../../x", [], {}, [[[]]], True, "x" * 10_000, 10**40))
    key = draw.choice(list(here)) if isinstance(here, dict) else draw.randrange(len(here))
    if draw.random() < 0.3:
        del here[key]
    else:
        here[key] = wrong
    values["sha256"] = sha256_of(canonical(values))
    path.write_text(json.dumps(values), encoding="utf-8")
    return True


TARGETS: dict[str, Target] = {
    "dicom": Target(_write_dicom, ctenhance.read, _hostile_dicom),
    "nifti": Target(lambda folder: _write_volumes(folder, ".nii"), _read_volume),
    "nifti-gz": Target(lambda folder: _write_volumes(folder, ".nii.gz"), _read_volume),
    "nrrd": Target(lambda folder: _write_volumes(folder, ".nrrd"), _read_volume),
    "mha": Target(lambda folder: _write_volumes(folder, ".mha"), _read_volume),
    "ctproj": Target(
        _write_projections,
        lambda folder: ctenhance.read_projections(next(folder.iterdir())),
        _hostile_projections,
    ),
    "ctpd": Target(_write_ctpd, ctenhance.read_projections),
    "study": Target(_write_study, Study.read, _hostile_study),
}


def _state(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def spoil(target: Target, seeds: Path, work: Path, number: int) -> None:
    """Make the input of a trial in `work`, from what `target.write` put into `seeds`."""
    draw = random.Random(number)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(draw.choice(sorted(seeds.iterdir())), work)
    path = draw.choice(sorted(one for one in work.rglob("*") if one.is_file()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = draw.random() < 0.4 and target.hostile(path, draw)
        if not done or draw.random() < 0.1:
            path.write_bytes(mutated(path.read_bytes(), draw))


def tried(target: Target, work: Path) -> str:
    """Read what `spoil` made: 'read', 'refused', or what was wrong about how it ended."""
    before = _state(work)
    ended = "read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(work)
    except Exception as error:
        sentence, _ = sentence_and_code(error)
        ended = "refused"
        if sentence.startswith("Something unexpected"):
            ended = sentence
        elif "\n" in sentence or len(sentence) > _LONG_SENTENCE or not sentence.rstrip().endswith((".", ")")):
            ended = f"no sentence: {sentence[:_LONG_SENTENCE]!r}"
    if _state(work) != before:
        ended = f"files were changed; {ended}"
    return ended
