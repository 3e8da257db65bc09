"""Noise and its power spectrum in uniform regions that are found automatically.

Regions are squares that lie wholly in one tissue of the smoothed copy (see `guide`) and are the flattest of
it there. A plane is subtracted from each, since shading is not noise. The spectrum follows ICRU 54 and AAPM
TG-233: NPS(u, v) = Δx Δy / N · mean |DFT|², in HU² mm²; its integral over frequency is the variance. What
subtracting the plane takes from noise at each frequency is put back, so that neither is too low in small
squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctenhance.runtime.progress import Cancellable, check

Array = np.ndarray

# Range of the smoothed copy (HU) and sides of the squares (mm). Squares in the lung are small: nothing
# larger fits between vessels; they show noise and fine structure together.
REGIONS = {
    "soft": ((-10.0, 150.0), (16.0, 12.0, 9.0)),
    "lung": ((-960.0, -780.0), (8.0,)),
    "air": ((-1100.0, -970.0), (16.0,)),
}
ENOUGH_REGIONS = 60  # else smaller squares are tried
SIDE_LIMITS_PX = (8, 48)
FLATNESS = 2.0  # times the spread within the flattest tenth
MOST_REGIONS, FEWEST_REGIONS = 400, 5
LEAST_VARIANCE = 0.25  # HU²; below, a spectrum shows rounding and anatomy


def noise(
    volumes: Mapping[str, Array],
    guide: Array,
    spacing: tuple[float, float, float],
    cancel: Cancellable | None = None,
) -> dict[str, dict[str, Any] | None]:
    """Measure the noise of `volumes` (by name, each HU [z, y, x]) in the same regions.

    Returns for 'soft', 'lung' and 'air' None where fewer than 5 regions were found, else `regions` (count),
    `side_mm` and `<name>_HU`, the noise SD; and `nps` (None likewise): `frequency_per_mm` and for each name
    `nps_HU2mm2` (radial average in soft tissue), `peak_per_mm`, `mean_per_mm`, `variance_HU2`. Raises
    Cancelled.
    """
    result: dict[str, Any] = {"nps": None}
    for tissue, (hu_range, sides_mm) in REGIONS.items():
        for side_mm in sides_mm:
            side = region_side(side_mm, spacing)
            corners = find_regions(guide, hu_range, side, cancel)
            if len(corners) >= ENOUGH_REGIONS:
                break
        if len(corners) < FEWEST_REGIONS:
            result[tissue] = None
            continue
        squares = {name: detrended(cut(volume, corners, side)) for name, volume in volumes.items()}
        summary: dict[str, Any] = {"regions": len(corners), "side_mm": side * spacing[0]}
        summary.update({f"{name}_HU": noise_sd(values) for name, values in squares.items()})
        result[tissue] = summary
        if tissue == "soft":
            spectra = {name: power_spectrum(typical(values), spacing) for name, values in squares.items()}
            result["nps"] = {"frequency_per_mm": next(iter(spectra.values())).pop("frequency_per_mm")}
            for name, spectrum in spectra.items():
                spectrum.pop("frequency_per_mm", None)
                result["nps"][name] = spectrum
    return result


def region_side(side_mm: float, spacing: tuple[float, float, float]) -> int:
    """Side of a region in pixels."""
    return int(np.clip(round(side_mm / spacing[0]), *SIDE_LIMITS_PX))


def find_regions(
    guide: Array, hu_range: tuple[float, float], side: int, cancel: Cancellable | None = None
) -> Array:
    """Return corners [region, (z, y, x)] of squares that lie in the range and are flat for this image."""
    found = []
    step = max(1, side // 2)
    for k, plane in enumerate(guide):
        check(cancel)
        if min(plane.shape) < side:
            break
        inside = (plane >= hu_range[0]) & (plane <= hu_range[1])
        count = _square_sums(inside, side)[::step, ::step]
        y, x = np.nonzero(count == side * side)
        if not len(y):
            continue
        centred = np.where(inside, plane, 0).astype(np.float64)
        mean = _square_sums(centred, side)[::step, ::step][y, x] / side**2
        square = _square_sums(centred**2, side)[::step, ::step][y, x] / side**2
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        found.append(np.column_stack([np.full(len(y), k), y * step, x * step, spread]))
    if not found:
        return np.empty((0, 3), int)
    regions = np.concatenate(found)
    flat = regions[regions[:, 3] <= FLATNESS * np.percentile(regions[:, 3], 10) + 1e-3]
    # Evenly through the volume and not the very flattest: those would be the least noisy ones.
    chosen = np.linspace(0, len(flat) - 1, min(len(flat), MOST_REGIONS)).astype(int)
    return flat[chosen, :3].astype(int)


def corners_in(inside: Array, side: int) -> Array:
    """Return corners [square, (z, y, x)] of squares of `side` pixels that lie wholly inside, half a side
    apart."""
    step, found = max(1, side // 2), []
    for k, plane in enumerate(inside):
        if min(plane.shape) >= side and plane.any():
            y, x = np.nonzero(_square_sums(plane, side) == side * side)
            if len(y):
                kept = ((y - y.min()) % step == 0) & ((x - x.min()) % step == 0)
                found.append(np.column_stack([np.full(kept.sum(), k), y[kept], x[kept]]))
    return np.concatenate(found) if found else np.empty((0, 3), int)


def _square_sums(values: Array, side: int) -> Array:
    """Sums over the squares of `side` pixels, by their corner."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(np.cumsum(values, 0, dtype=np.float64), 1, out=total[1:, 1:])
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def cut(volume: Array, corners: Array, side: int) -> Array:
    """Return the regions as [region, side, side]."""
    return np.stack([volume[z, y : y + side, x : x + side] for z, y, x in corners]).astype(np.float64)


def detrended(squares: Array) -> Array:
    """Subtract from each square [region, y, x] the plane that fits it best."""
    basis = _plane_basis(squares.shape[-1])
    flat = squares.reshape(len(squares), -1)
    return (flat - flat @ basis @ basis.T).reshape(squares.shape)


def _plane_basis(side: int) -> Array:
    """Orthonormal terms [pixel, 3] of a plane."""
    v, u = (axis.ravel() for axis in np.mgrid[:side, :side] - (side - 1) / 2)
    return np.linalg.qr(np.column_stack([np.ones_like(u), u, v]))[0]


def _spectrum(squares: Array) -> Array:
    """Variance by frequency [v, u] of detrended squares as it was before the plane was subtracted."""
    side = squares.shape[-1]
    power = np.square(np.abs(np.fft.fft2(squares))).mean(0) / side**4
    terms = _plane_basis(side).T.reshape(3, side, side)
    kept = 1 - np.square(np.abs(np.fft.fft2(terms))).sum(0) / side**2
    spectrum = np.divide(power, kept, out=np.zeros_like(power), where=kept > 0.5)
    # Of the mean nothing is kept: noise there is as beside it.
    spectrum[0, 0] = (spectrum[0, 1] + spectrum[1, 0] + spectrum[0, -1] + spectrum[-1, 0]) / 4
    return spectrum


def typical(squares: Array) -> Array:
    """The middle half of the squares by variance: none that holds a vessel or a clipped background."""
    variances = np.square(squares).mean((1, 2))
    low, high = np.percentile(variances, [25, 75])
    return squares[(variances >= low) & (variances <= high)]


def noise_sd(squares: Array) -> float:
    """Noise SD of detrended squares [region, y, x]: root of the mean variance of the middle half."""
    return float(np.sqrt(_spectrum(typical(squares)).sum()))


def power_spectrum(squares: Array, spacing: tuple[float, float, float]) -> dict[str, Any]:
    """Noise power spectrum of detrended squares [region, y, x] with pixels of `spacing` (x, y, …) mm.

    Returns the radial average `nps_HU2mm2` at `frequency_per_mm` (up to the Nyquist frequency), its
    `peak_per_mm`, the `mean_per_mm` frequency weighted with it, and `variance_HU2`, the integral of the
    two-dimensional spectrum. In an image without noise the two frequencies are None.
    """
    side = squares.shape[-1]
    dx, dy = spacing[0], spacing[1]
    parts = _spectrum(squares)
    variance = float(parts.sum())
    spectrum = parts * (side * dx * side * dy)
    radius = np.hypot(np.fft.fftfreq(side, dy)[:, None], np.fft.fftfreq(side, dx)[None, :])
    coarser = max(dx, dy)
    bins = np.rint(radius * side * coarser).astype(int)
    inside = (bins > 0) & (radius <= 0.5 / coarser)
    count = int(bins[inside].max())
    members = np.bincount(bins[inside], minlength=count + 1)[1:]
    frequency = np.bincount(bins[inside], radius[inside], count + 1)[1:] / members
    radial = np.bincount(bins[inside], spectrum[inside], count + 1)[1:] / members
    noisy = variance > LEAST_VARIANCE
    return {
        "frequency_per_mm": frequency.tolist(),
        "nps_HU2mm2": radial.tolist(),
        "peak_per_mm": float(_peak(frequency, radial)) if noisy else None,
        "mean_per_mm": float((frequency * radial).sum() / radial.sum()) if noisy else None,
        "variance_HU2": variance,
    }


def _peak(frequency: Array, values: Array) -> float:
    """Frequency of the highest value, refined by a parabola through it and its neighbours."""
    top = int(np.argmax(values))
    if top in (0, len(values) - 1):
        return frequency[top]
    left, middle, right = values[top - 1 : top + 2]
    shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return frequency[top] + shift * (frequency[top + 1] - frequency[top - 1]) / 2
