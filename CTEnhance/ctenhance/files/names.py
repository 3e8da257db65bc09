"""Is an image file what its name says? Its first bytes tell, where it would pass for damaged."""

from __future__ import annotations

import contextlib
import zlib
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
_KINDS = {
    "a NIfTI file": (".nii", ".nii.gz"),
    "an NRRD file": (".nrrd", ".nhdr"),
    "a MetaImage file": (".mha", ".mhd"),
    "a DICOM file": (".dcm",),
}


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
    'chest.nii (1).gz', as browsers call the second copy; '' for any other file."""
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
