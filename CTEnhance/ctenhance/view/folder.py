"""The one folder that a page may choose from: nothing outside of it, by no name, link or reference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")
PROJECTIONS = (".h5",)
_MOST_LISTED = 500
_MOST_FILES = 20_000
_HEADER_BYTES = 1 << 16
_LONGEST = 1024


@dataclass(frozen=True)
class Folder:
    """A folder on this machine; names in it are relative, with `/` between their parts."""

    root: Path

    def path(self, name: Any) -> Path:
        """Return the file or folder of this name, links followed.

        Raises InputError for what is not in the folder: a way up, an absolute path, a link that leads out
        of it,
        a file whose header takes its voxels from another place.
        """
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or "\0" in name or "\\" in name:
            raise self._outside()
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or any(":" in part for part in parts):
            raise self._outside()
        try:
            path = self.root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise self._outside() from error
        self._require_inside(path)
        if path.is_dir():
            self._require_all_inside(path)
        elif not path.is_file():
            raise self._outside()
        elif points_elsewhere(path):
            raise InputError("This file takes its voxels from another one; give one that holds them itself.")
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


def points_elsewhere(path: Path) -> bool:
    """Whether a volume file's header names another file, or a web address, as the place of its voxels."""
    suffix = suffix_of(path)
    if suffix not in (".mha", ".nrrd", ".mhd", ".nhdr"):
        return False
    with path.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if suffix in (".nrrd", ".nhdr"):
        text = header.split(b"\n\n")[0].replace(b"\r", b"").lower()
        return any(line.replace(b" ", b"").startswith(b"datafile:") for line in text.split(b"\n"))
    for line in header.split(b"\n"):
        field, _sign, value = line.partition(b"=")
        if field.strip() == b"ElementDataFile":
            return value.strip() not in (b"LOCAL", b"Local", b"local")
    return True
