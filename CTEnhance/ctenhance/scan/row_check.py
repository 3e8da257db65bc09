"""Is one row of a stack recorded otherwise than the others? Each is a scan of its own, so that opposite rays
show a mirrored or shifted one; with parallel rays, and for the order of the rows, its neighbours do.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.physics.opposite_rays import UNKNOWN, OppositeRays, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.element_order import other_order
from ctenhance.scan.geometry_fault import COLUMNS, GeometryFault, out_of_order, percent
from ctenhance.scan.projections import Projections

#: Views that are looked at, columns to which they are binned (of many rows), rows that are read at a time.
_VIEWS, _COLUMNS, _FEWER, _MANY_ROWS, _AT_A_TIME = 240, 192, 96, 256, 8
#: Views and columns by which rows are compared with their neighbours.
_SOME_VIEWS, _SOME_COLUMNS = 24, 48
#: A row is odd if its opposite rays differ so many times more than those of the best tenth, and by more than
#: the next; of rough readings, the third.
_ODD, _BEST, _DIFFER, _ROUGH, _DIFFER_ROUGH = 2.0, 0.1, 0.01, 0.01, 0.03
#: Another geometry of it is believed if they differ by less than this part of that, and hardly more than
#: those of other rows.
_BETTER, _LIKE_OTHERS = 0.4, 2.0
_LOST = 0.3
#: A row is turned about the axis if, so turned, it is this part as far from those beside it (squared), and
#: was so many times as far as those are from one another.
_TURNED, _ODD_TURNED = 0.3, 4.0
_NAMED = 8


def odd_rows(
    projections: Projections, claimed: Supposed, cancel: Cancellable | None = None
) -> GeometryFault | None:
    """What is likely wrong with some rows and not with the others, None where nothing is known against them.

    `claimed`: the geometry as the file has it. Raises Cancelled when asked to stop."""
    p = projections
    if p.n_rows < 2:
        return None
    rows = _Rows(p, claimed, cancel)
    return rows.by_neighbours() or rows.by_opposite_rays() or rows.turned_about() or rows.order()


class _Rows:
    """All rows `[row, view, column]`, some views and binned columns of them."""

    def __init__(self, projections: Projections, claimed: Supposed, cancel: Cancellable | None) -> None:
        p = self.projections = projections
        every = max(1, p.n_views // _VIEWS)
        name = "line_integrals" if p.counts is None else "counts"
        few: Projections = replace(p, **{name: p.readings[::every]}, view_angles=p.view_angles[::every])  # type: ignore[arg-type]
        self.together = max(1, p.n_columns // (_COLUMNS if p.n_rows < _MANY_ROWS else _FEWER))
        parts = []
        for start in range(0, p.n_rows, _AT_A_TIME):
            check(cancel)
            some = few.rows(start, min(start + _AT_A_TIME, p.n_rows))
            parts.append(F.avg_pool1d(some.transmission(), self.together))
        self.through = torch.cat(parts)
        level = self.through.clamp(min=0).mean((0, 2))
        sound = level >= _LOST * level.median()
        self.through = self.through[:, sound]
        self.angles = torch.from_numpy(few.view_angles)[sound]
        self.claimed = self._binned(claimed)
        self.cancel = cancel

    def _binned(self, s: Supposed) -> Supposed:
        central = (s.central - (self.together - 1) / 2) / self.together
        return replace(s, central=central, per_column=s.per_column * self.together)

    def by_opposite_rays(self) -> GeometryFault | None:
        """Rows with another central column, or that run the other way."""
        rays = OppositeRays(self.through, self.angles, self.through.shape[-1])
        differ = rays.by_slice(self.claimed)
        known = differ < UNKNOWN
        if int(known.sum()) < 2:
            return None
        typical = float(differ[known].sort().values[int(_BEST * (int(known.sum()) - 1))])
        least = _DIFFER_ROUGH if rays.roughness > _ROUGH else _DIFFER
        odd = (known & (differ > max(_ODD * typical, least))).nonzero()[:, 0]
        if not 0 < len(odd) < int(known.sum()):
            return None
        check(self.cancel)
        rays = OppositeRays(self.through[odd], self.angles, self.through.shape[-1])
        allowed = (_BETTER * differ[odd]).clamp(max=_LIKE_OTHERS * typical + least / 2)
        turned, shifted = self._turned(rays), self._shifted(rays)
        is_turned = (turned < allowed) & (turned <= 1.1 * shifted[0])
        is_shifted = (shifted[0] < allowed) & ~is_turned
        if bool(is_turned.any()):
            return self._fault(
                odd[is_turned], differ[odd][is_turned], turned[is_turned], typical,
                "the columns are put into the reverse order (or the views)", {"reversed": "views or columns"},
            )  # fmt: skip
        if bool(is_shifted.any()):
            p, t = self.projections, self.together
            central = [round(float(c) * t + (t - 1) / 2, 1) for c in shifted[1][is_shifted]]
            middle = float(np.median(central))
            text = f"'central_column' is {middle:g} instead of {p.central_column:g}"
            if max(central) - min(central) > 1:
                text = f"'central_column' is {min(central):g} to {max(central):g}, not {p.central_column:g}"
            return self._fault(
                odd[is_shifted], differ[odd][is_shifted], shifted[0][is_shifted], typical, text,
                {"central_columns": central},
            )  # fmt: skip
        return None

    def _turned(self, rays: OppositeRays) -> torch.Tensor:
        """How far opposite rays `[row]` differ if columns or views run the other way."""
        s, columns = self.claimed, self.through.shape[-1]
        if not s.per_column:
            return torch.full((len(rays.by_slice(s)),), UNKNOWN)
        other = replace(s, turn=-s.turn)
        mirrored = replace(other, central=columns - 1 - s.central)
        return torch.minimum(rays.by_slice(other), rays.by_slice(mirrored))

    def _shifted(self, rays: OppositeRays) -> tuple[torch.Tensor, torch.Tensor]:
        """How far they differ with the central column at its best, and which that is (of the binned)."""
        s, columns, t = self.claimed, self.through.shape[-1], self.together
        least = rays.by_slice(s)
        best = torch.full_like(least, s.central)

        def look(centrals: torch.Tensor) -> None:
            for row_central in centrals:
                differ = rays.by_slice(replace(s, central=float(row_central)))
                better = differ < least
                least[better], best[better] = differ[better], float(row_central)

        look(s.central + torch.linspace(-6, 6, 25) / t)
        look(torch.linspace(0.1, 0.9, 48) * columns)
        for central in sorted(set(best.tolist())):
            check(self.cancel)
            reach = max(columns / 60, 0.5 / t)
            look(central + torch.linspace(-reach, reach, 21))
            look(central + torch.linspace(-0.1, 0.1, 5) * reach)
        near = (best - s.central).abs() * t < COLUMNS
        least[near] = UNKNOWN
        return least, best

    def by_neighbours(self) -> GeometryFault | None:
        """Rows of parallel rays that are mirror images of those beside them."""
        if self.claimed.per_column:
            return None
        root = self.through.clamp(min=0).sqrt()
        same = (root[1:] - root[:-1]).abs().mean((1, 2))
        other = torch.minimum(
            (root[1:].flip(2) - root[:-1]).abs().mean((1, 2)),
            (root[1:].flip(1) - root[:-1]).abs().mean((1, 2)),
        )
        turned = np.cumsum([False, *(other < _BETTER * same).tolist()]) % 2 == 1
        if not turned.any():
            return None
        if 2 * turned.sum() > len(turned):
            turned = ~turned
        at = (other < _BETTER * same).nonzero()[:, 0]
        variation = float((root - root.mean((1, 2), keepdim=True)).abs().mean().clamp(min=1e-9))
        named = _named(np.flatnonzero(turned).tolist(), self.projections.n_rows)
        before, after = float(same[at].mean()) / variation, float(other[at].mean()) / variation
        return GeometryFault(
            f"The geometry is likely wrong in {named}: they differ from the rows beside them by "
            f"{percent(before)} of what rays vary by, but by {percent(after)} once their columns (or views) "
            "are put into the reverse order. If these are right, all others are wrong.",
            before,
            after,
            {"rows": np.flatnonzero(turned).tolist(), "reversed": "views or columns"},
        )

    def turned_about(self) -> GeometryFault | None:
        """Rows whose views begin at another angle than those of the rows beside them."""
        n = len(self.angles)
        step = float(self.angles[1] - self.angles[0])
        whole = abs(abs(step) * n - 2 * math.pi) < 0.5 * abs(step)
        if len(self.through) < 3 or not whole or not bool((self.angles.diff() / step - 1).abs().max() < 0.1):
            return None
        root = self.through.clamp(min=0).sqrt()
        spectra = torch.fft.rfft(root, dim=1)
        power = root.square().sum((1, 2))
        found: dict[int, tuple[float, float, float]] = {}
        for row in range(len(root)):
            beside = [one for one in (row - 1, row + 1) if 0 <= one < len(root)]
            if len(beside) == 1:
                beside.append(2 * beside[0] - row)
            other = root[beside].mean(0)
            both = torch.fft.irfft((spectra[row] * spectra[beside].mean(0).conj()).sum(1), n=n)
            apart = (power[row] + other.square().sum() - 2 * both).clamp(min=0)
            by = int(apart.argmin())
            by = by - n if by > n // 2 else by
            between = float((root[beside[0]] - root[beside[1]]).square().sum()) / 4
            before, after = float(apart[0]), float(apart[by])
            if abs(by) > 1 and after < _TURNED * before and before > _ODD_TURNED * between:
                found[row] = (by * step, before, after)
        if not 0 < 2 * len(found) <= len(root):
            return None
        variation = float(
            (root - root.mean((1, 2), keepdim=True)).square().sum((1, 2)).mean().clamp(min=1e-9)
        )
        before, after = (
            (float(np.mean([one[k] for one in found.values()])) / variation) ** 0.5 for k in (1, 2)
        )
        degrees = [math.degrees(one[0]) for one in found.values()]
        likely = {"rows": list(found), "turned_by_deg": degrees}
        by_how_much = f"{degrees[0]:.3g} degrees" if len(degrees) == 1 else "other angles"
        return GeometryFault(
            f"The geometry is likely wrong in {_named(list(found), self.projections.n_rows)}: they differ "
            f"from the rows beside them by {percent(before)} of what rays vary by, but by {percent(after)} "
            f"once they are turned about the axis by {by_how_much}, as if their views began elsewhere.",
            before,
            after,
            likely,
        )

    def order(self) -> GeometryFault | None:
        """Rows that are not in their order."""
        few = self.through[:, :: max(1, self.through.shape[1] // _SOME_VIEWS)]
        few = F.avg_pool1d(few, max(1, few.shape[-1] // _SOME_COLUMNS)).clamp(min=0).sqrt()
        found = other_order(few.flatten(1).numpy())
        if found is None:
            return None
        variation = float((few - few.mean()).abs().mean().clamp(min=1e-9))
        return out_of_order("rows", found.come_as, found.before / variation, found.after / variation)

    def _fault(
        self,
        rows: torch.Tensor,
        differ: torch.Tensor,
        differ_if: torch.Tensor,
        typical: float,
        what: str,
        likely: dict[str, object],
    ) -> GeometryFault:
        before, after = float(differ.mean()), float(differ_if.mean())
        named = _named(rows.tolist(), self.projections.n_rows)
        return GeometryFault(
            f"The geometry is likely wrong in {named}: opposite rays, which should read the same, differ by "
            f"{percent(before)} of what rays vary by there, by {percent(typical)} in other rows, and by "
            f"{percent(after)} once {what}.",
            before,
            after,
            {"rows": rows.tolist(), **likely},
        )


def _named(rows: list[int], of: int) -> str:
    some = ", ".join(str(row) for row in rows[:_NAMED]) + (", …" if len(rows) > _NAMED else "")
    if len(rows) == 1:
        return f"row {some} of {of} (counted from 0)"
    return f"{len(rows)} of {of} rows ({some}, counted from 0)"
