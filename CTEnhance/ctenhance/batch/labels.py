"""Label maps that go with the images, so that an annotated set stays annotated."""

from __future__ import annotations

from collections.abc import Mapping
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


def by_place(folder: Path) -> Mapping[str, Path]:
    """The volume files of a folder, at any depth, by their place without the suffix.

    Raises InputError for a folder that is none, and for two files of one place.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'; check the path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name[0] == "." or suffix_of(path) not in SUFFIXES or not path.is_file():
            continue
        place = path.relative_to(folder).with_name(stem_of(path)).as_posix()
        if place in found:
            raise InputError(
                f"'{found[place].name}' and '{path.name}' in '{path.parent}' are both of '{place}': keep one."
            )
        found[place] = path
    return found
