"""Space-filling vessel and airway trees, and drawing their branches into a volume with partial volume.

A tree serves a cloud of points (the tissue it supplies): each branch grows towards the centroid of its
points, then a plane along the branch splits them between two daughters. Radii follow Murray's law. Nothing
here is random: two trees over the same points run side by side, as an artery beside its bronchus.
"""

from __future__ import annotations

import numpy as np

REACH = 0.42  # fraction of the way to its centroid that a branch goes before it divides
ARC_STEPS = {steps: np.linspace(0, 1, steps + 1)[:, None] for steps in (1, 2, 4)}


def grow(
    root: np.ndarray,
    direction: np.ndarray,
    points: np.ndarray,
    terminal_radius_mm: float,
    murray_exponent: float = 2.4,
    stop_below: int = 1,
) -> np.ndarray:
    """Grow a tree from `root` (x, y, z mm), leaving it along `direction`, to serve `points` [point, 3].

    A branch that serves n points has the radius `terminal_radius_mm · n^(1/murray_exponent)`; branches that
    would serve fewer than `stop_below` points are left out.
    Returns straight pieces [piece, 8]: start x, y, z, end x, y, z, start and end radius (all mm).
    """
    pieces: list[np.ndarray] = []
    waiting = [(np.asarray(root, float), np.asarray(direction, float), np.asarray(points, float))]
    while waiting:
        start, heading, served = waiting.pop()
        count = len(served)
        if count < max(stop_below, 1):
            continue
        centroid = served.mean(0)
        towards = centroid - start
        end = centroid if count == 1 else start + REACH * towards
        radius = terminal_radius_mm * count ** (1 / murray_exponent)
        tip_radius = radius * (0.6 if count == 1 else 0.92)
        arc = _bend(start, heading, end)
        radii = radius + (tip_radius - radius) * ARC_STEPS[len(arc) - 1]
        pieces.append(np.hstack([arc[:-1], arc[1:], radii[:-1], radii[1:]]))
        if count == 1:
            continue
        leaving = arc[-1] - arc[-2]
        leaving = leaving / max(float(np.sqrt(leaving @ leaving)), 1e-9)
        spread = served - centroid
        across = spread - (spread @ leaving)[:, None] * leaving
        axis = np.linalg.eigh(across.T @ across)[1][:, -1]
        order = np.argsort(spread @ axis, kind="stable")
        half = count // 2 if count < 4 else round(count * (0.38 if count % 2 else 0.5))
        for share in (order[:half], order[half:]):
            waiting.append((end, leaving, served[share]))
    return np.concatenate(pieces) if pieces else np.empty((0, 8))


def _bend(start: np.ndarray, heading: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Points on a smooth arc that leaves `start` along `heading` and arrives at `end`."""
    length = float(np.sqrt(((end - start) ** 2).sum()))
    t = ARC_STEPS[1 if length < 3 else 2 if length < 8 else 4]
    control = start + heading * (0.45 * length)
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def draw(
    weight: np.ndarray, pieces: np.ndarray, corner: np.ndarray, voxel: np.ndarray, wall_mm: float = 0.0
) -> None:
    """Raise `weight` [z, y, x] (0…1, changed in place) to the fraction of each voxel that the pieces fill.

    `corner` is the centre of voxel (0, 0, 0) and `voxel` its size, both x, y, z in mm; `wall_mm` thickens the
    pieces. The edge is as wide as the voxel seen along the surface normal, and tubes keep their volume, so
    that vessels finer than a voxel fade and do not break up.
    """
    shape = np.array(weight.shape[::-1])
    reach = pieces[:, 6:8].max(1, keepdims=True) + wall_mm + voxel
    below = np.minimum(pieces[:, :3], pieces[:, 3:6]) - reach > corner + (shape - 1) * voxel
    above = np.maximum(pieces[:, :3], pieces[:, 3:6]) + reach < corner
    for piece in pieces[~(below | above).any(1)]:
        start, end = piece[:3], piece[3:6]
        r0, r1 = piece[6] + wall_mm, piece[7] + wall_mm
        margin = max(r0, r1) + 0.5 * voxel
        low = np.maximum(np.floor((np.minimum(start, end) - margin - corner) / voxel).astype(int), 0)
        high = np.minimum(np.ceil((np.maximum(start, end) + margin - corner) / voxel).astype(int) + 1, shape)
        if (low >= high).any():
            continue
        x, y, z = (
            (corner[i] + voxel[i] * np.arange(low[i], high[i]) - start[i]).astype(np.float32)
            for i in range(3)
        )
        x, y, z = x[None, None, :], y[None, :, None], z[:, None, None]
        along = end - start
        t = np.clip((x * along[0] + y * along[1] + z * along[2]) / max(along @ along, 1e-9), 0, 1)
        flat2 = (x - t * along[0]) ** 2 + (y - t * along[1]) ** 2
        high2 = (z - t * along[2]) ** 2
        distance = np.sqrt(flat2 + high2) + 1e-6
        edge = np.sqrt(flat2 * voxel[0] ** 2 + high2 * voxel[2] ** 2 + 1e-12 * voxel[0] ** 2) / distance
        edge = np.maximum(edge, voxel[0])
        radius = r0 + t * (r1 - r0)
        # A ramp of width e on a disc of radius r adds e²/12 to r², and on one thinner than e/2 makes a cone.
        cone = radius < edge / 2
        kept = np.where(cone, radius, np.sqrt(np.maximum(radius**2 - edge**2 / 12, 0)))
        filled = np.clip(0.5 + (kept - distance) / edge, 0, 1)
        filled *= np.where(cone, np.minimum(1, 3 * edge * radius**2 / (radius + edge / 2) ** 3), 1)
        box = weight[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        np.maximum(box, filled, out=box)
