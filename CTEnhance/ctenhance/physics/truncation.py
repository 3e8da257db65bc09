"""Bodies that reach beyond the detector: how to detect it, and how to extrapolate the rays not measured.

To the ramp filter a line integral that stops at the detector's end is a cliff: the image is too bright, by
hundreds of HU along the field's edge and by tens far inside it. Each end is therefore continued as a cylinder
of water with the value and the slope that were measured there (Hsieh et al., Med Phys 31:2385, 2004): behind
the place x of such a cylinder of radius R lies 2 mu sqrt(R^2 - x^2).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.redundancy import ray_weights

#: A view is truncated where a larger line integral is left at an end (5 mm of water), a scan where more than
#: this part of its views is.
TRUNCATED, MOST_TRUNCATED = 0.1, 0.02
#: The cylinder is fitted to so many columns, smoothed over so many views.
_COLUMNS, _VIEWS = 12, 9
#: The mean of so many last columns is what is left at the end; the cylinder is not higher.
_LAST = 3
#: Rays beyond an end, as a part of the columns, and the widest fan (rad) that they may make.
_REACH, _WIDEST = 0.5, 1.4
#: An end whose columns weigh less than this part of the middle's is filled in by the opposite views.
_COUNTS_LITTLE = 0.2


def _end(line_integrals: torch.Tensor, last: bool) -> torch.Tensor:
    """The columns of an end, outwards, smoothed over views: `[..., view, column]`."""
    n = min(_COLUMNS, line_integrals.shape[-1])
    outer = line_integrals[..., -n:] if last else line_integrals[..., :n].flip(-1)
    half = min(_VIEWS, outer.shape[-2]) // 2
    flat = F.pad(outer.reshape(-1, 1, *outer.shape[-2:]), (0, 0, half, half), mode="replicate")
    return F.avg_pool2d(flat, (2 * half + 1, 1), 1).reshape(outer.shape)


def truncated_share(line_integrals: torch.Tensor, scan: ScanGeometry, grid: ImageGrid) -> float:
    """Share of the views `[..., view, column]` at whose ends the body goes on, unless opposite views show the
    rest of it. Raises InputError where the views do not suffice for an image on `grid`."""
    weights = ray_weights(scan, grid).mean(0)
    middle = float(weights[max(0, min(scan.n_columns - 1, round(scan.central_column)))])
    cut = torch.zeros(line_integrals.shape[:-1], dtype=torch.bool, device=line_integrals.device)
    for last in (False, True):
        if float(weights[-1 if last else 0]) > _COUNTS_LITTLE * middle:
            cut |= _end(line_integrals, last)[..., -_LAST:].mean(-1) > TRUNCATED
    return float(cut.double().mean())


def beyond(
    line_integrals: torch.Tensor, scan: ScanGeometry, mu_water: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Line integrals `[..., view, ray]` before the first and after the last column, each in the order of the
    columns, for `fbp`; `mu_water` per mm is that of a line integral's unit."""
    g = scan
    n = math.ceil(_REACH * g.n_columns)
    if isinstance(g, FanGeometry) and g.shape == EQUIANGULAR:
        widest = max(abs(end) for end in g.fan_angles_rad)
        n = max(1, min(n, int((_WIDEST - widest) / g.column_pitch)))
    step = torch.arange(1, n + 1).to(line_integrals)
    taper = torch.cos((2 * step / (n + 1) - 1).clamp(min=0) * (math.pi / 2))
    continued = []
    for last in (False, True):
        end = _end(line_integrals, last)
        # Behind a cylinder (p / 2 mu)^2 + u^2 is a straight line in u, the distance from the last column.
        u = (torch.arange(end.shape[-1]).to(end) + 1 - end.shape[-1]) * g.isocenter_pitch_mm
        squared = (end / (2 * mu_water)).square() + u.square()
        slope = (squared * (u - u.mean())).sum(-1) / (u - u.mean()).square().sum()
        here = (squared.mean(-1) - slope * u.mean()).clamp(min=0)  # R^2 - x^2
        # where the body ends among these columns the line runs too high
        here = torch.minimum(here, (end[..., -_LAST:].mean(-1) / (2 * mu_water)).square())
        # where it still grows outwards, the end is taken for its maximum: how far it would grow is unknown
        position = (-slope / 2).clamp(min=0)
        radius_squared = (here + position.square())[..., None]
        outward = position[..., None] + step * g.isocenter_pitch_mm
        chord = (radius_squared - outward.square()).clamp(min=0).sqrt()
        continued.append(2 * mu_water * chord * taper)
    return continued[0].flip(-1), continued[1]


def beyond_parts(
    parts: torch.Tensor, attenuation: torch.Tensor, scan: ScanGeometry, mu_water: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of materials' line integrals `[..., material, view, column]`, each of which attenuates
    `attenuation` `[material]` a unit: the whole is continued, and shared out as at its end."""
    weights = attenuation.to(parts)[:, None, None]
    whole = (weights * parts).sum(-3, keepdim=True)
    continued = []
    for outside, last in zip(beyond(whole, scan, mu_water), (False, True), strict=True):
        of_parts, of_whole = (_end(x, last).mean(-1, keepdim=True) for x in (parts, whole))
        continued.append(outside * (of_parts / of_whole.clamp(min=TRUNCATED)))
    return continued[0], continued[1]
