"""Do the images of a stack alternate, as those of two interleaved scans whose headers are stripped do?

In one scan neighbouring slices are more alike than those two apart: the patient, the noise and the kernel
change slowly. Of two interleaved ones the trace of a difference remains in every second slice, however little
it is: all of the body (contrast, energy), a part of it (a vessel, a shift), or only the noise (kernel, dose).
Where one scan follows the other, or the patient moved in between, the change at that place stands alone, be
it of the image or only of its noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ctenhance.core.blocks import (
    BLOCK,
    Blocks,
    asked_rows,
    blocks_of,
    changes,
    count_along,
    sums_over_slices,
    window_step,
)
from ctenhance.core.repetition import repeats

_FEWEST, _TIMES_UNLIKE, _LEAST_UNLIKE_HU, _MOSTLY = 3, 1.3, 2.0, 0.8
_WINDOW = 20  # slices in which a part of the body is looked for
_BODY_HU = -300.0
_FEWEST_BLOCKS = 6
_FEWEST_OF_A_PART = 3
# Nine in ten slices differ by this. 21 real scans with windows of 6, 8, 12 and 20 slices reach 0.037 in the
# logarithm of the noise; half the dose makes 0.35.
_LEAST_NOISE, _LEAST_PART_HU, _OF_ITS_SPREAD = 0.08, 8.0, 2.0
_LAST_TENTH = 0.1
_PERIODS, _FEWEST_TURNS, _TURNS = (3, 4), 8, 12  # of three and four scans; slices of each that are looked at
# The largest change of block means from slice to slice is at most 1.34 times the second one in 22 real scans,
# thinned to a third as well, and 2 to 6 times where a patient moved by 8 pixels.
_TIMES_THE_SECOND, _LEAST_CHANGE_HU, _FEWEST_FOR_A_SEAM = 1.7, 15.0, 16
# Of 8 to 15 slices at most 1.75 times, and in a phantom that changes as much 2.14.
_FEWEST_OF_FEW, _TIMES_OF_FEW, _LEAST_OF_FEW_HU = 8, 2.5, 18.0
# The same of the logarithm of the noise: 1.75 times the second change, 2.16 times in its grain (fine beside
# coarse), with jumps of 0.21; real scans of which half is of another kernel have 2.5 to 17, jumps of 0.3.
_FEWEST_FOR_NOISE, _TIMES_OTHERS, _LEAST_JUMP, _LEAST_STEP, _TIMES_USUAL = 12, (2.2, 2.6), 0.25, 0.2, 1.5


def doubt_of_alternation(array: np.ndarray, blocks: Blocks | None = None) -> str:
    """Return the note on a volume of HU [z, y, x] whose slices alternate, or change at one place; or ''.

    `blocks`: those of the volume (`blocks_of`), where they are known.
    """
    count, rows, columns = array.shape
    if count < 2 * _FEWEST or min(rows, columns) < BLOCK:
        return ""
    blocks = blocks_of(array) if blocks is None else blocks
    if _alternates(array, blocks):
        return (
            "every second slice (or third, fourth) is unlike its neighbours, as if scans were mixed, or "
            "slices interpolated: look at the images before you use the result"
        )
    seam = _seam(blocks.means)
    if seam:
        return (
            f"from slice {seam} to slice {seam + 1} (counted as they are stored) the images change all at "
            "once, as from one scan to another, or as where the patient moved: look at them before you use "
            "the result"
        )
    seam = _seam_of_noise(blocks)
    if seam:
        return (
            f"from slice {seam} to slice {seam + 1} (counted as they are stored) the noise changes all at "
            "once, as from one kernel, dose or slice thickness to another: make sure that all slices are of "
            "one reconstruction"
        )
    return ""


def _alternates(array: np.ndarray, blocks: Blocks) -> bool:
    """Say whether every second slice of HU [z, y, x] is unlike its neighbours but like the next but one."""
    if _as_a_whole(blocks.means):
        return True
    for window in _windows(len(array), _WINDOW):
        body = _body(blocks.means[window])
        noise = [one[window] for one in blocks.noise] if body.sum() >= _FEWEST_BLOCKS else []
        if _in_a_part(blocks.means[window], 2) or any(_in_noise(one, body, 2) for one in noise):
            return True
    return any(_in_turn(blocks, period) for period in _PERIODS) or repeats(array, blocks.means)


def _seam(means: np.ndarray) -> int:
    """Return behind how many slices the block means [z, y, x] change as nowhere else; 0: at no place."""
    if len(means) < _FEWEST_OF_FEW:
        return 0
    few = len(means) < _FEWEST_FOR_A_SEAM
    times, least = (_TIMES_OF_FEW, _LEAST_OF_FEW_HU) if few else (_TIMES_THE_SECOND, _LEAST_CHANGE_HU)
    change = changes(means)
    largest = int(change.argmax())
    second = np.delete(change, largest).max()
    # The modules of a phantom end all at once, too, but hardly change within.
    if np.median(change) < least or change[largest] < times * second:
        return 0
    return largest + 1


def _seam_of_noise(blocks: Blocks) -> int:
    """Return behind how many slices noise, or its grain, changes as nowhere else and stays; 0: nowhere."""
    count = len(blocks.means)
    if count < _FEWEST_FOR_NOISE:
        return 0
    body = _body(blocks.means)
    of_image = changes(blocks.means)  # from one module of a phantom to the next both change
    as_elsewhere = of_image <= _TIMES_USUAL * np.median(of_image)
    fine, coarse = (np.median(noise[:, body], axis=1).astype(np.float64) for noise in blocks.noise)
    for values, times in zip((fine, fine - coarse), _TIMES_OTHERS, strict=True):
        change = np.abs(np.diff(values))
        for at in range(2, count - 1):
            if not (as_elsewhere[at - 1] and change[at - 1] >= _LEAST_JUMP):
                continue
            others = np.delete(change, at - 1).max()
            stays = abs(np.median(values[at : at + 4]) - np.median(values[max(0, at - 4) : at]))
            if change[at - 1] >= times * others and stays >= _LEAST_STEP:
                return at
    return 0


def _windows(count: int, length: int) -> Iterator[slice]:
    """Yield windows of so many slices."""
    step = window_step(count, length)
    for start in range(0, max(count - length + step, 1), step):
        yield slice(max(0, min(start, count - length)), start + length)


def _body(means: np.ndarray) -> np.ndarray:
    """Return which blocks are body in nearly all slices (all, if hardly any is), of the rows looked at."""
    body: np.ndarray = count_along(means > _BODY_HU) > (1 - _LAST_TENTH) * len(means)
    if body.sum() < _FEWEST_BLOCKS:
        body[:] = True
    return body[:: asked_rows(len(body))]


def _in_turn(blocks: Blocks, period: int) -> bool:
    """Say whether every third (fourth) slice is unlike those between, as of so many scans mixed."""
    count = len(blocks.means)
    if count < period * _FEWEST_TURNS:
        return False
    for part in _windows(count, min(count, period * _TURNS)):
        body = _body(blocks.means[part])
        noise = [one[part] for one in blocks.noise] if body.sum() >= _FEWEST_BLOCKS else []
        if _in_a_part(blocks.means[part], period) or any(_in_noise(one, body, period) for one in noise):
            return True
    return False


def _off(values: np.ndarray, period: int) -> list[np.ndarray]:
    """Return how far slices lie from the mean over a period about them: every period-th, from each start. Of
    a period of two all from one start, every second one turned over: of one sign where slices alternate."""
    if period == 2:
        off = values[1:-1] - (values[:-2] + values[2:]) / 2
        off[::2] *= -1
        return [off]
    weights = [1.0] * period if period % 2 else [0.5, *[1.0] * (period - 1), 0.5]
    inside = len(values) - len(weights) + 1
    half = len(weights) // 2
    off = values[half : half + inside].copy()
    for first, weight in enumerate(weights):
        off -= (weight / period) * values[first : first + inside]
    return [off[first::period] for first in range(period)]


def _as_a_whole(means: np.ndarray) -> bool:
    near, next_but_one = changes(means), changes(means, 2)
    alike = np.maximum(next_but_one[:-1], next_but_one[1:])
    unlike = near[1:-1] > np.maximum(_TIMES_UNLIKE * alike, _LEAST_UNLIKE_HU)
    return bool(unlike.mean() > _MOSTLY)


def _in_a_part(means: np.ndarray, period: int) -> bool:
    """Say whether connected blocks [z, y, x] alternate."""
    # What most windows have no block for is seen from the means over the slices, which one product gives.
    middles = sums_over_slices(_in_the_mean(len(means), period), means)
    if np.count_nonzero(np.abs(middles) > 0.99 * _LEAST_PART_HU / 2, axis=(1, 2)).max() < _FEWEST_OF_A_PART:
        return False
    return any(_is_part(off) for off in _off(means, period))


@lru_cache(maxsize=16)
def _in_the_mean(count: int, period: int) -> np.ndarray:
    """Return what each of so many slices counts in the mean of what `_off` gives, from each start."""
    return np.stack([off.mean(axis=0) for off in _off(np.eye(count), period)]).astype(np.float32)


def _in_noise(noise: np.ndarray, body: np.ndarray, period: int) -> bool:
    """Say whether the noise [z, y, x] alternates, by the blocks of the body."""
    # So many under the least are too many: the first ones say no in nearly every scan, and save the others.
    turns = len(noise) if period == 2 else -(-len(noise) // period)
    few = int(_LAST_TENTH * turns) + 2
    first = _off(noise[: few + 2 if period == 2 else period * (few + 1)], period)
    if all(_is_little(off[:, body]) for off in first):
        return False
    return any(_is_more(off, body) for off in _off(noise, period))


def _is_little(off: np.ndarray) -> bool:
    """Say whether no slice's median over the blocks [z, block] can be beyond the least."""
    beyond = (
        np.count_nonzero(slice_ > _LEAST_NOISE if above else slice_ < -_LEAST_NOISE)
        for slice_ in off
        for above in (True, False)
    )
    return bool(2 * max(beyond, default=0) < off.shape[1])


def _is_part(off: np.ndarray) -> bool:
    """Say whether connected blocks are all off to one side, HU [z, y, x]: the fewer the slices, the more of
    them are so by chance."""
    middle = off.mean(axis=0)
    enough = max(float(_FEWEST_OF_A_PART), 400.0 / 2.0 ** (len(off) / 2))
    # Where nine in ten are above the least part and the spread is small, so is nearly the mean: few blocks
    # are left for what takes long.
    alternating = np.abs(middle) > _LEAST_PART_HU / 2
    for is_so in (_of_small_spread, _nearly_all_off):
        if np.count_nonzero(alternating) < enough:
            return False
        alternating[alternating] = is_so(off[:, alternating], middle[alternating])
    if np.count_nonzero(alternating) < enough:
        return False
    from scipy import ndimage

    parts, _ = ndimage.label(alternating)
    return bool(np.bincount(parts.ravel())[1:].max(initial=0) >= enough)


def _of_small_spread(off: np.ndarray, middle: np.ndarray) -> np.ndarray:
    small: np.ndarray = np.abs(middle) > _OF_ITS_SPREAD * off.std(axis=0, ddof=1)
    return small


def _nearly_all_off(off: np.ndarray, middle: np.ndarray) -> np.ndarray:
    off_enough: np.ndarray = np.quantile(off * np.sign(middle), _LAST_TENTH, axis=0) > _LEAST_PART_HU
    return off_enough


def _is_more(off: np.ndarray, body: np.ndarray) -> bool:
    """Say whether the noise of nearly all slices is off to one side, by the median over the body's blocks."""
    medians = np.median(off[:, body], axis=1)
    return bool(np.quantile(medians * np.sign(medians.mean()), _LAST_TENTH) > _LEAST_NOISE)
