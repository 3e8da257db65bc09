"""Effective attenuations from a scan of rods whose contents are known.

Each rod's mean value in each image is a sum over the materials in it, attenuation times density. With more
rods than materials that is solved for the attenuations, by least squares; what is left over tells how well.
In HU water is 0 by definition, so that it stays as it is.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.from_images import checks
from ctenhance.decomposition.from_images.attenuation import attenuation_of
from ctenhance.decomposition.from_images.energies import Energy, different
from ctenhance.decomposition.from_images.options import HU, PER_MM
from ctenhance.decomposition.from_images.plausibility import doubts_of_table
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.tables import rows_of

_COLUMNS = ("material", "mg_per_ml")
_PLACES = ("x_mm", "y_mm")
#: The part of a rod's radius that is measured, away from its edge.
PART = 0.7
#: Rods that are looked for: radius in mm, least contrast in HU and in standard errors, and how round.
_RADIUS_MM = (3.0, 30.0)
_LEAST_HU, _LEAST_SIGMA, _ROUND = 8.0, 4.0, 0.75
#: Water in HU beyond which the scanner is said to be out of calibration.
_WATER_HU = 6.0


@dataclass(frozen=True)
class Rod:
    """A rod of `mg_per_ml` of a material in water; centre and radius in mm of the image, None if unknown."""

    material: str
    mg_per_ml: float
    x_mm: float | None = None
    y_mm: float | None = None
    radius_mm: float | None = None


@dataclass(frozen=True)
class Inserts:
    """`table`: cm²/g by image and material (of HU, where an image's energy is unknown, relative to water's);
    `nominal` the same by the tables of attenuation, where they know it; `rods` with their places;
    `residual_hu` root mean square by image; `notes` for the user."""

    table: dict[str, dict[str, float]]
    nominal: dict[str, dict[str, float]]
    rods: tuple[Rod, ...]
    residual_hu: dict[str, float]
    notes: tuple[str, ...]


def read_rods(path: str | os.PathLike[str]) -> list[Rod]:
    """Rods from a table (CSV) with the columns material, mg_per_ml and, where known, x_mm, y_mm (of the
    image, growing to left and posterior) and radius_mm. Raises InputError, naming the line."""
    name = Path(path).name
    try:
        lines = rows_of(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"The table of rods '{name}' cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{name}' is no table of rods: give text with commas (CSV).") from error
    columns = [one.strip() for one in (lines or [[]])[0]]
    if not set(_COLUMNS) <= set(columns):
        raise InputError(f"The table of rods '{name}' needs the columns material and mg_per_ml.")
    found = []
    for number, row in enumerate(lines[1:], start=2):
        clean = dict.fromkeys(columns, "") | dict(zip(columns, map(str.strip, row), strict=False))
        try:
            places = [float(clean[key]) if clean.get(key) else None for key in (*_PLACES, "radius_mm")]
            rod = Rod(material(clean["material"]).name, float(clean["mg_per_ml"]), *places)
        except ValueError as error:
            raise InputError(
                f"Line {number} of the table of rods '{name}' holds what is no number: correct it."
            ) from error
        if not (np.isfinite(rod.mg_per_ml) and rod.mg_per_ml >= 0):
            raise InputError(
                f"Line {number} of the table of rods '{name}' has a density below 0: correct it."
            )
        if (rod.x_mm is None) != (rod.y_mm is None) or (rod.x_mm is not None and not rod.radius_mm):
            raise InputError(f"Line {number} of '{name}': give x_mm, y_mm and radius_mm together.")
        found.append(rod)
    if not found:
        raise InputError(f"The table of rods '{name}' has no rods: write a line for each.")
    if len({rod.x_mm is None for rod in found}) > 1:
        raise InputError(f"The table of rods '{name}' gives places to some rods only: give all, or none.")
    return found


def write_table(table: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write attenuations so that `read_table` reads them."""
    from ctenhance.runtime.files import write_text

    names = list(next(iter(table.values())))
    lines = [",".join(["image", *names])]
    lines += [",".join([label, *(f"{row[name]:.7g}" for name in names)]) for label, row in table.items()]
    write_text(path, "\n".join(lines) + "\n")


def calibrate_inserts(
    images: Mapping[str, CTVolume],
    rods: Sequence[Rod],
    unit: str = HU,
    apart_s: float = 10.0,
    energies_as_given: bool = False,
) -> Inserts:
    """Effective attenuations of the rods' materials in the images (HU, 1/cm or 1/mm) of one scan.

    `apart_s` and `energies_as_given` are as in `decompose_images`.

    Rods without places are looked for: circles in the mean image, assigned by what the tables expect of each.
    Raises InputError where they are not found, or too few to fit."""
    energies = [Energy.of(label) for label in images]
    different(energies)
    volumes = list(images.values())
    checks.require_one_scan(volumes, energies, apart_s)
    checks.energies_from(volumes, energies, energies_as_given)
    for volume, energy in zip(volumes, energies, strict=True):
        if difference := checks.how_grids_differ(volumes[0], volume):
            raise InputError(
                f"The images of the rods at {energies[0]} and {energy} lie on different grids "
                f"({difference}): give those of one scan."
            )
    names = ["water", *dict.fromkeys(rod.material for rod in rods if rod.material != "water")]
    if len(names) < 2:
        raise InputError("The rods hold water alone: name what they are to calibrate.")
    nominal = _nominal(energies, names)
    notes: list[str] = []
    placed = list(rods) if rods[0].x_mm is not None else _found(volumes, rods, nominal, unit)
    values, errors = _measured(volumes, placed)
    scale = 10.0 if unit == PER_MM else 1.0
    densities = np.array([[_density(rod, name) for name in names] for rod in placed])  # g/cm³
    if np.linalg.matrix_rank(densities) < len(names):
        raise InputError(
            f"{len(placed)} rods of {', '.join(names)} do not tell these materials' attenuation apart: use "
            "rods of each material at a density of its own."
        )
    table, residual = {}, {}
    for index, energy in enumerate(energies):
        weight = 1 / np.maximum(errors[index], 0.2 if unit == HU else 1e-5)
        if unit == HU:
            relative = values[index] / 1000 + 1 - densities[:, 0]  # of water, which is 1 by definition
            fit = np.linalg.lstsq(densities[:, 1:] * weight[:, None], relative * weight, rcond=None)[0]
            fit = np.array([1.0, *fit])
            water = nominal.get(energy.label, {}).get("water", 1.0)
            table[energy.label] = dict(zip(names, (fit * water).tolist(), strict=True))
            left = 1000 * (densities @ fit - 1) - values[index]
        else:
            fit = np.linalg.lstsq(densities * weight[:, None], scale * values[index] * weight, rcond=None)[0]
            table[energy.label] = dict(zip(names, fit.tolist(), strict=True))
            left = 1000 * (densities @ fit - scale * values[index]) / fit[0]
        if not (fit > 0).all():
            wrong = names[int((fit <= 0).argmax())]
            raise InputError(
                f"The rods make {wrong} attenuate nothing at {energy}: correct their densities or places."
            )
        residual[energy.label] = float(np.sqrt(np.mean(left**2)))
        plain = [value for value, rod in zip(values[index], placed, strict=True) if rod.mg_per_ml == 0]
        if unit == HU and plain and abs(float(np.mean(plain))) > _WATER_HU:
            notes.append(f"Water has {np.mean(plain):.0f} HU at {energy}: calibrate the scanner first.")
    try:
        doubts = doubts_of_table(attenuation_of(energies, names, table))
    except InputError as error:
        doubts = [str(error)]
    notes += [f"The rods' contents, unit (mg/mL) or places are hardly right. {doubt}" for doubt in doubts]
    return Inserts(table, nominal, tuple(placed), residual, tuple(notes))


def _density(rod: Rod, name: str) -> float:
    if name == "water":
        return 1.0
    return rod.mg_per_ml / 1000 if rod.material == name else 0.0


def _nominal(energies: Sequence[Energy], names: Sequence[str]) -> dict[str, dict[str, float]]:
    known = [one for one in energies if one.kev is not None or one.kvp is not None]
    if not known:
        return {}
    how = attenuation_of(known, names)
    return {
        one.label: dict(zip(names, row.tolist(), strict=True))
        for one, row in zip(known, how.mass, strict=True)
    }


def _measured(volumes: Sequence[CTVolume], rods: Sequence[Rod]) -> tuple[np.ndarray, np.ndarray]:
    """Mean values `[image, rod]` within the rods, and their standard errors."""
    values, errors = np.empty((len(volumes), len(rods))), np.empty((len(volumes), len(rods)))
    for index, rod in enumerate(rods):
        inside = circle(volumes[0], rod, PART)
        if not inside.any():
            raise InputError(
                f"The rod of {rod.mg_per_ml:g} mg/mL {rod.material} at {rod.x_mm:g}, {rod.y_mm:g} mm lies "
                "outside of the images: give places in the images' own mm."
            )
        for number, volume in enumerate(volumes):
            some = volume.array[:, inside].astype(np.float64)
            values[number, index] = some.mean()
            # neighbours are alike: every tenth pixel says something of its own
            errors[number, index] = some.std() / np.sqrt(max(some.size / 10, 1))
    return values, errors


def circle(volume: CTVolume, rod: Rod, part: float) -> np.ndarray:
    """The pixels [y, x] within a part of a rod's radius."""
    assert rod.x_mm is not None and rod.y_mm is not None and rod.radius_mm is not None
    y, x = np.indices(volume.array.shape[1:])
    plane = np.stack([x * volume.spacing[0], y * volume.spacing[1]], -1) @ volume.direction[:2, :2].T
    away = plane + np.array(volume.origin[:2]) - (rod.x_mm, rod.y_mm)
    return np.square(away).sum(-1) < (part * rod.radius_mm) ** 2


def _found(
    volumes: Sequence[CTVolume], rods: Sequence[Rod], nominal: Mapping[str, Mapping[str, float]], unit: str
) -> list[Rod]:
    """The rods with the places of circles in the images: those that are what is expected of each."""
    planes = np.stack([volume.array.mean(0) for volume in volumes])
    if unit != HU:
        body = planes > 0.3 * np.percentile(planes, 95, axis=(1, 2), keepdims=True)
        water = [float(np.median(plane[inside])) for plane, inside in zip(planes, body, strict=True)]
        planes = np.stack([1000 * (plane / one - 1) for plane, one in zip(planes, water, strict=True)])
    circles = _circles(planes.mean(0), volumes[0])
    visible = [rod for rod in rods if rod.material != "water" and rod.mg_per_ml > 0]
    if len(circles) < len(visible):
        raise InputError(
            f"{len(circles)} of {len(visible)} rods were found in the images: give their places (x_mm, y_mm "
            "and radius_mm) in the table."
        )
    values = _measured(volumes, circles)[0].T  # [circle, image]
    if unit != HU:
        values = np.stack([1000 * (column / one - 1) for column, one in zip(values.T, water, strict=True)], 1)
    expected = np.array(
        [[_expected(rod, label, nominal) for label in _labels(volumes, nominal)] for rod in visible]
    )
    cost = np.abs(np.log((np.abs(values[None]) + 5) / (np.abs(expected[:, None]) + 5))).sum(-1)
    chosen = dict(zip(*optimize.linear_sum_assignment(cost), strict=True))
    placed = []
    for index, rod in enumerate(visible):
        at = circles[int(chosen[index])]
        placed.append(Rod(rod.material, rod.mg_per_ml, at.x_mm, at.y_mm, at.radius_mm))
    return placed


def _labels(volumes: Sequence[CTVolume], nominal: Mapping[str, Mapping[str, float]]) -> list[str]:
    if len(nominal) != len(volumes):
        raise InputError(
            "Rods are found by themselves only in images of known energy (keV or kV): give their places "
            "(x_mm, y_mm and radius_mm) in the table."
        )
    return list(nominal)


def _expected(rod: Rod, label: str, nominal: Mapping[str, Mapping[str, float]]) -> float:
    row = nominal[label]
    return rod.mg_per_ml * row[rod.material] / row["water"]  # HU


def _circles(plane: np.ndarray, volume: CTVolume) -> list[Rod]:
    """Round things in a body of water, brighter than it, as rods without contents."""
    pixel = volume.spacing[0]
    body = ndimage.binary_fill_holes(plane > -500)
    body = ndimage.binary_erosion(body, iterations=max(1, round(4 / pixel)))
    if int(body.sum()) < 100:
        raise InputError("No body of water was found around rods: give their places in the table.")
    smooth = ndimage.gaussian_filter(plane, 1.0 / pixel)
    base = float(np.median(smooth[body]))
    below = base - smooth[body & (smooth < base)]
    noise = float(np.median(below)) / 0.6745 if below.size else 0.0
    above = body & (smooth - base > max(_LEAST_HU, _LEAST_SIGMA * noise))
    labels, _ = ndimage.label(above)
    found = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        # each at half of its own height, so that bright ones are not taken for wider
        inside = labels[box] == index
        level = base + 0.5 * (float(np.percentile(smooth[box][inside], 80)) - base)
        inside &= smooth[box] > level
        area = float(inside.sum()) * pixel**2
        radius = float(np.sqrt(area / np.pi))
        sides = [side.stop - side.start for side in box]
        round_enough = area / (np.pi / 4 * sides[0] * sides[1] * pixel**2) > _ROUND * 0.8
        if not (
            _RADIUS_MM[0] <= radius <= _RADIUS_MM[1] and round_enough and min(sides) / max(sides) > _ROUND
        ):
            continue
        row, column = ndimage.center_of_mass(inside)
        at = np.array([(column + box[1].start) * volume.spacing[0], (row + box[0].start) * volume.spacing[1]])
        x, y = volume.direction[:2, :2] @ at + np.array(volume.origin[:2])
        found.append(Rod("", 0.0, float(x), float(y), radius))
    return found
