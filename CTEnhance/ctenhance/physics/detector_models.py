"""Responses of CdTe, CZT and silicon pixels from their physics.

Interactions are placed on a fixed low-discrepancy set in and around a pixel: photo-absorption with K
fluorescence that is reabsorbed where it ends or escapes, Compton recoil (Klein & Nishina), a Gaussian charge
cloud shared among pixels (Taguchi et al., Med Phys 45:1985, 2018), and Gaussian noise of the electronics.
The scattered quantum of a Compton event is taken as lost, and so is coherent scatter's change of direction.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ctenhance.physics.detector import EDGE_KEV, Detector, ideal_detector, read_detector
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError

ELECTRON_KEV = 510.999
# keV by which energies may be off a grid.
_APART = 0.01


@dataclass(frozen=True)
class KShell:
    """K fluorescence of one element of a sensor: edge and line in keV, and the chance that an absorption
    above the edge ends in a K line (share of the element · K-shell jump fraction · fluorescence yield)."""

    edge_kev: float
    line_kev: float
    chance: float


@dataclass(frozen=True)
class Sensor:
    """A pixel: material, pitch and thickness (depth along the beam) in mm, cloud and noise as standard
    deviations."""

    material: str
    pitch_mm: float
    thickness_mm: float
    cloud_mm: float
    noise_kev: float
    lines: tuple[KShell, ...] = ()


# Edges, Kα energies and yields: X-ray data booklet (LBNL 2009). Chance: the element's part of absorption over
# its edge (0.43 Cd, 0.57 Te at 50 keV) x jump fraction (0.84) x yield (0.843 Cd, 0.877 Te).
_CADMIUM = KShell(26.71, 23.1, 0.43 * 0.84 * 0.843)
_TELLURIUM = KShell(31.81, 27.4, 0.57 * 0.84 * 0.877)

SENSORS: dict[str, Sensor] = {
    "cdte": Sensor("cdte", 0.275, 1.6, 0.022, 2.0, (_CADMIUM, _TELLURIUM)),
    "czt": Sensor("czt", 0.25, 1.6, 0.022, 2.0, (_CADMIUM, _TELLURIUM)),
    # edge-on strips: 0.5 mm pixels, 60 mm deep (Persson et al., Med Phys 47, 2020)
    "silicon": Sensor("silicon", 0.5, 60.0, 0.02, 1.6),
}


def detector_model(name: str | Sensor, energies_kev: torch.Tensor, samples: int = 8192) -> Detector:
    """The response of a sensor (one of `SENSORS`, or your own) on 1-keV bins; deterministic.

    Raises InputError for a name that is not among them, for sizes that are not positive and for energies that
    are not 1 keV apart.
    """
    if isinstance(name, str):
        if name.lower() not in SENSORS:
            raise InputError(f"There is no detector '{name}': choose ideal, {', '.join(SENSORS)} or a file.")
        sensor = SENSORS[name.lower()]
    else:
        sensor = name
    if not min(sensor.pitch_mm, sensor.thickness_mm, sensor.cloud_mm, sensor.noise_kev) > 0:
        raise InputError("A sensor's pitch, thickness, charge cloud and noise must be above zero.")
    n = len(energies_kev)
    first = float(energies_kev[0])
    if not torch.allclose(energies_kev, first + torch.arange(n).to(energies_kev), rtol=0, atol=_APART):
        raise InputError(
            f"The response of a sensor of {sensor.material} is known at energies 1 keV apart: bring the "
            "spectra to steps of 1 keV."
        )
    below = math.floor(first)  # bins that pulses may lie in, but no quanta
    # position x y depth, fluorescence: which line, direction z and azimuth, path; Compton: energy
    u = torch.quasirandom.SobolEngine(8, scramble=True, seed=7).draw(samples, dtype=torch.float64)
    u = u.clamp(1e-9, 1 - 1e-9)
    position = (u[:, :2] - 0.5) * (3 * sensor.pitch_mm)  # the pixel and its eight neighbours
    stuff = material(sensor.material)
    photo, compton = (
        stuff.mass_attenuation(energies_kev, kind) * (0.1 * stuff.density) for kind in ("photo", "incoh")
    )
    stopped = 1 - torch.exp(-(photo + compton) * sensor.thickness_mm)
    own = _collected(position, sensor)
    response = torch.zeros(n, below + n, dtype=torch.float64)
    for row, energy in enumerate(energies_kev.tolist()):
        absorbed = _absorption(energy, sensor, position, own, u, float(photo[row] + compton[row]))
        recoil = _recoil(energy, u[:, 7].contiguous()) * own
        share = float(photo[row] / (photo[row] + compton[row]))
        weight = float(stopped[row]) * 9 / samples  # nine pixels' worth of interactions hit this one
        _deposit(response[row], absorbed, first - below, weight * share)
        _deposit(response[row], recoil, first - below, weight * (1 - share))
    response = _blurred(response, sensor.noise_kev)[:, below:]
    return Detector(response, energies_kev, EDGE_KEV, sensor.material)


def detector(given: str | os.PathLike[str] | Detector, energies_kev: torch.Tensor) -> Detector:
    """The detector meant by 'ideal', a name among `SENSORS` or the path of a response matrix.

    Raises InputError where it is none of them.
    """
    if isinstance(given, Detector):
        return given
    if str(given).lower() == "ideal":
        return ideal_detector(energies_kev)
    return (
        read_detector(given, energies_kev) if Path(given).suffix else detector_model(str(given), energies_kev)
    )


def _collected(position: torch.Tensor, sensor: Sensor) -> torch.Tensor:
    """Part of the charge cloud at `position` `[sample, 2]` that the pixel at the origin collects."""
    scale = math.sqrt(2) * sensor.cloud_mm
    half = sensor.pitch_mm / 2
    return (0.5 * (torch.erf((position + half) / scale) - torch.erf((position - half) / scale))).prod(-1)


def _absorption(
    energy: float, sensor: Sensor, position: torch.Tensor, own: torch.Tensor, u: torch.Tensor, mu: float
) -> torch.Tensor:
    """Energy `[sample]` that the pixel sees of absorbed quanta, with fluorescence where the element can."""
    deposited = energy * own
    first = 0.0
    for line in sensor.lines:
        if energy <= line.edge_kev:
            continue
        emits = (u[:, 3] >= first) & (u[:, 3] < first + line.chance)
        first += line.chance
        path = -torch.log(u[:, 4]) / float(_line_attenuation(sensor.material, line.line_kev))
        cosine = 2 * u[:, 5] - 1
        sine = (1 - cosine**2).sqrt()
        azimuth = 2 * math.pi * u[:, 6]
        end = position + (path * sine)[:, None] * torch.stack([azimuth.cos(), azimuth.sin()], -1)
        # depth of the interaction: exponential within the sensor
        depth = -torch.log1p(-u[:, 2] * -math.expm1(-mu * sensor.thickness_mm)) / mu
        depth = depth + path * cosine
        kept = (depth > 0) & (depth < sensor.thickness_mm)
        again = torch.where(kept, _collected(end, sensor), torch.zeros_like(own)) * line.line_kev
        deposited = torch.where(emits, (energy - line.line_kev) * own + again, deposited)
    return deposited


def _line_attenuation(name: str, kev: float) -> torch.Tensor:
    return material(name).linear_attenuation(torch.tensor(kev, dtype=torch.float64))


def _recoil(energy: float, u: torch.Tensor) -> torch.Tensor:
    """Recoil energies `[sample]` in keV of Compton events, by inverting the Klein-Nishina distribution."""
    alpha = energy / ELECTRON_KEV
    cosine = torch.linspace(-1, 1, 513, dtype=torch.float64)
    ratio = 1 / (1 + alpha * (1 - cosine))
    density = ratio**2 * (ratio + 1 / ratio - (1 - cosine**2))
    below = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(density, cosine)])
    below = below / below[-1]
    index = torch.searchsorted(below, u).clamp(1, 512)
    part = (u - below[index - 1]) / (below[index] - below[index - 1])
    chosen = cosine[index - 1] + part * (cosine[1] - cosine[0])
    return energy * (1 - 1 / (1 + alpha * (1 - chosen)))


def _deposit(row: torch.Tensor, energy: torch.Tensor, lowest_kev: float, weight: float) -> None:
    """Add events of `energy` to the 1-keV bins of `row`, whose first centre is at `lowest_kev`, shared
    linearly between the two nearest centres.

    Pixels that receive less than 1 keV see no event."""
    position = (energy[energy >= 1] - lowest_kev).clamp(0, len(row) - 1)
    low = position.floor().long().clamp(max=len(row) - 2)
    part = position - low
    row.index_add_(0, low, weight * (1 - part))
    row.index_add_(0, low + 1, weight * part)


def _blurred(response: torch.Tensor, noise_kev: float) -> torch.Tensor:
    """The response with every pulse height blurred; what falls below zero is not counted."""
    n = response.shape[1]
    edges = torch.arange(n + 1, dtype=torch.float64)
    centres = edges[:-1] + 0.5
    step = torch.erf((edges - centres[:, None]) / (math.sqrt(2) * noise_kev)) / 2
    return response @ step.diff(dim=1)
