"""HU by tissue: does the image before and after mean the same?

Tissues are the flat regions of the smoothed copy (see `guide`) whose HU lie in a tissue's range; their edges,
where partial volume and sharpening change HU rightly, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from ctenhance.quality.guide import slope
from ctenhance.runtime.progress import Cancellable, check

Array = np.ndarray

# Range of the smoothed copy (HU), the steepest slope that still counts as flat (HU/mm), and how far around
# the voxel it must be so (mm): the crest of a vessel or a rib is level, too, but narrow. Lung and bone are
# never as flat as muscle, as vessels and trabeculae are in them.
TISSUES = {
    "air": ((-1100.0, -960.0), 12.0, 1.5),
    "lung": ((-950.0, -650.0), 30.0, 1.5),
    "fat": ((-135.0, -65.0), 12.0, 1.5),
    "soft": ((0.0, 130.0), 12.0, 1.5),
    "bone": ((200.0, 2500.0), 60.0, 3.0),
}
FEWEST_VOXELS = 200
# In very noisy images the smoothed copy is steep everywhere: then what is flat for such an image counts, up
# to a slope at which it is no noise any more.
STEEPER_THAN_QUARTILE, STEEPER_THAN_LIMIT = 1.25, 2.5


def tissue_masks(guide_plane: Array, spacing: tuple[float, float, float]) -> dict[str, Array]:
    """Return a mask [y, x] for each of `TISSUES` from a slice of the smoothed copy."""
    steepness = slope(guide_plane, spacing)
    masks = {}
    for tissue, ((low, high), limit, around_mm) in TISSUES.items():
        inside = (guide_plane >= low) & (guide_plane <= high)
        if inside.any():
            around = [2 * round(around_mm / spacing[axis]) + 1 for axis in (1, 0)]
            steepest = ndimage.maximum_filter(steepness, around)
            typical = STEEPER_THAN_QUARTILE * float(np.percentile(steepest[inside], 25))
            inside &= steepest <= np.clip(typical, limit, STEEPER_THAN_LIMIT * limit)
        masks[tissue] = inside
    return masks


def tissue_bias(
    volumes: Mapping[str, Array],
    guide: Array,
    spacing: tuple[float, float, float],
    cancel: Cancellable | None = None,
) -> dict[str, dict[str, float | int | None] | None]:
    """Mean HU by tissue of `volumes` ('before', 'after', perhaps 'reference', each [z, y, x]) and its change.

    Returns for each tissue None when fewer than 200 voxels of it were found, else `voxels`, `volume_ml`,
    `before_HU`, `after_HU` (means), `change_HU` (after - before), `change_sd_HU` (SD of that difference over
    voxels), and with a reference also `reference_HU`, `before_bias_HU`, `after_bias_HU`.
    Raises Cancelled.
    """
    counts = dict.fromkeys(TISSUES, 0)
    sums = {tissue: dict.fromkeys((*volumes, "square"), 0.0) for tissue in TISSUES}
    for k, plane in enumerate(guide):
        check(cancel)
        change = volumes["after"][k] - volumes["before"][k]
        for tissue, mask in tissue_masks(plane, spacing).items():
            counts[tissue] += int(mask.sum())
            for name, volume in volumes.items():
                sums[tissue][name] += float(volume[k][mask].sum(dtype=np.float64))
            sums[tissue]["square"] += float(np.square(change[mask], dtype=np.float64).sum())
    voxel_ml = float(np.prod(spacing)) / 1000
    return {
        tissue: _summary(sums[tissue], counts[tissue], voxel_ml) if counts[tissue] >= FEWEST_VOXELS else None
        for tissue in TISSUES
    }


def _summary(sums: Mapping[str, float], count: int, voxel_ml: float) -> dict[str, Any]:
    means = {name: total / count for name, total in sums.items()}
    change = means["after"] - means["before"]
    result: dict[str, Any] = {
        "voxels": count,
        "volume_ml": count * voxel_ml,
        "before_HU": means["before"],
        "after_HU": means["after"],
        "change_HU": change,
        "change_sd_HU": float(np.sqrt(max(means["square"] - change * change, 0.0))),
    }
    if "reference" in means:
        result["reference_HU"] = means["reference"]
        for name in ("before", "after"):
            result[f"{name}_bias_HU"] = means[name] - means["reference"]
    return result
