"""Images at several energies from their files, as `40=file` or DICOM names them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.decomposition.from_images.energies import Energy, different, of_what_is_left
from ctenhance.files.beside import DESCRIPTIONS, json_beside
from ctenhance.files.dicom.energies import energies_in, energy_named, read_at
from ctenhance.files.dicom.names import AT_AN_ENERGY, taken_out, words
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of
from ctenhance.runtime.progress import Cancellable, Progress, check

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume

#: Monoenergetic images are hardly ever given at such energies alone, but scans are made at such voltages.
_VOLTAGES = (80, 90, 100, 110, 120, 130, 135, 140, 150)
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
        volume = read_at(path, energy.label, check_hu=checked, **chosen[done])
        if notes := [] if is_dicom(path) else _notes_beside(path, energy):
            volume.meta["notes"] = [*volume.meta.get("notes", []), *notes]
        volumes[energy.label] = volume
        check(cancel)
    progress("read", len(pairs), len(pairs))
    if all(not is_dicom(path) and energy.kev in _VOLTAGES for energy, path in pairs) and not any(
        "kev" in label.casefold() for label, _ in given
    ):
        first = next(iter(volumes.values()))
        kv = " and ".join(f"{energy.kev:g}kV" for energy, _ in pairs)
        note = f"energies were taken for keV of monoenergetic images; tube voltages are written as {kv}"
        first.meta["notes"] = [*first.meta.get("notes", []), note]
    return volumes


def _notes_beside(path: Path, energy: Energy) -> list[str]:
    """Notes on an image file whose name, or the .json beside it, tells another energy.

    Raises InputError where the latter says that a material was taken out."""
    beside, place = json_beside(path), f"'{stem_of(path)}.json' beside it"
    described = " ".join(str(beside.get(key) or "") for key in DESCRIPTIONS)
    if without := taken_out(words(described)):
        raise of_what_is_left(f"The image at {energy}", place, without)
    notes = []
    if without := taken_out(words(stem_of(path))):
        notes.append(
            f"its name tells that a material was taken out ({without}): then it is none at an energy"
        )
    volts = beside.get("KVP")
    scanned = isinstance(volts, int | float) and not AT_AN_ENERGY.search(words(described))
    places = {
        place: energy_named(described) or (f"{volts:g}kV" if scanned else ""),
        "its name": energy_named(stem_of(path)),
    }
    for where, label in places.items():
        if label and _contradicts(label, energy):
            name = f"{label} keV" if label[-1].isdigit() else label
            notes.append(f"{where} tells {name}: make sure of the energy (40 is in keV, 80kV a tube voltage)")
            break
    return notes


def _contradicts(label: str, energy: Energy) -> bool:
    """Whether a text's energy is not that of an image. Of a monoenergetic one it may name the scan's kV."""
    if energy.order is None or label.casefold() == energy.label.casefold():
        return False
    if energy.kev is not None and not label[-1].isdigit():
        return label == f"{energy.kev:g}kV"
    return True


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
            raise of_what_is_left(f"'{path.name}'", "its header", without[0])
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
