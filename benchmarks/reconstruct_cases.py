"""The held-out scans that `reconstruct` is measured on, part by part, and masks of what is seen in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path

import numpy as np
from scipy import ndimage

from cases import evenly
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

#: Slices that are simulated at one time.
_BLOCK = 5
#: Less of a mask in a slice than this is not compared.
_LEAST_MM2 = {"lung": 60.0, "bone": 60.0, "airway": 15.0}

Array = np.ndarray


@dataclass(frozen=True)
class Part:
    """Slices `start` to `stop` (excluded) of a scan, simulated together; `chosen` of them are measured."""

    number: int
    start: int
    stop: int
    chosen: tuple[int, ...]


def parts(depth: int, slices: int | None) -> list[Part]:
    """A scan of `depth` slices in parts: all of it, spread so that the first few show every region, or single
    slices with their neighbours."""
    if slices is not None and slices < depth:
        singles = [(max(z - 1, 0), min(z + 2, depth), z) for z in evenly(depth, slices)]
        return [Part(number, a, b, (z - a,)) for number, (a, b, z) in enumerate(singles)]
    edges = np.linspace(0, depth, -(-depth // _BLOCK) + 1).round().astype(int).tolist()
    found = [Part(number, a, b, tuple(range(b - a))) for number, (a, b) in enumerate(pairwise(edges))]
    golden = (5**0.5 - 1) / 2
    return sorted(found, key=lambda part: (part.number + 1) * golden % 1)


@dataclass(frozen=True)
class Scan:
    """A held-out scan, under the part of its file's name that it was asked for by."""

    name: str
    volume: CTVolume


def in_turn(folder: Path, names: Sequence[str], slices: int | None) -> Iterator[tuple[Scan, Part]]:
    """The first part of every scan of `folder`, then the second of every scan, and so on.

    Raises InputError where not exactly one file has a name's part in its name.
    """
    scans = []
    for name in names:
        files = sorted(folder.glob(f"*{name}*.nii.gz"))
        if len(files) != 1:
            raise InputError(f"{folder.name} holds {len(files)} scans with '{name}' in the name, not 1.")
        scans.append(Scan(name, CTVolume.read(files[0])))
    for row in zip_longest(*(parts(len(scan.volume.array), slices) for scan in scans)):
        yield from ((scan, part) for scan, part in zip(scans, row, strict=True) if part is not None)


def masks(plane: Array, pixel_mm: float) -> dict[str, Array]:
    """Lung, bone and airways of a slice by thresholds on a slightly smoothed copy.

    An airway holds air somewhere: without that the darkest lung and its noise would count as airways.
    """
    smooth = ndimage.gaussian_filter(plane, 0.8 / pixel_mm)
    body = ndimage.binary_fill_holes(smooth > -400)
    labels, count = ndimage.label(body)
    if count:
        sizes = np.bincount(labels.ravel())[1:]
        body = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    inside = ndimage.binary_erosion(body, iterations=3)
    dark, holes = ndimage.label(inside & (smooth <= -940))
    with_air = np.zeros(holes + 1, bool)
    with_air[dark[smooth <= -980]] = True
    with_air[0] = False
    return {
        "lung": inside & (smooth < -500) & (smooth > -940),
        "bone": inside & (smooth > 220),
        "airway": with_air[dark],
    }


def dice(image: Array, reference: Array, pixel_mm: float) -> dict[str, float | None]:
    """Dice of each mask; None where the reference shows less than `_LEAST_MM2` of it."""
    found, truth = masks(image, pixel_mm), masks(reference, pixel_mm)
    return {
        name: 2 * float((found[name] & mask).sum()) / float(found[name].sum() + mask.sum())
        if mask.sum() * pixel_mm**2 >= _LEAST_MM2[name]
        else None
        for name, mask in truth.items()
    }
