"""Can marks find the true lesions? Each once, inside of the image, and not in the air beside the body."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.study.design import Case, Lesion

_RAS = "give points in LPS (in RAS, as Slicer shows them, x and y have the other sign)."
#: The part of a lesion that is looked at, mm; what is air, and what is surely none, HU.
_CORE_MM, _AIR_HU, _TISSUE_HU = 5.0, -900.0, -700.0
#: Two centres this near are one lesion (mm, and no more than half of the smaller radius).
_SAME_MM = 1.0


def require_apart(lesions: Sequence[Lesion], places: Sequence[int], what: str, where: str) -> None:
    """Raise InputError for a lesion that stands twice, or lies within another one.

    They are named by their `places`: "Lines 2 and 3 of 'lesions.csv'" where `what` is 'Lines'."""
    for (first, one), (second, other) in itertools.combinations(enumerate(lesions), 2):
        apart, radii = _apart(one, other), sorted((one.radius_mm, other.radius_mm))
        if apart > max(radii[1] - radii[0], min(_SAME_MM, radii[0] / 2)):
            continue
        same = (
            "are the same lesion" if apart <= _SAME_MM and radii[0] == radii[1] else "lie within each other"
        )
        raise InputError(
            f"{what} {places[first]} and {places[second]} of {where} {same} ({apart:.2g} mm apart, radii "
            f"{one.radius_mm:g} and {other.radius_mm:g} mm): a mark finds only the nearer one, and the other "
            "would count as missed; keep one of them, or correct them."
        )


def require_lesions_in(case: Case, volume: CTVolume) -> list[str]:
    """Raise InputError for lesions that no mark in the image can find, or every one; return doubts."""
    size = np.array(volume.array.shape[::-1])
    largest = float((size * volume.spacing).max())
    numbers = range(1, len(case.lesions) + 1)
    require_apart(case.lesions, numbers, "Lesions", f"case '{case.name}'")
    doubts = []
    for number, lesion in enumerate(case.lesions, start=1):
        which = f"Case '{case.name}': lesion {number} at ({', '.join(f'{c:g}' for c in lesion.point)}) mm"
        if not _inside(volume, lesion.point):
            raise InputError(f"{which} lies outside of the image; {_RAS}")
        if 2 * lesion.radius_mm > largest:
            raise InputError(
                f"{which} is larger than the image: its radius is {lesion.radius_mm:g} mm, and the image "
                f"measures {largest:.0f} mm; give the radius within which a mark has found it."
            )
        if _beside_body(volume, lesion):
            x, y, z = lesion.point
            if _inside(volume, (-x, -y, z)) and _level(volume, (-x, -y, z), lesion.radius_mm) > _TISSUE_HU:
                raise InputError(
                    f"{which} lies in the air beside the body, and ({-x:g}, {-y:g}) in it; {_RAS}"
                )
            doubts.append(f"{which} lies in the air beside the body: make sure of its place.")
    for (first, one), (second, other) in itertools.combinations(enumerate(case.lesions, start=1), 2):
        if _apart(one, other) < min(one.radius_mm, other.radius_mm) / 2:
            doubts.append(
                f"Case '{case.name}': the lesions {first} and {second} are {_apart(one, other):.2g} mm "
                "apart, nearer than half of their radii: make sure that they are two."
            )
    return doubts


def _apart(one: Lesion, other: Lesion) -> float:
    return float(np.linalg.norm(np.subtract(one.point, other.point)))


def _index(volume: CTVolume, point: Sequence[float]) -> np.ndarray:
    """Return a point's place [x, y, z] in voxels."""
    found = np.linalg.solve(volume.direction * volume.spacing, np.subtract(point, volume.origin))
    return np.asarray(found)


def _inside(volume: CTVolume, point: Sequence[float]) -> bool:
    index = _index(volume, point)
    return bool((index >= -0.5).all() and (index <= np.array(volume.array.shape[::-1]) - 0.5).all())


def _level(volume: CTVolume, point: Sequence[float], radius_mm: float) -> float:
    """Return the mean (HU, -1024 at least) within the radius, as far as it is looked at."""
    at, reach = _index(volume, point), min(radius_mm, _CORE_MM) / np.array(volume.spacing)
    size = np.array(volume.array.shape[::-1])
    low = np.clip(np.ceil(at - reach), 0, size - 1).astype(int)
    high = np.clip(np.floor(at + reach), 0, size - 1).astype(int)
    nearest = np.clip(np.rint(at), 0, size - 1).astype(int)
    low, high = np.minimum(low, nearest), np.maximum(high, nearest)
    box = volume.array[tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1], strict=True))]
    away = [(np.arange(a, b + 1) - c) / r for a, b, c, r in zip(low, high, at, reach, strict=True)]
    x, y, z = away
    within = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= 1
    values = box[within] if within.any() else box
    return float(np.maximum(values, -1024).mean())


def _beside_body(volume: CTVolume, lesion: Lesion) -> bool:
    """Say whether there is nothing but air at the lesion, in one piece with that at the slice's border."""
    if _level(volume, lesion.point, lesion.radius_mm) >= _AIR_HU:
        return False
    size = np.array(volume.array.shape[::-1])
    x, y, z = np.clip(np.rint(_index(volume, lesion.point)), 0, size - 1).astype(int)
    plane = np.maximum(volume.array[z], -1024).astype(np.float32)
    pieces, _count = ndimage.label(ndimage.uniform_filter(plane, 3) < _AIR_HU)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return bool(pieces[y, x]) and bool((border == pieces[y, x]).any())
