"""Label maps that go with the images, so that an annotated set stays annotated."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctenhance.core.volume import READABLE_SUFFIXES, CTVolume
from ctenhance.files.finished import file_sha256
from ctenhance.quality.compare import grid_difference
from ctenhance.runtime import large
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of

KIND = "labels"
#: Headers whose values lie in another file are not carried along: two files would have to stay together.
SUFFIXES = tuple(suffix for suffix in READABLE_SUFFIXES if suffix not in (".mhd", ".nhdr"))


def checked(path: Path, image: CTVolume) -> str:
    """Return the SHA-256 of a label map's file.

    Raises InputError unless it holds whole numbers on the grid of its image: labels on another grid would
    say wrong things of the new image without a word.
    """
    volume = _read(path)
    difference = grid_difference(volume, image, "the image")
    if difference:
        raise InputError(
            f"The label map '{path.name}' lies on another grid than its image: it has {difference}; resample"
            " it onto the image, by nearest neighbours."
        )
    for slab in large.slabs(volume.array):
        if not np.array_equal(volume.array[slab], np.round(volume.array[slab])):
            raise InputError(
                f"'{path.name}' is no label map: its values are no whole numbers; give one label a voxel."
            )
    return file_sha256(path)


def _read(path: Path) -> CTVolume:
    from ctenhance.files.volumes import read_image_file

    try:
        return read_image_file(path, labels=True)
    except InputError as error:
        raise InputError(f"The label map '{path.name}' cannot be used: {error}") from error


def places_in(folder: Path) -> Iterator[Path]:
    """The places (paths without suffix) of all label maps of a folder, at any depth, in an order.

    Raises InputError for two files of one place.
    """
    _in_one_folder.cache_clear()
    for directory, folders, _names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for place, files in sorted(_in_one_folder(Path(directory)).items()):
            if len(files) > 1:
                raise InputError(
                    f"'{files[0]}' and '{files[1]}' in '{directory}' are both of "
                    f"'{(Path(directory) / place).relative_to(folder).as_posix()}': keep one."
                )
            yield (Path(directory) / place).relative_to(folder)


def at(folder: Path, place: Path) -> Path | None:
    """The label map of a place, or None."""
    here = (folder / place).parent
    files = _in_one_folder(here).get(place.name)
    return here / files[0] if files else None


@functools.lru_cache(maxsize=8)
def _in_one_folder(folder: Path) -> dict[str, list[str]]:
    """The volume files of a folder by their names without suffix."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.is_file()):
            path = folder / name
            if name[0] != "." and suffix_of(path) in SUFFIXES:
                found.setdefault(stem_of(path), []).append(name)
    return found
