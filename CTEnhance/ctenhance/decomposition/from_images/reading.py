"""Images at several energies from their files, as `40=file` or DICOM names them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.decomposition.from_images.energies import Energy, different
from ctenhance.files.dicom.energies import energies_in, read_at
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of
from ctenhance.runtime.progress import Cancellable, Progress, check

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume

Choices = Callable[[Sequence[Path]], Sequence[Mapping[str, Any]]]


def split(given: str) -> tuple[str, Path]:
    """'40=path' as energy and path; a path alone has no energy."""
    parts = re.fullmatch(r"([^=/\\]+)=(.+)", given)
    if parts is None or Path(given).exists():
        return "", Path(given)
    return parts[1].strip(), Path(parts[2])


def images_at_energies(
    given: Sequence[tuple[str, Path]],
    hounsfield: bool,
    check_files: bool,
    choices: Choices | None,
    progress: Progress,
    cancel: Cancellable | None,
    tell: Callable[[str], None],
) -> dict[str, CTVolume]:
    """Volumes by energy, from pairs of an energy ('' where DICOM tells it) and a path.

    `choices`: for each path the series and images of `CTVolume.read`. Raises InputError for energies that are
    not known or that were given twice, and, where `hounsfield`, for other values in DICOM and, with
    `check_files`, in files without a unit. `tell` hears what was left out.
    """
    pairs = [(Energy.of(label), path) for label, path in _expanded(given, tell)]
    different([energy for energy, _ in pairs])
    chosen = choices([path for _, path in pairs]) if choices else [{}] * len(pairs)
    volumes = {}
    for done, (energy, path) in enumerate(pairs):
        progress("read", done, len(pairs))
        # of values without a unit the verb says better what they may be
        checked = hounsfield and (check_files or not path.exists() or is_dicom(path))
        volumes[energy.label] = read_at(path, energy.label, check_hu=checked, **chosen[done])
        check(cancel)
    progress("read", len(pairs), len(pairs))
    return volumes


def _expanded(given: Sequence[tuple[str, Path]], tell: Callable[[str], None]) -> list[tuple[str, Path]]:
    """Each image with its energy: those of DICOM without one have what their headers tell."""
    found: list[tuple[str, Path]] = []
    for label, path in given:
        if label:
            found.append((label, path))
            continue
        if not path.exists():
            raise InputError(f"There is no file or folder '{path}': check the path.")
        names = energies_told(path)
        without = [one.without for one in energies_in(path)] if not names and is_dicom(path) else []
        if without and all(without):
            raise InputError(
                f"'{path.name}' had a material taken out by its header ({without[0]}), as a virtual "
                "non-contrast image: it is no image at an energy; give one from which nothing was."
            )
        if not names:
            raise InputError(
                f"Nothing tells the energy of '{path.name}': write it before the path: 40={path.name}."
            )
        # beside monoenergetic images the scan's usual one says little, and that less exactly
        mono = [name for name in names if Energy.of(name).kev is not None] if len(names) > 2 else []
        if 2 <= len(mono) < len(names):
            left = ", ".join(name for name in names if name not in mono)
            tell(f"'{path.name}': of its images at several energies, {left} was left out.")
            names = mono
        found += [(name, path) for name in names]
    return found


def energies_told(path: Path) -> list[str]:
    """The energies that the headers of a DICOM folder or file tell; none of other files."""
    if not is_dicom(path):
        return []
    return list(dict.fromkeys(name for one in energies_in(path) for name in one.energies if name))


def is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM folder or file, by its name."""
    return path.is_dir() or suffix_of(path) not in READABLE_SUFFIXES
