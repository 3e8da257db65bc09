"""The anatomy of the chest phantom: where its surfaces are, and painting a plane of it from the skin inwards.

Positions are mm: x to the patient's left, y to posterior, z to the head; z = 0 is the level of the pulmonary
veins. HU are those of a 120 kVp chest CT in the delayed phase after contrast medium.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from ctenhance.physics.phantom_shapes import (
    ANGLES,
    TABLE_ANGLES,
    Array,
    Grid,
    Plane,
    Polar,
    Texture,
    bar,
    bump,
    ellipsoid,
    superellipse,
)

AIR, LUNG, FAT, SKIN, MUSCLE = -1000.0, -862.0, -102.0, 25.0, 56.0
CARTILAGE, CORTEX, ENDPLATE, MARROW, RIB_MARROW = 92.0, 900.0, 430.0, 190.0, 260.0
DISC, FLUID, CORD, NODE, GULLET = 88.0, 12.0, 38.0, 46.0, 40.0
BLOOD, MYOCARDIUM, LIVER, SPLEEN, CALCIUM = 112.0, 84.0, 94.0, 104.0, 720.0
NODULE, GROUND_GLASS, GRANULOMA, FISSURE = 38.0, -610.0, 420.0, -740.0
TABLE_SHELL, TABLE_FOAM = -230.0, -940.0

BODY_AXIS, THORAX_AXIS = (0.0, 0.0), (0.0, -15.0)
RIB_PITCH, RIB_HALF_THICKNESS, RIB_HALF_HEIGHT = 25.0, 3.7, 6.6
VERTEBRA_PITCH, VERTEBRA_HALF_HEIGHT = 27.0, 11.4
SPINE, CANAL = (0.0, 38.0), (0.0, 61.0)
LEFT, RIGHT = 1, -1

# Half-width of the mediastinum (mm, from the midline) by y.
MEDIASTINUM_Y = (-125, -108, -100, -90, -72, -54, -34, -6, 18, 44, 60, 70, 78, 90)
MEDIASTINUM_HALF_WIDTH = {
    RIGHT: PchipInterpolator(MEDIASTINUM_Y, (70, 40, 18, 8, 6, 20, 33, 33, 23, 20, 20, 25, 42, 90)),
    LEFT: PchipInterpolator(MEDIASTINUM_Y, (70, 40, 17, 8, 8, 24, 35, 36, 27, 22, 20, 25, 42, 90)),
}


@dataclass(frozen=True)
class Chest:
    """What differs from one phantom patient to the next."""

    size: float  # of body and thorax, 1 = 332 mm wide
    fat_mm: float  # thickness of the subcutaneous fat, at its thinnest
    rib_offset_mm: float
    vertebra_offset_mm: float
    tilt: tuple[float, ...]  # phases that make left and right differ

    @classmethod
    def draw(cls, seed: int) -> Chest:
        """Draw a patient; seed 0 and any other are alike in kind."""
        g = np.random.default_rng([seed, 1])
        return cls(
            size=float(g.uniform(0.97, 1.02)),
            fat_mm=float(g.uniform(6, 10)),
            rib_offset_mm=float(g.uniform(0, RIB_PITCH)),
            vertebra_offset_mm=float(g.uniform(0, VERTEBRA_PITCH)),
            tilt=tuple(float(v) for v in g.uniform(0, 2 * np.pi, 6)),
        )

    def skin_outline(self, z: float) -> Array:
        """Radius by table angle about BODY_AXIS."""
        a, b = (166 + 0.06 * z) * self.size, 121 * self.size
        wave = 1.6 * np.sin(2 * TABLE_ANGLES + self.tilt[0]) + 1.1 * np.sin(5 * TABLE_ANGLES + self.tilt[1])
        groove = 5.5 * bump(np.pi / 2, 0.09) + 2.5 * bump(-np.pi / 2, 0.16)
        return superellipse(a, b, 2.45) + wave - groove

    def fat_thickness(self) -> Array:
        """Of the subcutaneous fat (mm) by table angle about BODY_AXIS."""
        sides = 6 * bump(0.35, 0.35) + 6 * bump(np.pi - 0.35, 0.35)
        back = 5 * bump(np.pi / 2 - 0.5, 0.3) + 5 * bump(np.pi / 2 + 0.5, 0.3)
        breast = 7 * bump(-np.pi / 2 - 0.62, 0.24) + 7 * bump(-np.pi / 2 + 0.62, 0.24)
        return self.fat_mm + sides + back + breast + 0.8 * np.sin(7 * TABLE_ANGLES + self.tilt[2])

    def rib_outline(self, z: float) -> Array:
        """Radius by table angle about THORAX_AXIS of the ribs' middle; the thorax narrows to the neck."""
        narrowing = np.sqrt(np.clip(1 - (max(z - 45, 0) / 95) ** 2, 0.02, 1))
        a, b = 137 * self.size * narrowing, 93.5 * self.size * narrowing
        return superellipse(a, b, 2.25) + 1.2 * np.sin(3 * TABLE_ANGLES + self.tilt[3])

    def pleura_outline(self, z: float) -> Array:
        """Radius by table angle about THORAX_AXIS of the lungs' outer surface."""
        return self.rib_outline(z) - (RIB_HALF_THICKNESS + 1.6)

    def outside_lung(self, x: Array, y: Array, z: float) -> Array:
        """Signed distance to the lungs' surface: pleura, mediastinum, heart, diaphragm."""
        pleura = Polar.about(x, y, THORAX_AXIS).distance(self.pleura_outline(z))
        inner = np.maximum(-self.mediastinum(x, y), -ellipsoid(x, y, z, *HEART_SAC))
        return np.maximum(np.maximum(pleura, inner), -ellipsoid(x, y, z, *DIAPHRAGM[0]))

    @staticmethod
    def oblique_fissure(x: Array, y: Array, z: Array | float) -> Array:
        """Signed distance to the oblique fissures, negative in the upper lobes."""
        return 0.62 * (y - 14 - 0.10 * np.abs(x) - 3 * np.sin(x / 24)) - 0.78 * z

    @staticmethod
    def mediastinum(x: Array, y: Array) -> Array:
        """Signed distance to the mediastinum's two side walls."""
        level = np.clip(y, MEDIASTINUM_Y[0], MEDIASTINUM_Y[-1])
        left = MEDIASTINUM_HALF_WIDTH[LEFT](level)
        right = MEDIASTINUM_HALF_WIDTH[RIGHT](level)
        return (0.9 * np.maximum(x - left, -x - right)).astype(np.float32)


# Ellipsoids: centre, semi-axes (mm), turn in the axial plane (deg).
HEART_SAC = ((22.0, -34.0, -24.0), (63.0, 45.0, 46.0), 34.0)
DIAPHRAGM = (
    ((-62.0, -6.0, -88.0), (82.0, 86.0, 67.0), 0.0),  # right: liver
    ((74.0, 6.0, -102.0), (64.0, 76.0, 66.0), 0.0),  # left: spleen and stomach
)
HEART = (  # painted in this order
    ((22.0, -34.0, -24.0), (58.0, 40.0, 42.0), 34.0, MYOCARDIUM),
    ((-24.0, -26.0, -14.0), (23.0, 27.0, 30.0), 10.0, BLOOD),  # right atrium
    ((16.0, -52.0, -24.0), (36.0, 17.0, 31.0), 30.0, BLOOD),  # right ventricle
    ((46.0, -20.0, -22.0), (40.0, 27.0, 33.0), 38.0, MYOCARDIUM),  # left ventricle
    ((43.0, -18.0, -21.0), (30.0, 16.0, 22.0), 38.0, BLOOD),
    ((50.0, -8.0, -22.0), (5.0, 3.0, 9.0), 38.0, MYOCARDIUM),  # papillary muscle
    ((2.0, 3.0, -3.0), (31.0, 15.0, 17.0), -6.0, BLOOD),  # left atrium
)
SMALL_PARTS = (  # centre, semi-axes, turn, HU
    ((31.0, -47.0, -7.0), (1.3, 4.0, 1.4), 30.0, CALCIUM),  # left coronary artery
    ((-19.0, -7.0, 21.0), (4.5, 3.0, 5.0), 20.0, NODE),
    ((10.0, -9.0, 25.0), (5.0, 3.4, 5.0), -15.0, NODE),
    ((-4.0, 15.0, 13.0), (6.0, 3.6, 6.0), 5.0, NODE),
    ((14.0, -53.0, 24.0), (4.0, 2.4, 4.0), 40.0, NODE),
    ((-20.0, -91.0, 0.0), (1.5, 1.5, 400.0), 0.0, BLOOD),  # internal mammary vessels
    ((21.0, -91.5, 0.0), (1.5, 1.5, 400.0), 0.0, BLOOD),
    ((5.0, 19.0, 0.0), (8.5, 5.0, 600.0), -12.0, GULLET),
    ((4.0, 19.0, 12.0), (2.6, 0.9, 9.0), -12.0, -700.0),
)
LIVER_PARTS = (
    ((-66.0, 4.0, -41.0), (5.0, 6.0, 12.0), 30.0, BLOOD + 14),  # hepatic veins
    ((-50.0, -28.0, -42.0), (3.5, 12.0, 14.0), -35.0, BLOOD + 14),
    ((-78.0, -22.0, -33.0), (4.2, 4.2, 4.2), 0.0, 12.0),  # cyst
)
SOLID_NODULE, SOLID_RADIUS = (-86.0, 20.0, 11.0), 4.6
GLASS_NODULE, GLASS_RADIUS = (79.0, -34.0, 8.0), 8.5
GRANULOMA_AT, GRANULOMA_RADIUS = (94.0, 28.0, -13.0), 1.9


def paint_plane(chest: Chest, grid: Grid, texture: Texture, z: float) -> tuple[Array, Array]:
    """Paint the plane at z: HU [row, column], and the part of each pixel in which vessels may run."""
    plane = Plane(grid, z)
    x, y = grid.x, grid.y
    fine, coarse = texture.plane("fine", z), texture.plane("coarse", z)
    thorax = grid.polar(THORAX_AXIS)
    rib_side, pleura = thorax.distance(chest.rib_outline(z)), thorax.distance(chest.pleura_outline(z))
    _paint_table(plane)
    muscle = _paint_wall(plane, chest, fine, coarse)
    _paint_wall_planes(plane, thorax, rib_side, muscle, coarse)
    _paint_ribs(plane, chest, thorax, rib_side, fine)
    # The whole inside as fat before the lungs: no seam of lung then shows between wall and mediastinum.
    plane.over(pleura, FAT + 8 + 5 * fine + 7 * coarse, space=1.0)
    lung = np.maximum(pleura, -chest.mediastinum(x, y))
    plane.over(lung, LUNG + 0.34 * (y + 10) + 13 * fine + 9 * coarse, space=1.0)
    _paint_lung_lesions(plane, lung, coarse, fine)
    pleura -= 1  # what lies on the pleura covers its partial volume
    for (centre, axes, turn), organ in zip(DIAPHRAGM, (LIVER, SPLEEN), strict=True):
        plane.over(np.maximum(ellipsoid(x, y, z, centre, axes, turn), pleura), MUSCLE)
        inner = (axes[0] - 2.5, axes[1] - 2.5, axes[2] - 2.5)
        plane.over(
            np.maximum(ellipsoid(x, y, z, centre, inner, turn), pleura + 3), organ + 2.5 * fine + 2 * coarse
        )
    for centre, axes, turn, hu in LIVER_PARTS:
        plane.ellipsoid(centre, axes, hu, turn)
    plane.over(np.maximum(ellipsoid(x, y, z, *HEART_SAC), pleura), FAT + 4 + 4 * coarse)
    for centre, axes, turn, hu in (*HEART, *SMALL_PARTS):
        plane.ellipsoid(centre, axes, hu, turn)
    _paint_spine(plane, chest, fine, coarse)
    _paint_sternum(plane, fine)
    return plane.hu, plane.space


def _paint_table(plane: Plane) -> None:
    """The patient table: a shell of carbon fibre around foam."""
    sag = plane.grid.y - 130 + (plane.grid.x / 40) ** 2
    plane.over(np.maximum(-sag, sag - 34), TABLE_SHELL)
    plane.over(np.maximum(1.8 - sag, sag - 32), TABLE_FOAM)


def _paint_wall(plane: Plane, chest: Chest, fine: Array, coarse: Array) -> Array:
    """Skin, subcutaneous fat with its septa, the muscles as one mass; returns the distance to the muscles."""
    body = plane.grid.polar(BODY_AXIS)
    outline = chest.skin_outline(plane.z)
    plane.over(body.distance(outline), SKIN)
    septa = 34 * np.clip(1 - np.abs(coarse + 0.35 * fine) / 0.10, 0, 1)
    plane.over(body.distance(outline - 1.7), FAT + 2.5 * fine + 3 * coarse + septa)
    muscle = body.distance(outline - 1.7 - chest.fat_thickness())
    plane.over(muscle, MUSCLE + 3 * fine + 4 * coarse)
    return muscle


def _paint_wall_planes(plane: Plane, thorax: Polar, rib_side: Array, muscle: Array, coarse: Array) -> None:
    """Fat between the muscles of the chest wall, the shoulder blades, and the muscles along the spine."""
    from_back = np.abs((thorax.angle - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
    wavy = rib_side - 9.5 - 1.5 * np.sin(3 * from_back) - 1.2 * coarse
    plane.over(np.maximum(np.abs(wavy) - 0.55, muscle), FAT, part=np.clip(0.55 + 0.5 * coarse, 0, 0.9))
    outer = rib_side - 18 - 2.5 * np.cos(2 * from_back) - 1.5 * coarse
    plane.over(
        np.maximum(np.abs(outer) - 0.5, muscle),
        FAT,
        part=np.clip(0.5 - 0.5 * coarse, 0, 0.85) * (from_back < 2.2),
    )
    if plane.z > -30:
        middle, half = 0.98, 0.10 + 0.0035 * (plane.z + 30)
        bent = rib_side - 13.5 - 14 * (from_back - middle) ** 2
        blade = np.maximum(
            np.abs(bent) - 1.6 - 2.4 * np.clip(from_back - middle, 0, 1),
            np.abs(from_back - middle) * 110 - half * 110,
        )
        plane.over(blade, CORTEX - 180)
        plane.over(blade + 1.3, RIB_MARROW)
    for side in (LEFT, RIGHT):
        spinal = ellipsoid(plane.grid.x, plane.grid.y, 0, (side * 26, 90, 0), (21, 14.5, 1e3), side * 8)
        plane.over(np.abs(spinal) - 0.6, FAT, part=np.clip(0.7 + 0.4 * coarse, 0, 0.9))
        plane.over(spinal + 1, FAT, part=0.5 * np.clip(1 - np.abs(coarse - 0.4) / 0.12, 0, 1))


def _paint_ribs(plane: Plane, chest: Chest, thorax: Polar, rib_side: Array, fine: Array) -> None:
    """All ribs at once: tubes that descend from the spine to the front, a fixed distance apart."""
    from_back = np.abs((thorax.angle - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
    stations = np.array([0.0, 0.12, 0.70, 1.0]) * np.pi
    descent = np.interp(from_back, stations, [0, 6, 118, 92]).astype(np.float32)
    offset = chest.rib_offset_mm + 3 * (thorax.index > ANGLES // 2)  # left and right are not quite level
    height = (plane.z + descent - offset + RIB_PITCH / 2) % RIB_PITCH - RIB_PITCH / 2
    height = height * 0.86  # the tube is tilted
    front = np.clip((from_back - 0.69 * np.pi) / 0.04, 0, 1)
    thick = RIB_HALF_THICKNESS + 1.2 * front
    u, v = rib_side / thick, height / RIB_HALF_HEIGHT
    scaled = np.hypot(u, v)
    tube = scaled * (scaled - 1) / np.maximum(np.hypot(u / thick, v / RIB_HALF_HEIGHT), 1e-6)
    plane.over(tube, CORTEX + front * (CARTILAGE - CORTEX))
    plane.over(tube + 1.1, RIB_MARROW + 45 * fine + front * (CARTILAGE - RIB_MARROW - 45 * fine))


def _paint_lung_lesions(plane: Plane, lung: Array, coarse: Array, fine: Array) -> None:
    """Fissures, a solid nodule with a lobulated edge, a ground-glass nodule, a calcified granuloma."""
    x, y, z = plane.grid.x, plane.grid.y, plane.z
    oblique = Chest.oblique_fissure(x, y, z)
    plane.over(np.maximum(np.abs(oblique) - 0.35, lung), FISSURE, 1.0, part=0.85)
    horizontal = z + 4 + 0.12 * (y + 20) + 2 * np.sin(x / 18)
    right_front = (x < 0) & (oblique < 0)
    plane.over(np.maximum(np.abs(horizontal) - 0.35, lung), FISSURE, 1.0, part=0.85 * right_front)
    for centre, radius, hu, ragged in (
        (SOLID_NODULE, SOLID_RADIUS, NODULE, 0.8),
        (GLASS_NODULE, GLASS_RADIUS, GROUND_GLASS, 1.5),
        (GRANULOMA_AT, GRANULOMA_RADIUS, GRANULOMA, 0.0),
    ):
        lump = ellipsoid(x, y, z, centre, (radius, radius * 0.92, radius * 0.9)) + ragged * coarse
        softness = 0.35 if hu == GROUND_GLASS else 1.0
        plane.over(lump * softness, hu + (28 * fine if hu == GROUND_GLASS else 3 * fine))


def _paint_spine(plane: Plane, chest: Chest, fine: Array, coarse: Array) -> None:
    """Vertebrae with cortex, end plates and marrow, discs between them, canal and cord, the arches."""
    plane, box = plane.window(0, 70, 50)
    x, y, fine, coarse = plane.grid.x, plane.grid.y, fine[box], coarse[box]
    level = (plane.z - chest.vertebra_offset_mm + VERTEBRA_PITCH / 2) % VERTEBRA_PITCH - VERTEBRA_PITCH / 2
    waist = 1.6 * (level / VERTEBRA_HALF_HEIGHT) ** 2
    side = ellipsoid(x, y, 0, (*SPINE, 0), (16.6 + waist, 13.4 + 0.8 * waist, 1e3))
    plane.over(side, DISC + 2 * fine)
    end = abs(level) - VERTEBRA_HALF_HEIGHT
    bone = np.maximum(side, end)
    arch = [
        np.maximum(bar(x, y, (s * 11, 47), (s * 14.5, 63), 4.2), abs(level - 4) - 5.5) for s in (LEFT, RIGHT)
    ]
    arch += [
        np.maximum(bar(x, y, (s * 14, 63), (s * 36, 74), 4.2), abs(level - 3) - 6.0) for s in (LEFT, RIGHT)
    ]
    arch += [np.maximum(bar(x, y, (s * 14, 64), (0, 77), 3.2), abs(level + 1) - 9.5) for s in (LEFT, RIGHT)]
    arch.append(np.maximum(bar(x, y, (0, 77), (0, 103), 2.9), abs(level + 4) - 8.0))
    arches = np.minimum.reduce(arch)
    plane.over(arches, CORTEX - 120)
    plane.over(arches + 1.3, RIB_MARROW + 30 * fine)
    plane.over(bone, ENDPLATE if end > -1.6 else CORTEX - 250)
    plane.over(np.maximum(side + 1.1, end + 1.4), MARROW + 20 * fine + 8 * coarse)
    canal = ellipsoid(x, y, 0, (*CANAL, 0), (9.0, 7.8, 1e3))
    plane.over(canal - 0.8, FAT + 40)
    plane.over(canal, FLUID)
    plane.ellipsoid((CANAL[0], CANAL[1] - 0.5, plane.z), (4.3, 3.5, 1.0), CORD)


def _paint_sternum(plane: Plane, fine: Array) -> None:
    """A flat bone in front, in the plane of the costal cartilages."""
    plane, box = plane.window(0, -103, 20)
    front = bar(plane.grid.x, plane.grid.y, (-12, -103), (12, -103), 5.6)
    plane.over(front, CORTEX - 250)
    plane.over(front + 1.2, MARROW - 40 + 20 * fine[box])
