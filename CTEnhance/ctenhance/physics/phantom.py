"""A chest of the project's own making, for the demo, the benchmarks and the tests: no patient, no noise."""

from __future__ import annotations

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.physics.phantom_anatomy import AIR, BLOOD, FAT, SOLID_NODULE, SOLID_RADIUS, Chest, paint_plane
from ctenhance.physics.phantom_shapes import Grid, Texture
from ctenhance.physics.vessel_tree import draw, grow
from ctenhance.runtime.errors import InputError

Line = list[tuple[float, float, float, float]]

SUBSLICE_MM = 0.7  # slices are averages of planes about this far apart
POINT_VOLUME_MM3 = 330.0  # of lung to one terminal vessel
REACH_MM = 40.0  # the trees go on this far above and below the volume
AIRWAY_WALL_HU = 15.0
BESIDE = np.array([0.25, 0.93, 0.28])  # direction from an artery to its bronchus

# Centre lines (x, y, z, radius in mm) of what is too large for the trees.
GREAT_VESSELS: dict[str, Line] = {
    "ascending aorta": [(-2, -26, -12, 15), (-14, -32, 6, 16), (-17, -32, 30, 15.5), (-12, -24, 48, 14.5)],
    "arch": [(-12, -24, 48, 14.5), (2, -6, 58, 14), (18, 20, 52, 13), (24, 36, 38, 12.5)],
    "descending aorta": [(24, 36, 38, 12.5), (25, 37, 0, 12), (18, 34, -60, 11.5), (12, 30, -140, 11)],
    "superior vena cava": [(-33, -22, 90, 8.5), (-32, -20, 30, 9), (-29, -20, 2, 10)],
    "inferior vena cava": [(-27, -8, -22, 13), (-26, -2, -140, 12)],
    "azygos vein": [(-9, 27, -140, 3.4), (-10, 27, 24, 3.8), (-16, 18, 34, 4), (-30, -12, 34, 4.2)],
    "pulmonary trunk": [(12, -50, -8, 14), (17, -40, 8, 14.5), (19, -27, 16, 13)],
    "left pulmonary artery": [(19, -27, 16, 13), (33, -6, 18, 11), (43, 9, 14, 8.5)],
    "right pulmonary artery": [(19, -27, 14, 12), (0, -14, 10, 11.5), (-24, -8, 7, 10), (-41, 0, 4, 8)],
    "left veins": [(20, 5, -3, 7.5), (36, -2, -2, 6)],
    "right veins": [(-18, 6, -4, 7.5), (-35, -4, -5, 6)],
}
# These are parted from their neighbours by a thin layer of fat, but where they leave the heart.
WRAPPED = ("ascending aorta", "arch", "pulmonary trunk", "right pulmonary artery")
AIRWAYS: dict[str, Line] = {
    "trachea": [(-3, -2, 90, 8.8), (-2, 2, 32, 9), (-1, 6, 23, 8.8)],
    "right main bronchus": [(-3, 6, 23, 7.2), (-26, 10, 8, 6.6), (-38, 11, 0, 5.6)],
    "left main bronchus": [(2, 6, 23, 6.8), (24, 13, 9, 6.0), (42, 17, 2, 5.2)],
}
# Where the trees begin in each lung (right, left).
ARTERY_ROOTS = ((-41, 0, 4), (43, 9, 14))
VEIN_ROOTS = ((-35, -4, -5), (36, -2, -2))
AIRWAY_ROOTS = ((-38, 11, 0), (42, 17, 2))


def chest_phantom(
    rows: int = 512,
    columns: int = 512,
    slices: int = 48,
    pixel_mm: float = 0.7,
    spacing_mm: float = 1.25,
    seed: int = 0,
) -> CTVolume:
    """A chest from the carina to the liver's dome as a CTVolume (float32 HU, [slices, rows, columns], LPS).

    It holds skin, fat, muscles, oblique ribs and a spine with cortex and marrow, heart and great vessels,
    airways, trees of pulmonary arteries and veins down to below a millimetre, fissures, a solid and a
    ground-glass nodule, and the liver's dome. Lengths are true to life on any grid: 358 mm hold the whole
    chest, and a smaller field of view cuts it. The same `seed` gives the same voxels, another seed another
    patient. Raises InputError for sizes that are not positive.
    """
    if min(rows, columns, slices) < 1 or not min(pixel_mm, spacing_mm) > 0:
        raise InputError(
            f"Cannot draw a chest phantom of {slices}×{rows}×{columns} voxels of {pixel_mm} mm × "
            f"{spacing_mm} mm: give counts of 1 or more and sizes above 0."
        )
    chest = Chest.draw(seed)
    z = (np.arange(slices) - (slices - 1) / 2) * spacing_mm
    grid = Grid.centred(rows, columns, pixel_mm)
    texture = Texture(np.random.default_rng([seed, 2]), grid)
    planes = max(1, round(spacing_mm / SUBSLICE_MM))
    offsets = ((np.arange(planes) + 0.5) / planes - 0.5) * spacing_mm
    volume = np.zeros((slices, rows, columns), np.float32)
    space = np.zeros_like(volume)
    for k in range(slices):
        for offset in offsets:
            hu, room = paint_plane(chest, grid, texture, float(z[k] + offset))
            volume[k] += hu / planes
            space[k] += room / planes
    corner = np.array([grid.x[0, 0], grid.y[0, 0], z[0]], float)
    _paint_trees(volume, space, chest, corner, np.array([pixel_mm, pixel_mm, spacing_mm]), seed)
    np.maximum(volume, AIR, out=volume)
    return CTVolume(
        array=volume,
        spacing=(float(pixel_mm), float(pixel_mm), float(spacing_mm)),
        origin=(float(corner[0]), float(corner[1]), float(corner[2])),
        direction=np.eye(3),
        meta={"notes": [f"Chest phantom drawn by CTEnhance, seed {seed}."]},
    )


def _paint_trees(
    volume: np.ndarray, space: np.ndarray, chest: Chest, corner: np.ndarray, voxel: np.ndarray, seed: int
) -> None:
    """Blood vessels and airways, drawn into the finished slices (changed in place)."""
    generator = np.random.default_rng([seed, 3])
    low, high = corner[2] - REACH_MM, corner[2] + volume.shape[0] * voxel[2] + REACH_MM
    vessels, airways = [], []
    for side in (0, 1):
        points = _points_in_lung(chest, side, low, high, generator)
        upper = chest.oblique_fissure(*points.T) < 0
        for lobe in (points[upper], points[~upper]):
            if len(lobe) < 2:
                continue
            fed, drained = lobe[::2], lobe[1::2]
            for roots, served in ((ARTERY_ROOTS, fed), (VEIN_ROOTS, drained)):
                root = np.array(roots[side], float)
                vessels.append(grow(root, _towards(root, served), served, 0.30, murray_exponent=2.7))
            root = np.array(AIRWAY_ROOTS[side], float)
            airway = grow(root, _towards(root, fed), fed, 0.26, murray_exponent=2.7, stop_below=12)
            # A bronchus runs beside its artery, not inside it.
            airway[:, :3] += 2.1 * airway[:, 6:7] * BESIDE
            airway[:, 3:6] += 2.1 * airway[:, 7:8] * BESIDE
            airways.append(airway)
    great = {name: _pieces(line) for name, line in GREAT_VESSELS.items()}
    main_airways = np.concatenate([_pieces(line) for line in AIRWAYS.values()])

    weight = np.zeros_like(volume)
    draw(weight, np.concatenate([*vessels, _spicules(generator)]), corner, voxel)
    weight *= space
    draw(weight, np.concatenate(list(great.values())), corner, voxel)
    wrapped = np.zeros_like(volume)
    draw(wrapped, np.concatenate([great[name][1:] for name in WRAPPED]), corner, voxel, wall_mm=1.5)
    _blend(volume, wrapped, FAT)
    _blend(volume, weight, BLOOD)
    for hu, is_wall in ((AIRWAY_WALL_HU, True), (AIR, False)):
        weight.fill(0)
        draw(weight, np.concatenate(airways), corner, voxel, wall_mm=0.45 if is_wall else 0.0)
        weight *= space
        draw(weight, main_airways, corner, voxel, wall_mm=1.3 if is_wall else 0.0)
        _blend(volume, weight, hu)


def _towards(root: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Unit vector from the root to the middle of the points."""
    way = points.mean(0) - root
    return way / np.linalg.norm(way)


def _points_in_lung(
    chest: Chest, side: int, low: float, high: float, generator: np.random.Generator
) -> np.ndarray:
    """Points [point, (x, y, z)] spread evenly over the right (0) or left (1) lung, 5 mm or more inside it."""
    step = 4.0
    found = []
    for z in np.arange(low, high, step):
        count = generator.poisson(2 * 150 * 220 * step / POINT_VOLUME_MM3)
        x = generator.uniform(0, 150, count) * (1 if side else -1)
        y = generator.uniform(-120, 100, count)
        inside = chest.outside_lung(x, y, float(z)) < -5
        jitter = generator.uniform(-step / 2, step / 2, count)
        found.append(np.column_stack([x, y, z + jitter])[inside])
    return np.concatenate(found)


def _spicules(generator: np.random.Generator) -> np.ndarray:
    """Fine strands that radiate from the solid nodule, as pieces."""
    directions = generator.standard_normal((9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    start = np.array(SOLID_NODULE) + SOLID_RADIUS * 0.7 * directions
    end = start + directions * generator.uniform(3, 7, (9, 1))
    return np.column_stack([start, end, np.full(9, 0.55), np.full(9, 0.2)])


def _pieces(line: Line) -> np.ndarray:
    """Turn a centre line of (x, y, z, radius) into straight pieces [piece, 8]."""
    points = np.array(line, float)
    return np.column_stack([points[:-1, :3], points[1:, :3], points[:-1, 3], points[1:, 3]])


def _blend(volume: np.ndarray, weight: np.ndarray, hu: float) -> None:
    volume += weight * (np.float32(hu) - volume)
