"""Agreement of neighbouring slices: does a method that works slice by slice add flicker along z?

Flicker shows in coronal and sagittal views as stripes: the brightness of a whole slice, or of a patch much
larger than the noise grain, jumps from slice to slice. So slices are averaged over blocks, and each block is
compared with the mean of the two beside it in z, which lets gradual change along z pass. A slice-to-slice
offset of SD s, independent in each slice, gives a difference of variance 1.5 s²: the figures below are
divided by √1.5, so that they are that s in HU.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctenhance.runtime.progress import Cancellable, check

Array = np.ndarray

BLOCK_MM = 8.0
SOFT_HU = (-200.0, 250.0)  # of the smoothed copy's blocks: fat and soft tissue, where flicker is seen
FEWEST_BLOCKS = 50
FEWEST_SLICES = 4


def flicker(
    volumes: Mapping[str, Array],
    guide: Array,
    spacing: tuple[float, float, float],
    cancel: Cancellable | None = None,
) -> dict[str, float | None] | None:
    """Measure flicker of `volumes` ('before', 'after' and perhaps 'reference', each HU [z, y, x]).

    Returns None for fewer than 4 slices or too little soft tissue, else
    `before_HU`, `after_HU` (and `reference_HU`): flicker of blocks of 8 mm, a robust SD, with what anatomy
    and noise contribute; `ratio`: after / before, above 1 when flicker was added (None when before has none);
    `added_HU`: flicker of the mean over each slice's soft tissue of after - before (with a reference, of
    after - reference), in which noise averages out: what the method itself put into whole slices. Raises
    Cancelled.
    """
    if len(guide) < FEWEST_SLICES:
        return None
    blocks = {name: _blocks(volume, spacing, cancel) for name, volume in volumes.items()}
    soft = _blocks(guide, spacing, cancel)
    soft_mask = (soft > SOFT_HU[0]) & (soft < SOFT_HU[1])
    usable = soft_mask[1:-1] & soft_mask[:-2] & soft_mask[2:]
    if usable.sum() < FEWEST_BLOCKS:
        return None
    result: dict[str, float | None] = {
        f"{name}_HU": _robust_sd(_jumps(values)[usable]) for name, values in blocks.items()
    }
    before, after = result["before_HU"], result["after_HU"]
    result["ratio"] = after / before if before and after is not None else None
    added = blocks["after"] - blocks["reference" if "reference" in blocks else "before"]
    result["added_HU"] = _slice_flicker(added, usable)
    return result


def _blocks(volume: Array, spacing: tuple[float, float, float], cancel: Cancellable | None) -> Array:
    """Means over blocks of about `BLOCK_MM` in the slice, [z, block y, block x]; remainders are cut off."""
    size = [max(1, min(round(BLOCK_MM / spacing[axis]), volume.shape[2 - axis])) for axis in (1, 0)]
    rows, columns = volume.shape[1] // size[0], volume.shape[2] // size[1]
    cut = volume[:, : rows * size[0], : columns * size[1]]
    means = []
    for plane in cut:
        check(cancel)
        means.append(plane.reshape(rows, size[0], columns, size[1]).mean((1, 3), dtype=np.float64))
    return np.stack(means)


def _jumps(values: Array) -> Array:
    """Difference of each slice from the mean of its two neighbours, as a slice-to-slice SD."""
    return (values[1:-1] - (values[:-2] + values[2:]) / 2) / np.sqrt(1.5)


def _robust_sd(values: Array) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _slice_flicker(values: Array, usable: Array) -> float | None:
    """RMS over slices of the jump of the mean over the blocks that are usable."""
    jumps = _jumps(values)
    enough = usable.sum((1, 2)) > 0
    means = [float(jump[mask].mean()) for jump, mask in zip(jumps[enough], usable[enough], strict=True)]
    return float(np.sqrt(np.mean(np.square(means)))) if means else None
