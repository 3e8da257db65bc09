"""Output files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import glob
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.words import either

_COMPRESSIONS = (".gz", ".bz2", ".xz")
_PARTIAL = "partial"
_MARK_LENGTH = 12
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_WORDS = ("no space left on device", "disk quota exceeded", "disk full", "disk is full")
DISK_FULL = "the disk is full"
_TOO_LARGE_WORDS = ("file too large",)
TOO_LARGE = (
    "its file system, or a limit set for this user, takes no file so large (FAT32 ends at 4 GB); choose a "
    "folder on another disk"
)
_NO_SPACE = 1 << 16  # bytes; less is free only where a write has just filled the disk
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:[/\\]", re.IGNORECASE)  # and no drive, of one letter
LONGEST_NAME = 255  # bytes, on all usual file systems
_unfinished: set[Path] = set()  # temporary files and folders that are being written


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the lower-case suffix, compound ones whole: '.nii.gz' for 'a.b.nii.gz', '.mha' for 'a.mha'."""
    return _raw_suffix(Path(path).name).lower()


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the file name without `suffix_of` it: 'a.b' for 'a.b.nii.gz'."""
    name = Path(path).name
    return name[: len(name) - len(_raw_suffix(name))]


def _raw_suffix(name: str) -> str:
    last = Path(name).suffix
    if last.lower() in _COMPRESSIONS:
        return Path(name[: -len(last)]).suffix + last
    return last


def require_utf8(path: str | os.PathLike[str]) -> None:
    """Raise InputError for a name that is no UTF-8, as old archives hold: ITK would end the whole process."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"The name '{path}' is in an encoding other than UTF-8; rename the file or its folder."
        ) from error


def check_output(
    path: str | os.PathLike[str],
    suffixes: Iterable[str] | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Return the path if a file can be written there; to be called before the long work, not after it.

    Raises InputError for a suffix that is not among `suffixes`, a folder that does not exist or cannot be
    written, a path that is itself a folder, one that is no UTF-8 or too long, and one of the `inputs`.
    """
    target = Path(path)
    require_utf8(target)
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise InputError(
            f"Cannot write '{target}': the name is longer than {LONGEST_NAME} bytes; choose a shorter one."
        )
    if suffixes is not None:
        allowed = tuple(suffixes)
        if suffix_of(target) not in allowed:
            raise InputError(f"Cannot write '{target}': the name must end in {either(allowed)}.")
    if target.is_dir():
        raise InputError(f"Cannot write '{target}': it is a folder; give a file name inside it.")
    folder = target.parent
    _require_local(target)
    if file := next((one for one in (folder, *folder.parents) if one.is_file()), None):
        raise InputError(f"Cannot write '{target}': '{file}' is a file, not a folder; choose another folder.")
    if not folder.is_dir():
        raise InputError(f"Cannot write '{target}': the folder '{folder}' does not exist; create it first.")
    if not os.access(folder, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise InputError(f"Cannot write '{target}': {_why_closed(folder)}; choose another folder.")
    for given in inputs:
        source = Path(given)
        # The same file under another name (link, relative path, other case) would be overwritten too.
        if os.path.exists(source) and target.exists() and source.samefile(target):
            raise InputError(f"Cannot write '{target}': it is the input itself; choose another name.")
    return target


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder, made if it was missing.

    Raises InputError when it is a file, cannot be made or cannot be written.
    """
    folder = Path(path)
    _require_local(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"Cannot write into '{folder}': it is a file, not a folder; choose another name.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = why_not_written(error) or f"{error.strerror or error}; choose another place"
        raise InputError(f"Cannot make the folder '{folder}': {reason}.") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"Cannot write into '{folder}': {_why_closed(folder)}; choose another folder.")
    return folder


def _require_local(path: Path) -> None:
    """Raise InputError for an address such as s3://bucket/x, which would be made a folder 's3:' here."""
    if _ADDRESS.match(os.fspath(path)) and not Path(path.parts[0]).exists():
        raise InputError(
            f"Cannot write '{path}': it is an address, not a place on this machine; choose a folder here, "
            "and send from there what was written."
        )


def _why_closed(folder: Path) -> str:
    """Why a folder cannot be written into."""
    with contextlib.suppress(OSError, AttributeError):  # there is no such function in Windows
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return "its disk is mounted read-only"
    return "there is no permission"


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing; it goes again if nothing comes into it.

    Raises InputError as `check_output_folder` does.
    """
    missing = not folder.exists()
    check_output_folder(folder)
    try:
        yield
    finally:
        if missing:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def why_not_written(error: BaseException, folder: Path | None = None) -> str | None:
    """Return in half a sentence why writing failed, if for want of space or as too large a file; else None.

    The libraries that write say it in their own ways, and some only that it did not work: then the `folder`
    tells whether its disk is full.
    """
    one: BaseException | None = error
    while one is not None:
        number = one.errno if isinstance(one, OSError) else None
        words = str(one).lower()
        if number in _DISK_FULL or any(said in words for said in _DISK_FULL_WORDS):
            return f"{DISK_FULL}; free some space or choose another"
        if number == errno.EFBIG or any(said in words for said in _TOO_LARGE_WORDS):
            return TOO_LARGE
        one = one.__cause__ or one.__context__
    if folder is not None:
        with contextlib.suppress(OSError):
            if space_left(folder) < _NO_SPACE:
                return f"{DISK_FULL}; free some space or choose another"
    return None


def space_left(folder: str | os.PathLike[str]) -> float:
    """Return how many bytes are free on a folder's disk; infinity where its file system tells of no blocks at
    all, as ramfs and some drivers in user space do, which says nothing. Raises OSError."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else math.inf


def require_space(target: str | os.PathLike[str], size: int) -> None:
    """Raise CTEnhanceError unless the disk of a file to be written has room for `size` bytes.

    For HDF5: a file that it cannot close for want of space may end the process when it exits.
    """
    with contextlib.suppress(OSError):
        free = space_left(Path(target).absolute().parent)
        if free < size + _NO_SPACE:
            raise CTEnhanceError(
                f"Cannot write '{target}': {DISK_FULL} ({_megabytes(size)} are needed and "
                f"{_megabytes(free)} free); free some space or choose another."
            )


def require_file_of(path: Path, size: int) -> None:
    """Raise OSError (EFBIG) if the file system lets this file, which is there, have no `size` bytes; for a
    file that goes anyway, as it may grow. Libraries that write may not say why it ended short."""
    try:
        if path.exists() and path.stat().st_size < size:
            os.truncate(path, size)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise


def _megabytes(size: float) -> str:
    return f"{size / 2**20:.3g} MB"


def cannot_write(target: str | os.PathLike[str], error: BaseException, otherwise: str) -> CTEnhanceError:
    """Return the error to raise when writing failed: for want of space, or `otherwise` (half a sentence,
    without its full stop)."""
    return CTEnhanceError(
        f"Cannot write '{target}': {why_not_written(error, Path(target).parent) or otherwise}."
    )


@contextlib.contextmanager
def _saying_why(target: Path) -> Iterator[None]:
    try:
        yield
    except CTEnhanceError:
        raise
    except Exception as error:
        why = why_not_written(error, target.absolute().parent)
        if why is None:
            raise
        raise CTEnhanceError(f"Cannot write '{target}': {why}.") from error


@contextlib.contextmanager
def replace_when_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same (compound) suffix, and rename it at the end.

    When the block raises, the temporary file is deleted and what stood at `path` stays as it was.
    Raises InputError when the folder does not exist, CTEnhanceError when the disk is full and when the
    finished file cannot be moved into place.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"Cannot write '{target}': the folder '{target.parent}' does not exist.")
    # A hidden name: file dialogs and `batch` must not take an unfinished file for a volume. The full original
    # suffix stays last, because writers choose the format by it.
    temporary = target.with_name(
        f".{stem_of(target)[:40]}.{_PARTIAL}-{uuid.uuid4().hex[:_MARK_LENGTH]}{_raw_suffix(target.name)}"
    )
    _unfinished.add(temporary)
    try:
        with _saying_why(target):
            yield temporary
            move(temporary, target)
    finally:
        # After success the name is gone already. A failing deletion must not hide the first error.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


@contextlib.contextmanager
def folder_when_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it at the end; `path` is made, or an empty folder.

    When the block raises, the temporary folder is deleted and nothing else has changed.
    Raises InputError when `path` holds files or cannot be made, CTEnhanceError when the disk is full and when
    the finished folder cannot be moved into place.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"Cannot write into '{target}': it is no empty folder; choose another or a new one.")
    parent = check_output_folder(target.absolute().parent)
    temporary = parent / f".{target.name[:40]}.{_PARTIAL}-{uuid.uuid4().hex[:_MARK_LENGTH]}"
    _unfinished.add(temporary)
    try:
        with _saying_why(target):
            temporary.mkdir()
            yield temporary
            move(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _unfinished.discard(temporary)


def remove_unfinished() -> None:
    """Remove what is being written, for a process that ends at once."""
    for temporary in list(_unfinished):
        shutil.rmtree(temporary, ignore_errors=True)
        # Writers put others beside it, of the same beginning, which no other file has.
        head, mark, tail = temporary.name.rpartition(f".{_PARTIAL}-")
        for path in temporary.parent.glob(f"{glob.escape(head)}{mark}{tail[:_MARK_LENGTH]}*"):
            with contextlib.suppress(OSError):
                path.unlink()


def move(temporary: Path, target: Path) -> None:
    """Put what is finished into its place, which it replaces; raises CTEnhanceError where that fails."""
    try:
        if temporary.is_dir() and target.is_dir():
            target.rmdir()  # not every system renames over an empty folder
        os.replace(temporary, target)
    except OSError as error:
        raise cannot_write(target, error, f"{error.strerror or error}; close programs that use it") from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text with LF line ends, whole or not at all."""
    with replace_when_done(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
