"""Do a volume before and one after show the same body in the same place? Files are exchanged, and flipped."""

from __future__ import annotations

import numpy as np

from ctenhance.core.likeness import ONE_BODY, alike, how_displaced, small_picture
from ctenhance.core.volume import CTVolume


def doubts_of_pair(before: CTVolume, after: CTVolume, reference: CTVolume | None = None) -> list[str]:
    """Return warnings where `after`, on the grid of `before`, shows another body, does not lie on it, or is
    the same image, and where the reference shows another body than `before`, or does not lie on it."""
    same = all(np.array_equal(*planes) for planes in zip(before.array, after.array, strict=True))
    found = ["The two volumes are the same, voxel for voxel: was one file given, or copied, twice?"]
    if not same:
        found = _doubts(before, after, "The volumes")
    return found if reference is None else found + _doubts(before, reference, "The reference and BEFORE")


def _doubts(one: CTVolume, other: CTVolume, who: str) -> list[str]:
    if displaced := how_displaced(one.array, other.array, one.spacing):
        return [f"{who} {displaced}: what is measured between them means nothing."]
    found = alike(small_picture(one.array), small_picture(other.array))
    if found >= ONE_BODY:
        return []
    return [
        f"{who} hardly look like one body (their parts correlate by {found:.2f}, those of one scan by 0.98 "
        "and more): what is measured between them means nothing."
    ]
