"""How high the PSNR against a noisy reference can be at all.

    python benchmarks/ceiling.py --pairs PAIRS --results results.json --out OUT

A full-dose reference is anatomy plus noise of its own, the degraded image is the reference plus added noise.
Whoever knew the anatomy exactly would still have to guess the reference's noise from the sum of both. Where
both are Gaussian no guess has a smaller squared error than Wiener's (1949), frequency by frequency,

    error(f) = S_own(f) S_added(f) / (S_own(f) + S_added(f)),

here in three dimensions, since the noise of neighbouring slices may be correlated: no method, of whatever
kind and however many slices it sees, has less error on the mean.

The added noise is known: degraded less reference. Of the reference's own noise its ratio to the added one is
measured in flat soft tissue, by frequency in the slice and by the distance of slices. Elsewhere it is taken
to be stronger and weaker in the same places and directions as the added one, since both come through the same
body: so the error is the added noise itself, weighted by frequency, wherever it is.

Two figures stand beside. *Generous*: fine anatomy in the flat regions would be taken for noise and put the
ceiling too low; so all that neighbouring slices share is taken for anatomy that is known, be it noise or not.
*One texture*: where the added noise has another kernel than the scan, the two can be told apart by frequency,
but only by one who knows which is whose, which a single scan does not tell; so this is the best of those that
know the anatomy and how strong both are, and give all frequencies one weight.

Noise that a scanner cut off at -1024 HU is missing from the added noise: the ceilings are a little too high
by that. With `--results` of `run.py` the methods of that run are put beside; `--model` tells where in the
image the error of one lies.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, special

from cases import Case, pairs_source
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.noise import ENOUGH_REGIONS, FEWEST_REGIONS, cut, detrended, find_regions, region_side
from ctenhance.runtime.errors import InputError
from ending import one_sentence
from measure import say
from methods import Ours, our_models
from tables import Table, report

Array = np.ndarray

#: Soft tissue in the smoothed reference (HU), and sides of the squares (mm): the first that suffices.
SOFT_HU, SIDES_MM = (-10.0, 150.0), (16.0, 12.0, 9.0)
#: Distances of slices at which noise is compared.
LAGS = (0, 1, 2)
#: Window of PSNR (HU), and the range of the noise's local SD (pixels), for what the window cuts off.
LOW_HU, HIGH_HU, LOCAL_PIXELS = -1000.0, 1000.0, 3.0
#: Flat tissues in the smoothed reference (HU), and its slope (HU/pixel) so near by (pixels) that is an edge.
FLAT_HU = {"air": (-1100.0, -950.0), "lung": (-950.0, -600.0), "soft": (-150.0, 200.0)}
EDGE_HU, EDGE_PIXELS = 15.0, 5
#: Nodes of the quadrature over what the estimate says of a pixel.
NODES = 9

KINDS = ("ceiling", "generous", "one texture")
NOTE = (
    "PSNR (dB at ±1000 HU), mean over the slices. Ceiling: the best estimate of one that knows the anatomy "
    "exactly, and both noises' spectra; generous: of one that also knows all that neighbouring slices share; "
    "one texture: of one that does not know which frequencies are whose. Own / added: variance of the "
    "reference's own noise over that of the added noise in soft tissue, and by frequency from the lowest to "
    "the highest; shared: what neighbouring slices share of the own noise."
)
OURS_NOTE = (
    "Below the ceiling: dB that the method lacks; own noise: the ceiling's squared error as a share of the "
    "method's, which is the references' own noise and not the method's."
)

TISSUE_NOTE = (
    "Flat tissue and edges of the smoothed reference; pixels: share of all; error: share of the squared "
    "error."
)


@dataclass(frozen=True)
class Spectra:
    """Power spectra by frequency (cycles/pixel, rising) of the reference's own noise and of the added noise,
    `[lag, frequency]`: of a slice with itself, and with slices so far away."""

    frequency: Array
    own: Array
    added: Array

    def generous(self) -> Spectra:
        """All that neighbouring slices share is taken for anatomy."""
        alone = np.zeros_like(self.own)
        alone[0] = (self.own[0] - self.own[1].clip(min=0)).clip(min=0)
        return Spectra(self.frequency, alone, self.added)

    def kinds(self) -> dict[str, Spectra]:
        """By `KINDS`."""
        return dict(zip(KINDS, (self, self.generous(), self.one_texture()), strict=True))

    def one_texture(self) -> Spectra:
        """The own noise with the texture of the added one, and without anything that slices share."""
        own = np.zeros_like(self.own)
        own[0] = self.over_added()[0] * self.added[0]
        return Spectra(self.frequency, own, self.added)

    def share(self, power: Array) -> Array:
        """A power `[..., frequency]` over that of the added noise in its slice."""
        return power / self.added[0]

    def error(self) -> Array:
        """The power at each frequency of what the best estimate leaves."""
        own, added = (_along_z(one) for one in (self.own, self.added))
        return np.mean(own * added / np.maximum(own + added, 1e-9), 0)

    def over_added(self) -> list[float]:
        """Variance of the own noise, and what slices so far apart share of it, over that of the added."""
        return [
            float((self.frequency * one).sum() / (self.frequency * self.added[0]).sum()) for one in self.own
        ]


def _along_z(spectrum: Array) -> Array:
    """Spectrum `[frequency along z, frequency]` of cross spectra `[lag, frequency]`, never below nothing."""
    angle = np.linspace(0, np.pi, 33)[:, None, None]
    lags = np.arange(len(spectrum))[None, :, None]
    weight = np.where(lags == 0, 1.0, 2.0) * np.cos(angle * lags)
    return (weight * spectrum).sum(1).clip(min=0)


def spectra_of(case: Case) -> Spectra:
    """Both noises in flat soft tissue; InputError where there is too little of it, or too few slices."""
    guide = smoothed_guide({"reference": case.reference}, case.spacing)
    volumes = {"own": case.reference, "added": case.degraded - case.reference}
    last = len(guide) - LAGS[-1]
    if last < 1:
        raise InputError(f"{case.name} has {len(guide)} slices: give at least {LAGS[-1] + 1}.")
    for side_mm in SIDES_MM:
        side = region_side(side_mm, case.spacing)
        corners = find_regions(guide[:last], SOFT_HU, side)
        if len(corners) >= ENOUGH_REGIONS:
            break
    if len(corners) < FEWEST_REGIONS:
        raise InputError(f"{case.name} shows too little flat soft tissue to measure noise in.")
    squares = {
        name: [detrended(cut(volume[lag:], corners, side)) for lag in LAGS]
        for name, volume in volumes.items()
    }
    # the middle half by variance: none that holds a vessel
    variance = np.square(squares["own"][0]).mean((1, 2))
    low, high = np.percentile(variance, [25, 75])
    kept = (variance >= low) & (variance <= high)
    found = {name: _radial([square[kept] for square in parts]) for name, parts in squares.items()}
    frequency = np.arange(1, found["own"].shape[1] + 1) / side
    return Spectra(frequency, found["own"], found["added"])


def _radial(squares: Sequence[Array]) -> Array:
    """Cross spectra `[lag, frequency]` of the first squares `[square, y, x]` with each, on rings one
    frequency wide up to the Nyquist frequency."""
    side = squares[0].shape[-1]
    transforms = [np.fft.fft2(one) for one in squares]
    axis = np.fft.fftfreq(side) * side
    ring = np.rint(np.hypot(axis[:, None], axis[None, :])).astype(int)
    inside = (ring > 0) & (ring <= side // 2)
    return np.stack([
        np.bincount(ring[inside], (transforms[0] * other.conj()).real.mean(0)[inside])[1:]
        / np.bincount(ring[inside])[1:]
        for other in transforms
    ])  # fmt: skip


def weighted(noise: Array, frequency: Array, power: Array) -> Array:
    """Noise `[y, x]` with its power multiplied by `power` at each `frequency` (cycles/pixel)."""
    rows, columns = noise.shape
    padded = np.pad(noise, ((0, rows % 2), (0, columns % 2)))
    radius = np.hypot(np.fft.fftfreq(len(padded))[:, None], np.fft.rfftfreq(padded.shape[1])[None, :])
    gain = np.sqrt(np.interp(radius, frequency, power))
    return np.fft.irfft2(np.fft.rfft2(padded) * gain, s=padded.shape)[:rows, :columns]


def in_window(mean: Array, known: Array, left: Array) -> Array:
    """Expected squared error of the best estimate of a value that the window cuts off: `mean` HU, variance
    `known` of what the estimate says of it, and `left` of what it cannot say."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    sd = np.sqrt(np.maximum(left, 1e-6))
    total = np.zeros_like(sd)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total += weight * _cut_variance(mean + node * np.sqrt(known), sd)
    return total


def _cut_variance(mean: Array, sd: Array) -> Array:
    """Variance of a normal variable that is cut off at both ends of the window."""
    a, b = (LOW_HU - mean) / sd, (HIGH_HU - mean) / sd
    below, above = special.ndtr(a), special.ndtr(-b)
    at_a, at_b = (np.exp(-0.5 * x.clip(-30, 30) ** 2) / math.sqrt(2 * math.pi) for x in (a, b))
    inside = 1 - below - above
    a, b = a.clip(-30, 30), b.clip(-30, 30)
    first = a * below + b * above + at_a - at_b
    second = a * a * below + b * b * above + inside + a * at_a - b * at_b
    return sd**2 * (second - first**2).clip(min=0)


def expected_error(case: Case, spectra: Spectra, guide: Array, z: int) -> Array:
    """Expected squared error (HU²) `[y, x]` of the best estimate of a slice, within the window."""
    added = case.degraded[z] - case.reference[z]
    left, own = (
        ndimage.gaussian_filter(np.square(weighted(added, spectra.frequency, one)), LOCAL_PIXELS)
        for one in spectra.share(np.stack([spectra.error(), spectra.own[0].clip(min=0)]))
    )
    return in_window(guide[z].astype(np.float64), (own - left).clip(min=0), left)


def measured(case: Case, ours: Ours | None = None) -> dict[str, Any]:
    """The ceilings of a patient by slice, the noise that they follow from, and of one of the project's models
    where its error lies."""
    spectra = spectra_of(case)
    guide = smoothed_guide({"reference": case.reference}, case.spacing)
    errors = {
        kind: {z: expected_error(case, one, guide, z) for z in case.chosen}
        for kind, one in spectra.kinds().items()
    }
    facts: dict[str, Any] = {"name": case.name}
    for kind, of_slices in errors.items():
        facts[kind] = {
            str(z): float(-10 * np.log10(error.mean() / (HIGH_HU - LOW_HU) ** 2))
            for z, error in of_slices.items()
        }
    if ours is not None:
        enhancer = ours.for_volume(case.spacing[2])
        errors["method"] = {
            z: np.square(
                enhancer(case.degraded, z).clip(LOW_HU, HIGH_HU) - case.reference[z].clip(LOW_HU, HIGH_HU)
            )
            for z in case.chosen
        }
        facts["tissues"] = _by_tissue(guide, errors)
    return facts | {
        "own_over_added": spectra.over_added(),
        "frequency_per_pixel": spectra.frequency.tolist(),
        "own": spectra.own.tolist(),
        "added": spectra.added.tolist(),
    }


def _by_tissue(guide: Array, errors: Mapping[str, Mapping[int, Array]]) -> dict[str, dict[str, float]]:
    """The share of the pixels, and by kind the mean squared error (HU²), where tissue is flat in the smoothed
    reference and near edges."""
    at = sorted(errors["method"])
    plane = guide[at]
    slope = np.stack([ndimage.gaussian_gradient_magnitude(one, 1.0) for one in plane])
    edge = ndimage.maximum_filter(slope, (1, EDGE_PIXELS, EDGE_PIXELS)) > EDGE_HU
    masks = {name: ~edge & (plane >= low) & (plane < high) for name, (low, high) in FLAT_HU.items()}
    masks["edges"] = edge & (plane >= FLAT_HU["lung"][0])
    stacks = {kind: np.stack([by_slice[z] for z in at]) for kind, by_slice in errors.items()}
    return {
        name: {"pixels": float(mask.mean())}
        | {kind: float(stack[mask].mean()) for kind, stack in stacks.items()}
        for name, mask in masks.items()
        if mask.any()
    }


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def ceiling_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row a patient."""
    rows = []
    for one in found:
        by_frequency = np.array(one["own"][0]) / np.array(one["added"][0])
        alone, shared = one["own_over_added"][:2]
        rows.append((
            one["name"],
            *(f"{_mean(one[kind]):.2f}" for kind in KINDS),
            f"{alone:.2f}",
            " ".join(f"{value:.1f}" for value in by_frequency),
            f"{shared / alone:.2f}",
        ))  # fmt: skip
    header = ("patient", *KINDS, "own / added", "by frequency", "shared")
    return Table("Ceiling of the PSNR", header, tuple(rows), NOTE)


def beside(found: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> Table:
    """How far below each ceiling the methods of a run are; InputError where it had other patients."""
    sources = results.get("sources", ())
    cases = {case["name"]: case["methods"] for source in sources for case in source["cases"]}
    absent = [one["name"] for one in found if one["name"] not in cases]
    if absent:
        raise InputError(f"The results hold no patient {absent[0]}: name those of a run on these pairs.")
    rows = []
    here = [cases[one["name"]] for one in found]
    for method in (name for name in here[0] if all(name in methods for methods in here)):
        cells = []
        for one in found:
            psnr = cases[one["name"]][method]["psnr"]
            common = [z for z in psnr if z in one["ceiling"]]
            if not common:
                raise InputError(f"The results of {method} are of other slices: give the same --slices.")
            below = [sum(one[kind][z] - psnr[z] for z in common) / len(common) for kind in KINDS]
            cells.append((*below, 10 ** (-below[0] / 10)))
        means = np.mean(cells, 0)
        per_patient = ", ".join(f"{cell[0]:.2f}" for cell in cells)
        rows.append((method, *(f"{value:.2f}" for value in means[:3]), per_patient, f"{means[3]:.0%}"))
    header = ("method", *(f"below {kind}" for kind in KINDS), "below ceiling, by patient", "own noise")
    return Table("Below the ceiling, dB", header, tuple(rows), OURS_NOTE)


def tissue_table(found: Sequence[Mapping[str, Any]], label: str) -> Table:
    """Where a model's error lies, and how near it is to the ceilings there."""
    rows = []
    for one in found:
        whole = sum(part["pixels"] * part["method"] for part in one["tissues"].values())
        for name, part in one["tissues"].items():
            rms = (f"{math.sqrt(part[kind]):.1f}" for kind in ("method", "ceiling", "one texture"))
            share = part["pixels"] * part["method"] / whole
            rows.append((f"{one['name']}: {name}", f"{part['pixels']:.0%}", f"{share:.0%}", *rms))
    header = ("patient: tissue", "pixels", "error", "RMS error HU", "ceiling", "one texture")
    return Table(f"Where the error of {label} lies", header, tuple(rows), TISSUE_NOTE)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="folder of pairs, as make_pairs.py makes them")
    add("--slices", type=int, default=4, help="slices a patient, at even distances (default 4)")
    add("--results", type=Path, help="results.json of run.py on the same pairs and slices")
    add("--model", help="one of the project's models, to tell where its error lies")
    add("--out", type=Path, help="folder for ceiling.json and ceiling.md")
    with one_sentence():
        _run(parser.parse_args())


def _run(given: argparse.Namespace) -> None:
    source = pairs_source(given.pairs, given.slices)
    ours = our_models([], None, [given.model], 1)[0] if given.model else None
    found = []
    for name in source.names:
        say(name)
        found.append(measured(source.load(name), ours))
    tables = [ceiling_table(found)]
    if ours is not None:
        tables.append(tissue_table(found, ours.label))
    if given.results is not None:
        tables.append(beside(found, json.loads(given.results.read_text(encoding="utf-8"))))
    report(found, tables, given.out, "ceiling")


if __name__ == "__main__":
    main()
