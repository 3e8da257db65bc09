"""X-ray spectra on a grid of 1-keV bins, centres 0.5, 1.5, … keV.

Tungsten-anode spectra were computed with SpekPy 2.5 (Poludniowski et al., Med Phys 48:3630, 2021; MIT) for
the bare tube and are kept as a table, because that library brings 160 MB along; Testing/tools/
make_tube_tables.py writes the table and a test compares it with the library where that is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ctenhance.physics.materials import Material, material
from ctenhance.runtime.errors import InputError

#: The highest energy of the usual grid in keV.
MAXIMUM_KEV = 160
#: A usual CT tube's own filtration in mm.
TUBE_FILTERS: Mapping[str, float] = {"aluminium": 3.0, "titanium": 0.9}

_TABLE = Path(__file__).with_name("tungsten_tube.npz")


def energy_grid(maximum_kev: int = MAXIMUM_KEV) -> torch.Tensor:
    """Bin centres 0.5 … maximum − 0.5 keV, float64 `[energy]`."""
    return torch.arange(maximum_kev, dtype=torch.float64) + 0.5


@lru_cache(maxsize=1)
def _tube_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(_TABLE, allow_pickle=False) as table:
        return table["kvp"], table["anode_deg"], table["fluence"]


def tube_spectrum(
    kvp: int | float,
    filters: Mapping[str, float] = TUBE_FILTERS,
    anode_deg: float = 8.0,
    energies_kev: torch.Tensor | None = None,
) -> torch.Tensor:
    """Quanta per keV, cm² and mAs at 1 m from a tungsten anode behind `filters` (material: mm), `[energy]`.

    Float64 on `energy_grid()`, or on another grid of 1-keV bins given as `energies_kev`.
    Raises InputError for a tube voltage or anode angle that the table does not hold.
    """
    voltages, angles, fluence = _tube_table()
    if kvp not in voltages:
        raise InputError(
            f"There is no spectrum of {kvp} kV: choose {', '.join(map(str, voltages))} kV, or read a table."
        )
    if not angles[0] <= anode_deg <= angles[-1]:
        raise InputError(
            f"An anode angle of {anode_deg}° is not in the table: choose {angles[0]:g} to {angles[-1]:g}°."
        )
    rows = fluence[int(np.searchsorted(voltages, kvp))].astype(np.float64)  # [angle, energy]
    upper = min(int(np.searchsorted(angles, anode_deg, side="right")), len(angles) - 1)
    share = (anode_deg - angles[upper - 1]) / (angles[upper] - angles[upper - 1])
    bare = (1 - share) * rows[upper - 1] + share * rows[upper]
    energies = energy_grid() if energies_kev is None else energies_kev
    return filtered(rebin(energy_grid(len(bare)).numpy(), bare, energies), filters, energies)


def filtered(
    spectrum: torch.Tensor,
    filters: Mapping[str, float] | Mapping[Material, float],
    energies_kev: torch.Tensor,
) -> torch.Tensor:
    """The spectrum `[..., energy]` behind filters of the given thickness in mm."""
    exponent = torch.zeros_like(energies_kev)
    for name, thickness_mm in filters.items():
        if not (np.isfinite(thickness_mm) and thickness_mm >= 0):
            raise InputError(f"A filter of {thickness_mm} mm {name} is not possible: give 0 or more.")
        exponent = exponent + material(name).linear_attenuation(energies_kev) * thickness_mm
    return spectrum * torch.exp(-exponent)


def rebin(source_kev: np.ndarray, quanta: np.ndarray, energies_kev: torch.Tensor) -> torch.Tensor:
    """Quanta per keV on a grid of equal bins, from a spectrum in quanta per bin at `source_kev`.

    The number of quanta is kept: the cumulative spectrum is interpolated at the new bins' edges.
    """
    middles = (source_kev[1:] + source_kev[:-1]) / 2
    edges = np.concatenate(
        [[source_kev[0] - (middles[0] - source_kev[0])], middles, [2 * source_kev[-1] - middles[-1]]]
    )
    below = np.concatenate([[0.0], np.cumsum(quanta)])
    kev = energies_kev.numpy()
    width = float(kev[1] - kev[0])
    new_edges = np.concatenate([kev - width / 2, [kev[-1] + width / 2]])
    return torch.from_numpy(np.diff(np.interp(new_edges, edges, below)) / width)


def read_spectrum(
    path: str | os.PathLike[str], energies_kev: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (keV) and relative quanta per keV, both float64 `[energy]`, of a text file of two columns.

    Reads XCIST's tables (a count, then 'keV,quanta' a line) and any table of keV and quanta per bin separated
    by commas or blanks; the energies must rise in equal steps. Raises InputError, saying which line is wrong.
    """
    name = Path(path).name
    if not Path(path).is_file():
        raise InputError(f"There is no spectrum at '{path}'; check the path.")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the spectrum '{path}': give a text file of keV and quanta.") from error
    rows: list[tuple[float, float]] = []
    announced = None
    for number, line in enumerate(lines, 1):
        fields = [field for field in re.split(r"[,;\s]+", line.strip()) if field]
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) == 1 and not rows and fields[0].isdigit():
            announced = int(fields[0])
            continue
        if len(rows) == announced:
            break  # XCIST's own tables carry a remainder after the announced lines
        try:
            kev, quanta = (float(field) for field in fields)
        except ValueError as error:
            raise InputError(
                f"Line {number} of the spectrum '{name}' is not 'keV,quanta': correct it."
            ) from error
        rows.append((kev, quanta))
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    steps = np.diff(table[:, 0])
    if len(table) < 3 or not np.isfinite(table).all() or steps.min() <= 0 or np.ptp(steps) > 0.02 * steps[0]:
        raise InputError(f"The energies of the spectrum '{name}' must rise in equal steps, at least three.")
    if table[:, 1].min() < 0 or table[:, 1].sum() <= 0:
        raise InputError(f"The spectrum '{name}' needs quanta that are not negative, and some above zero.")
    energies = energy_grid() if energies_kev is None else energies_kev
    return energies, rebin(table[:, 0], table[:, 1], energies)


def mean_energy(spectrum: torch.Tensor, energies_kev: torch.Tensor) -> torch.Tensor:
    """Mean energy in keV of spectra `[..., energy]`."""
    return (spectrum * energies_kev).sum(-1) / spectrum.sum(-1)


def half_value_layer_mm(spectrum: torch.Tensor, energies_kev: torch.Tensor) -> float:
    """Half-value layer in mm of aluminium for air kerma, of a spectrum `[energy]`; by bisection.

    Kerma is taken as energy fluence times the attenuation of air without coherent scatter.
    """
    air, aluminium = material("air"), material("aluminium")
    absorbed = air.mass_attenuation(energies_kev, "photo") + air.mass_attenuation(energies_kev, "incoh") * (
        energies_kev / (511.0 + 2 * energies_kev)
    )
    kerma = spectrum * energies_kev * absorbed
    mu = aluminium.linear_attenuation(energies_kev)
    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        if float((kerma * torch.exp(-mu * middle)).sum()) > 0.5 * float(kerma.sum()):
            low = middle
        else:
            high = middle
    return low
