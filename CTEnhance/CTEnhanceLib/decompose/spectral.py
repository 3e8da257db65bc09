"""Spectral images from maps of partial density, by the table that came with them: sums, for slices as shown.

The table (`ctenhance.decomposition.images.viewing_table`, in a result's report) says how many HU a mg/mL of
each material is at each energy, so that any part of a volume is made at once, without the packages of the
worker.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ctenhance import choices


class Kind(enum.Enum):
    """What a spectral image shows; the value is the command line's name of it."""

    VMI = "vmi"
    VNC = "vnc"
    Z_EFFECTIVE = "zeff"
    ELECTRON_DENSITY = "electron-density"

    def text(self) -> str:
        """Return its name for people."""
        return {
            Kind.VMI: _("Monoenergetic image"),
            Kind.VNC: _("Virtual non-contrast"),
            Kind.Z_EFFECTIVE: _("Effective atomic number"),
            Kind.ELECTRON_DENSITY: _("Electron density"),
        }[self]


@dataclass(frozen=True)
class SpectralTable:
    """How images are made of maps in mg/mL, in the order of `materials`.

    energies    [energy] keV, rising
    hounsfield  [material, energy] HU of a mg/mL
    electrons   [material] electron density of a mg/mL, relative to water's
    powers      [material] what the effective atomic number is the root of, of degree `exponent`
    quietKeV    the energy that low-noise images take their noise from; None: there are none
    """

    materials: tuple[str, ...]
    energies: np.ndarray
    hounsfield: np.ndarray
    electrons: np.ndarray
    powers: np.ndarray
    exponent: float
    leastDensity: float
    agents: tuple[str, ...]
    nonContrastKeV: float
    quietKeV: float | None = None

    @classmethod
    def of(cls, report: Mapping[str, Any] | None) -> SpectralTable | None:
        """Return the table in the report of a decomposition, or None."""
        try:
            found = (report or {})["details"]["viewing"]
            quiet = found.get("quiet_keV")
            return cls(
                tuple(found["materials"]),
                *(
                    np.array(found[name], dtype=np.float64)
                    for name in (
                        "energies_keV",
                        "hounsfield_per_mg_ml",
                        "electron_density_per_mg_ml",
                        "z_power",
                    )
                ),
                float(found["z_exponent"]),
                float(found["least_density"]),
                tuple(found["contrast_agents"]),
                float(found["non_contrast_keV"]),
                None if quiet is None else float(quiet),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def weights(self, kev: float | np.ndarray, lowNoise: bool = False) -> np.ndarray:
        """Return HU of a mg/mL at an energy between those of the table, or at several: [material(, energy)].

        A low-noise image has twice as many, those of the maps and then of the guided maps: of the former the
        image of the quiet energy is made, of the latter what differs from it.
        Raises ValueError for that where the table has no quiet energy.
        """
        own = np.array([np.interp(kev, self.energies, row) for row in self.hounsfield])
        if not lowNoise:
            return own
        if self.quietKeV is None:
            raise ValueError("the result has no low-noise images")
        quiet = self.weights(np.full(np.shape(kev), self.quietKeV))
        return np.concatenate([quiet, own - quiet])

    @property
    def contrastAgent(self) -> str:
        """The material that overlays and tables are about: the contrast agent, or the last one."""
        return self.agents[0] if self.agents else self.materials[-1]

    @property
    def hasNonContrast(self) -> bool:
        """Whether there is something left without the contrast agents, and something left out."""
        return 0 < len(self.agents) < len(self.materials)


@dataclass(frozen=True)
class SpectralImage:
    """An image that can be made of maps; `kev` and `lowNoise` are those of a monoenergetic one."""

    kind: Kind
    kev: float = 70.0
    lowNoise: bool = False

    def text(self) -> str:
        """Return its name for people, short."""
        energy = _("{kev:.0f} keV low noise") if self.lowNoise else _("{kev:.0f} keV")
        return {
            Kind.VMI: energy.format(kev=self.kev),
            Kind.VNC: _("VNC"),
            Kind.Z_EFFECTIVE: _("Z-eff"),
            Kind.ELECTRON_DENSITY: _("Electron density"),
        }[self.kind]

    def values(self, table: SpectralTable, maps: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 values of any shape, from maps in mg/mL of that shape.

        For a low-noise image the guided maps follow the maps.
        HU, a number (Z-eff: 1, hydrogen's, or more, and 0 where there is hardly any matter), or relative to
        water (electron density).
        """
        if self.kind is Kind.VMI:
            return _sum(table.weights(self.kev, self.lowNoise), maps, -1000.0)
        if self.kind is Kind.VNC:
            kept = [name not in table.agents for name in table.materials]
            return _sum(table.weights(table.nonContrastKeV) * kept, maps, -1000.0)
        density = _sum(table.electrons, maps)
        if self.kind is Kind.ELECTRON_DENSITY:
            return density
        power = _sum(table.electrons * table.powers, maps)
        least = np.float32(table.leastDensity)
        root = np.maximum(power / np.maximum(density, least), 1) ** np.float32(1 / table.exponent)
        # Attenuation has far less noise than the electron density, which alone would speckle air.
        attenuates = _sum(table.weights(table.nonContrastKeV), maps, -1000.0) >= 1000 * (least - 1)
        return np.where(attenuates & (density >= least), root, np.float32(0))


def _sum(weights: np.ndarray, maps: Sequence[np.ndarray], constant: float = 0.0) -> np.ndarray:
    total = np.full(maps[0].shape, constant, np.float32)
    for weight, values in zip(weights, maps, strict=True):
        if weight:
            total += np.float32(weight) * values
    return total


@dataclass(frozen=True)
class Curve:
    """HU of a region by energy: mean and standard deviation of its voxels, [energy]."""

    energies: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    lowNoise: bool = False


def curve(table: SpectralTable, samples: np.ndarray, lowNoise: bool = False) -> Curve:
    """Return the spectral curve of voxels [material, voxel] in mg/mL; of low noise, guided maps follow.

    An image is a sum of maps, so its mean follows from theirs and its variance from their covariance: no
    image has to be made.
    """
    shown = (table.energies >= choices.VIEWING_KEV[0]) & (table.energies <= choices.VIEWING_KEV[-1])
    weights = table.weights(table.energies[shown], lowNoise)
    covariance = np.atleast_2d(np.cov(samples, bias=True))
    variance = np.einsum("ke,kl,le->e", weights, covariance, weights)
    mean = samples.mean(axis=1) @ weights - 1000
    return Curve(table.energies[shown], mean, np.sqrt(np.maximum(variance, 0)), lowNoise)
