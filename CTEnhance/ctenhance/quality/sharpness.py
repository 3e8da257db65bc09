"""Sharpness at edges that are found automatically: skin against air, and lung against soft tissue.

Profiles are taken across edges that are high, cross the slice squarely and have flat ground on either side;
the sharpest of those, as the body has gradual ones too. Their average is the edge spread: its 10-90 % width,
and from its derivative the frequency at which the transfer function has fallen to half (MTF50, of the task
transfer function at that contrast). Where the edges are comes from the smoothed copy (see `guide`), so
before, after and reference are measured at the same places, and their ratio says more than any of the
figures: an edge in a patient is itself not perfectly sharp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ctenhance.quality.guide import FILLED_HU, gradient
from ctenhance.runtime.progress import Cancellable, check

Array = np.ndarray

# Range (HU) of the darker side; the brighter is always soft tissue or fat.
EDGES = {"skin_air": (-1100.0, -940.0), "lung_soft": (-940.0, -700.0)}
BRIGHT_SIDE_HU = (-160.0, 220.0)
REACH_MM, STEP_MM = 8.0, 0.1  # of a profile to each side
PLATEAU_MM = (4.5, 7.0)
LEVEL_MM = 5.0  # half-width of the level part of the window on the derivative
FLAT_PART = 0.03  # SD on the plateaus, of the contrast
FARTHEST_MM = 1.5  # from the steepest place to the middle of the rise
STEEPEST_ACROSS_Z = 0.35  # slope across slices, of the slope in the slice
SHARPEST = 0.85  # edges whose slope reaches this part of the 95th percentile are used
EDGES_PER_SLICE, FEWEST_EDGES = 400, 40
# Of the edge in a region: the least slope (HU/mm), and of the steepest one there; the SD on its plateaus, and
# how much its contrast may vary, both of the contrast; the fewest and, nearly, the most profiles.
LEAST_SLOPE, STEEP_PART, REGION_FLAT_PART, ALIKE = 5.0, 0.7, 0.1, 0.35
FEWEST_IN_REGION, MOST_IN_REGION = 10, 300


def sharpness(
    volumes: Mapping[str, Array],
    guide: Array,
    spacing: tuple[float, float, float],
    cancel: Cancellable | None = None,
) -> dict[str, dict[str, Any] | None]:
    """Measure edges of `volumes` (by name, each HU [z, y, x]; `spacing` x, y, z in mm).

    Returns for 'skin_air' and 'lung_soft' None when fewer than 40 good edges were found, else `edges` (count)
    and for each name `width_mm` (10-90 %) and `mtf50_per_mm`; either is None where the averaged edge never
    comes to the levels. Raises Cancelled.
    """
    found: dict[str, list[tuple[Array, dict[str, Array]]]] = {kind: [] for kind in EDGES}
    for k in range(len(guide)):
        check(cancel)
        places = _edges(guide, k, spacing)
        if places is None:
            continue
        kinds, steepness, rows, columns = places
        profiles = {name: _sample(volume[k], rows, columns, order=3) for name, volume in volumes.items()}
        for number, kind in enumerate(EDGES):
            chosen = kinds == number
            if chosen.any():
                picked = {name: values[chosen] for name, values in profiles.items()}
                found[kind].append((steepness[chosen], picked))
    return {kind: _summary(parts) for kind, parts in found.items()}


def edge_in(
    volumes: Mapping[str, Array], guide: Array, inside: Array, spacing: tuple[float, float, float]
) -> dict[str, Any] | None:
    """Measure the edge that runs through a region of `volumes` (by name, each HU [z, y, x]).

    inside - the region's voxels; profiles reach 8 mm to each side of the edge, beyond the region, too

    Returns `edges` (how many profiles were averaged), `distance_mm`, and for each name `profile_HU`,
    `width_mm` (10-90 %), `mtf50_per_mm`, `frequency_per_mm` and `mtf` (None where the averaged edge never
    comes to the levels); None where there is no edge that crosses the region on flat ground.
    """
    parts, layers = [], np.flatnonzero(inside.any((1, 2)))
    most = max(FEWEST_IN_REGION, MOST_IN_REGION // max(1, len(layers)))
    for k in layers:
        along_y, along_x = gradient(guide[k], spacing)
        steep = np.where(inside[k], np.hypot(along_x, along_y), 0.0)
        y, x = np.nonzero((steep > LEAST_SLOPE) & (steep >= STEEP_PART * steep.max()))
        if len(y) == 0:
            continue
        some = np.unique(np.linspace(0, len(y) - 1, min(len(y), most)).astype(int))
        y, x = y[some], x[some]
        across = _across(guide[k], (y, x), (along_y[y, x], along_x[y, x]), spacing)
        flat = np.maximum(across.low.std(1), across.high.std(1)) < REGION_FLAT_PART * across.contrast
        good = across.inside & flat & (np.abs(across.shift) < FARTHEST_MM)
        rows, columns = across.places(np.where(good, across.shift, 0))
        profiles = {
            name: _sample(volume[k], rows[good], columns[good], 3) for name, volume in volumes.items()
        }
        parts.append((across.contrast[good], profiles))
    contrast = np.concatenate([values for values, _ in parts]) if parts else np.empty(0)
    # Of one edge: what differs from most in its contrast is another one.
    alike = np.abs(contrast - np.median(contrast)) <= ALIKE * np.median(contrast) if len(contrast) else []
    if np.count_nonzero(alike) < FEWEST_IN_REGION:
        return None
    result: dict[str, Any] = {"edges": int(np.count_nonzero(alike)), "distance_mm": distances().tolist()}
    for name in volumes:
        profile = np.concatenate([profiles[name] for _, profiles in parts])[alike].mean(0)
        curve = transfer(profile)
        result[name] = {
            "profile_HU": profile.tolist(),
            "width_mm": edge_width(profile),
            "mtf50_per_mm": mtf50(profile),
            "frequency_per_mm": None if curve is None else curve[0].tolist(),
            "mtf": None if curve is None else curve[1].tolist(),
        }
    return result


def edge_width(profile: Array) -> float | None:
    """10-90 % width (mm) of an edge profile that rises from one plateau to another, in mm steps."""
    low, high = _plateaus(profile)
    middle = _crossing(profile, (low + high) / 2)
    if middle is None or high <= low:
        return None
    # From the middle outwards: overshoot and noise on the plateaus may cross the levels once more.
    start = int(middle)
    dark = np.flatnonzero(profile[: start + 1] <= low + 0.1 * (high - low))
    bright = np.flatnonzero(profile[start:] >= low + 0.9 * (high - low))
    if not len(dark) or not len(bright):
        return None
    first = _between(profile, int(dark[-1]), low + 0.1 * (high - low))
    last = _between(profile, start + int(bright[0]) - 1, low + 0.9 * (high - low))
    return (last - first) * STEP_MM


def transfer(profile: Array) -> tuple[Array, Array] | None:
    """Frequency (1/mm) and transfer function, 1 at frequency 0, of a rising edge profile; None: no edge."""
    line = np.diff(profile)
    # Level over the edge itself, or it would be made to look sharper; tapered where there is only noise.
    position = (np.arange(len(line)) - (len(line) - 1) / 2) * STEP_MM
    taper = np.clip((np.abs(position) - LEVEL_MM) / (position[-1] - LEVEL_MM), 0, 1)
    window = np.cos(np.pi / 2 * taper) ** 2
    size = 16 * len(line)
    values = np.abs(np.fft.rfft(line * window, size))
    if values[0] <= 0:
        return None
    return np.arange(len(values)) / (size * STEP_MM), values / values[0]


def mtf50(profile: Array) -> float | None:
    """Frequency (1/mm) at which the transfer function of a rising edge profile has fallen to half."""
    found = transfer(profile)
    if found is None or not (found[1] < 0.5).any():
        return None
    frequency, values = found
    below = np.flatnonzero(values < 0.5)
    first = int(below[0])
    fraction = (values[first - 1] - 0.5) / (values[first - 1] - values[first])
    return float((first - 1 + fraction) * frequency[1])


def _edges(
    guide: Array, k: int, spacing: tuple[float, float, float]
) -> tuple[Array, Array, Array, Array] | None:
    """Good edges of a slice: kind, slope per contrast, rows and columns [edge, sample] of their profiles."""
    plane = guide[k]
    along_y, along_x = gradient(plane, spacing)
    steep = np.hypot(along_x, along_y)
    candidates = (steep > 40) & (steep >= ndimage.maximum_filter(steep, 3) * 0.98)
    # The border of what is filled is the steepest place there is, and no edge of the patient.
    y, x = np.nonzero(candidates & (ndimage.minimum_filter(plane, 3) > FILLED_HU))
    if len(y) == 0:
        return None
    across_z = (
        np.gradient(guide[max(k - 1, 0) : k + 2, y, x], spacing[2], axis=0)[min(k, 1)]
        if len(guide) > 1
        else 0
    )
    square_on = np.abs(across_z) < STEEPEST_ACROSS_Z * steep[y, x]
    y, x = y[square_on], x[square_on]
    if len(y) > EDGES_PER_SLICE:
        every = np.linspace(0, len(y) - 1, EDGES_PER_SLICE).astype(int)
        y, x = y[every], x[every]
    across = _across(plane, (y, x), (along_y[y, x], along_x[y, x]), spacing)
    flat = np.maximum(across.low.std(1), across.high.std(1)) < FLAT_PART * across.contrast
    low, high = across.low.mean(1), across.high.mean(1)
    good = across.inside & (np.abs(across.shift) < FARTHEST_MM) & flat
    good &= (high > BRIGHT_SIDE_HU[0]) & (high < BRIGHT_SIDE_HU[1])
    kinds = np.full(len(y), -1)
    for number, (least, most) in enumerate(EDGES.values()):
        kinds[good & (low > least) & (low <= most)] = number
    chosen = kinds >= 0
    if not chosen.any():
        return None
    rows, columns = across.places(np.where(chosen, across.shift, 0))
    return (
        kinds[chosen],
        (steep[y, x] / np.maximum(across.contrast, 1))[chosen],
        rows[chosen],
        columns[chosen],
    )


@dataclass(frozen=True)
class _Across:
    """Profiles [edge, sample] across edges of a slice: their plateaus, contrast, by how many mm the middle of
    the rise lies farther on, and whether they lie in the slice."""

    start: tuple[Array, Array]
    normal: tuple[Array, Array]
    spacing: tuple[float, float, float]
    low: Array
    high: Array
    contrast: Array
    shift: Array
    inside: Array

    def places(self, shift: Array | float = 0.0) -> tuple[Array, Array]:
        """Rows and columns [edge, sample] of the profiles, so many mm farther on."""
        return _places(self.start, self.normal, self.spacing, shift)


def distances() -> Array:
    """Distance (mm) of a profile's samples from its middle."""
    return np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)


def _places(
    start: tuple[Array, Array],
    normal: tuple[Array, Array],
    spacing: tuple[float, float, float],
    shift: Array | float,
) -> tuple[Array, Array]:
    along = distances()[None, :] + np.reshape(shift, (-1, 1))
    rows, columns = (
        at[:, None] + across[:, None] * along / step
        for at, across, step in zip(start, normal, (spacing[1], spacing[0]), strict=True)
    )
    return rows, columns


def _across(
    plane: Array,
    start: tuple[Array, Array],
    slopes: tuple[Array, Array],
    spacing: tuple[float, float, float],
) -> _Across:
    """Take profiles of a smoothed slice through places (row, column) along its slopes there."""
    length = np.hypot(*slopes)
    normal = slopes[0] / length, slopes[1] / length
    rows, columns = _places(start, normal, spacing, 0.0)
    profiles = _sample(plane, rows, columns, order=1)
    low, high = _plateau_parts(profiles, distances())
    middle = (high.mean(1) + low.mean(1)) / 2
    # The place where the smoothed copy is half way up, to a fraction of a pixel.
    shift = np.array([_half_way(p, m, distances()) for p, m in zip(profiles, middle, strict=True)])
    inside = (rows.min(1) >= 0) & (rows.max(1) <= plane.shape[0] - 1)
    inside &= (columns.min(1) >= 0) & (columns.max(1) <= plane.shape[1] - 1)
    return _Across(start, normal, spacing, low, high, high.mean(1) - low.mean(1), shift, inside)


def _summary(parts: list[tuple[Array, dict[str, Array]]]) -> dict[str, Any] | None:
    """Average the sharpest profiles and measure the average."""
    if not parts:
        return None
    steepness = np.concatenate([values for values, _ in parts])
    sharp = steepness >= SHARPEST * np.percentile(steepness, 95)
    if sharp.sum() < FEWEST_EDGES:
        return None
    result: dict[str, Any] = {"edges": int(sharp.sum())}
    for name in parts[0][1]:
        profile = np.concatenate([profiles[name] for _, profiles in parts])[sharp].mean(0)
        result[name] = {"width_mm": edge_width(profile), "mtf50_per_mm": mtf50(profile)}
    return result


def _sample(plane: Array, rows: Array, columns: Array, order: int) -> Array:
    """Values of the slice at fractional rows and columns."""
    return ndimage.map_coordinates(plane, [rows, columns], output=np.float64, order=order, mode="nearest")


def _plateau_parts(profiles: Array, distance: Array) -> tuple[Array, Array]:
    low = profiles[:, (distance >= -PLATEAU_MM[1]) & (distance <= -PLATEAU_MM[0])]
    high = profiles[:, (distance <= PLATEAU_MM[1]) & (distance >= PLATEAU_MM[0])]
    return low, high


def _plateaus(profile: Array) -> tuple[float, float]:
    distance = (np.arange(len(profile)) - (len(profile) - 1) / 2) * STEP_MM
    low, high = _plateau_parts(profile[None], distance)
    return float(low.mean()), float(high.mean())


def _half_way(profile: Array, level: float, distance: Array) -> float:
    """Distance of the crossing nearest to the middle; far off when there is none."""
    place = _crossing(profile, level)
    return np.inf if place is None else float(np.interp(place, np.arange(len(distance)), distance))


def _crossing(profile: Array, level: float) -> float | None:
    """Fractional index at which the profile rises through the level, the one nearest to the middle."""
    rises = np.flatnonzero((profile[:-1] < level) & (profile[1:] >= level))
    if not len(rises):
        return None
    return _between(profile, int(rises[np.argmin(np.abs(rises - len(profile) / 2))]), level)


def _between(profile: Array, at: int, level: float) -> float:
    """Fractional index of the level between sample `at` and the next."""
    return at + float((level - profile[at]) / (profile[at + 1] - profile[at]))
