"""Are the energy bins in the order of their spectra? Water attenuates each bin as follows from its spectrum,
so that bins which were written in another order, or as sums of others, attenuate as other spectra do."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ctenhance.physics.materials import material

#: Rays are looked at behind which between these parts of the quanta arrive, at most so many of them.
_LEAST_PART, _MOST_PART, _RAYS = 0.005, 0.5, 20_000
#: Another order is believed if it fits so much better (mean square of line integrals), and the file's is off
#: by this much (RMS).
_BETTER, _OFF = 0.5, 0.03
_LONGEST_MM = 800.0
#: Quanta above thresholds fall from bin to bin in so many readings; their differences fit so much better.
_FALLING, _MUCH_BETTER = 0.98, 0.25
#: Proportions of quanta in air, as logarithms, are others from here on, and the same up to there.
_OTHER_AIR, _SAME_AIR = 0.1, 0.02


def bin_order_warning(counts: torch.Tensor, spectra: torch.Tensor, energies_kev: torch.Tensor) -> str | None:
    """A warning where `counts` `[..., bin]` are in another order than the `spectra` in air,
    `[bin, energy]` or `[column, bin, energy]`; None where they are not, or it cannot be determined."""
    cost = _off_water(counts, spectra, energies_kev)
    if cost is None:
        return None
    read, spectrum = linear_sum_assignment(cost.numpy())
    in_order, best = float(cost.diagonal().mean()), float(cost[read, spectrum].mean())
    if best > _BETTER * in_order or in_order < _OFF**2:
        return None
    order = [int(k) + 1 for k in spectrum]
    how = "in the reverse order" if order == sorted(order, reverse=True) else f"in the order {order}"
    return (
        f"The energy bins of '/counts' are likely {how} of '/effective_spectra', as they are attenuated: the "
        "maps are wrong until the file has both, and '/air_counts', in one order."
    )


def sums_warning(
    counts: torch.Tensor, spectra: torch.Tensor, energies_kev: torch.Tensor, quanta: np.ndarray
) -> str | None:
    """A warning where each bin of `counts` `[..., bin]` seems to hold those of others, too, as counts above
    thresholds do, by what water makes of the `spectra` (as in `bin_order_warning`); None where it does not.

    For as many bins as materials, where no misfit shows it. `quanta` `[bin]`: of the spectra as the file has
    them; those in air being in another proportion, but their differences in that one, is as sure."""
    cost = _off_water(counts, spectra, energies_kev)
    apart = differences(counts, spectra)
    if cost is None or apart is None:
        return None
    off, other = float(cost.diagonal().mean()), _off_water(*apart, energies_kev)
    by_water = off > _OFF**2 and other is not None and float(other.diagonal().mean()) < _MUCH_BETTER * off
    air, air_apart = (
        one.sum(-1).reshape(-1, len(quanta)).mean(0).cpu().numpy() for one in (spectra, apart[1])
    )
    by_air = np.ptp(np.log(air / quanta)) > _OTHER_AIR and np.ptp(np.log(air_apart / quanta)) < _SAME_AIR
    if not (by_water or by_air):
        return None
    return (
        "The energy bins of '/counts' look as if they were counted above each threshold and not between two, "
        "as they are attenuated: the maps are wrong; take differences of neighbouring bins, of '/counts' and "
        "of '/air_counts'."
    )


def differences(counts: torch.Tensor, spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the differences of neighbouring bins, and the spectra with quanta in air for them, where counts
    fall from bin to bin, or rise, in air and behind the object; None where they do neither."""
    for turned in (False, True):
        some, beam = (counts.flip(-1), spectra.flip(-2)) if turned else (counts, spectra)
        air = beam.sum(-1)
        if bool((air.diff(dim=-1) < 0).all()) and (
            float((some.diff(dim=-1) <= 0).double().mean()) >= _FALLING
        ):
            between, air_between = (
                one - torch.nn.functional.pad(one[..., 1:], (0, 1))
                for one in (some.double().clamp(min=0), air)
            )
            beam = beam * (air_between / air)[..., None]
            between = between.clamp(min=0)
            return (between.flip(-1), beam.flip(-2)) if turned else (between, beam)
    return None


def _off_water(
    counts: torch.Tensor, spectra: torch.Tensor, energies_kev: torch.Tensor
) -> torch.Tensor | None:
    """Return how far each bin's line integrals are from those of each spectrum behind water, squares
    `[bin, spectrum]`; None where nothing tells."""
    mean = spectra.double().reshape(-1, *spectra.shape[-2:]).mean(0)
    air = mean.sum(-1)
    if len(air) < 2 or counts.shape[-1] != len(air):
        return None
    mu = material("water").linear_attenuation(energies_kev.double())
    thickness = torch.linspace(0, _LONGEST_MM, 400, dtype=torch.float64)
    expected = torch.exp(-thickness[:, None] * mu) @ mean.T  # [thickness, bin]
    total = expected.sum(-1) / air.sum()
    # columns differ in air by a bowtie, say: transmissions do not
    by_column = spectra.sum(-1).double()
    through = counts.double() / by_column.to(counts.device)
    all_through = (through * air).sum(-1) / air.sum()
    informative = (all_through > _LEAST_PART) & (all_through < _MOST_PART)
    chosen = through[informative].cpu()
    if not len(chosen):
        return None
    every = max(1, len(chosen) // _RAYS)
    chosen, part = chosen[::every], all_through[informative].cpu()[::every]
    at = torch.searchsorted(-total, -part).clamp(1, len(total) - 1)
    expected_lines = -torch.log(expected[at] / air)
    # means over rays of like thickness: single readings are too noisy for a logarithm
    groups = torch.bucketize(
        part.contiguous(), torch.logspace(math.log10(_LEAST_PART), math.log10(_MOST_PART), 8).to(part)
    )
    cost = torch.zeros(len(air), len(air), dtype=torch.float64)
    for group in groups.unique():
        own = groups == group
        measured = -torch.log(chosen[own].mean(0).clamp(min=1e-6))
        model = -torch.log(torch.exp(-expected_lines[own]).mean(0))
        cost += (measured[:, None] - model[None, :]).square() * own.double().mean()
    return cost
