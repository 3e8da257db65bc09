"""What projections must fulfil, and the sentence for each offence, naming the field as the file does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ctenhance.core.arrays import blocks
from ctenhance.runtime.errors import InputError, quoted
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.fields import GEOMETRIES, ScanFields

# Larger ones come from damaged headers.
_MOST = {"views": 2_000_000, "rows": 100_000, "columns": 20_000, "bins": 64}
# A scan with coarser views than this cannot be reconstructed; angles in degrees usually look so.
_COARSEST_STEP_RAD = math.radians(20)
#: Views that are missing side by side from which on it is worth a note; less may be uneven angles.
_FEWEST_MISSING = 1.5
_MOST_TURNS, _MOST_HELICAL_TURNS = 4, 1000
# Line integrals: 50 is one quantum in 1e21; -3 would be twenty times as many quanta as without an object.
_LARGEST_LINE_INTEGRAL, _LEAST_LINE_INTEGRAL = 50.0, -3.0
_LARGEST_MEDIAN_LINE_INTEGRAL = 15.0
_MOST_ENERGIES = 10_000
# Steps of energies differ by more than rounding where they do by more than this part.
_UNEVEN = 0.05
# Noise does not take a reading further below zero than this many standard deviations.
_DEEPEST_NOISE_SD = 20.0


def check_fields(projections: ScanFields) -> None:
    """Bring every field into its type, or raise InputError naming it; the readings are not looked at."""
    p = projections
    if p.geometry not in GEOMETRIES:
        raise InputError(
            f"The 'geometry' is {quoted(p.geometry)}, not parallel, fan_equiangular or fan_flat."
        )
    _check_readings(p)
    p.view_angles = _vector(p.view_angles, "/view_angles", p.n_views, "view")
    if p.view_z_mm is not None:
        p.view_z_mm = _vector(p.view_z_mm, "/view_z_mm", p.n_views, "view")
    for name in (
        "column_pitch_mm", "column_pitch_rad", "source_to_isocenter_mm", "source_to_detector_mm",
        "row_pitch_mm", "water_mu_per_mm", "image_pixel_mm",
    ):  # fmt: skip
        value = getattr(p, name)
        if value is not None:
            setattr(p, name, _number(value, name, least=0.0))
    p.central_column = _number(p.central_column, "central_column")
    p.electronic_noise_variance = _number(p.electronic_noise_variance, "electronic_noise_variance")
    if p.electronic_noise_variance < 0:
        raise InputError("The 'electronic_noise_variance' is negative, which no variance can be.")
    p.image_size = _image_size(p.image_size)
    p.isocenter_mm = _three(p.isocenter_mm)
    p.direction = _direction(p.direction)
    _check_geometry(p)
    _check_angles(p)
    _check_air(p)
    _check_spectra(p)


def _check_readings(p: ScanFields) -> None:
    if (p.counts is None) == (p.line_integrals is None):
        which = "neither of them" if p.counts is None else "both"
        raise InputError(f"Either '/counts' or '/line_integrals' holds the readings, but {which} is there.")
    name = "/line_integrals" if p.counts is None else "/counts"
    readings = p.readings
    if np.dtype(readings.dtype).kind not in "iuf":
        raise InputError(f"'{name}' must hold real numbers, but it holds the type {readings.dtype}.")
    if readings.ndim not in (3, 4):
        hint = "; a single slice has one row: [view, 1, column]" if readings.ndim == 2 else ""
        raise InputError(
            f"'{name}' has {readings.ndim} axes, but it must have [view, row, column] or "
            f"[view, row, column, bin]{hint}."
        )
    for what, length in zip(_MOST, p.shape, strict=False):
        if not 1 <= length <= _MOST[what]:
            raise InputError(f"'{name}' has {length} {what} (its shape is {p.shape}); there is no such scan.")
    if p.n_views < 2 or p.n_columns < 2:
        raise InputError(
            f"'{name}' has {p.n_views} views and {p.n_columns} columns; at least two are needed."
        )


def _check_geometry(p: ScanFields) -> None:
    needed, other = ("column_pitch_rad", "column_pitch_mm")
    if p.geometry != "fan_equiangular":
        needed, other = other, needed
    if getattr(p, needed) is None:
        raise InputError(f"'{needed}' is missing, which the geometry {p.geometry} needs.")
    if getattr(p, other) is not None:
        raise InputError(f"'{other}' contradicts the geometry {p.geometry}, which has '{needed}'; remove it.")
    if not -p.n_columns <= p.central_column <= 2 * p.n_columns:
        raise InputError(
            f"The 'central_column' {p.central_column:g} is far off the {p.n_columns} columns; it is the "
            "0-based column that the isocentre projects to."
        )
    if p.geometry != "parallel":
        sid, sdd = p.source_to_isocenter_mm, p.source_to_detector_mm
        for name, value in (("source_to_isocenter_mm", sid), ("source_to_detector_mm", sdd)):
            if value is None:
                raise InputError(f"'{name}' is missing, which the geometry {p.geometry} needs.")
        if sdd <= sid:  # type: ignore[operator]
            raise InputError(
                f"'source_to_detector_mm' ({sdd:g}) must be greater than 'source_to_isocenter_mm' ({sid:g}): "
                "the detector stands behind the isocentre."
            )
        if _half_fan(p) >= math.pi / 2:
            raise InputError(
                f"The columns reach {_half_fan(p):.3g} rad from the central ray, more than a fan can; "
                "'column_pitch_rad' is the angle between two columns in rad, not in degrees or mm."
            )
    if p.n_rows > 1 and p.row_pitch_mm is None:
        raise InputError(f"'row_pitch_mm' is missing, which {p.n_rows} rows need.")


def _columns_from_centre(p: ScanFields) -> tuple[float, float]:
    return p.central_column + 0.5, p.n_columns - 0.5 - p.central_column


def _half_fan(p: ScanFields) -> float:
    """The larger angle between the central ray and an end of the detector, rad; 0 for parallel rays."""
    columns = max(_columns_from_centre(p))
    if p.geometry == "fan_equiangular":
        return columns * float(p.column_pitch_rad or 0)
    if p.geometry == "fan_flat":
        return math.atan(columns * float(p.column_pitch_mm or 0) / float(p.source_to_detector_mm or 1))
    return 0.0


def _check_angles(p: ScanFields) -> None:
    steps = np.diff(p.view_angles)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        at = int(np.argmax(np.sign(steps) != np.sign(np.median(steps) or 1)))
        hint = "; unwrap the angles beyond a full turn" if abs(abs(steps[at]) - 2 * math.pi) < 0.5 else ""
        raise InputError(
            f"'/view_angles' must grow or fall from view to view, but view {at + 1} does not follow "
            f"view {at}{hint}."
        )
    step = float(np.median(np.abs(steps)))
    arc = float(abs(p.view_angles[-1] - p.view_angles[0]))
    turns = _MOST_HELICAL_TURNS if p.helical else _MOST_TURNS
    if step > _COARSEST_STEP_RAD or arc > turns * 2 * math.pi:
        raise InputError(
            f"'/view_angles' advance by {step:.3g} from view to view and {arc:.4g} in all, which is no "
            "scan in rad; convert degrees to rad."
        )
    needed = math.pi + 2 * _half_fan(p)
    if p.helical:
        needed = 2 * math.pi
    if arc + 2 * step < needed:
        raise InputError(
            f"'/view_angles' span {math.degrees(arc):.0f} degrees, but {math.degrees(needed):.0f} degrees "
            "(half a turn and the fan, on a helix a whole turn) are needed to reconstruct."
        )
    widest = float(np.abs(steps).max())
    # Less the step, so that every tenth view of a scan leaves no wider gap than all of them do.
    if widest - step > _COARSEST_STEP_RAD:
        raise InputError(
            f"'/view_angles' leave a gap of {math.degrees(widest):.0f} degrees; views are missing."
        )


def gap_notes(view_angles: np.ndarray) -> list[str]:
    """A sentence where two views or more are missing between `view_angles` (rad), the widest gap told."""
    steps = np.abs(np.diff(view_angles))
    step, widest = float(np.median(steps)), int(np.argmax(steps))
    missing = steps[widest] / step - 1
    if missing < _FEWEST_MISSING:
        return []
    return [
        f"'/view_angles' leave a gap of {math.degrees(steps[widest]):.3g} degrees after view {widest}, where "
        f"{missing:.0f} views are missing: the image has streaks where no opposite rays fill it."
    ]


def _check_air(p: ScanFields) -> None:
    if p.air_counts is None:
        if p.counts is not None:
            raise InputError("'/air_counts' is missing, without which '/counts' mean nothing.")
        return
    air = _array(p.air_counts, "/air_counts")
    if air.shape == (1,) and p.n_columns != 1 and p.n_bins != 1:
        air = air.reshape(())
    allowed: list[tuple[int, ...]] = [(), (p.n_columns,)]
    described = "a single number or [column]"
    if p.n_bins is not None:
        allowed = [(), (p.n_bins,), (p.n_columns, p.n_bins)]
        described = "a single number, [bin] or [column, bin]"
    if air.shape not in allowed:
        raise InputError(
            f"'/air_counts' has the shape {air.shape}, but it must be {described}: one of "
            f"{', '.join(map(str, allowed))}."
        )
    if not air.min() > 0:
        raise InputError(f"'/air_counts' must be positive everywhere, but its least value is {air.min():g}.")
    p.air_counts = air


def _check_spectra(p: ScanFields) -> None:
    bins = p.n_bins or 1
    if p.energies_keV is not None:
        p.energies_keV = _array(p.energies_keV, "/energies_keV")
        e = p.energies_keV
        if (
            e.ndim != 1
            or not 2 <= len(e) <= _MOST_ENERGIES
            or not np.all(np.diff(e) > 0)
            or e[0] < 0
            or e[-1] > 1000
        ):
            raise InputError("'/energies_keV' must be up to 10000 energies that grow, from 0 to 1000 keV.")
    if p.effective_spectra is not None:
        spectra = _array(p.effective_spectra, "/effective_spectra")
        if p.energies_keV is None:
            raise InputError("'/energies_keV' is missing, which '/effective_spectra' need.")
        if spectra.shape != (bins, len(p.energies_keV)):
            raise InputError(
                f"'/effective_spectra' has the shape {spectra.shape}, but {bins} bins and "
                f"{len(p.energies_keV)} energies need [bin, energy] = {(bins, len(p.energies_keV))}."
            )
        if spectra.min() < 0 or not np.all(spectra.sum(1) > 0):
            raise InputError("'/effective_spectra' must not be negative, and each bin needs some quanta.")
        if p.n_bins is not None:
            _require_even_steps(p.energies_keV, spectra.sum(0) > 0)
        p.effective_spectra = spectra
    if p.thresholds_keV is not None:
        edges = _vector(p.thresholds_keV, "/thresholds_keV", bins + 1, "bin and one more")
        if not np.all(np.diff(edges) > 0) or edges[0] < 0:
            raise InputError("'/thresholds_keV' must grow from bin to bin, from 0 keV or more.")
        p.thresholds_keV = edges


def _require_even_steps(energies: np.ndarray, counted: np.ndarray) -> None:
    """Quanta per keV on energies in steps of several sizes would be taken as quanta of each energy."""
    first, last = np.flatnonzero(counted)[[0, -1]]
    steps = np.diff(energies[first : last + 1])
    if len(steps) and np.ptp(steps) > _UNEVEN * steps.min():
        raise InputError(
            f"'/energies_keV' rise in steps of {steps.min():.3g} to {steps.max():.3g} keV where "
            "'/effective_spectra' hold quanta, which are per keV: interpolate both to equal steps."
        )


def _array(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise InputError(f"'{name}' must hold numbers, but it is empty or of the type {array.dtype}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"'{name}' holds NaN or infinite values.")
    return array


def _vector(value: Any, name: str, length: int, each: str) -> np.ndarray:
    array = _array(value, name)
    if array.shape != (length,):
        raise InputError(
            f"'{name}' has the shape {array.shape}, but one value for each {each}, {(length,)}, is needed."
        )
    return array


def _number(value: Any, name: str, least: float = -math.inf) -> float:
    array = np.asarray(value)
    number = float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else math.nan
    if not math.isfinite(number):
        raise InputError(f"'{name}' must be one finite number, but it is {quoted(value)}.")
    if not number > least:
        raise InputError(f"'{name}' must be positive, but it is {number:g}.")
    return number


def _image_size(value: Any) -> int | tuple[int, int] | None:
    if value is None:
        return None
    sizes = np.asarray(value).reshape(-1)
    numeric = sizes.size in (1, 2) and sizes.dtype.kind in "iuf"
    if not numeric or not np.all((sizes >= 2) & (sizes <= 16384)):
        raise InputError(
            f"'image_size' must be the pixels along a side, such as 512, but it is {quoted(value)}."
        )
    rows, columns = int(sizes[0]), int(sizes[-1])
    return rows if rows == columns else (rows, columns)


def _three(value: Any) -> tuple[float, float, float]:
    numbers = np.asarray(value, dtype=np.float64).reshape(-1)
    if numbers.size != 3 or not np.isfinite(numbers).all():
        raise InputError(f"'isocenter_mm' must be three finite numbers (x, y, z), not {quoted(value)}.")
    x, y, z = numbers.tolist()
    return x, y, z


def _direction(value: Any) -> np.ndarray:
    matrix = np.array(value, dtype=np.float64)
    if matrix.size != 9 or not np.abs(matrix.reshape(3, 3).T @ matrix.reshape(3, 3) - np.eye(3)).max() < 1e-4:
        raise InputError("'direction' must be nine numbers, a 3 x 3 matrix of perpendicular unit vectors.")
    return matrix.reshape(3, 3)


def check_values(p: ScanFields, progress: Progress | None = None, cancel: Cancellable | None = None) -> None:
    """Raise InputError for readings that are NaN, impossible, or not what their field's name says."""
    is_counts = p.counts is not None
    name = "/counts" if is_counts else "/line_integrals"
    inspect = _Counts(p) if is_counts else _LineIntegrals(p)
    for part in blocks(p.shape):
        check(cancel)
        if progress is not None:
            progress("check", part.start, p.n_views)
        values = np.asarray(p.readings[part], dtype=np.float32)
        # The sum shows NaN and infinity without a mask as large as the block.
        if not math.isfinite(float(values.sum(dtype=np.float64))):
            bad = ~np.isfinite(values)
            if bad.any():
                at = tuple(int(index) for index in np.argwhere(bad)[0])
                raise InputError(
                    f"'{name}' holds NaN or infinite values, the first at view {part.start + at[0]}, row "
                    f"{at[1]}, column {at[2]} (counted from 0); export the projections again."
                )
        inspect.add(values)
    inspect.judge()
    if progress is not None:
        progress("check", p.n_views, p.n_views)


class _Counts:
    """Are these detected quanta? Gathered block by block."""

    def __init__(self, p: ScanFields) -> None:
        air = np.asarray(p.air_counts, dtype=np.float64)
        self.variance = p.electronic_noise_variance
        # Readings behind nothing at all, with their noise.  Around one quantum in air they are normalised.
        ceiling = np.where(air <= 2, 1.5 * air, 2 * air + 6 * np.sqrt(air)) + 6 * math.sqrt(self.variance)
        self.ceiling = ceiling.astype(np.float32)
        self.most_air = float(air.max())
        self.lowest, self.highest = math.inf, -math.inf
        self.negative = self.above = self.total = 0

    def add(self, values: np.ndarray) -> None:
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        self.negative += int(np.count_nonzero(values < 0))
        self.above += int(np.count_nonzero(values > self.ceiling))
        self.total += values.size

    def judge(self) -> None:
        if self.negative and not self.variance:
            raise InputError(
                f"'/counts' holds {self.negative} negative readings (the lowest {self.lowest:g}), but "
                "'electronic_noise_variance' is 0 or missing; declare the detector's electronic noise."
            )
        if self.lowest < -_DEEPEST_NOISE_SD * math.sqrt(self.variance):
            raise InputError(
                f"'/counts' go down to {self.lowest:g}, further below zero than an electronic noise of "
                f"{math.sqrt(self.variance):.3g} counts takes them; check the offset or what they are."
            )
        if self.highest <= 0:
            raise InputError("'/counts' has no reading above zero; there is no scan in it.")
        if self.highest < 1e-4 * self.most_air or self.highest < min(20.0, 0.02 * self.most_air):
            raise InputError(
                f"'/counts' reach only {self.highest:.3g} where '/air_counts' are {self.most_air:.3g}: these "
                "look like line integrals; name them '/line_integrals', or correct '/air_counts'."
            )
        if self.above > 0.05 * self.total:
            raise InputError(
                f"{self.above / self.total:.0%} of '/counts' are well above '/air_counts' (up to "
                f"{self.highest:.3g} of {self.most_air:.3g}); check '/air_counts' and the unit of the counts."
            )


class _LineIntegrals:
    """Are these line integrals? Gathered block by block."""

    def __init__(self, _p: ScanFields) -> None:
        self.lowest, self.highest = math.inf, -math.inf
        self.medians: list[float] = []
        self.edges: list[float] = []
        self.middles: list[float] = []

    def add(self, values: np.ndarray) -> None:
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        self.medians.append(float(np.median(values[:: max(1, len(values) // 16)])))
        columns = values.shape[2]
        few = max(1, columns // 50)
        self.edges.append(float(values[:, :, [*range(few), *range(columns - few, columns)]].mean()))
        self.middles.append(float(values[:, :, columns // 2 - few // 2 : columns // 2 + 1].mean()))

    def judge(self) -> None:
        if self.highest > _LARGEST_LINE_INTEGRAL or np.median(self.medians) > _LARGEST_MEDIAN_LINE_INTEGRAL:
            raise InputError(
                f"'/line_integrals' reach {self.highest:.4g}, which no patient attenuates: these look like "
                "counts; name them '/counts' and give '/air_counts'."
            )
        if self.lowest < _LEAST_LINE_INTEGRAL:
            raise InputError(
                f"'/line_integrals' go down to {self.lowest:.4g}, which noise does not explain; give "
                "-ln(counts / air counts)."
            )
        if self.lowest == self.highest:
            raise InputError(f"'/line_integrals' are {self.lowest:g} everywhere; there is no scan in it.")
        edge, middle = float(np.mean(self.edges)), float(np.mean(self.middles))
        if self.lowest >= -0.1 and self.highest < 1.5 and edge > 0.7 and middle < 0.8 * edge:
            raise InputError(
                "'/line_integrals' are about 1 at the detector's ends and less in its middle: these look "
                "like transmissions; give their negative logarithm, or name them '/counts', air counts 1."
            )
