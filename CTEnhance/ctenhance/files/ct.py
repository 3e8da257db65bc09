"""A CT from a file or folder of any format, and out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctenhance.choices import LAID_STRAIGHT, NOT_LAID_STRAIGHT
from ctenhance.core.alternation import doubt_of_alternation
from ctenhance.core.blocks import blocks_of
from ctenhance.core.drawn import doubt_of_marks, is_page
from ctenhance.core.ends import ends_of
from ctenhance.core.halves import by_halves
from ctenhance.core.hounsfield import (
    doubt_of_corners,
    doubt_of_scale,
    doubt_without_air,
    require_hounsfield,
)
from ctenhance.core.layout import doubt_of_one_off, doubts_of_layout
from ctenhance.core.limits import doubt_of_steps, limits_of, require_whole_words
from ctenhance.core.order import (
    blank_slices,
    doubt_of_blanks,
    doubt_of_made_up_slice,
    doubt_of_odd_slice,
    doubt_of_order,
    doubt_of_repeated_rows,
    require_rows,
)
from ctenhance.core.padding import doubt_of_padding
from ctenhance.core.scale import OFF_SCALE, doubt_of_density
from ctenhance.core.volume import READABLE_SUFFIXES, WRITABLE_SUFFIXES, AnyPath, CTVolume
from ctenhance.files.lengths import doubts_of_lengths, require_likely_lengths
from ctenhance.runtime.errors import InputError, NotCTError
from ctenhance.runtime.files import check_output, suffix_of
from ctenhance.runtime.large import let_go

if TYPE_CHECKING:
    from ctenhance.files.volumes import StoredVolume


def read(
    path: AnyPath | Sequence[AnyPath],
    series: int | str | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    check_hu: bool = True,
) -> CTVolume:
    """Read a CT; all that `CTVolume.read` says of its arguments and of what it refuses holds."""
    volume, ends = _checked(path, None, series, where, check_hu)
    assert isinstance(volume, CTVolume)
    if check_hu:
        notes = doubts_of(volume, ends)
        let_go(volume.array)
        _add_notes(volume, notes)
    return volume


def _add_notes(volume: CTVolume | StoredVolume, notes: Sequence[str]) -> None:
    if notes:
        volume.meta["notes"] = [*volume.meta.get("notes", []), *notes]


def _notes_on_texts(path: AnyPath | Sequence[AnyPath], volume: CTVolume | StoredVolume) -> list[str]:
    from ctenhance.files.beside import notes_on_texts  # pydicom takes a while to load

    (file,) = [path] if isinstance(path, str | os.PathLike) else path
    return notes_on_texts(Path(file), volume.array, volume.spacing)


def read_or_map(
    path: AnyPath | Sequence[AnyPath],
    place: Path | None,
    series: int | str | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    check_hu: bool = True,
) -> CTVolume | StoredVolume:
    """Read a CT, and refuse what `read` refuses, but do not look for what `doubts_of` finds.

    `place`: a file that is not there yet, to which a packed one may be unpacked (`volumes.read_or_map`).
    """
    return _checked(path, place, series, where, check_hu)[0]


def _checked(
    path: AnyPath | Sequence[AnyPath],
    place: Path | None,
    series: int | str | None,
    where: Mapping[str, Any] | None,
    check_hu: bool,
) -> tuple[CTVolume | StoredVolume, np.ndarray | None]:
    """Do what `read_or_map` does; return also the ends of the slices, if they were looked for."""
    try:
        volume, ends = _read(path, place, series, where, check_hu)
        if check_hu:
            require_likely_lengths(volume)
            _require_slices(volume)
            require_rows(volume.array)
            ends = ends_of(volume.array) if ends is None else ends
            if "source_files" not in volume.meta:  # DICOM is asked before its padding is replaced
                require_whole_words(volume.array, ends)
            require_hounsfield(volume.array, ends)
            if "source_files" not in volume.meta:
                _add_notes(volume, _notes_on_texts(path, volume))
    except InputError as error:
        reason = str(error)
        kind = NotCTError if isinstance(error, NotCTError) else InputError
        raise kind(f"Cannot read {_named(path)}: {reason[0].lower()}{reason[1:]}") from error
    return volume, ends


def doubts_of(volume: CTVolume | StoredVolume, ends: np.ndarray | None = None) -> list[str]:
    """Return the notes on a volume in HU that has been read and may not be what it seems.

    `ends`: those of its slices (`ends_of`), where they are known.
    """
    array, doubts = volume.array, []
    # DICOM states a unit, and is asked for its scale before its padding is replaced.
    if "source_files" not in volume.meta:
        doubts += [doubt_without_air(array), doubt_of_scale(array)]
    blocks = blocks_of(array, ends)
    ends = blocks.ends
    marks, limits, blanks = doubt_of_marks(array), limits_of(array, ends), blank_slices(array, ends)
    # A wrong scale or a window says what is in the corners, too.
    explained = limits.floor is not None or any(
        OFF_SCALE in one for one in (*doubts, *volume.meta.get("notes", []))
    )
    # At a high energy fat is there, too, and a header that says so has its note.
    if not explained and not any("virtual image" in str(one) for one in volume.meta.get("notes", [])):
        doubts.append(doubt_of_density(array))
    images = np.delete(array, blanks, axis=0) if blanks else array
    blocks = blocks.without(blanks) if blanks else blocks
    odd = doubt_of_odd_slice(images, blocks.means)
    doubts += [
        *doubts_of_lengths(volume),
        marks or str(limits),
        doubt_of_steps(array),
        "" if explained else doubt_of_corners(images),
        doubt_of_padding(array, float(ends[:, 0].min())),
        doubt_of_blanks(blanks, len(array)),
        odd,
        doubt_of_made_up_slice(images),
        doubt_of_repeated_rows(array),
        "" if odd else doubt_of_one_off(blocks),
        *doubts_of_layout(images, blocks),
        "" if odd else doubt_of_alternation(images, blocks),
        "" if odd else doubt_of_order(images, volume.spacing[2]),
    ]
    return [doubt for doubt in doubts if doubt]


def write(volume: CTVolume, path: AnyPath) -> None:
    """Write a volume; all that `CTVolume.write` says of formats and precision holds."""
    from ctenhance.files.volumes import write_image_file

    write_image_file(volume, check_output(path, WRITABLE_SUFFIXES))


def _named(path: AnyPath | Sequence[AnyPath]) -> str:
    if isinstance(path, str | os.PathLike):
        return f"'{os.fspath(path)}'"
    names = [os.fspath(one) for one in path]
    if not names:
        return "an empty list of files"
    if len(names) == 1:
        return f"'{names[0]}'"
    folders = {os.path.dirname(name) for name in names}
    return (
        f"{len(names)} files of '{folders.pop()}'"
        if len(folders) == 1
        else f"'{names[0]}' and {len(names) - 1} more"
    )


def _require_readable(path: Path) -> None:
    try:
        if not path.exists():
            raise InputError(f"there is no file or folder '{path}'; check the path.")
        if path.is_file():
            path.open("rb").close()
        elif not path.is_dir():
            raise InputError("it is neither a file nor a folder; give a file that can be read again.")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"it cannot be opened ({reason}); check its permissions.") from error


def _require_slices(volume: CTVolume | StoredVolume) -> None:
    """Raise InputError where images are pages of text, whatever their headers call them."""
    array = volume.array
    pages = np.flatnonzero(
        np.concatenate(by_halves(len(array), lambda part: [is_page(plane) for plane in array[part]]))
    ).tolist()
    if not pages:
        return
    if len(pages) == len(array):
        raise NotCTError(
            "its images look like pages of text, such as a dose report or an exam summary, and not like "
            "slices; give the CT series."
        )
    files = volume.meta.get("source_files")
    first = f"'{Path(files[pages[0]]).name}'" if files else f"slice {pages[0]} (counted from 0)"
    further = f" (and {len(pages) - 1} more)" if len(pages) > 1 else ""
    raise InputError(
        f"{first}{further} looks like a page of text, such as a dose report, and not like a slice; take it "
        "out, and give the others alone."
    )


def _read(
    path: AnyPath | Sequence[AnyPath],
    place: Path | None,
    series: int | str | None,
    where: Mapping[str, Any] | None,
    check_hu: bool,
) -> tuple[CTVolume | StoredVolume, np.ndarray | None]:
    """Return the volume, and the ends of its slices if reading it has shown them."""
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(one) for one in path]
    if not paths:
        raise InputError("give at least one file.")
    for one in paths:
        _require_readable(one)
    image_files = [one for one in paths if one.is_file() and suffix_of(one) in READABLE_SUFFIXES]
    if not image_files:
        from ctenhance.files.dicom.reading import read_dicom  # pydicom and SimpleITK take a while to load

        return read_dicom(paths, series, where, check_hu)
    if len(paths) > 1:
        raise InputError(
            f"'{image_files[0].name}' is a volume of its own; give it alone, or give only DICOM files."
        )
    if series is None and where == LAID_STRAIGHT:
        raise InputError(f"only DICOM slices are laid straight: {NOT_LAID_STRAIGHT}")
    if series is not None or where:
        raise InputError("series and images can be chosen in DICOM folders only; leave the choice out.")
    from ctenhance.files import volumes  # SimpleITK takes a while to load

    return volumes.read_or_map(paths[0], place), None
