"""A helical scan of many detector rows as a stack of fan slices.

Single-slice rebinning (Noo, Defrise and Clackdoyle, Phys Med Biol 44:561, 1999): the ray of a slice at fan
angle g is taken from the cone-beam ray above it that crosses the slice in the middle of the body, at the
in-plane distance R cos g from the source (R: source to isocentre).  With the source at z_s and the slice at
z_t the ray climbs by s = (z_t - z_s) / (R cos g) per mm, meets the detector, D(g) mm away in the plane, at
z_s + s D(g), and its line integral times 1 / sqrt(1 + s^2) is that of the slice.

Two sources, one turn apart, straddle the slice at every angle; their rays are weighted by 1 - |z_t - z_s| /
(feed per turn), as in 360-degree linear interpolation, less where the wanted ray passes beside the detector.
The detector rows that a slice's thickness covers are averaged.  Views keep their true angles: those of the
first turn are the slices' angles, and a view of a later turn that falls between two of them is shared.
With a flying focal spot each ray is taken from where its source truly was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ctenhance.core.arrays import scratch
from ctenhance.physics.geometry import EQUIANGULAR, FLAT, FanGeometry
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.geometry_fault import NOTE, WARNING
from ctenhance.scan.helix import Helix, helix_of
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields

#: Default distance and thickness of slices; one detector row where that is more.
SLICE_MM = 1.0
# A view within this share of a step of one of the slices' angles counts as at it.
_SNAP = 0.02
# What a ray beside the detector, replaced by the outermost row, still weighs: nothing, if there is another.
_LEAST_WEIGHT = 1e-3
# Column positions within this share of a column need no interpolation.
_SAME_COLUMN = 0.02
_WIDEST_GAP_STEPS = 5.0
# Views closer to each other than this (rad) are at the same angle.
_STANDING_RAD = 1e-4
# Successive turns agree with another feed if they differ by less than this part. The feeds that are tried, in
# parts of the stated one, and one that should show.
_AGREE_BETTER = 0.7
_MOST_FEED, _FEED_STEP, _ANOTHER_FEED = 3.0, 0.05, 0.35


def rebin_projections(
    projections: Projections,
    slice_mm: float | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Projections:
    """Return the fan slices of a helical projection file; see `rebin_helix`."""
    helix = helix_of(projections, progress, cancel)
    slices = rebin_helix(helix, slice_mm, progress, cancel)
    variance = slices.electronic_noise_variance
    if slices.air_counts is not None:
        # a slice's reading is the mean of several, each with noise of its own
        readings = float(np.mean(slices.air_counts / projections.air()))
        variance = readings * projections.electronic_noise_variance
    return replace(
        slices,
        effective_spectra=projections.effective_spectra,
        energies_keV=projections.energies_keV,
        image_size=projections.image_size,
        electronic_noise_variance=variance,
    )


def rebin_helix(
    helix: Helix,
    slice_mm: float | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Projections:
    """Return fan slices as line integrals [view, slice, column], z growing with the slice.

    `slice_mm`: distance and thickness of the slices.  A scan without feed (one turn at one place) becomes one
    slice a row.  Views are loaded one by one; slices that need more memory than `arrays.LARGEST_IN_MEMORY`
    stay in a temporary file.

    Raises InputError for a scan too short for one slice, with missing views, or without a steady feed;
    Cancelled when asked to stop.
    """
    slices = _slices_of(helix, slice_mm)
    _compare_turns(helix, slices)
    n_slices, n_views = len(slices.z_mm), len(slices.angles)
    out = scratch((n_views, n_slices, helix.n_columns))
    weights = np.zeros((n_views, n_slices), dtype=np.float32)
    squares = np.zeros_like(weights)
    for view in range(helix.n_views):
        if view % 16 == 0:
            check(cancel)
            if progress is not None:
                progress("rebin", view, helix.n_views)
        first, last, share = slices.covered(float(helix.source_z[view]))
        if first >= last:
            continue
        fan = slices.slice_rays(helix, view, slices.z_mm[first:last])
        for at, weight in slices.shared_views(view):
            part = (np.float32(weight) * share).astype(np.float32)
            out[at, first:last] += part[:, None] * fan
            weights[at, first:last] += part
            squares[at, first:last] += part * part
    if not weights.min() > 0:
        raise InputError(
            "Some views of the slices were not measured at any turn, as where files are missing: "
            "copy all of them."
        )
    for view in range(n_views):
        if view % 16 == 0:
            check(cancel)
        out[view] /= weights[view][:, None]
    if progress is not None:
        progress("rebin", helix.n_views, helix.n_views)
    return slices.projections(helix, out, float(np.mean(squares / weights**2)))


@dataclass(frozen=True)
class _Slices:
    """The slices to make: where they lie, the angles of their views, and how the scan's views are shared."""

    angles: np.ndarray  # [slice view] rad, growing
    step: float  # rad
    phase: np.ndarray  # [view] rad in [0, 2 pi) from angles[0]
    feed: float  # mm per turn, 0 without feed
    z_mm: np.ndarray  # [slice]
    thickness: float
    inner: float  # mm from the source's z: within it the detector sees the slice whole
    outer: float  # mm: beyond it, not even on the central ray
    radius: float
    distance: float
    central_column: float

    def covered(self, source_z: float) -> tuple[int, int, np.ndarray]:
        """First and last (excluded) slice that a source at `source_z` contributes to, and its weights."""
        reach = self.feed if self.feed else math.inf
        first = int(np.searchsorted(self.z_mm, source_z - reach, side="right"))
        last = int(np.searchsorted(self.z_mm, source_z + reach, side="left"))
        off = np.abs(self.z_mm[first:last] - source_z)
        in_view = np.clip((self.outer - off) / max(self.outer - self.inner, 1e-6), _LEAST_WEIGHT, 1.0)
        near = 1 - off / self.feed if self.feed else np.ones_like(off)
        return first, last, np.maximum(in_view * near, 1e-6)

    def shared_views(self, view: int) -> list[tuple[int, float]]:
        """The slices' views, one or two neighbouring, that a view of the scan belongs to, with its shares."""
        start = self.angles[0]
        grid = self.angles - start
        phase = self.phase[view]
        right = int(np.searchsorted(grid, phase))
        left = right - 1
        low = grid[left] if left >= 0 else grid[-1] - 2 * math.pi
        high = grid[right] if right < len(grid) else 2 * math.pi
        share = (phase - low) / (high - low)
        left, right = left % len(grid), right % len(grid)
        if share < _SNAP:
            return [(left, 1.0)]
        if share > 1 - _SNAP:
            return [(right, 1.0)]
        return [(left, 1 - share), (right, share)]

    def slice_rays(self, helix: Helix, view: int, z_mm: np.ndarray, row_sign: float = 1.0) -> np.ndarray:
        """Line integrals `[slice, column]` in the planes at `z_mm` `[slice]` from one view."""
        data = helix.load(view)
        gamma, distance = helix.fan(view)
        position = np.interp(self.column_angles(helix), gamma, np.arange(helix.n_columns))
        if np.abs(position - np.arange(helix.n_columns)).max() > _SAME_COLUMN:
            data = _at_columns(data, position)
            distance = np.interp(position, np.arange(helix.n_columns), distance)
            gamma = self.column_angles(helix)
        pitch = helix.row_pitch_mm * row_sign
        central = helix.central_row
        if pitch < 0:
            data, pitch, central = data[::-1], -pitch, helix.n_rows - 1 - central
        middle = helix.source_radius[view] * np.cos(gamma)
        slope = ((z_mm - helix.source_z[view])[:, None] / middle).astype(np.float32)
        row = slope * (distance / pitch).astype(np.float32)
        row += np.float32(central + helix.z_shift[view] / pitch)
        half = np.maximum(0.5, 0.5 * self.thickness * distance / middle / pitch).astype(np.float32)
        values = _row_average(data, row, half)
        return values / np.sqrt(1 + slope * slope)

    def column_angles(self, helix: Helix) -> np.ndarray:
        """Fan angles `[column]` of the slices."""
        along = (np.arange(helix.n_columns) - self.central_column) * helix.column_pitch
        return np.arctan(along / self.distance) if helix.flat else along

    def rays(self, helix: Helix) -> FanGeometry:
        """The rays of a slice."""
        return FanGeometry(
            FLAT if helix.flat else EQUIANGULAR,
            self.radius,
            self.distance,
            helix.column_pitch,
            helix.n_columns,
            self.central_column,
            tuple(self.angles.tolist()),
        )

    def projections(self, helix: Helix, line_integrals: np.ndarray, variance: float) -> Projections:
        """The slices as projections; `variance`: of the mean of a slice's views, relative to one of them."""
        pitch = float(self.z_mm[1] - self.z_mm[0]) if len(self.z_mm) > 1 else self.thickness
        # Quanta that would make the slices' noise.  The mean over t rows, the first and last of them cut
        # anywhere, has (t - 1/3) / t^2 of a row's variance.
        rows = max(1.0, self.thickness * self.distance / self.radius / abs(helix.row_pitch_mm))
        gain = rows**2 / (rows - 1 / 3) / variance
        x, y = helix.isocenter_xy_mm
        if self.feed > 2.1 * self.outer:
            helix.note(
                f"The table feed of {self.feed:.3g} mm a turn is more than the detector's "
                f"{2 * self.outer:.3g} mm: between the turns its outermost rows stand in, expect artefacts."
            )
        return Projections(
            **ray_fields(self.rays(helix)),
            line_integrals=line_integrals,
            air_counts=None if helix.photons is None else helix.photons * gain,
            row_pitch_mm=pitch,
            water_mu_per_mm=helix.water_mu_per_mm,
            image_pixel_mm=helix.image_pixel_mm,
            isocenter_mm=(x, y, float(self.z_mm[0])),
            meta={**helix.meta, "table_feed_mm": self.feed, "slice_thickness_mm": self.thickness},
        )


def _slices_of(helix: Helix, slice_mm: float | None) -> _Slices:
    """Find feed, angles and slices; raises InputError as `rebin_helix` says."""
    angle = np.unwrap(helix.source_angle)
    step = _view_step(helix)
    z = helix.source_z
    radius, distance = float(np.median(helix.focal_radius)), float(np.median(helix.detector_distance))
    row = abs(helix.row_pitch_mm) * radius / distance
    half_rows = min(helix.central_row + 0.5, helix.n_rows - 0.5 - helix.central_row)
    central = float(np.median(helix.central_column))
    widest = max(central + 0.5, helix.n_columns - 0.5 - central) * helix.column_pitch
    outer = half_rows * row
    inner = outer * math.cos(math.atan(widest / distance) if helix.flat else widest)
    first_turn = max(2, int(np.searchsorted(np.abs(angle - angle[0]), 2 * math.pi - 0.5 * step)))
    phases = np.sort(np.mod(angle[:first_turn] - angle[0], 2 * math.pi))
    # Two focal positions at one angle make one view.
    kept = phases[np.concatenate([[True], np.diff(phases) > 0.2 * step])]
    feed = abs(float(np.polyfit(np.abs(angle - angle[0]), helix.focal_z, 1)[0])) * 2 * math.pi
    thickness = max(SLICE_MM, row) if slice_mm is None else float(slice_mm)
    if not (math.isfinite(thickness) and thickness > 0):
        raise InputError(f"Slices of {slice_mm} mm are not possible: give more than 0.")
    if np.ptp(helix.focal_z) < 0.5 * row:
        feed = 0.0
        thickness = row
        lowest, highest = float(z.mean()) - outer + row / 2, float(z.mean()) + outer - row / 2
    else:
        _check_feed(helix, angle, feed, row)
        lowest, highest = float(z.min()) + feed / 2, float(z.max()) - feed / 2
    if highest < lowest - 1e-6:
        raise InputError(
            f"The scan's {np.ptp(z):.3g} mm of table feed, {feed:.3g} mm a turn, hold no whole slice; give "
            "all files of the scan."
        )
    count = 1 + int((highest - lowest) / thickness + 1e-6)
    start = (lowest + highest - (count - 1) * thickness) / 2
    return _Slices(
        angles=angle[0] + kept,
        step=step,
        phase=np.mod(angle - angle[0] - kept[0], 2 * math.pi),
        feed=feed,
        z_mm=start + thickness * np.arange(count),
        thickness=thickness,
        inner=inner,
        outer=outer,
        radius=radius,
        distance=distance,
        central_column=central,
    )


def _view_step(helix: Helix) -> float:
    """Angle from view to view in rad; raises InputError where views are missing or do not make a turn."""
    focal = np.unwrap(helix.focal_angle)
    focal_steps = np.diff(focal) * (1.0 if focal[-1] > focal[0] else -1.0)
    # two positions of a flying focal spot may share an angle
    turning = focal_steps[focal_steps > _STANDING_RAD]
    if not turning.size or focal_steps.min() < -_STANDING_RAD:
        raise InputError("The views do not turn in one direction; they are not in the order of the scan.")
    step = float(np.median(turning))
    if focal_steps.max() > _WIDEST_GAP_STEPS * step:
        at = int(focal_steps.argmax())
        raise InputError(
            f"{round(float(focal_steps[at]) / step) - 1} views are missing after view {at + 1} of "
            f"{helix.n_views}; give all files of the scan."
        )
    turns = float(np.sum(focal_steps)) / (2 * math.pi)
    if turns < 1 - 1.5 * step / (2 * math.pi):
        raise InputError(
            f"The views span {360 * turns:.0f} degrees, but a whole turn is needed: give all files of "
            "the scan."
        )
    return step


def _check_feed(helix: Helix, angle: np.ndarray, feed: float, row: float) -> None:
    turned = np.abs(angle - angle[0]) / (2 * math.pi)
    moved = np.abs(helix.focal_z - helix.focal_z[0])
    if np.abs(moved - feed * turned).max() > max(2 * row, 0.1 * feed):
        raise InputError(
            "The table does not move evenly with the rotation (several positions or scans); give "
            "the files of one helical scan, or of one turn."
        )


def _at_columns(data: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values of `[row, column]` at fractional columns, by Catmull and Rom's cubic through four neighbours."""
    last = data.shape[1] - 1
    base = np.floor(position).astype(np.int64)
    t = (position - base).astype(np.float32)
    weights = (
        0.5 * (-t + 2 * t**2 - t**3),
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (t**3 - t**2),
    )
    parts = (weight * data[:, np.clip(base + k - 1, 0, last)] for k, weight in enumerate(weights))
    return sum(parts, np.zeros_like(data))


def _row_average(data: np.ndarray, row: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Mean of `data` [row, column] from row - half to row + half (row 0 is -0.5 to 0.5), `[slice, column]`.

    At least one row wide; beyond the detector its outermost row goes on.
    """
    rows, columns = data.shape
    data = np.ascontiguousarray(data, dtype=np.float32)
    # float64: differences of sums over many rows must keep the rows' precision
    below = np.zeros((rows + 1, columns), dtype=np.float64)
    np.cumsum(data, axis=0, out=below[1:], dtype=np.float64)
    column = np.arange(columns)
    low = np.clip(row - half + np.float32(0.5), 0, rows - 1)
    high = np.clip(row + half + np.float32(0.5), 1, rows)
    # rounding at the detector's end must not make the interval thinner than it is
    width = high - low

    def integral(edge: np.ndarray) -> np.ndarray:
        whole = np.minimum(edge.astype(np.int32), rows - 1)
        index = whole * columns + column
        return below.reshape(-1)[index] + (edge - whole) * data.reshape(-1)[index]

    return ((integral(high) - integral(low)) / width).astype(np.float32)


def _compare_turns(helix: Helix, slices: _Slices) -> None:
    """Reverse the rows where neighbouring turns agree clearly better that way, or warn where the source of
    the data leaves no doubt about their direction; warn where they agree with another feed, and keep a note
    where they do not show it.

    The sources of two successive turns see the slice halfway between them from the same angle: the right
    direction and distance of the rows make their rays agree.
    """
    if not slices.feed:
        return
    feeds = _feeds(slices)
    turned = np.abs(np.unwrap(helix.source_angle) - helix.source_angle[0])
    last = int(np.searchsorted(turned, turned[-1] - 2 * math.pi, side="right")) - 1
    found = []
    for view in np.unique(np.linspace(0, max(last, 0), 25).astype(int)):
        mate = int(np.argmin(np.abs(turned - turned[view] - 2 * math.pi)))
        if abs(turned[mate] - turned[view] - 2 * math.pi) > 2 * slices.step:
            continue
        half = feeds * (helix.source_z[mate] - helix.source_z[view]) / 2
        one = slices.slice_rays(helix, int(view), helix.source_z[view] + half)
        other = slices.slice_rays(helix, mate, helix.source_z[mate] - half)
        found.append(np.abs(one - other).mean(1))
    differ = np.sum(found, axis=0) + 1e-9 if found else np.ones(len(feeds))
    ratios = differ / differ[feeds == 1.0]
    least = int(np.argmin(ratios))
    # the best may lie beyond the last that was tried
    inside = 0 < least < len(feeds) - 1
    if ratios[least] < _AGREE_BETTER and (inside or feeds[least] == -1.0):
        _warn_of_turns(helix, slices, float(feeds[least]))
    elif not inside or (ratios[np.abs(feeds - 1.0) > _ANOTHER_FEED] * _AGREE_BETTER < 1.0).any():
        helix.meta[NOTE] = (
            f"The readings do not show whether the table's feed of {slices.feed:.3g} mm a turn "
            "('/view_z_mm', 'row_pitch_mm') is right; the slices' places follow: compare with the scanner's "
            "record."
        )


def _feeds(slices: _Slices) -> np.ndarray:
    """Feeds that the detector is wide enough to show, relative to the one that is stated, growing; negative
    with the rows the other way round."""
    count = int(min(_MOST_FEED, 2 * slices.inner / slices.feed) / _FEED_STEP)
    tried = (_FEED_STEP * np.arange(-count, count + 1)).round(6)
    return np.unique(np.concatenate([tried, [-1.0, 1.0]]))


def _warn_of_turns(helix: Helix, slices: _Slices, feed: float) -> None:
    """Say that successive turns agree with another feed, or with the rows counted from the other end."""
    if feed < 0 and not helix.row_direction_sure:
        helix.row_pitch_mm = -helix.row_pitch_mm
        helix.note(
            "Successive turns agree only if the detector rows are counted the other way round than in "
            "DICOM-CT-PD, so they were."
        )
        feed = -feed
    wrong, mend = [], []
    if feed < 0:
        wrong.append("the detector rows are counted from the other end")
        mend.append("Reverse the rows, or the sign of '/view_z_mm'.")
    if abs(abs(feed) - 1) > _FEED_STEP:
        rows = abs(helix.row_pitch_mm)
        wrong.append(
            f"the table's feed is {abs(feed) * slices.feed:.3g} mm a turn and not {slices.feed:.3g}, or "
            f"'row_pitch_mm' {rows / abs(feed):.3g} and not {rows:.3g}"
        )
        mend.append("Compare '/view_z_mm' and the rows with the scanner's record.")
    if wrong:
        helix.meta[WARNING] = (
            f"The geometry is likely wrong: successive turns agree only if {' and '.join(wrong)}. "
            f"{' '.join(mend)}"
        )
        helix.note(helix.meta[WARNING])
