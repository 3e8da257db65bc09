"""Write docs/pictures/geometry.png: the scan's convention, drawn from the geometry classes themselves.

python Testing/tools/geometry_picture.py [--out docs/pictures]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "CTEnhance"))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from ctenhance.physics.geometry import FanGeometry  # noqa: E402
from ctenhance.physics.image_grid import ImageGrid  # noqa: E402

#: A point to the patient's left and anterior, as in Testing/library/test_physics_fan.py.
POINT = (150.0, -60.0)
SID, SDD, COLUMNS = 595.0, 1085.6, 15
GREY, RED, BLUE, GREEN = "#777777", "#c0392b", "#1f618d", "#1e8449"


def draw(axes: Axes, geometry: FanGeometry, grid: ImageGrid) -> None:
    """One view: source, fan, detector columns, image matrix, and where a point is seen."""
    origin, direction = geometry.rays()
    source = origin[0, 0]
    angles = geometry.column_angles()
    reach = geometry.source_to_detector_mm / (torch.cos(angles) if geometry.shape == "flat" else 1.0)
    detector = source + direction[0] * (reach * torch.ones_like(angles))[:, None]

    half_x, half_y = (n * grid.pixel_mm / 2 for n in (grid.columns, grid.rows))
    x, y = grid.center_mm
    axes.add_patch(pyplot.Rectangle((x - half_x, y - half_y), 2 * half_x, 2 * half_y, fc="#eef4fa", ec=BLUE))
    axes.annotate("pixel (0, 0)", (x - half_x, y - half_y), (3, -9), textcoords="offset points", fontsize=7)
    axes.add_patch(pyplot.Circle((0, 0), SID, fill=False, ls=":", ec=GREY))
    for end in (0, -1):
        axes.plot(*torch.stack([source, detector[end]]).T, color=GREY, lw=0.8)
    view = float(geometry.angles()[0])
    along = torch.tensor([math.cos(view), math.sin(view)], dtype=torch.float64)
    central = source * (1 - geometry.source_to_detector_mm / SID)
    axes.plot(*torch.stack([source, central]).T, color=GREY, lw=0.8, ls="--")

    axes.plot(*detector.T, "s-", color=BLUE, ms=4, lw=1)
    for column in (0, len(detector) - 1):
        at = detector[column] + 90 * (detector[column] - source) / (detector[column] - source).norm()
        axes.annotate(
            f"column {column}", tuple(at.tolist()), ha="center", va="center", color=BLUE, fontsize=8
        )
    start = central - 110 * along + 95 * central / central.norm()
    axes.annotate(
        "",
        tuple((start + 220 * along).tolist()),
        tuple(start.tolist()),
        arrowprops={"arrowstyle": "->", "color": BLUE},
    )

    point = torch.tensor(POINT, dtype=torch.float64)
    lateral = float(point @ along)
    depth = SID + float(point @ torch.tensor([-math.sin(view), math.cos(view)], dtype=torch.float64))
    where = math.atan2(lateral, depth)
    hit = where if geometry.shape == "equiangular" else math.tan(where) * SDD
    column = hit / geometry.column_pitch + geometry.central_column
    length = SDD if geometry.shape == "equiangular" else SDD / math.cos(where)
    ray = (point - source) / (point - source).norm()
    axes.plot(*torch.stack([source, source + ray * length]).T, color=RED, lw=1)
    axes.plot(*POINT, "o", color=RED, ms=6)
    axes.annotate("point", POINT, (6, -10), textcoords="offset points", color=RED, fontsize=8)
    axes.plot(*source, "*", color=GREEN, ms=14)
    axes.annotate(
        "source", tuple(source.tolist()), (9, 2), textcoords="offset points", color=GREEN, fontsize=8
    )
    axes.plot(0, 0, "+", color="black", ms=10)
    axes.annotate("isocentre", (0, 0), (-44, 6), textcoords="offset points", fontsize=8)
    axes.set_title(
        f"{geometry.shape}, view angle b = {math.degrees(view):.0f}°: the point at ({POINT[0]:.0f}, "
        f"{POINT[1]:.0f}) mm\nis seen by column {column:.2f}",
        fontsize=9,
    )
    axes.set_xlim(-760, 760)
    axes.set_ylim(700, -690)
    axes.set_aspect("equal")
    axes.set_xlabel("x to the patient's left, mm", fontsize=8)
    axes.set_ylabel("y to posterior (down), mm", fontsize=8)
    axes.tick_params(labelsize=7)


def main() -> None:
    """Draw a flat detector at 12 o'clock and an equiangular one at 60 degrees, its image off centre."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    out = parser.parse_args().out
    middle = (COLUMNS - 1) / 2
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.9), dpi=110, layout="constrained")
    upright = FanGeometry("flat", SID, SDD, 66.0, COLUMNS, middle, (0.0,))
    draw(panels[0], upright, ImageGrid(5, 6, 80.0))
    turned = FanGeometry("equiangular", SID, SDD, 66.0 / SDD, COLUMNS, middle, (math.pi / 3,))
    draw(panels[1], turned, ImageGrid(4, 4, 80.0, (40.0, -30.0)))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "geometry.png")
    print(out / "geometry.png")


if __name__ == "__main__":
    main()
