"""Water precorrection: the line integrals of a whole spectrum as those of a single energy.

Behind L mm of water a beam whose reading comes from the energies E in shares w(E) shows

    p(L) = -ln sum_E w(E) exp(-mu_water(E) L),

which grows ever more slowly with L: a water cylinder gets a cup. As p grows with L, each reading has its L,
and mu_water L takes its place (Herman, Phys Med Biol 24:81, 1979). That is exact for water and for what
attenuates in proportion to it; bone still hardens the beam.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logsumexp

from ctenhance.physics.materials import HIGHEST_KEV, LOWEST_KEV, material
from ctenhance.runtime.errors import InputError

# Line integrals that the tables span; beyond them the last slope goes on.
_LARGEST = 20.0
_POINTS = 4096
# Shares of the reading below this are left out.
_LEAST_SHARE = 1e-9


class WaterCorrection:
    """Between measured line integrals and those of water, both ways.

    `energies_kev` and `shares` `[energy]`: what of the reading in air comes from each energy (any scale);
    `mu_water_per_mm`: what 1 mm of water is to count. Raises InputError where energies with a share lie
    outside the tables of attenuation."""

    def __init__(self, energies_kev: np.ndarray, shares: np.ndarray, mu_water_per_mm: float) -> None:
        kept = shares > _LEAST_SHARE * shares.sum()
        energies, weight = energies_kev[kept], shares[kept] / shares[kept].sum()
        if not (energies.min() >= LOWEST_KEV and energies.max() <= HIGHEST_KEV):
            raise InputError(
                f"'/effective_spectra' hold quanta of {energies.min():g} to {energies.max():g} keV on "
                f"'/energies_keV', but attenuation is known from {LOWEST_KEV} to {HIGHEST_KEV} keV."
            )
        mu = material("water").linear_attenuation(torch.from_numpy(energies)).numpy()
        # the last quanta to get through are those of the least attenuation
        length = np.linspace(0.0, _LARGEST / mu.min(), 4 * _POINTS)
        measured = np.concatenate(
            [-logsumexp(np.log(weight) - part[:, None] * mu, 1) for part in np.array_split(length, 64)]
        )
        self._measured_step = _LARGEST / (_POINTS - 1)
        at = np.arange(_POINTS) * self._measured_step
        self._corrected = _table(np.interp(at, measured, length) * mu_water_per_mm)
        self._corrected_step = float(self._corrected[-1]) / (_POINTS - 1)
        at = np.arange(_POINTS) * self._corrected_step
        self._measured = _table(np.interp(at, length * mu_water_per_mm, measured))

    def corrected(self, line_integrals: torch.Tensor) -> torch.Tensor:
        """Of measured line integrals (any shape) those of water."""
        return _looked_up(line_integrals, self._corrected, self._measured_step)

    def measured(self, line_integrals: torch.Tensor) -> torch.Tensor:
        """The opposite of `corrected`."""
        return _looked_up(line_integrals, self._measured, self._corrected_step)


def _table(values: np.ndarray) -> torch.Tensor:
    # no graphics processor of Apple's takes float64
    return torch.from_numpy(values.astype(np.float32))


def _looked_up(x: torch.Tensor, table: torch.Tensor, step: float) -> torch.Tensor:
    """`table`, known at whole multiples of `step`, at `x`: linear between, and as at the ends beyond them."""
    position = x / step
    low = position.floor().clamp(0, len(table) - 2)
    index = low.long()
    values = table.to(x)
    return values[index] + (position - low) * (values[index + 1] - values[index])
