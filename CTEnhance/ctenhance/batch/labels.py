"""Label maps that go with the images, so that an annotated set stays annotated."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctenhance.core.volume import READABLE_SUFFIXES, CTVolume
from ctenhance.files.finished import file_sha256
from ctenhance.quality.compare import DIRECTION_TOLERANCE, grid_difference
from ctenhance.runtime import large
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of

KIND = "labels"
PUT_IN_ORDER = "the label map has its axes in another order or direction: its voxels are put in the image's"
#: Headers whose values lie in another file are not carried along: two files would have to stay together.
SUFFIXES = tuple(suffix for suffix in READABLE_SUFFIXES if suffix not in (".mhd", ".nhdr"))
_EXACT_FLOAT32 = 1 << 24  # whole numbers up to here
_HEADER_BYTES = 1 << 16
# Words for label maps in the names of files and folders ('labelsTr', 'case_seg', 'masks').
_NAMED = re.compile(
    r"(?<![a-z])(labels?|masks?|segs?|segmentations?|annotations?|gt)(tr|ts|va|val)?(?![a-z])", re.IGNORECASE
)
#: More values are none of labels; so few are those of no image; neighbours that are equal, of more.
_MOST_LABELS, _FEW_LABELS, _MOSTLY = 1000, 8, 0.6


def checked(path: Path, image: CTVolume) -> tuple[str, CTVolume | None]:
    """Return the SHA-256 of a label map's file, and the same labels in the image's order of voxels where the
    file has them in another one; None where it can go along as it is.

    Raises InputError unless it holds whole numbers on the grid of its image, whatever the order and direction
    of its axes: labels on another grid would say wrong things of the new image without a word.
    """
    stored = _read(path)
    volume = _in_order_of(image, stored)
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
    if volume is stored:
        return file_sha256(path), None
    if np.abs(volume.array).max() > _EXACT_FLOAT32 or _names_segments(path):
        raise InputError(
            f"The label map '{path.name}' has its axes in another order or direction than its image, and "
            "would lose names of its segments, or labels beyond 16 million, in theirs: save it on the grid "
            "of its image, for instance with 3D Slicer."
        )
    return file_sha256(path), volume


def _in_order_of(image: CTVolume, labels: CTVolume) -> CTVolume:
    """Return the labels with axes exchanged and turned so that they run as the image's; the same object where
    they do, or where no such change makes them."""
    turned = image.direction.T @ labels.direction  # [axis of the image, axis of the labels], (x, y, z)
    along = np.abs(turned).argmax(axis=1)
    signs = np.sign(turned[range(3), along])
    if np.abs(turned - np.eye(3)[along] * signs[:, None]).max() > DIRECTION_TOLERANCE:
        return labels
    if along.tolist() == [0, 1, 2] and (signs > 0).all():
        return labels
    array = labels.array.transpose([2 - axis for axis in along[::-1]])
    array = array[tuple(slice(None, None, int(sign)) for sign in signs[::-1])]
    spacing, sizes = np.array(labels.spacing)[along], np.array(array.shape[::-1])
    direction = labels.direction[:, along]
    # The voxel that becomes the first one is the last along each axis that is turned.
    origin = labels.origin + direction @ ((signs < 0) * spacing * (sizes - 1))
    return CTVolume(
        array, tuple(spacing.tolist()), tuple(origin.tolist()), direction * signs, dict(labels.meta)
    )


def label_map_in(path: Path, inside: str) -> str:
    """Return what a volume file holds that is a label map beside the CTs of a folder, such as 'a label map
    (whole numbers 0 to 3)'; '' for any other, and one that cannot be read.

    Looked into are those of 8 bits, and those with a name for it in `inside`, their path within the folder.
    Labels are few, or, unlike the values of an image, the same from voxel to voxel.
    """
    from ctenhance.files.volumes import has_eight_bits, read_image_file

    if not (_NAMED.search(inside) or has_eight_bits(path)):
        return ""
    try:
        array = read_image_file(path, labels=True).array
    except (InputError, MemoryError):
        return ""
    found: set[float] = set()
    equal = pairs = 0
    for plane in array:
        values = np.unique(plane)
        found.update(values.tolist())
        if len(found) > _MOST_LABELS or values[0] < 0 or not np.array_equal(values, np.round(values)):
            return ""
        labelled = np.maximum(plane[:, 1:], plane[:, :-1]) > 0
        pairs += int(labelled.sum())
        equal += int((labelled & (plane[:, 1:] == plane[:, :-1])).sum())
    if len(found) > _FEW_LABELS and equal < _MOSTLY * pairs:
        return ""
    return f"a label map (whole numbers {min(found):g} to {max(found):g})"


def _names_segments(path: Path) -> bool:
    """Say whether the header of a file names segments, as 3D Slicer's do."""
    with path.open("rb") as stream:
        return suffix_of(path) == ".nrrd" and b"Segment0_" in stream.read(_HEADER_BYTES)


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
