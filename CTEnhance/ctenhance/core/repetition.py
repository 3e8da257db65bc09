"""Do the slices of a stack repeat with a period of two, three or four, as of so many scans mixed?

Along the patient the means of small blocks change at all frequencies, and less the higher the frequency is.
Of scans that take turns (phases of contrast, energies, pairs of each) a line is left at exactly 1/2, 1/3 or
1/4 of the slices' frequency, however weak the difference: in the blocks where it is it stands out from the
frequencies beside it, and in all of them with one phase, as the same scan is the brighter one. Windows of a
multiple of twelve slices have all three frequencies exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ctenhance.core.blocks import BLOCK, block_means, block_of, count_along, sums_over_slices, window_step

_WINDOWS, _PERIODS = (12, 24), (2, 3, 4)
_BODY_HU, _NEARLY_ALL, _FEWEST_BLOCKS = -300.0, 0.9, 12
_LEAST_AMPLITUDE_HU = 5.0
_QUIET = 0.7  # share of the blocks in which little else changes
_OF_MEDIAN, _FEWEST_AROUND = 0.3, 4  # least power of other frequencies that counts; blocks of nine
_HOT = 5.0
# By the window: what the line's power is of that beside it, in a piece of 3 x 3 blocks and in all quiet ones;
# or, lower, where so many blocks of one phase show it. 21 real scans, thinned and cropped (1,600 windows
# each), reach 28 and 3.0 with 12 slices, 18 and 2.9 with 24, and 14 and 18 blocks of one phase (0.85).
_LEAST_LOCAL = {12: 60.0, 24: 30.0}
_LEAST_OVERALL = {12: 6.0, 24: 4.5}
_LEAST_OF_MANY = {12: (24.0, 60, 0.04), 24: (16.0, 40, 0.03)}
_LEAST_IN_PHASE = 0.88


def repeats(array: np.ndarray, means: np.ndarray | None = None) -> bool:
    """Say whether every second, third or fourth slice of HU [z, y, x] differs from those between.

    `means`: those of blocks of 8 x 8 pixels [z, y, x], where they are known.
    """
    block = block_of(array)
    if len(array) < _WINDOWS[0] or min(array.shape[1:]) < 4 * block:
        return False
    if means is None or block != BLOCK:
        means = np.stack([block_means(plane, block) for plane in array])
    above = means > _BODY_HU
    for part in _parts(len(means)):
        window = part.stop - part.start
        body = count_along(above[part]) > _NEARLY_ALL * window
        if body.sum() >= _FEWEST_BLOCKS:
            spectrum = _spectrum(means[part])
            count = _around(np.ones(body.shape, np.float32), body)
            if any(_stands_out(spectrum, body, count, window // period, window) for period in _PERIODS):
                return True
    return False


def _parts(count: int) -> Iterator[slice]:
    """Yield windows of so many slices."""
    for window in _WINDOWS:
        for start in range(0, count - window + 1, window_step(count, window)):
            yield slice(start, start + window)


class _Spectrum(NamedTuple):
    """Of the means in a window along z [frequency, y, x]: real and imaginary parts, and the power."""

    real: np.ndarray
    imaginary: np.ndarray
    power: np.ndarray


def _spectrum(part: np.ndarray) -> _Spectrum:
    real, imaginary = (sums_over_slices(weights, part) for weights in _weights(len(part)))
    return _Spectrum(real, imaginary, real**2 + imaginary**2)


@lru_cache(maxsize=len(_WINDOWS))
def _weights(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the slices of a window count in each frequency, [frequency, slice], real and imaginary."""
    # How far from the middle of its neighbours: without it the slow changes would leak.
    off = np.eye(window) - (np.eye(window, k=1) + np.eye(window, k=-1)) / 2
    off[[0, -1]] = 0
    weights = np.fft.rfft(off, axis=0) / np.sqrt(window)
    return weights.real.astype(np.float32), weights.imag.astype(np.float32)


def _around(values: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Return the sums over the blocks of the body in pieces of 3 x 3."""
    rows, columns = body.shape
    inside = np.zeros((rows + 2, columns + 2))
    inside[1:-1, 1:-1] = values * body
    down = inside[:-2] + inside[1:-1] + inside[2:]
    sums: np.ndarray = down[:, :-2] + down[:, 1:-1] + down[:, 2:]
    return sums


def _stands_out(spectrum: _Spectrum, body: np.ndarray, count: np.ndarray, line: int, window: int) -> bool:
    """Say whether a line stands out; `count`: how many blocks of the body are in each piece."""
    powers = spectrum.power
    highest, power = window // 2, powers[line]
    in_body = power[body]
    # Both means are bounded by what all blocks and the highest one have, which is enough in most windows.
    most, at_most = (float(one) * 4 / window for one in (in_body.sum(), in_body.max()))
    in_all = most > _QUIET * (body.sum() - 1) * (_LEAST_AMPLITUDE_HU / 2) ** 2
    of_line = _around(power, body) if at_most >= _LEAST_AMPLITUDE_HU**2 else None
    in_a_piece = of_line is not None and bool(
        (of_line * 4 / window >= _LEAST_AMPLITUDE_HU**2 * np.maximum(count, 1)).any()
    )
    if not (in_all or in_a_piece):
        return False
    # Few frequencies would be beside it by chance: of short windows another of the lines is among them.
    beside = [line - 2, line - 1, line + 1, line + 2] if line < highest else [line - 3, line - 2, line - 1]
    others = powers[beside].mean(axis=0)
    if in_all and _in_all_quiet_ones(power, others, body, window):
        return True
    if of_line is None or not in_a_piece:
        return False
    of_others = _around(others, body)
    around = count >= _FEWEST_AROUND
    lowest, fewest, share = _LEAST_OF_MANY[window]
    # The least that others count as makes it less still: in most windows this says no.
    if not (of_line >= lowest * of_others)[around].any():
        return False
    least = _OF_MEDIAN * float(np.median(others[body])) + 1e-9
    ratio = of_line / np.maximum(of_others, least * np.maximum(count, 1))
    ratio[~around] = 0
    at = np.unravel_index(int(ratio.argmax()), ratio.shape)
    local = float(np.sqrt(max(0.0, float((of_line[at] - of_others[at]) / max(count[at], 1))) * 4 / window))
    if local < _LEAST_AMPLITUDE_HU:
        return False
    if ratio[at] > _LEAST_LOCAL[window]:
        return True
    hot = (ratio > _HOT) & body
    if line == highest or ratio[at] < lowest or hot.sum() < max(fewest, share * body.sum()):
        return False
    # Twice the phase: it counts neither whether the difference is up or down.
    turned = (spectrum.real[line][hot] + 1j * spectrum.imaginary[line][hot]) ** 2
    in_phase = np.abs(turned.sum()) / power[hot].sum()
    return bool(in_phase > _LEAST_IN_PHASE)


def _in_all_quiet_ones(power: np.ndarray, others: np.ndarray, body: np.ndarray, window: int) -> bool:
    """Say whether a line stands out in the mean over the blocks in which little else changes."""
    least, times = _LEAST_AMPLITUDE_HU / 2, _LEAST_OVERALL[window]
    # What is asked of both sums makes the first, less (times + 1) / 2 of the second, at least half of what
    # their difference must be; and all blocks where that is above 0 bound it, without a quantile.
    beyond = np.maximum(power - (times + 1) / 2 * others, 0) * body
    if float(beyond.sum()) * 4 / window <= _QUIET * (body.sum() - 1) * least**2 / 2:
        return False
    quiet = body & (others <= np.quantile(others[body], _QUIET))
    amplitude = np.sqrt(max(0.0, float((power - others)[quiet].mean())) * 4 / window)
    overall = float(power[quiet].sum() / max(float(others[quiet].sum()), 1e-9))
    return overall > times and bool(amplitude > least)
