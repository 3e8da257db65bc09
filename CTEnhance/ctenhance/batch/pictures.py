"""What the page of a batch shows of a case: a small picture before and after, and a few measures.

Both are of some slices only: they cost little beside the case itself, and are no substitute for `compare`.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import chosen_window
from ctenhance.quality.display import Upright, best_slice
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import to_window
from ctenhance.quality.noise import noise
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime.progress import Cancellable

#: Slices that are measured, and the shortest side of a slice that can be.
SLICES, LEAST_SIDE = 3, 64
#: Pixels of the picture's longer side, for each of the two images.
SIDE = 128
TISSUES = ("soft", "lung")


def figures(before: CTVolume, after: CTVolume, cancel: Cancellable | None = None) -> dict[str, Any]:
    """Noise (HU) before and after and the change of the mean (HU) in soft tissue and lung, of some slices.

    Empty for slices of less than 64 pixels; a tissue of which there is not enough is left out.
    """
    first, second = before.axial(), after.axial()
    if min(first.array.shape[1:]) < LEAST_SIDE:
        return {}
    depth = len(first.array)
    chosen = np.unique(np.linspace(depth // 4, max(depth - depth // 4 - 1, depth // 4), SLICES).astype(int))
    volumes = {"before": first.array[chosen], "after": second.array[chosen]}
    # The slices are far apart: across them nothing is smoothed.
    spacing = (first.spacing[0], first.spacing[1], 1000.0)
    guide = smoothed_guide(volumes, spacing, cancel=cancel)
    noises, means = noise(volumes, guide, spacing, cancel), tissue_bias(volumes, guide, spacing, cancel)
    found: dict[str, Any] = {}
    for tissue in TISSUES:
        measured = noises[tissue]
        if measured:
            found[f"noise_{tissue}_before_HU"] = round(float(measured["before_HU"]), 2)
            found[f"noise_{tissue}_after_HU"] = round(float(measured["after_HU"]), 2)
        change = (means[tissue] or {}).get("change_HU")
        if change is not None:
            found[f"mean_{tissue}_change_HU"] = round(float(change), 2)
    return found


def thumbnail(before: CTVolume, after: CTVolume) -> bytes:
    """A grey PNG: one axial slice before and after, side by side, in a window that suits it."""
    first, second = before.axial(), after.axial()
    depth = len(first.array)
    _, window = chosen_window(None, first.array[depth // 2])
    z = best_slice(first.array, window) if min(first.array.shape[1:]) >= LEAST_SIDE else depth // 2
    upright = Upright.of(first)
    images = []
    for volume in (first, second):
        plane = upright.turn(volume.array[z : z + 1])[0]
        step = max(1, -(-max(plane.shape) // SIDE))
        rows, columns = (length // step * step for length in plane.shape)
        mean = plane[:rows, :columns].reshape(rows // step, step, columns // step, step).mean((1, 3))
        images.append(np.round(255 * to_window(mean, *window)).astype(np.uint8))
    return _png(np.concatenate(images, axis=1))


def _png(image: np.ndarray) -> bytes:
    """An 8-bit grey image [y, x] as PNG (RFC 2083), without any text in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = image.shape
    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(image))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 6))
        + chunk(b"IEND", b"")
    )
