"""The part of images that follows circles about the axis of rotation, as a miscalibrated channel makes it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

#: Samples on either side of the radial median, whose residue rings are.
HALF_WIDTH = 5
#: Samples a pixel along the radius, and how many of them become one for thin rings and for wide ones.
PER_PIXEL, WIDTHS = 2, (1, 3)
#: Directions in half a turn, and the arc in degrees along which a ring keeps its value.
DIRECTIONS, ARC_DEG = 360, 30.0
#: Where matter changes by more than this part of water within the median, the residue is the object's.
EDGE = 0.06
#: Residues are limited to so many times their median size, and arcs with less than this part of flat tissue
#: tell nothing.
LIMIT, LEAST_FLAT = 10.0, 0.2


def rings_of(images: torch.Tensor, matter: torch.Tensor) -> torch.Tensor:
    """Rings `[material, y, x]` of all widths in `images` of this shape; `matter` `[y, x]`, relative to water,
    tells where the object has edges."""
    found = torch.zeros_like(images)
    for width in WIDTHS:
        found = found + ring_part(images - found, matter, width)
    return found


def ring_part(images: torch.Tensor, matter: torch.Tensor, width: int = 1) -> torch.Tensor:
    """Rings of one width.

    In polar coordinates about the image's middle: what a radial median takes away, averaged along arcs."""
    height, width_px = images.shape[-2:]
    middle = math.ceil((math.hypot(height, width_px) / 2 * PER_PIXEL) / width)
    count = (2 * middle + 1) * width
    radius = (torch.arange(count).to(images) - (count - 1) / 2) / PER_PIXEL  # through the middle
    angle = torch.arange(DIRECTIONS).to(images) * (math.pi / DIRECTIONS)
    x = radius * torch.cos(angle)[:, None] * (2 / (width_px - 1))
    positions = torch.stack([x, radius * torch.sin(angle)[:, None] * (2 / (height - 1))], -1)
    together = torch.cat([images, matter[None]])
    polar = F.grid_sample(together[None], positions[None], align_corners=True)[0]
    polar = F.avg_pool2d(polar, (1, width))
    smooth = _windows(polar).median(-1).values  # [material, direction, radius], matter last
    residue = (polar - smooth)[:-1]
    most = LIMIT * residue.abs().flatten(1).median(-1).values[:, None, None]
    residue = torch.minimum(torch.maximum(residue, -most), most)
    around = _windows(F.avg_pool2d(smooth[-1:], (5, 1), 1, (2, 0)))
    flat = (around.amax(-1) - around.amin(-1) < EDGE).to(images)
    share = _along_arcs(flat)
    rings = torch.where(share > LEAST_FLAT, _along_arcs(residue * flat) / share, 0.0) * flat
    return _cartesian(rings, height, width_px, middle * width / PER_PIXEL)


def _windows(polar: torch.Tensor) -> torch.Tensor:
    """The median's windows `[..., radius, sample]` about each sample."""
    return F.pad(polar, (HALF_WIDTH, HALF_WIDTH), mode="replicate").unfold(-1, 2 * HALF_WIDTH + 1, 1)


def _along_arcs(polar: torch.Tensor) -> torch.Tensor:
    """Averages along arcs; half a turn on, the radius has changed its sign."""
    half = round(ARC_DEG / 180 * DIRECTIONS / 2)
    wrapped = torch.cat([polar[..., -half:, :].flip(-1), polar, polar[..., :half, :].flip(-1)], -2)
    return F.avg_pool2d(wrapped, (2 * half + 1, 1), 1)


def _cartesian(polar: torch.Tensor, height: int, width: int, reach: float) -> torch.Tensor:
    y, x = (torch.arange(n).to(polar) - (n - 1) / 2 for n in (height, width))
    angle = torch.atan2(y[:, None].expand(height, width), x.expand(height, width))
    radius = (y[:, None] ** 2 + x**2).sqrt()
    radius, angle = torch.where(angle < 0, -radius, radius), angle.remainder(math.pi)
    closed = torch.cat([polar, polar[..., :1, :].flip(-1)], -2)
    positions = torch.stack([radius / reach, angle * (2 / math.pi) - 1], -1)
    return F.grid_sample(closed[None], positions[None], align_corners=True)[0]
