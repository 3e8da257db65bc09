"""What share of the image each ray stands for: the arc of its view, and how often its line was measured.

A fan's ray at view angle b and angle g from the central ray runs along the same line as the ray at (b + pi -
2 g, -g). Both together count once. Where both are measured, each gets the share  c / (c + c')  of a smooth
window c over the arc (and over the detector where its sides differ), after Parker (Med Phys 9:254, 1982), in
the form of Noo et al. (Phys Med Biol 47:2525, 2002, eq. 17), which holds for any arc from a short scan to
many turns. For a short scan over pi plus the fan angle this window is as smooth as Parker's."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from ctenhance.physics.geometry import FanGeometry, ScanGeometry, check_image
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime.errors import InputError

# The window rises over this angle at both ends of the arc, or over all that is measured twice if less.
_LONGEST_RISE = math.pi / 3
# An off-centre detector's window rises over this part of its longer side.
_SIDE_RISE = 0.2


def _smooth_step(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x.clamp(0, 1) * (math.pi / 2)) ** 2


def _arc(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float | None]:
    """Arc that each view stands for `[view]`, its position on the scanned arc, and that arc's length.

    The length is None where the views go all the way round."""
    turned = angles % (2 * math.pi)
    order = torch.argsort(turned)
    ordered = turned[order]
    gap = torch.diff(ordered, append=ordered[:1] + 2 * math.pi)  # after each view; turns fall together
    widest = int(gap.argmax())
    others = torch.cat([gap[:widest], gap[widest + 1 :]])
    if len(others) == 0:
        return torch.full_like(angles, 2 * math.pi), angles, None
    step = float(others.median())
    is_open = float(gap[widest]) > max(2.5 * step, 1.5 * float(others.max()))
    length = 2 * math.pi - float(gap[widest]) + step if is_open else None
    if is_open:
        gap[widest] = step
    width = torch.empty_like(angles)
    width[order] = (gap + gap.roll(1)) / 2
    start = ordered[(widest + 1) % len(ordered)] - step / 2
    return width, (turned - start) % (2 * math.pi), length


def _needed_arc(scan: ScanGeometry, grid: ImageGrid) -> float:
    """Arc within which every line through the image and the detector's field is measured at least once."""
    if not isinstance(scan, FanGeometry):
        return math.pi
    radius = math.hypot(*grid.center_mm) + max(grid.shape) * grid.pixel_mm / 2
    radius = min(radius, scan.field_of_view_mm / 2)
    return math.pi + 2 * math.asin(min(1.0, radius / scan.source_to_isocenter_mm))


def _detector_window(scan: ScanGeometry, offset: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Window over the columns, and at each ray's opposite: 1 unless one side is longer by over a column."""
    g = scan
    edge = g.field_of_view_mm / 2
    reach = float(offset.abs().max())
    if edge <= 0:
        raise InputError(
            f"The central column {g.central_column} lies outside the detector's {g.n_columns} columns, so "
            "that no view sees the isocentre: check the central column."
        )
    first, last = float(-offset[0]), float(offset[-1])
    if abs(first - last) <= g.isocenter_pitch_mm:
        return torch.ones_like(offset), torch.ones_like(offset)
    rise = min(2 * edge, _SIDE_RISE * reach)
    towards_long = offset if last > first else -offset
    return _smooth_step((towards_long + edge) / rise), _smooth_step((edge - towards_long) / rise)


def measured_field_mm(scan: ScanGeometry) -> float:
    """Diameter of the circle about the isocentre of which every line is measured, in mm.

    It is what every view sees whole; but a detector that stands aside (half-fan) measures in a whole turn all
    lines as far out as the end of its longer side, each at least once."""
    g = scan
    offset = g.ray_offsets_mm()
    aside = abs(float(offset[0] + offset[-1])) > g.isocenter_pitch_mm
    if g.field_of_view_mm <= 0 or not aside or _arc(g.angles())[2] is not None:
        return g.field_of_view_mm
    return 2 * float(offset.abs().max())


@lru_cache(maxsize=4)
def ray_weights(scan: ScanGeometry, grid: ImageGrid) -> torch.Tensor:
    """Weight of every ray in the sum over views, float64 `[view, column]` on the CPU.

    It is the arc (rad) of the view times the share of the ray among those of its line; the weights of a line
    and its opposite add up to the arc of one view. Do not change it in place. Raises InputError where the
    image reaches the source, or where the views do not cover it: pi for parallel rays, pi plus the fan angle
    for a fan."""
    check_image(scan, grid)
    g = scan
    width, position, length = _arc(g.angles())
    offset = g.ray_offsets_mm()
    here, opposite = _detector_window(g, offset)
    here, opposite = here[None].expand(g.n_views, -1), opposite[None].expand(g.n_views, -1)
    if length is not None:
        needed = _needed_arc(g, grid)
        if length < needed - float(width.max()):
            raise InputError(
                f"The view angles cover {math.degrees(length):.0f} degrees, but this scan needs "
                f"{math.degrees(needed):.0f} to be complete: give more views, or a smaller image."
            )
        rise = min(length - math.pi, _LONGEST_RISE)
        meets = (position[:, None] + math.pi - 2 * g.column_angles()) % (2 * math.pi)
        here = here * _arc_window(position[:, None], length, rise)
        opposite = opposite * _arc_window(meets, length, rise)
    total = here + opposite
    share = torch.where(total > 0, here / total.clamp(min=1e-300), torch.zeros_like(total))
    return share * width[:, None]


def _arc_window(position: torch.Tensor, length: float, rise: float) -> torch.Tensor:
    if rise < 1e-9:
        return (position < length).to(position.dtype)
    return _smooth_step(position / rise) * _smooth_step((length - position) / rise)
