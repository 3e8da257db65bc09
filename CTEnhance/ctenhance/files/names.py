"""Is an image file what its name says? Its first bytes tell, where it would pass for damaged."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

_GZIP, _ENOUGH = b"\x1f\x8b", 512
_READ = 4096
#: How zip, 7z, rar, xz, bzip2 and zstd begin; gzip is left out, as NIfTI files are packed by it.
_ARCHIVES = (
    b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_TAR_AT, _TAR = 257, b"ustar"
_DISC_IMAGE_AT, _DISC_IMAGE = 0x8001, b"CD001"
BIG_ENDIAN = (
    "it looks like DICOM in big endian without the header and the mark of a file, which is not read; export "
    "it as DICOM files (Explicit VR Little Endian)."
)
UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".filepart")
_OF_DICOM = (".dcm", ".dicom", ".ima")
CLOUD = ".icloud"
_PLACEHOLDER = re.compile(rf"\.(.+)\{CLOUD}")
_IN_CLOUD = "it lies in iCloud, and here is only a placeholder; download it first."
_KINDS = {
    "a NIfTI file": (".nii", ".nii.gz"),
    "an NRRD file": (".nrrd", ".nhdr"),
    "a MetaImage file": (".mha", ".mhd"),
    "a DICOM file": (".dcm",),
}


_IMAGES = [suffixes for kind, suffixes in _KINDS.items() if kind != "a DICOM file"]


def require_right_name(path: Path) -> None:
    """Raise InputError for an image file that is packed, or of another format, than its name says."""
    suffix = suffix_of(path)
    with contextlib.suppress(OSError), path.open("rb") as stream:
        start = stream.read(_READ)
        packed = start.startswith(_GZIP)
        plain = _unpacked(start) if packed else start
        if packed and plain.startswith(_GZIP):
            raise InputError("it is packed twice (gzip within gzip), as servers do; unpack it once.")
        if other := _other(plain):
            raise InputError(other)
        kind = _kind(plain)
        if packed and suffix == ".nii" and kind == "a NIfTI file":
            raise InputError("it is packed (gzip), which its name does not say; call it .nii.gz.")
        if packed and suffix != ".nii.gz":
            raise InputError("it is packed (gzip), which its name does not say; unpack it first.")
        if kind and suffix not in _KINDS[kind]:
            unpack = "unpack it, and " if packed else ""
            raise InputError(f"it is {kind}, which its name does not say; {unpack}call it {_KINDS[kind][0]}.")


def misnamed(path: Path) -> str:
    """Return the sentence of an image of another format than DICOM whose name does not say which, such as
    'chest.nii (1).gz', as browsers call the second copy, or of its placeholder; '' for any other file."""
    if (cloud := _PLACEHOLDER.fullmatch(path.name)) and any(suffix_of(cloud[1]) in one for one in _IMAGES):
        return _IN_CLOUD
    with contextlib.suppress(OSError), path.open("rb") as stream:
        start = stream.read(_READ)
        packed = start.startswith(_GZIP)
        kind = _kind(_unpacked(start) if packed else start)
        if kind and kind != "a DICOM file" and suffix_of(path) not in _KINDS[kind]:
            if not packed:
                return f"it is {kind}, which its name does not say; call it {_KINDS[kind][0]}."
            if kind == "a NIfTI file":
                return f"it is {kind} packed by gzip, which its name does not say; call it {_KINDS[kind][1]}."
            return f"it is {kind} packed by gzip; unpack it, and call it {_KINDS[kind][0]}."
    return ""


def remnant(path: Path, start: bytes) -> str:
    """Return the sentence of a file by the name of a DICOM file that is none by its `start`, as clouds,
    downloads and copies leave in the place of a slice; '' for any other."""
    name = path.name
    if cloud := _PLACEHOLDER.fullmatch(name):
        name, why = cloud[1], _IN_CLOUD
    elif name.startswith("."):
        return ""
    elif suffix_of(path) in UNFINISHED:
        name = path.stem
        why = "it is a download that was not finished; get the whole file."
    else:
        why = _why_no_dicom(start)
    suffix = Path(name).suffix.lower()
    by_name = suffix in _OF_DICOM or (bool(cloud) and not suffix)
    return f"'{path.name}' {why.removeprefix('it ')}" if by_name else ""


def gaps(found: Iterable[Path], others: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield those of `others` than DICOM that have the name of a slice, but for its digits that of a file
    `found` in the same folder, each with its sentence."""
    known: set[tuple[Path, str]] = set()
    for other in others:
        known = known or {(path.parent, _without_digits(path.name)) for path in found}
        if (other.parent, _without_digits(other.name)) in known and any(map(str.isdigit, other.name)):
            with contextlib.suppress(OSError), other.open("rb") as stream:
                why = _why_no_dicom(stream.read(_READ)).removeprefix("it ")
                yield other, f"'{other.name}', named like the slices beside it, {why}"


def is_big_endian(start: bytes) -> bool:
    """Say whether a file begins as a data set of DICOM in big endian does, with group 8."""
    return start.startswith(b"\x00\x08\x00")


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _why_no_dicom(start: bytes) -> str:
    if not start:
        return "it is empty; copy it again from its source."
    if not any(start):
        return (
            "it begins with zeros alone, as a failed copy or disk leaves it; copy it again from its source."
        )
    if other := _other(start):
        return other
    if is_big_endian(start):
        return BIG_ENDIAN
    if kind := _kind(start):
        return f"it is {kind}, which its name does not say; take it out, or give it alone."
    return "it is no DICOM file, whatever its name says; copy it again from its source, or take it out."


def is_archive(path: Path) -> bool:
    """Say whether a file is a zip, 7z, rar, xz, bzip2, gzip, zstd or tar archive, or the image of a disc."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        start = stream.read(_READ)
        if start.startswith(_GZIP) or _begins_as_archive(start):
            return True
        stream.seek(_DISC_IMAGE_AT)
        return stream.read(len(_DISC_IMAGE)) == _DISC_IMAGE
    return False


def _begins_as_archive(start: bytes) -> bool:
    return start.startswith(_ARCHIVES) or start[_TAR_AT:].startswith(_TAR)


def _other(start: bytes) -> str:
    """Return what is wrong with a file that is no image at all by its first bytes; '' where nothing tells."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:_ENOUGH].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return (
            "it is a web page (HTML or XML) and no image, as is saved where a download asks to sign in or "
            "has moved; download it again."
        )
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, without what it points to; get that with 'git lfs pull'."
    if _begins_as_archive(start):
        return "it is an archive (zip, tar or the like), which its name does not say; unpack it first."
    return ""


def _unpacked(start: bytes) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(31).decompress(start, _ENOUGH)
    return b""


def _kind(start: bytes) -> str:
    """Return what begins with these bytes; '' for what is not known."""
    if start[344:347] in (b"n+1", b"ni1") or start[4:7] in (b"n+2", b"ni2"):
        return "a NIfTI file"
    if start.startswith(b"NRRD"):
        return "an NRRD file"
    if start[:_ENOUGH].lstrip().startswith((b"ObjectType", b"NDims")):
        return "a MetaImage file"
    return "a DICOM file" if start[128:132] == b"DICM" else ""
