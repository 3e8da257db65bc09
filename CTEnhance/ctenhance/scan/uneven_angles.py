"""Do views turn as evenly as the view angles say? A gantry that speeds up and slows down while its angles are
taken as even leaves opposite rays that are too early in some directions of the body and too late in others,
so that no single step of the angles mends it.

For each of some directions of lines it is asked by how much later or earlier opposite rays were measured.
Steps that are all wrong by one factor give the same answer everywhere, a patient who moves (all edges shift
to one side, where a turn moves opposite edges to opposite sides), noise and scatter give none.
"""

from __future__ import annotations

import numpy as np
import torch

from ctenhance.physics.opposite_rays import OppositeRays, Supposed
from ctenhance.scan.geometry_fault import GeometryFault, percent

#: Directions that each have an answer, and the answers that are tried (rad).
_PARTS = 48
_LAGS = np.linspace(-0.16, 0.16, 65)
#: Rays that differ by less are not asked; opposite rays have to differ by less than this part of what they do
#: in the best geometry of even steps (a patient who moves by 10 to 20 mm or breathes: 0.77 and more of it;
#: 500 quanta, scatter, a drift: 0.97; uneven angles: 0.1, and 0.13 to 0.64 once a step is taken that mends a
#: part of it).
_DIFFER, _BETTER = 0.008, 0.6


def uneven_angles(rays: OppositeRays, claimed: Supposed, differ: float, even: float) -> GeometryFault | None:
    """The fault of a scan whose views do not advance evenly, or not as unevenly as the file says.

    `differ`: how far opposite rays differ as the file has it; `even`: in the best geometry with steps that
    are all other ones by one factor."""
    if differ < _DIFFER:
        return None
    found = [rays.disagreement_by_direction(claimed, float(lag), _PARTS) for lag in _LAGS]
    if any(not len(one) for one, _ in found):
        return None
    by_lag, share = torch.stack([one for one, _ in found]), torch.stack([one for _, one in found])
    by_lag[share == 0] = torch.inf
    best, at = by_lag.min(0)
    counted = share.gather(0, at[None])[0]
    if not float(counted.sum()) > 0:
        return None
    differ_if = float((torch.where(counted > 0, best, 0.0) * counted).sum() / counted.sum())
    return uneven_fault(differ, differ_if) if differ_if < _BETTER * min(differ, even) else None


def uneven_fault(differ: float, differ_if: float) -> GeometryFault:
    """The fault of views that advance unevenly; `differ_if`: how far rays differ once they are taken to."""
    return GeometryFault(
        "The geometry is likely wrong: opposite rays, which should read the same, differ by "
        f"{percent(differ)} of what rays vary by, but by {percent(differ_if)} once the views are taken to "
        "advance unevenly, in another way than '/view_angles' say (as a gantry does that speeds up and slows "
        "down). No single step mends that: take each view's angle from the scanner's record.",
        differ,
        differ_if,
        {"view_angles": "uneven"},
        certain=False,
    )


def partly_mended(differ: float, differ_if: float) -> GeometryFault:
    """The fault of a scan whose opposite rays other steps of the angles bring nearer, but not together."""
    return GeometryFault(
        "The geometry is likely wrong: opposite rays, which should read the same, differ by "
        f"{percent(differ)} of what rays vary by, and with the best other step of the view angles still by "
        f"{percent(differ_if)}, which is more than noise: the views advance unevenly, or the angles are not "
        "all that is wrong. Take each view's angle from the scanner's record.",
        differ,
        differ_if,
        {"view_angles": "other ones"},
        certain=False,
    )
