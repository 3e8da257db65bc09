"""Readings of some slices of a scan, ready to be compared with those of opposite rays."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ctenhance.physics.opposite_rays import OppositeRays, Supposed

#: Columns to which they are binned, by how rough (noisy) they may be; the last for rougher ones.
_FINE, _ROUGH = ((384, 0.003), (192, 0.01)), 96
#: Columns and views for looking far.
_COARSE, _COARSE_VIEWS = 32, 24
#: Views with less than this part of the typical transmission were lost, and a few (the last part)
#: that differ by more than the second from those so many before and after them are not looked at.
_LOST, _ODD, _NEAR_VIEWS, _FEW_ODD = 0.3, 0.2, 5, 0.05
#: A view that differs so many times more than is usual from the one before is out of order; few may.
_JUMP, MOST_JUMPS = 8.0, 0.03
#: A last view that should repeat the first is a step off if it differs in the way (correlation) and, within a
#: factor, as much as neighbouring views do; in columns so broad that views are alike.
_SAME_STEP, _ONE_STEP, _BROAD = 0.55, 4.0, 48


class Rays:
    """Readings of some slices, finely and coarsely binned. `transmission` `[slice, view, column]`, `angles`
    `[view]` in rad."""

    def __init__(self, transmission: torch.Tensor, angles: torch.Tensor) -> None:
        through = transmission
        level = through.clamp(min=0).mean((0, 2))
        sound = level >= _LOST * level.median()
        # some in which the tube arced
        near = F.pad(level[None], (_NEAR_VIEWS, _NEAR_VIEWS), mode="replicate")[0]
        near = near.unfold(0, 2 * _NEAR_VIEWS + 1, 1).median(1).values
        shape = F.avg_pool1d(through.clamp(min=0), max(1, through.shape[-1] // 8)).mean(0)
        shape = shape / shape.mean(1, keepdim=True).clamp(min=1e-9)
        jump = torch.cat([shape[1:2] - shape[:1], shape.diff(dim=0)]).abs().mean(1)
        odd, jump = (level - near).abs() > _ODD * near, jump > _JUMP * jump.median()
        if float(odd.double().mean()) < _FEW_ODD and float(jump.double().mean()) < MOST_JUMPS:
            sound &= ~odd | jump
        through, angles = through[:, sound], angles[sound]
        #: The whole scan was kept, from the first view to the last.
        self.whole = bool(sound[0] and sound[-1])
        self.through, self.angles = through, angles
        root = F.avg_pool1d(through, max(1, through.shape[-1] // _ROUGH)).clamp(min=0).sqrt()
        step = angles.diff().abs()
        change = root.diff(dim=1).abs().mean((0, 2))
        variation = (root - root.mean((1, 2), keepdim=True)).abs().mean().clamp(min=1e-9)
        #: Angle between neighbouring views, and how far their readings differ, as `differ` has it.
        self.step, self.neighbours = float(step.median()), float(change.median() / variation)
        #: The part of the views that do not follow the one before.
        # (of another shape: the tube's current alone may jump)
        shape = root / root.mean((0, 2), keepdim=True).clamp(min=1e-9)
        turned = shape.diff(dim=1).abs().mean((0, 2)) / step
        jumps = turned > _JUMP * turned.median()
        self.out_of_order = float(jumps.double().mean())
        for columns, limit in _FINE:
            self.fine = OppositeRays(through, angles, columns)
            self.rough = self.fine.roughness > limit
            if not self.rough:
                break
        else:
            self.fine = OppositeRays(through, angles, _ROUGH)
        self.coarse = OppositeRays(through, angles, _COARSE, _COARSE_VIEWS)

    def last_is_another(self, mirrored: bool, central: float) -> bool:
        """Whether the last view, which should repeat the first (or `mirrored` about the `central` column, its
        opposite), is one step before it: as the third is from the second, so is the first from the last."""
        together = max(1, self.through.shape[-1] // _BROAD)
        views = F.avg_pool1d(self.through[:, [0, 1, 2, -1]], together)
        views = F.avg_pool1d(views, 3, 1).clamp(min=0).sqrt()
        columns = views.shape[-1]
        first, second, third, last = views.unbind(1)
        if mirrored:
            at = 2 * ((central - (together - 1) / 2) / together - 1) - torch.arange(columns)
            measured = (at >= 0) & (at <= columns - 1)
            left = at.floor().long().clamp(0, columns - 2)
            last = torch.lerp(last[:, left], last[:, left + 1], at - left)
            first, second, third, last = (one[:, measured] for one in (first, second, third, last))
        jump, trend = first - last, third - second
        alike, square = float((jump * trend).sum()), float(trend.square().sum())
        if not alike > _SAME_STEP * math.sqrt(float(jump.square().sum()) * square):
            return False
        return 1 / _ONE_STEP < alike / square < _ONE_STEP

    def differ(self, supposed: Supposed, among: Supposed | None = None) -> float:
        return self.fine.disagreement(supposed, among)
