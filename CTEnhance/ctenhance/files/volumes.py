"""NIfTI, NRRD and MetaImage files, in and out.

SimpleITK does both: it knows the three formats' grids (qform and sform, space directions, transform matrix)
and agrees with 3D Slicer on them. What it lets pass, `damage` finds.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)

from ctenhance.core.volume import CTVolume, require_scalar_volume, sitk_image
from ctenhance.files.damage import (
    GZIP_WBITS,
    LEAST_OFFSET,
    NIFTI,
    is_packed,
    nifti_header,
    nifti_layout,
    require_sound,
)
from ctenhance.files.nifti_grid import NiftiGrid, apart, grid_of_nifti, lengths_of
from ctenhance.files.text_header import DAMAGED, require_plain_meaning, taken_on_trust
from ctenhance.runtime import large
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import (
    cannot_write,
    replace_when_done,
    require_file_of,
    require_space,
    require_utf8,
    stem_of,
    suffix_of,
)
from ctenhance.runtime.memory import free_main_memory, says_out_of_memory

_INCOMPLETE = "the file is damaged, or the file with its values is not beside it; copy both again."
_IMAGE_IO = {
    **dict.fromkeys((".nii", ".nii.gz"), "NiftiImageIO"),
    **dict.fromkeys((".nrrd", ".nhdr"), "NrrdImageIO"),
    **dict.fromkeys((".mha", ".mhd"), "MetaImageIO"),
}
_SAME_GRID = 1e-3  # of a voxel: closer ITK's double precision is kept
_INT16 = np.iinfo(np.int16)
_GZIP = ".nii.gz"
#: Ways of packing, fastest first. Runs and codes alone pack what is mostly noise as small as anything.
_PACKINGS = ((1, zlib.Z_RLE), (1, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_DEFAULT_STRATEGY))
#: How much larger than by the last of them a file may become, and how many bytes are tried.
_LARGER, _TRIED, _CHUNK = 1.05, 1 << 20, 1 << 22
_QUIETING = threading.RLock()  # ITK's switch is one for all threads
# The same in headers that ITK has not been given to read: NIfTI's kinds, and words of NRRD and MetaImage.
_EIGHT_BIT_NIFTI, _HEADER_READ = (2, 256), 1 << 14
_EIGHT_BIT_TEXT = re.compile(
    rb"^(type:\s*((un)?signed char|uchar|u?int8(_t)?)|ElementType\s*=\s*MET_U?CHAR)\s*$", re.MULTILINE
)
_EIGHT_BIT = (sitk.sitkUInt8, sitk.sitkInt8)


@dataclass(frozen=True)
class StoredVolume:
    """A volume whose voxels are int16 in a file, from byte `start` on, and whose `array` looks into it.

    The rest is as `CTVolume` has it.
    """

    file: Path
    start: int
    array: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray
    meta: dict[str, Any]


_AnyVolume = TypeVar("_AnyVolume", CTVolume, StoredVolume)


def read_image_file(path: Path, labels: bool = False) -> CTVolume:
    """Return the volume of a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file; raises InputError.

    One of `labels` may have voxels of 8 bits, which are none of a CT.
    """
    volume = read_or_map(path, None, labels)
    assert isinstance(volume, CTVolume)
    return volume


def has_eight_bits(path: Path) -> bool:
    """Whether the voxels of a file have 8 bits, by its header; False where that cannot be read."""
    try:
        if suffix_of(path) in NIFTI:
            header = nifti_header(path)
            return struct.unpack_from(f"{nifti_layout(header).order}h", header, 70)[0] in _EIGHT_BIT_NIFTI
        with path.open("rb") as stream:
            return bool(_EIGHT_BIT_TEXT.search(stream.read(_HEADER_READ).partition(b"\n\n")[0]))
    except (InputError, OSError, struct.error):
        return False


def read_or_map(path: Path, place: Path | None, labels: bool = False) -> CTVolume | StoredVolume:
    """Do what `read_image_file` does, but look into the voxels where a packed file is unpacked to `place`, a
    new file, if they can be used as they stand there: that takes neither memory nor the time of a copy."""
    require_utf8(path)
    if path.stat().st_size == 0:
        raise InputError("the file is empty; copy it again from its source.")
    suffix = suffix_of(path)
    if not path.name.endswith((suffix, suffix.upper())):
        raise InputError(f"rename the file so that it ends in '{suffix}' in lower case.")
    with _sound(path, suffix, place) as plain:
        if suffix not in NIFTI:
            require_plain_meaning(path)
        header = nifti_header(plain) if suffix in NIFTI else b""
        grid = grid_of_nifti(header) if header else None
        reader = _reader(plain, suffix, labels)
        mapped = None if plain != place or grid is None else _mapped(plain, header, reader, grid.notes)
        if mapped is not None and grid is not None:
            return _placed(mapped, grid)
        image = _image(reader, suffix)
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    notes = taken_on_trust(path, direction) if grid is None else grid.notes
    volume = CTVolume.from_sitk(image, {"notes": notes} if notes else {})
    return volume if grid is None else _placed(volume, grid)


def _mapped(
    plain: Path, header: bytes, reader: sitk.ImageFileReader, notes: list[str]
) -> StoredVolume | None:
    """Return the volume as it stands in an unpacked NIfTI file; None where its voxels are to be converted."""
    layout = nifti_layout(header)
    x, y, z = reader.GetSize() if reader.GetDimension() == 3 else (0, 0, 0)
    if (
        not layout.plain_int16
        or layout.order != "<"
        or layout.offset < LEAST_OFFSET
        or reader.GetPixelID() != sitk.sitkInt16
        or (x * y * z * 2 != layout.length)
        or layout.length == 0
    ):
        return None
    array = np.memmap(plain, "<i2", "r", layout.offset, (z, y, x))
    direction = np.reshape(reader.GetDirection(), (3, 3))
    meta = {"notes": notes} if notes else {}
    return StoredVolume(plain, layout.offset, array, reader.GetSpacing(), reader.GetOrigin(), direction, meta)


@contextlib.contextmanager
def _sound(path: Path, suffix: str, place: Path | None) -> Iterator[Path]:
    """Give a file that has been gone through: this one, or the same unpacked (to `place`, where it stays), so
    that it is done only once.

    Raises InputError, as `require_sound` does.
    """
    if suffix != _GZIP or not is_packed(path):
        require_sound(path)
        yield path
        return
    with contextlib.ExitStack() as stack:
        if place is None:
            temporary = tempfile.TemporaryDirectory(prefix="ctenhance-", ignore_cleanup_errors=True)
            plain = Path(stack.enter_context(temporary)) / "plain.nii"
        else:
            plain = place
        with plain.open("xb", buffering=0) as stream:
            room = True

            def take(data: bytes) -> None:
                nonlocal room
                if room:
                    try:
                        room = stream.write(data) == len(data)
                    except OSError:
                        room = False

            require_sound(path, take)
        yield plain if room else path


def _reader(path: Path, suffix: str, labels: bool) -> sitk.ImageFileReader:
    """Return ITK's reader of a file that has been gone through, its header read; raises InputError."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[suffix])
    reader.SetFileName(os.fspath(path))
    with _refusing(suffix):
        reader.ReadImageInformation()
        require_scalar_volume(reader.GetSize(), reader.GetNumberOfComponents(), reader.GetPixelID())
        if reader.GetPixelID() in _EIGHT_BIT and not labels:
            raise InputError(
                "its voxels have 8 bits, which cannot hold Hounsfield units; give the original CT."
            )
    return reader


def _image(reader: sitk.ImageFileReader, suffix: str) -> sitk.Image:
    """Return what ITK reads, its voxels as well; raises InputError, and MemoryError where memory is short."""
    a_voxel = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    with _refusing(suffix, 2 * a_voxel * math.prod(reader.GetSize()[:3])):  # the file's and its own copy
        if reader.GetDimension() == 4:
            reader.SetExtractSize([*reader.GetSize()[:3], 0])
        return reader.Execute()


@contextlib.contextmanager
def _refusing(suffix: str, needed: int = 0) -> Iterator[None]:
    """Raise InputError for what ITK says, and MemoryError where memory is short: less than `needed` bytes, as
    for want of memory ITK's reader of NIfTI says no more than that reading failed."""
    with _quiet():
        try:
            yield
        except RuntimeError as error:
            if says_out_of_memory(error) or (needed and needed > free_main_memory()):
                raise MemoryError from error
            if "orthonormal" in str(error):
                raise InputError(
                    "the axes of its grid are not perpendicular (a sheared transform in its header); "
                    "resample it to a rectangular grid first."
                ) from error
            raise InputError(_INCOMPLETE if suffix in (".mhd", ".nhdr") else DAMAGED) from error


def _placed(volume: _AnyVolume, grid: NiftiGrid) -> _AnyVolume:
    """Return the volume on the header's grid: ITK mixes the voxel size and unit of one form with another."""
    if grid.to_lps is None:
        return volume
    own = np.eye(4)
    own[:3, :3], own[:3, 3] = volume.direction * volume.spacing, volume.origin
    if apart(own, grid.to_lps, np.array(volume.array.shape[::-1])) <= _SAME_GRID * min(volume.spacing):
        return volume
    spacing = lengths_of(grid.to_lps)
    return replace(
        volume,
        spacing=tuple(spacing.tolist()),
        origin=tuple(grid.to_lps[:3, 3].tolist()),
        direction=grid.to_lps[:3, :3] / spacing,
    )


def write_image_file(volume: CTVolume, path: Path) -> None:
    """Write the volume, as int16 where that loses nothing; raises CTEnhanceError when it does not work."""
    image = sitk_image(_as_int16_if_whole(volume.array), volume)
    suffix = suffix_of(path)
    with contextlib.ExitStack() as stack:
        finished = stack.enter_context(replace_when_done(path))
        # Of a name of its own, because ITK knows the suffixes in lower case only.
        written = finished.with_name(f"{stem_of(finished)}-values{suffix}")
        plain = written.with_name(f"{stem_of(finished)}-plain.nii")
        for leftover in (written, written.with_suffix(".raw"), plain):
            stack.callback(leftover.unlink, missing_ok=True)
        try:
            target = plain if suffix == _GZIP else written
            with _quiet():
                # .mhd users expect a plain .raw beside it; the others are compressed where the format can,
                # but MetaImage would need the memory of another copy, for values that hardly get smaller.
                small = volume.array.nbytes < large.LEAST_BYTES
                compressed = target.suffix == ".nrrd" or (target.suffix == ".mha" and small)
                size = image.GetSizeOfPixelComponent() * volume.array.size
                if not compressed:  # ITK would say on the terminal, too, that it cannot
                    require_space(path, size)
                try:
                    sitk.WriteImage(image, os.fspath(target), useCompression=compressed)
                    require_sound(target)
                except (RuntimeError, InputError):
                    for values in (target, target.with_suffix(".raw")):
                        require_file_of(values, size)
                    raise
            if suffix == _GZIP:
                _pack(plain, written)
                plain.unlink()
                require_sound(written)
            if suffix == ".mhd":
                # Entered last, so renamed first: the header never points to values that are not there yet.
                raw = stack.enter_context(replace_when_done(path.with_suffix(".raw")))
                _move_values(written, raw, path.with_suffix(".raw").name)
            os.replace(written, finished)
        except (RuntimeError, OSError, InputError) as error:
            raise cannot_write(
                path, error, "the file did not come out whole; check that the disk is there and has room"
            ) from error


def _pack(plain: Path, packed: Path) -> None:
    """Write a file packed by gzip: three times as fast as ITK where values are mostly noise, and others
    can work meanwhile."""
    with plain.open("rb") as source, packed.open("wb") as target:
        source.seek(max(0, (plain.stat().st_size - _TRIED) // 2))
        tried = source.read(_TRIED)
        sizes = [len(_packed(tried, *how)) for how in _PACKINGS]
        level, strategy = next(
            how for how, size in zip(_PACKINGS, sizes, strict=True) if size <= _LARGER * sizes[-1]
        )
        source.seek(0)
        packer = zlib.compressobj(level, zlib.DEFLATED, GZIP_WBITS, zlib.DEF_MEM_LEVEL, strategy)
        while chunk := source.read(_CHUNK):
            target.write(packer.compress(chunk))
        target.write(packer.flush())


def _packed(values: bytes, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, GZIP_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return packer.compress(values) + packer.flush()


def _move_values(header: Path, target: Path, name: str) -> None:
    """Move the values of an .mhd file to the target, and give them the name in the header."""
    values = header.with_suffix(".raw")
    os.replace(values, target)
    text = header.read_text(encoding="utf-8").replace(values.name, name)
    header.write_text(text, encoding="utf-8", newline="\n")


def _as_int16_if_whole(array: np.ndarray) -> np.ndarray:
    """Return the values as int16 if that keeps every one, else the array itself."""
    # Most that is no whole numbers shows at once.
    whole = None
    for slab in large.slabs(array):
        source = array[slab]
        if source.min() < _INT16.min or source.max() > _INT16.max or (source != np.rint(source)).any():
            return array
        if whole is None:
            whole = np.empty(array.shape, dtype=np.int16)
        whole[slab] = source
    assert whole is not None
    return whole


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's own warnings off the terminal: what matters in them is said in our sentences."""
    with _QUIETING:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)
