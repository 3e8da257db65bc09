"""Where do air and soft tissue lie in an image, by its flat pieces, and is that where they are in HU?

The flat pieces of a CT are air near -1000 HU and fat and soft tissue within 160 HU of water: in 46 real scans
hardly one in a hundred lies between them, as lung, bone and edges are not flat. A wrong slope or intercept
moves these levels. Where fat is a level of its own it tells more: it lies at -118 to -65 HU in those scans,
and muscle above 0. What it cannot tell: less than 40 HU, half of 50 HU, most of a slope that is 10 % too
large, and up to 150 HU where neither air nor fat is a level in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctenhance.core.blocks import block_of

#: With this the sentence begins.
OFF_SCALE = "its scale does not fit"
_MOST_SLICES = 12
# Quarters of a flat block differ by no more than noise makes of them; constant ones were filled in.
_FLAT_HU, _OF_NOISE, _LEAST_NOISE_HU = 10.0, 0.5, 0.5
_HALF_WINDOW, _STEP = 20.0, 5.0  # HU, in which the blocks of one level lie
_FEWEST, _LEAST_SHARE = 16, 0.01  # of all blocks
# Air reads too high where lung or noise is near, never too low.
_AIR, _AIR_OFF, _AIR_BELOW = -1000.0, 75.0, 45.0
# Levels of fat and of what is next above that no tissues have at any voltage: both too low, or too high.
_FAT_TOO_LOW, _FAT_TOO_HIGH, _LEAST_AND_MOST_TISSUE = (-300.0, -138.0), (-55.0, -18.0), (0.0, 75.0)
_APART = (90.0, 190.0)
_SEPARATE, _NEARBY = 60.0, 4
_SEPARATE_DENSITY, _FAT_OF_DENSITY, _MUSCLE = 45.0, (-67.0, -30.0), (20.0, 75.0)
_FEWEST_RIGHT, _AS_OFTEN = 4, (0.1, 0.5)  # blocks of air beside a higher level, and beside padding
_ABOVE_AIR, _HIGHEST_AIR = 400.0, -200.0
_TISSUE, _TISSUE_SHARE = (-150.0, 160.0), 0.1
# Air is flat; lung is not, and what stands for it in phantoms is not at the edge of the image.
_NARROW, _WIDE, _TIGHT, _TIGHTER, _OF_EDGE = 10.0, 75.0, 0.25, 0.4, 0.6
_QUIETEST_HU = 2.5  # SD within flat pieces
_MATERIALS, _MOVED, _IN_PLACE = (-925.0, -600.0), 0.9, 0.75
_LOWEST_AIR, _OF_TISSUE_NOISE = -1300.0, 0.25  # below it is nothing but air of a wrong scale, or padding
_HIGHEST_PADDING, _HIGHEST_GAP = -1900.0, 2300.0
_ABOVE_LEVEL, _BELOW_AIR, _LEAST_BELOW_AIR = 100.0, -1200.0, 0.02


@dataclass(frozen=True)
class Levels:
    """Levels of air and soft tissue, HU; None where there is none. `wrong`: they are not those of a CT;
    `refuted`: both are off, and air is so low that it would be taken for padding; `fat`: its level where that
    and the next one above, `tissue`, are what is off."""

    air: float | None
    tissue: float | None
    wrong: bool
    refuted: bool = False
    fat: float | None = None

    def __str__(self) -> str:
        if self.fat is not None:
            return (
                f"{OFF_SCALE}: what looks like fat and muscle is near {self.fat:.0f} and "
                f"{self.tissue:.0f} HU, where they are near -100 and 50 HU in a CT"
            )
        found = [
            f"{name} near {level:.0f} HU"
            for name, level in (("air", self.air), ("soft tissue or fat", self.tissue))
            if level is not None
        ]
        return (
            f"{OFF_SCALE}: what looks like {' and '.join(found)}, where air is at -1000 and soft "
            "tissue within 160 HU of 0 in a CT"
        )


def levels_of(array: np.ndarray) -> Levels:
    """Return the levels of air and soft tissue in an image [z, y, x] as read, before padding is replaced."""
    block = block_of(array)
    if min(array.shape[1:]) < 4 * block:
        return Levels(None, None, False)
    means, noise, at_edge = _flat_blocks(array, block)
    least = _least(array, block)
    air = _lowest_level(means, least)
    dense = means[means > (_HIGHEST_AIR if air is None else air + _ABOVE_AIR)]
    tissue = _main_level(dense, least)
    around = air is not None and bool(at_edge.any())
    if around:
        around = float(np.mean(np.abs(means[at_edge] - air) <= _HALF_WINDOW)) >= _OF_EDGE
    if around and air is not None and air > _HIGHEST_AIR and np.median(noise) < _QUIETEST_HU:
        # Noise that is too small, too, where one low level surrounds all.
        within = _main_level(means[means > air + 2 * _HALF_WINDOW], least)
        return Levels(air, within, within is not None)
    if air is None or tissue is None or air > _HIGHEST_AIR:
        return Levels(None, tissue, False)
    fat, above = _fat_and_tissue(means, least)
    moved_fat = Levels(air, above, True, fat=fat)
    if _AIR - _AIR_BELOW <= air <= _AIR + _AIR_OFF:
        return moved_fat if fat is not None else Levels(air, tissue, _in_place(dense) < _TISSUE_SHARE)
    there = np.abs(means - air) <= _HALF_WINDOW
    tight = float(np.mean(np.abs(means[np.abs(means - air) <= _WIDE] - air) <= _NARROW))
    right = means[np.abs(means - _AIR) <= _AIR_OFF]
    wrong = tight >= _TIGHT
    if air < _LOWEST_AIR:
        # Padding that was compressed or resampled is no measurement: most of it has no noise, and beside
        # tissue in place no lung or edge goes on from it.
        wrong &= _main_level(right, _AS_OFTEN[1] * there.sum()) is None and tissue - air < _HIGHEST_GAP
        wrong &= bool(
            np.median(noise[there]) >= _OF_TISSUE_NOISE * np.median(noise[means > air + _ABOVE_AIR])
        )
        moved = _in_place(dense) < _IN_PLACE
        # Of 46 real scans with air moved there at least 4 % are between; of lossy padding around a chest 1 %.
        if air < _HIGHEST_PADDING:
            wrong &= _goes_on(array, air)
        return Levels(air, tissue, wrong, wrong and moved)
    if air > _AIR:
        wrong &= _main_level(right, max(_FEWEST_RIGHT, _AS_OFTEN[0] * there.sum())) is None
    if _MATERIALS[0] <= air <= _MATERIALS[1]:
        moved = _in_place(dense - (air - _AIR)) > _MOVED and _in_place(dense) < _IN_PLACE
        wrong &= tight >= _TIGHTER and (moved or around)
    return moved_fat if not wrong and fat is not None and air > _AIR else Levels(air, tissue, wrong)


def doubt_of_density(array: np.ndarray) -> str:
    """Return the note on HU [z, y, x] in which fat lies where its electron density has it; '' for others.

    In 46 real scans fat lies at -117 to -77 HU; on the scale of HU its electron density is at -64 to -33,
    with muscle at about 45 as in a CT. So it is at high energies, above 120 keV.
    """
    block = block_of(array)
    if min(array.shape[1:]) < 4 * block:
        return ""
    means, _, _ = _flat_blocks(array, block)
    least = _least(array, block)
    air = _lowest_level(means, least)
    two = _two_levels(means, least, _SEPARATE_DENSITY)
    # Without air the lowest level is fat's; one between them is another scale's, of which others tell.
    if two is None or air is None or not _AIR - _AIR_BELOW <= air < _FAT_OF_DENSITY[1]:
        return ""
    if _AIR + _AIR_OFF < air < _HIGHEST_AIR:
        return ""
    fat, muscle = two
    if not (_FAT_OF_DENSITY[0] < fat < _FAT_OF_DENSITY[1] and _MUSCLE[0] < muscle < _MUSCLE[1]):
        return ""
    return (
        f"what looks like fat is near {fat:.0f} and muscle near {muscle:.0f} HU, where fat is at -115 to -75 "
        "HU in a CT, as in a map of electron density or in an image at a high energy: make sure that its "
        "values are the Hounsfield units of a CT"
    )


def _least(array: np.ndarray, block: int) -> float:
    """Return how many blocks make a level."""
    count = (array.shape[1] // block) * (array.shape[2] // block) * min(len(array), _MOST_SLICES)
    return float(max(_FEWEST, _LEAST_SHARE * count))


def _two_levels(means: np.ndarray, least: float, apart: float) -> tuple[float, float] | None:
    """Return the two main levels of tissue, HU, that lie so far apart at least; None where there is one."""
    centres, counts = _counted(means[(means > -400) & (means < 400)])
    if counts.max(initial=0) < least:
        return None
    first = int(counts.argmax())
    others = np.where(np.abs(centres - centres[first]) > apart, counts, 0)
    second = int(others.argmax())
    # A level of its own, and no slope of the first one.
    beside = counts[max(0, second - _NEARBY)], counts[min(len(counts) - 1, second + _NEARBY)]
    if others[second] < least or counts[second] < max(beside):
        return None
    low, high = sorted(_about(means, centres[one]) for one in (first, second))
    return low, high


def _fat_and_tissue(means: np.ndarray, least: float) -> tuple[float | None, float | None]:
    """Return levels, HU, that lie apart as fat and muscle do, but not where these do; else None."""
    two = _two_levels(means, least, _SEPARATE)
    if two is None:
        return None, None
    fat, tissue = two
    too_low = _FAT_TOO_LOW[0] < fat < _FAT_TOO_LOW[1] and tissue < _LEAST_AND_MOST_TISSUE[0]
    too_high = _FAT_TOO_HIGH[0] <= fat <= _FAT_TOO_HIGH[1] and tissue >= _LEAST_AND_MOST_TISSUE[1]
    if _APART[0] <= tissue - fat <= _APART[1] and (too_low or too_high):
        return fat, tissue
    return None, None


def _goes_on(array: np.ndarray, air: float) -> bool:
    planes = array[:: max(1, len(array) // _MOST_SLICES)]
    return float(np.mean((planes > air + _ABOVE_LEVEL) & (planes < _BELOW_AIR))) >= _LEAST_BELOW_AIR


def _in_place(dense: np.ndarray) -> float:
    return float(np.mean((dense >= _TISSUE[0]) & (dense <= _TISSUE[1])))


def _flat_blocks(array: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and SD, HU, of every flat block, and whether it is at the edge of its slice."""
    rows, columns = (length // block for length in array.shape[1:])
    half = block // 2
    at = np.unique(np.linspace(0, len(array) - 1, min(len(array), _MOST_SLICES)).astype(int))
    means, spreads, noises = [], [], []
    for plane in array[at]:
        parts = plane[: rows * block, : columns * block].astype(np.float32)
        parts = parts.reshape(rows, 2, half, columns, 2, half)
        quarters = parts.mean(axis=(2, 5))
        means.append(quarters.mean(axis=(1, 3)))
        spreads.append(quarters.max(axis=(1, 3)) - quarters.min(axis=(1, 3)))
        squares = np.square(parts).mean(axis=(1, 2, 4, 5))
        noises.append(np.sqrt(np.maximum(squares - np.square(means[-1]), 0)))
    mean, spread, noise = (np.stack(one) for one in (means, spreads, noises))
    flat = (spread < _FLAT_HU + _OF_NOISE * noise) & (noise > _LEAST_NOISE_HU)
    at_edge = np.ones_like(flat)
    at_edge[:, 1:-1, 1:-1] = False
    return mean[flat], noise[flat], at_edge[flat]


def _main_level(means: np.ndarray, least: float) -> float | None:
    """Return the level about which most blocks lie, HU; None where they are fewer than `least`."""
    centres, counts = _counted(means)
    return _about(means, centres[counts.argmax()]) if counts.max(initial=0) >= least else None


def _lowest_level(means: np.ndarray, least: float) -> float | None:
    """Return the lowest level about which `least` blocks lie, HU."""
    centres, counts = _counted(means)
    enough = np.flatnonzero(counts >= least)
    if not enough.size:
        return None
    # On from where they are enough to where they are most.
    first = int(enough[0])
    around = counts[first : first + 1 + int(2 * _HALF_WINDOW / _STEP)]
    return _about(means, centres[first + int(around.argmax())])


def _counted(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return levels, HU, and how many blocks lie about each."""
    ordered = np.sort(means)
    centres = np.arange(ordered[0], ordered[-1] + _STEP, _STEP) if means.size else np.empty(0)
    last, first = (
        np.searchsorted(ordered, centres + _HALF_WINDOW, "right"),
        np.searchsorted(ordered, centres - _HALF_WINDOW),
    )
    return centres, last - first


def _about(means: np.ndarray, centre: float) -> float:
    return float(np.median(means[np.abs(means - centre) <= _HALF_WINDOW]))
