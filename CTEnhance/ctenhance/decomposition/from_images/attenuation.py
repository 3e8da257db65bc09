"""How much each material attenuates in each image, and whether the images can tell the materials apart."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctenhance.decomposition.from_images.energies import Energy
from ctenhance.physics.materials import Material, material
from ctenhance.physics.spectrum import TUBE_FILTERS, energy_grid, tube_spectrum
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.tables import rows_of

#: Water in mm that hardens the beam of a polychromatic image before what is to be told: an adult's body.
BODY_MM = 200.0
#: Least sine of the angle between a material's values and those of the others': below, an error of 2 % of the
#: images, which scanners have, would be taken for all of the material.
LEAST_DISTINCT = 0.02
MOST_MATERIALS = 5
_WATER = "water"
#: K edges in keV of what is used as a contrast agent, to say why two cannot be told apart.
_K_EDGES = {"iodine": 33.2, "barium": 37.4, "gadolinium": 50.2, "gold": 80.7, "tungsten": 69.5}


@dataclass(frozen=True)
class Attenuation:
    """`mass` cm²/g float64 `[image, material]` and `water` `[image]`: that of water, which HU refer to."""

    energies: tuple[Energy, ...]
    materials: tuple[Material, ...]
    mass: torch.Tensor
    water: torch.Tensor

    @property
    def relative(self) -> torch.Tensor:
        """Attenuation per g/cm³ relative to water's `[image, material]`."""
        return self.mass / self.water[:, None]


@dataclass(frozen=True)
class Spectra:
    """What images were made with: `energies_kev` `[energy]` and by image's name what was detected in air at
    each, in any unit `[energy]`."""

    energies_kev: np.ndarray
    detected: Mapping[str, np.ndarray]


#: Attenuations in cm²/g by image and material, or spectra of which they are averages.
Table = Mapping[str, Mapping[str, float]] | Spectra


def read_table(path: str | os.PathLike[str]) -> Table:
    """Effective mass attenuations in cm²/g by image and material, from a table (CSV) such as

        image,water,iodine
        bin1,0.29,17.1
        bin2,0.24,11.8

    or what each image's detector saw in air, by energy: a first line 'keV,bin1,bin2' and a line for each keV.
    Semicolons may part the columns, as where numbers have a decimal comma.
    Raises InputError, naming the line, for what is no such table."""
    name = Path(path).name
    try:
        rows = rows_of(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"The table '{name}' cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{name}' is no table: give text with commas (CSV).") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise InputError(
            f"The table '{name}' needs a first line 'image,water,iodine,…' and a line of cm²/g an image."
        )
    names = [field.strip() for field in rows[0][1:]]
    spectra = rows[0][0].strip().casefold() in ("kev", "energy_kev")
    if len({one.casefold() for one in names}) < len(names) or not all(names):
        raise InputError(f"The first line of the table '{name}' must name each material once.")
    if spectra:
        return _spectra(name, names, rows[1:])
    table: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows[1:], start=2):
        label = row[0].strip()
        try:
            values = [float(field) for field in row[1:]]
        except ValueError:
            values = []
        if len(values) != len(names) or not all(np.isfinite(v) and v > 0 for v in values) or not label:
            raise InputError(
                f"Line {number} of '{name}' must be an image's name and {len(names)} numbers above 0, "
                "in cm²/g."
            )
        if label in table:
            raise InputError(f"The table '{name}' has two lines for '{label}': keep one.")
        table[label] = dict(zip(names, values, strict=True))
    return table


def _spectra(name: str, labels: Sequence[str], rows: Sequence[Sequence[str]]) -> Spectra:
    try:
        values = np.array([[float(field) for field in row] for row in rows])
    except ValueError as error:
        raise InputError(f"The spectra in '{name}' must be numbers, {len(labels)} for each keV.") from error
    if values.ndim != 2 or values.shape[1] != len(labels) + 1 or not np.isfinite(values).all():
        raise InputError(f"The spectra in '{name}' must be numbers, {len(labels)} for each keV.")
    energies, detected = values[:, 0], values[:, 1:]
    if (np.diff(energies) <= 0).any() or (detected < 0).any() or (detected.sum(0) <= 0).any():
        raise InputError(f"The spectra in '{name}' need rising energies and numbers not below 0, some above.")
    return Spectra(energies, dict(zip(labels, detected.T, strict=True)))


def attenuation_of(
    energies: Sequence[Energy],
    basis: Sequence[str | Material],
    table: Table | None = None,
    body_mm: float = BODY_MM,
) -> Attenuation:
    """The attenuation of a basis in images: tabulated at keV, averaged over a tube's spectrum behind
    `body_mm` of water as an energy-integrating detector sees it, or as a `table` says by label and material,
    or spectra by label (behind the same water).

    Raises InputError for an image or a material that the table lacks, and for a bin without a table."""
    materials = tuple(material(one) for one in basis)
    names = [one.name for one in materials]
    if not 2 <= len(names) <= MOST_MATERIALS or len(set(names)) < len(names):
        raise InputError(f"Choose two to {MOST_MATERIALS} different basis materials, not {', '.join(names)}.")
    if not (np.isfinite(body_mm) and 0 <= body_mm <= 1000):
        raise InputError(f"A body of {body_mm} mm of water is not possible: give 0 to 1000.")
    rows, water = [], []
    for energy in energies:
        row = _row(energy, [*materials, material(_WATER)], table, body_mm)
        rows.append(row[:-1])
        water.append(row[-1])
    return Attenuation(tuple(energies), materials, torch.stack(rows), torch.stack(water))


def _row(
    energy: Energy,
    materials: Sequence[Material],
    table: Table | None,
    body_mm: float,
) -> torch.Tensor:
    if isinstance(table, Spectra):
        spectra = {Energy.of(label).label.casefold(): counting for label, counting in table.detected.items()}
        if energy.label.casefold() not in spectra:
            raise InputError(
                f"The table has no spectrum of the image '{energy.label}', only of "
                f"{', '.join(table.detected)}."
            )
        grid = torch.from_numpy(np.asarray(table.energies_kev, dtype=np.float64))
        counting = torch.from_numpy(np.asarray(spectra[energy.label.casefold()], dtype=np.float64))
        return _averaged(counting, grid, materials, body_mm)
    if table is not None:
        return _tabulated(energy, materials, table)
    if energy.kev is not None:
        at = torch.tensor([energy.kev], dtype=torch.float64)
        return torch.cat([one.mass_attenuation(at) for one in materials])
    if energy.kvp is None:
        raise InputError(
            f"Nothing tells the energy of the image '{energy.label}': name it by keV or kV (40, 80kV), or "
            "give its attenuations with a table (--attenuation)."
        )
    grid = energy_grid(energy.kvp)
    filters = {**TUBE_FILTERS, **({"tin": energy.tin_mm} if energy.tin_mm else {})}
    return _averaged(tube_spectrum(energy.kvp, filters, energies_kev=grid) * grid, grid, materials, body_mm)


def _averaged(
    detected: torch.Tensor, grid: torch.Tensor, materials: Sequence[Material], body_mm: float
) -> torch.Tensor:
    """Mass attenuation `[material]` of what is detected `[energy]` behind so much water."""
    counting = detected > 0
    grid = grid[counting]
    behind = detected[counting] * torch.exp(-material(_WATER).linear_attenuation(grid) * body_mm)
    share = behind / behind.sum()
    return torch.stack([(share * one.mass_attenuation(grid)).sum() for one in materials])


def _tabulated(
    energy: Energy, materials: Sequence[Material], table: Mapping[str, Mapping[str, float]]
) -> torch.Tensor:
    rows = {Energy.of(label).label.casefold(): values for label, values in table.items()}
    if energy.label.casefold() not in rows:
        raise InputError(
            f"The table of attenuations has no line for the image '{energy.label}', only for "
            f"{', '.join(table)}: name images as the table does."
        )
    found = {name.casefold(): value for name, value in rows[energy.label.casefold()].items()}
    values = []
    for one in materials:
        if one.name.casefold() not in found:
            why = "which HU refer to" if one.name == _WATER else "which is in the basis"
            raise InputError(f"The table of attenuations has no column '{one.name}', {why}: add it (cm²/g).")
        values.append(found[one.name.casefold()])
    return torch.tensor(values, dtype=torch.float64)


def distinctness(attenuation: Attenuation, conserve_volume: bool = False) -> torch.Tensor:
    """For each material the sine of the angle between its values in the images and the others' span.

    Where volume is conserved, differences to the first material count, and the first has 1."""
    rows = attenuation.relative
    if conserve_volume:
        density = torch.tensor([one.density for one in attenuation.materials], dtype=torch.float64)
        full = rows * density  # of the pure materials, relative to water
        rows = full[:, 1:] - full[:, :1]
    found = []
    for k in range(rows.shape[1]):
        own = rows[:, k]
        rest = torch.cat([rows[:, :k], rows[:, k + 1 :]], 1)
        if rest.shape[1]:
            own = own - rest @ torch.linalg.lstsq(rest, own[:, None]).solution[:, 0]
        found.append(own.norm() / rows[:, k].norm().clamp(min=1e-30))
    first = [torch.ones((), dtype=torch.float64)] if conserve_volume else []
    return torch.stack([*first, *found])


def require_distinct(attenuation: Attenuation, conserve_volume: bool = False) -> torch.Tensor:
    """The `distinctness` of the basis; raises InputError where the images cannot tell its materials apart."""
    names = [one.name for one in attenuation.materials]
    n_images, spare = len(attenuation.energies), int(conserve_volume)
    if len(names) > n_images + spare:
        hint = "" if conserve_volume else ", or add that volume is conserved (--conserve-volume)"
        hint = hint if len(names) == n_images + 1 else ""
        raise InputError(
            f"{len(names)} materials cannot be told from {n_images} images: name at most {n_images + spare} "
            f"basis materials, or give more energies{hint}."
        )
    found = distinctness(attenuation, conserve_volume)
    if float(found.min()) < LEAST_DISTINCT:
        alike = most_alike(attenuation)
        edges = [f"{name} {_K_EDGES[name]:g} keV" for name in alike if name in _K_EDGES]
        why = f", since no K edge ({', '.join(edges)}) lies between their energies" if len(edges) == 2 else ""
        images = ", ".join(str(one) for one in attenuation.energies)
        raise InputError(
            f"The images ({images}) cannot tell {alike[0]} from {alike[1]} in the basis "
            f"{', '.join(names)}{why}: leave one out, or give an energy between."
        )
    return found


def most_alike(attenuation: Attenuation) -> tuple[str, str]:
    """The two materials whose values differ least once that of the first is taken out of both."""
    names = [one.name for one in attenuation.materials]
    rows = attenuation.relative
    best, pair = 2.0, (names[0], names[1])
    start = 1 if len(names) > 2 and names[0] == _WATER else 0
    free = rows
    if start:
        first = rows[:, :1] / rows[:, :1].norm()
        free = rows - first @ (first.T @ rows)
    for i in range(start, len(names)):
        for j in range(i + 1, len(names)):
            a, b = free[:, i], free[:, j]
            sine = float((1 - ((a @ b) / (a.norm() * b.norm()).clamp(min=1e-30)) ** 2).clamp(min=0).sqrt())
            if sine < best:
                best, pair = sine, (names[i], names[j])
    return pair
