"""The files through which volumes go to the worker process and come back, and the folders they lie in.

The two file functions are generators: each step handles a few slices and takes some milliseconds, so that the
main thread stays free (see `steps`).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.files.nifti_grid import HEADER_BYTES, grid_of_nifti
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.scene import volumes

TEMPORARY_PREFIX = "ctenhance-"
# In each run's folder; the system holds the lock on it for as long as the Slicer lives that made the folder.
_LOCK = "slicer-is-running.lock"
_ATTEMPTS = 3
# Bytes: the removal of less is not felt.
_LARGE_FILE = 16 << 20
# Folders of versions without a lock.
_LEFTOVER_SECONDS = 3 * 24 * 3600
_locks: dict[Path, Any] = {}

# MetaImage's names of the scalar types. 64-bit integers have none that every reader knows.
_META_TYPES = {
    "i1": "MET_CHAR", "u1": "MET_UCHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "i4": "MET_INT",
    "u4": "MET_UINT", "f4": "MET_FLOAT", "f8": "MET_DOUBLE",
}  # fmt: skip
_NIFTI_TYPES = {4: np.dtype("<i2"), 16: np.dtype("<f4")}


@dataclass(frozen=True)
class LoadedVolume:
    """A volume that stands in no scene yet: float32 image data, and IJK to RAS (4 x 4, mm)."""

    image: vtk.vtkImageData
    ijkToRAS: np.ndarray

    @property
    def array(self) -> np.ndarray:
        """The voxels [slice, row, column]; writing into them changes the image."""
        return volumes.voxels(self.image)


def temporaryRoot() -> Path:
    """Return the folder for files that live as long as a run."""
    return Path(slicer.app.temporaryPath or os.curdir)


def runFolder() -> Path:
    """Return a new folder for one run. Raises CTEnhanceError when none can be made."""
    from filelock import FileLock, Timeout

    removeLeftovers(temporaryRoot())
    try:
        for _attempt in range(_ATTEMPTS):
            folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=temporaryRoot()))
            lock = FileLock(folder / _LOCK)
            try:
                lock.acquire(timeout=0)
            except (Timeout, FileNotFoundError):
                continue  # another Slicer that starts at this very moment took it for a leftover
            _locks[folder] = lock
            return folder
        raise OSError(_("another Slicer removes it"))
    except OSError as error:
        raise CTEnhanceError(
            _("No temporary folder can be made ({reason}); check Slicer's temporary folder.").format(
                reason=error.strerror or error
            )
        ) from error


def emptied(folder: Path) -> Iterator[float]:
    """Remove the large files of a run's folder, in short steps; yield the part that is gone.

    To remove one of 300 MB at once takes a file system as long as a turn may take. Folders in it are left:
    they may hold links to files of the patient's.
    """
    with contextlib.suppress(OSError):  # `removeFolder` tries again
        files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        large = {path: path.stat().st_size for path in files if path.stat().st_nlink == 1}
        large = {path: size for path, size in large.items() if size > _LARGE_FILE}
        done, total = 0, sum(large.values())
        for path, size in large.items():
            for length in range(size - _LARGE_FILE, 0, -_LARGE_FILE):
                os.truncate(path, length)
                yield (done + size - length) / total
            path.unlink()
            done += size
            yield done / total


def removeFolder(folder: Path) -> None:
    """Remove a run's folder with all that is in it."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    if folder in _locks:
        _locks.pop(folder).release()
    # What another process still has open stays, on some systems, and with it the lock, for the next start.
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {_LOCK}:
        shutil.rmtree(folder, ignore_errors=True)


def removeLeftoversAtStartup() -> None:
    """Have `removeLeftovers` called when Slicer has started; each module asks for it."""
    slicer.app.connect("startupCompleted()", _removeLeftovers)


def _removeLeftovers() -> None:
    removeLeftovers(temporaryRoot())


def removeLeftovers(root: Path) -> None:
    """Remove the folders of runs whose Slicer was killed or crashed: they hold a patient's voxels.

    Only real folders of this user that a run has made are touched, and none of a Slicer that still runs.
    """
    for folder in root.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or not folder.is_dir() or not _isOurs(folder):
                continue
            if (folder / _LOCK).is_file():
                _removeUnlessHeld(folder)
            elif time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS:
                removeFolder(folder)


def _isOurs(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def _removeUnlessHeld(folder: Path) -> None:
    try:
        from filelock import FileLock, Timeout
    except ImportError:  # before the first Apply there is nothing to remove
        return
    if folder in _locks:
        return
    lock = FileLock(folder / _LOCK)
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        _locks[folder] = lock
        removeFolder(folder)


def writeMetaImage(node: Any, path: Path) -> Iterator[float]:
    """Write the node's voxels, as they are, with its own grid to an .mha file; yield the fraction done.

    The parent transform is left aside: the computation needs the voxels and their size only.
    Raises InputError for a node that `requireScalarVolume` refuses, CTEnhanceError when the disk is full.
    """
    volumes.requireScalarVolume(node)
    array = slicer.util.arrayFromVolume(node)
    kind = array.dtype.str[1:]
    if kind not in _META_TYPES:
        kind = "f8"
    spacing, origin, direction = volumes.localGrid(node)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(sys.byteorder == "big"),
        "CompressedData": "False",
        # One axis after the other, so columns of the direction matrix become rows.
        "TransformMatrix": _numbers(direction.T.ravel()),
        "Offset": _numbers(origin),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(str(length) for length in reversed(array.shape)),
        "ElementType": _META_TYPES[kind],
        "ElementDataFile": "LOCAL",
    }
    try:
        with path.open("wb") as stream:
            stream.write("".join(f"{key} = {value}\n" for key, value in fields.items()).encode("ascii"))
            for slab in volumes.slabs(array):
                stream.write(np.ascontiguousarray(array[slab], dtype=kind).data)
                yield slab.stop / len(array)
    except OSError as error:
        raise CTEnhanceError(
            _("Cannot write to the temporary folder '{folder}' ({reason}); free some space there.").format(
                folder=path.parent, reason=error.strerror or error
            )
        ) from error


def readNifti(path: Path) -> Generator[float, None, LoadedVolume]:
    """Read a 3-D .nii or .nii.gz file that the worker wrote; yield the fraction done, return the volume.

    In another generator: `volume = yield from readNifti(path)`. Raises CTEnhanceError when the file is
    something else, MemoryError when the volume has no room.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
            dimensions = struct.unpack_from("<8h", header, 40)
            (kind,) = struct.unpack_from("<h", header, 70)
            offset, slope, intercept = struct.unpack_from("<3f", header, 108)
            toLps = grid_of_nifti(header).to_lps
            plain = slope in (0, 1) and intercept == 0 and toLps is not None
            volume = dimensions[0] == 3 or (dimensions[0] == 4 and dimensions[4] == 1)
            if not plain or not volume or kind not in _NIFTI_TYPES or min(dimensions[1:4]) < 1:
                raise ValueError("another kind of NIfTI file")
            stream.read(int(offset) - HEADER_BYTES)
            image, values = volumes.newImage(dimensions[3:0:-1], np.float32)
            for slab in volumes.slabs(values):
                values[slab] = _next(stream, values[slab].shape, _NIFTI_TYPES[kind])
                yield slab.stop / len(values)
    except (OSError, EOFError, ValueError, struct.error, InputError) as error:
        raise CTEnhanceError(_("The result of the computation cannot be read; press Apply again.")) from error
    return LoadedVolume(image, np.diag([-1.0, -1.0, 1.0, 1.0]) @ toLps)


def readNiftis(files: Mapping[str, Path]) -> Generator[float, None, dict[str, LoadedVolume]]:
    """Read several such files; yield the fraction done of all, return the volumes by the files' names."""
    loaded = {}
    for index, (name, path) in enumerate(files.items()):
        steps = readNifti(path)
        while name not in loaded:
            try:
                fraction = next(steps)
            except StopIteration as end:
                loaded[name] = end.value
            else:
                yield (index + fraction) / len(files)
    return loaded


def _next(stream: IO[bytes], shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    return np.frombuffer(stream.read(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)


def _numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in values)
