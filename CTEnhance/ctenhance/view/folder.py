"""The one folder that a page may choose from: nothing outside of it, by no name, link or reference."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")
PROJECTIONS = (".h5",)
_MOST_LISTED = 500
_MOST_FILES = 20_000
_HEADER_BYTES = 1 << 20
_LONGEST = 1024
_OTHER_OPEN_FILES = 400  # than those that are pinned
_OPENING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_REFERRING = (".mha", ".nrrd", ".mhd", ".nhdr")
ELSEWHERE = "This file takes its voxels from another one; give one that holds them itself."
_CAN_PIN = sys.platform.startswith("linux")


@dataclass
class Pinned:
    """What was chosen, as it was when it was checked: `path` names open files, which nobody can put another
    one, or a link, in the place of. Processes that read it must be given the `descriptors`."""

    path: Path
    descriptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the files."""
        while self.descriptors:
            os.close(self.descriptors.pop())


@dataclass(frozen=True)
class Folder:
    """A folder on this machine; names in it are relative, with `/` between their parts."""

    root: Path

    def path(self, name: Any) -> Path:
        """Return the file or folder of this name, links followed.

        Raises InputError for what is not in the folder: a way up, an absolute path, a link that leads out
        of it, a file whose header takes its voxels from another place.
        """
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or "\0" in name or "\\" in name:
            raise self._outside()
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or any(":" in part for part in parts):
            raise self._outside()
        try:
            path = self.root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # the last: what no name can be encoded as
            raise self._outside() from error
        self._require_inside(path)
        if path.is_dir():
            self._require_all_inside(path)
        elif not path.is_file():
            raise self._outside()
        elif points_elsewhere(path):
            raise InputError(ELSEWHERE)
        return path

    def entries(self, name: str = "") -> list[dict[str, Any]]:
        """Return what can be chosen in a folder: `name`, `kind` (folder, volume, projections), sorted."""
        place = self.root.resolve() if name == "" else self._folder(name)
        found = []
        with os.scandir(place) as entries:
            for entry in entries:
                kind = self._kind(Path(entry.path))
                if kind and not entry.name.startswith("."):
                    found.append({"name": f"{name}/{entry.name}".lstrip("/"), "kind": kind})
        return sorted(found, key=lambda one: (one["kind"] != "folder", one["name"]))[:_MOST_LISTED]

    def pinned(self, name: Any, place: Path) -> Pinned:
        """Return the file or folder of this name, pinned in a new folder `place`.

        Raises InputError, as `path` does, also for what has become a link since, or names another file.
        """
        real = self.path(name)
        if not _CAN_PIN:
            return Pinned(real)
        place.mkdir()
        pinned = Pinned(place / real.name)
        try:
            if real.is_dir():
                pinned.path.mkdir()
                self._pin_folder(real, pinned)
            else:
                self._pin(real, pinned.path, pinned)
        except BaseException as error:
            pinned.close()
            shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, OSError):
                raise self._outside() from error
            raise
        return pinned

    def _pin_folder(self, folder: Path, pinned: Pinned) -> None:
        for here, _folders, files in os.walk(folder):
            target = pinned.path / Path(here).relative_to(folder)
            target.mkdir(exist_ok=True)
            for name in files:
                self._pin(Path(here, name).resolve(strict=True), target / name, pinned)

    def _pin(self, real: Path, link: Path, pinned: Pinned) -> None:
        """Open a file that may be chosen, no part of whose path is a link, and name it in a place of ours."""
        self._require_inside(real)
        with self._opened(real) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            refers = suffix_of(link) in _REFERRING
            # A header could be written over after it was looked at, and not any number of files can be open.
            if refers or len(pinned.descriptors) >= _most_open():
                with open(os.dup(descriptor), "rb") as source, link.open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                if refers and points_elsewhere(link):
                    raise InputError(ELSEWHERE)
            else:
                pinned.descriptors.append(os.dup(descriptor))
                link.symlink_to(f"/proc/self/fd/{pinned.descriptors[-1]}")

    @contextlib.contextmanager
    def _opened(self, real: Path) -> Iterator[int]:
        """Open a file by the parts of its path, one in the other, none of which may be a link."""
        descriptor = os.open(self.root.resolve(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in real.relative_to(self.root.resolve()).parts:
                inner = os.open(part, _OPENING, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _folder(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_dir():
            raise self._outside()
        return path

    def _kind(self, path: Path) -> str:
        try:
            real = path.resolve(strict=True)
            self._require_inside(real)
        except (OSError, RuntimeError, InputError):
            return ""
        if real.is_dir():
            return "folder"
        suffix = suffix_of(real)
        return "volume" if suffix in VOLUMES else "projections" if suffix in PROJECTIONS else ""

    def _require_inside(self, path: Path) -> None:
        if not path.is_relative_to(self.root.resolve()):
            raise self._outside()

    def _require_all_inside(self, folder: Path) -> None:
        """A folder is read to its depths: no link in it may lead out."""
        count = 0
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                count += 1
                if count > _MOST_FILES:
                    raise InputError("This folder holds too many files; choose one further down.")
                one = Path(place, name)
                if one.is_symlink():
                    try:
                        self._require_inside(one.resolve(strict=True))
                    except (OSError, RuntimeError) as error:
                        raise self._outside() from error

    def _outside(self) -> InputError:
        return InputError("There is no such file or folder among those that may be chosen.")


def allow_open_files() -> None:
    """Let this process have as many files open as it may: a folder that is read has all of its own open."""
    if _CAN_PIN:
        import resource

        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))


def _most_open() -> int:
    import resource

    return min(_MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - _OTHER_OPEN_FILES)


def points_elsewhere(path: Path) -> bool:
    """Whether a volume file's header names another file, or a web address, as the place of its voxels."""
    suffix = suffix_of(path)
    if suffix not in _REFERRING:
        return False
    with path.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if suffix in (".nrrd", ".nhdr"):
        # ITK takes each of the three ends of a line for one.
        text, end, _voxels = re.sub(rb"\r\n?", b"\n", header).lower().partition(b"\n\n")
        return not end or any(
            re.sub(rb"\s", b"", line).startswith(b"datafile:") for line in text.split(b"\n")
        )
    # ITK takes ':' for '=', too; the first such field ends the header.
    before, _name, value = header.partition(b"ElementDataFile")
    return not (before.endswith(b"\n") and re.match(rb"[ \t]*=[ \t]*(LOCAL|Local|local)\s*\n", value))
