"""Undamped Newton for blocks of rays in one compiled loop: what `newton` does in torch, without its memory.

Rays lie side by side in the processor's vector registers and stay in its first cache from start to end. The
steps are those of `newton`: in float32 with Fisher's matrix and the Hessian, then in float64 with the last of
these. Rays that need more steps than their block are gathered into new ones.

numba compiles it; `compiled` brings arrays here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Rays that go through the steps together.
LANES = 64
#: How often rays are gathered anew, and float64 steps in a row.
ROUNDS, EXACT_STEPS = 3, 4
#: Once so few of a block are left they wait for the next round.
FEW = LANES // 8
#: As in `likelihood` and `start`.
_LEAST, _LEAST_COUNTED = 1e-30, np.float32(0.5)

#: exp x = 2^n exp r, with the whole number n nearest to x / ln 2; ln 2 in two parts, of which multiples of
#: the first are exact; and what moves a sum's whole part into its lowest bits.
_PER_LN2, _LN2_HIGH, _LN2_LOW = 1 / math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SHIFT = 1.5 * 2.0**52
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12 = (1 / math.factorial(n) for n in range(2, 13))
_F_PER_LN2, _F_LN2_HIGH, _F_LN2_LOW = (np.float32(c) for c in (_PER_LN2, 0.693359375, -2.12194440e-4))
_F_SHIFT, _F_LEAST, _F_MOST, _F_ONE = (np.float32(c) for c in (1.5 * 2.0**23, -87, 88, 1))
_F2, _F3, _F4, _F5, _F6 = (np.float32(c) for c in (_C2, _C3, _C4, _C5, _C6))


def _same_bits(source: Any, target: Any, to: Any) -> Any:
    @intrinsic
    def cast(_context: Any, _value: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], to)

        return target(source), code

    return cast


_int64 = _same_bits(types.float64, types.int64, ir.IntType(64))
_float64 = _same_bits(types.int64, types.float64, ir.DoubleType())
_int32 = _same_bits(types.float32, types.int32, ir.IntType(32))
_float32 = _same_bits(types.int32, types.float32, ir.FloatType())

# Nothing of `fastmath` but this one: to rearrange sums would undo what moves a whole part into the lowest
# bits. numba's stubs do not know all that it takes.
_WAY: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract"},
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}
_compile: Any = njit
_compiled = _compile(**_WAY, no_cpython_wrapper=True)


@_compiled
def _exp64(x: float) -> float:
    x = min(max(x, -708.0), 709.0)
    shifted = x * _PER_LN2 + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _C11 + r * _C12
    p = _C9 + r * (_C10 + r * p)
    p = _C7 + r * (_C8 + r * p)
    p = _C5 + r * (_C6 + r * p)
    p = _C3 + r * (_C4 + r * p)
    p = 1.0 + r * (1.0 + r * (_C2 + r * p))
    return p * _float64((_int64(shifted) << 52) + (1023 << 52))


@_compiled
def _exp32(x: np.float32) -> np.float32:
    x = min(max(x, _F_LEAST), _F_MOST)
    shifted = x * _F_PER_LN2 + _F_SHIFT
    n = shifted - _F_SHIFT
    r = (x - n * _F_LN2_HIGH) - n * _F_LN2_LOW
    p = _F3 + r * (_F4 + r * (_F5 + r * _F6))
    p = _F_ONE + r * (_F_ONE + r * (_F2 + r * p))
    return p * _float32(np.int32(_int32(shifted) << np.int32(23)) + np.int32(127 << 23))


@_compiled
def _attenuated(attenuation, lines, passed):  # type: ignore[no-untyped-def]
    """Exponents -mu A at the nodes `[node, lane]`."""
    for q in range(len(passed)):
        for r in range(LANES):
            passed[q, r] = -attenuation[0, q] * lines[0, r]
        for k in range(1, len(lines)):
            for r in range(LANES):
                passed[q, r] -= attenuation[k, q] * lines[k, r]


@_compiled
def _moments(table, passed, first, last, moments):  # type: ignore[no-untyped-def]
    """Rows `first` to `last` of the table times what passed, `[row, lane]`; the rows are an even number."""
    nodes = len(passed)
    for row in range(first, last, 2):
        other = min(row + 1, last - 1)
        for r in range(LANES):
            moments[row, r] = table[row, 0] * passed[0, r]
            moments[other, r] = table[other, 0] * passed[0, r]
        q = 1
        while q + 4 <= nodes:
            a0, a1, a2, a3 = table[row, q], table[row, q + 1], table[row, q + 2], table[row, q + 3]
            b0, b1, b2, b3 = table[other, q], table[other, q + 1], table[other, q + 2], table[other, q + 3]
            for r in range(LANES):
                p0, p1, p2, p3 = passed[q, r], passed[q + 1, r], passed[q + 2, r], passed[q + 3, r]
                one, two = moments[row, r], moments[other, r]
                moments[row, r] = one + a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3
                moments[other, r] = two + b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3
            q += 4
        while q < nodes:
            for r in range(LANES):
                one, two = moments[row, r], moments[other, r]
                moments[row, r] = one + table[row, q] * passed[q, r]
                moments[other, r] = two + table[other, q] * passed[q, r]
            q += 1


@_compiled
def _zero(values):  # type: ignore[no-untyped-def]
    # an assignment to a slice takes numba a second to compile
    for row in range(len(values)):
        for r in range(LANES):
            values[row, r] = 0


@_compiled
def _inverse(moments, scatter, j, work, least):  # type: ignore[no-untyped-def]
    """One over what is expected in bin j, which is kept from zero, into the first row of `work`."""
    one = work.dtype.type(1)
    for r in range(LANES):
        work[0, r] = one / max(moments[j, r] + scatter[j, r], least)


@_compiled
def _gradient(moments, counts, scatter, downhill, work, least):  # type: ignore[no-untyped-def]
    """Minus the gradient of the cost `[material, lane]`."""
    bins, one = len(counts), work.dtype.type(1)
    _zero(downhill)
    for j in range(bins):
        _inverse(moments, scatter, j, work, least)
        for r in range(LANES):
            work[0, r] = one - counts[j, r] * work[0, r]
        for k in range(len(downhill)):
            row = (1 + k) * bins + j
            for r in range(LANES):
                downhill[k, r] += work[0, r] * moments[row, r]


@_compiled
def _terms(moments, counts, scatter, downhill, fisher, hessian, work, least, curved):  # type: ignore[no-untyped-def]
    """Minus the gradient, Fisher's information and, where it is asked for, the Hessian (upper triangles)."""
    bins, k_all, one = len(counts), len(downhill), work.dtype.type(1)
    _zero(downhill)
    _zero(fisher)
    _zero(hessian)
    for j in range(bins):
        _inverse(moments, scatter, j, work, least)
        for r in range(LANES):
            work[1, r] = counts[j, r] * work[0, r]  # the ratio of counts to what is expected
            work[2, r] = one - work[1, r]
        entry = 0
        for i in range(k_all):
            mine = (1 + i) * bins + j
            for r in range(LANES):
                downhill[i, r] += work[2, r] * moments[mine, r]
            for k in range(i, k_all):
                other, curve = (1 + k) * bins + j, (1 + k_all + entry) * bins + j
                for r in range(LANES):
                    work[3, r] = moments[mine, r] * work[0, r] * moments[other, r]
                    fisher[entry, r] += work[3, r]
                if curved:
                    for r in range(LANES):
                        hessian[entry, r] += work[2, r] * moments[curve, r] + work[3, r] * work[1, r]
                entry += 1


@_compiled
def _safe(hessian, fisher, margin):  # type: ignore[no-untyped-def]
    """Replace the Hessian by Fisher's information where it is not safely positive definite."""
    entries = len(fisher)
    for r in range(LANES):
        sound = hessian[0, r] > margin * fisher[0, r]
        if entries > 1:
            sound &= _minor(hessian, entries, r) > margin * _minor(fisher, entries, r)
        if entries > 3:
            sound &= _determinant(hessian, r) > margin * _determinant(fisher, r)
        if not sound:
            for entry in range(entries):
                hessian[entry, r] = fisher[entry, r]


@_compiled
def _minor(m, entries, r):  # type: ignore[no-untyped-def]
    """Determinant of the upper left 2 x 2 part."""
    return m[0, r] * m[2 if entries == 3 else 3, r] - m[1, r] * m[1, r]


@_compiled
def _determinant(m, r):  # type: ignore[no-untyped-def]
    a, b, c, d, e, f = m[0, r], m[1, r], m[2, r], m[3, r], m[4, r], m[5, r]
    return a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)


@_compiled
def _solved(m, right, solution):  # type: ignore[no-untyped-def]
    """Solve the symmetric systems (upper triangles, at most 3 x 3) in closed form."""
    one = solution.dtype.type(1)
    if len(m) == 1:
        for r in range(LANES):
            solution[0, r] = right[0, r] / m[0, r]
    elif len(m) == 3:
        for r in range(LANES):
            scale = one / (m[0, r] * m[2, r] - m[1, r] * m[1, r])
            x, y = right[0, r], right[1, r]
            solution[0, r] = (m[2, r] * x - m[1, r] * y) * scale
            solution[1, r] = (m[0, r] * y - m[1, r] * x) * scale
    else:
        for r in range(LANES):
            a, b, c, d, e, f = m[0, r], m[1, r], m[2, r], m[3, r], m[4, r], m[5, r]
            scale = one / (a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d))
            x, y, z = right[0, r], right[1, r], right[2, r]
            ab, ac, bc = c * e - b * f, b * e - c * d, b * c - a * e
            solution[0, r] = ((d * f - e * e) * x + ab * y + ac * z) * scale
            solution[1, r] = (ab * x + (a * f - c * c) * y + bc * z) * scale
            solution[2, r] = (ac * x + bc * y + (a * d - b * b) * z) * scale


@_compiled
def _moved(lines, step, downhill, lower, upper, length, part):  # type: ignore[no-untyped-def]
    """Take a step that is not too long; its squared length in standard errors."""
    zero = length.dtype.type(0)
    for r in range(LANES):
        length[r] = 0
    for k in range(len(lines)):
        longest = part * (upper[k] - lower[k])
        for r in range(LANES):
            length[r] += step[k, r] * downhill[k, r]
            taken = min(max(step[k, r], -longest), longest)
            lines[k, r] += taken if taken == taken else zero  # not a number: stay


@_compiled
def _into(lines, lower, upper):  # type: ignore[no-untyped-def]
    for k in range(len(lines)):
        for r in range(LANES):
            lines[k, r] = min(max(lines[k, r], lower[k]), upper[k])


@_compiled
def _started(counts, scatter, groups, air, coefficients, least, most, parents, factors, lines, terms):  # type: ignore[no-untyped-def]
    """The polynomial of `start.Start` for a block of rays."""
    k_all, bins = groups.shape
    logs, variables = len(parents), len(parents) + k_all  # where these stand in `terms`
    for g in range(k_all):
        for r in range(LANES):
            counted = np.float32(0)
            for j in range(bins):
                counted += groups[g, j] * (counts[j, r] - scatter[j, r])
            terms[logs + g, r] = math.log(air[g] / max(counted, _LEAST_COUNTED))
    for r in range(LANES):
        mean = terms[logs, r]
        for g in range(1, k_all):
            mean += terms[logs + g, r]
            terms[variables + g, r] = terms[logs + g - 1, r] - terms[logs + g, r]
        terms[variables, r] = mean / np.float32(k_all)
    for k in range(k_all):
        scale = _F_ONE / max(-least[k], most[k])
        for r in range(LANES):
            terms[variables + k, r] = min(max(terms[variables + k, r], least[k]), most[k]) * scale
    _zero(lines)
    for t in range(len(parents)):
        for r in range(LANES):
            value = terms[variables + factors[t], r]
            if parents[t] >= 0:
                value *= terms[parents[t], r]
            terms[t, r] = value
        for k in range(k_all):
            for r in range(LANES):
                lines[k, r] += coefficients[k, t] * terms[t, r]


@_compile(**_WAY)
def solve_group(counts, scatter, tables, bounds, start, tolerance, correct_bias, found, spaces):  # type: ignore[no-untyped-def]
    """Solve the rays of one group; returns the most steps that a ray took. `found` is filled: line integrals
    `[material, ray]`, which of them converged inside the region, what was counted in all bins (both `[ray]`);
    it also has the rays' numbers.

    `counts` (below 0 is 0) and `scatter` `[bin, ray]`; `tables`: moments `[moment * bin, node]` and
    `attenuation` `[material, node]`; `bounds`: the box, the guard and its limits (`quadrature.Region`);
    `start` as `compiled` makes it; `spaces`: room to work in. Of what comes twice, the first is float32."""
    quick_table, exact_table, quick_attenuation, attenuation = tables
    quick_lower, quick_upper, lower, upper, guard, limits = bounds
    lines, good, counted, todo = found
    quick_space, exact_space = spaces
    groups, air, coefficients, least, most, parents, factors = start
    bins, rays = counts.shape
    k_all = len(attenuation)
    entries = k_all * (k_all + 1) // 2
    rows = (1 + k_all + entries) * bins
    n4, s4, at4, passed4, moments4, down4, step4, fisher4, hessian4, work4, lengths4, terms = quick_space
    n8, s8, at8, passed8, moments8, down8, step8, fisher8, matrix8, work8, lengths8, _ = exact_space
    before, length4, length8, rate, fine = lengths4[0], lengths4[1], lengths8[0], lengths8[1], lengths8[2]
    least4, margin4, longest4 = np.float32(_LEAST), np.float32(1e-3), np.float32(0.2)
    left, most_steps = rays, 0
    for turn in range(ROUNDS):
        kept = 0
        for first in range(0, left, LANES):
            size = min(LANES, left - first)
            for r in range(LANES):
                ray = todo[first + min(r, size - 1)]  # the last ray fills what is left of a block
                counted[ray] = 0
                for j in range(bins):
                    n8[j, r] = max(counts[j, ray], 0.0)
                    counted[ray] += n8[j, r]
                    s8[j, r] = scatter[j, ray]
                    n4[j, r] = n8[j, r]
                    s4[j, r] = s8[j, r]
                if turn > 0:
                    for k in range(k_all):
                        at4[k, r] = lines[k, ray]
            if turn == 0:
                _started(n4, s4, groups, air, coefficients, least, most, parents, factors, at4, terms)
                _into(at4, quick_lower, quick_upper)
            for step in range(2):
                _attenuated(quick_attenuation, at4, passed4)
                for q in range(len(passed4)):
                    for r in range(LANES):
                        passed4[q, r] = _exp32(passed4[q, r])
                curved = turn > 0 or step > 0
                _moments(quick_table, passed4, 0, rows if curved else (1 + k_all) * bins, moments4)
                _terms(moments4, n4, s4, down4, fisher4, hessian4, work4, least4, curved)
                if curved:
                    _safe(hessian4, fisher4, margin4)
                _solved(hessian4 if curved else fisher4, down4, step4)
                for r in range(LANES):
                    before[r] = length4[r]
                _moved(at4, step4, down4, quick_lower, quick_upper, length4, longest4)
                _into(at4, quick_lower, quick_upper)
            for r in range(LANES):
                rate[r] = min(
                    16 * (length4[r] / np.float64(before[r])) ** 2, 1.0
                )  # squared, of squared lengths
                for k in range(k_all):
                    at8[k, r] = at4[k, r]
                for entry in range(entries):
                    matrix8[entry, r] = hessian4[entry, r]
            for exact in range(EXACT_STEPS):
                _attenuated(attenuation, at8, passed8)
                for q in range(len(passed8)):
                    for r in range(LANES):
                        passed8[q, r] = _exp64(passed8[q, r])
                _moments(exact_table, passed8, 0, (1 + k_all) * bins, moments8)
                _gradient(moments8, n8, s8, down8, work8, _LEAST)
                _solved(matrix8, down8, step8)
                _moved(at8, step8, down8, lower, upper, length8, 0.2)
                missing = 0
                for r in range(LANES):
                    inside = True
                    one = two = 0.0
                    for k in range(k_all):
                        inside &= (at8[k, r] > lower[k]) & (at8[k, r] < upper[k])
                        one += guard[0, k] * at8[k, r]
                        two += guard[1, k] * at8[k, r]
                    inside &= (one >= limits[0]) & (one <= limits[1]) & (two >= limits[2])
                    # also False for what is no number, and for a step that leads uphill
                    fine[r] = inside & (length8[r] >= 0) & (rate[r] * length8[r] <= tolerance**2)
                    missing += fine[r] == 0
                _into(at8, lower, upper)
                most_steps = max(most_steps, 2 * (turn + 1) + exact + 1)
                if missing <= FEW:
                    break
            if correct_bias:
                _moments(exact_table, passed8, (1 + k_all) * bins, rows, moments8)
                _take_bias_off(moments8, s8, at8, fisher8, down8, step8, matrix8, work8, fine)
            for r in range(size):
                ray = todo[first + r]
                good[ray] = fine[r] != 0
                for k in range(k_all):
                    lines[k, ray] = at8[k, r]
                if fine[r] == 0:
                    todo[kept] = ray
                    kept += 1
        left = kept
        if left == 0:
            break
    return most_steps


@_compiled
def _take_bias_off(moments, scatter, lines, fisher, right, solution, covariance, work, fine):  # type: ignore[no-untyped-def]
    """What `likelihood.second_order_bias` says, off the lines that are `fine`."""
    bins, k_all = len(scatter), len(lines)
    _zero(fisher)
    for j in range(bins):
        _inverse(moments, scatter, j, work, _LEAST)
        entry = 0
        for i in range(k_all):
            for k in range(i, k_all):
                for r in range(LANES):
                    slopes = moments[(1 + i) * bins + j, r] * moments[(1 + k) * bins + j, r]
                    fisher[entry, r] += slopes * work[0, r]
                entry += 1
    entry = 0
    for i in range(k_all):  # the inverse, column by column, of which the upper triangle is kept
        _zero(right)
        for r in range(LANES):
            right[i, r] = 1
        _solved(fisher, right, solution)
        for k in range(i, k_all):
            for r in range(LANES):
                covariance[entry, r] = solution[k, r]
            entry += 1
    _zero(right)
    for j in range(bins):
        _inverse(moments, scatter, j, work, _LEAST)
        for r in range(LANES):
            work[1, r] = 0
        entry = 0
        for i in range(k_all):
            for k in range(i, k_all):
                twice = 1.0 if i == k else 2.0
                for r in range(LANES):
                    curve = moments[(1 + k_all + entry) * bins + j, r]
                    work[1, r] += twice * covariance[entry, r] * curve
                entry += 1
        for k in range(k_all):
            for r in range(LANES):
                right[k, r] += 0.5 * moments[(1 + k) * bins + j, r] * work[0, r] * work[1, r]
    _solved(fisher, right, solution)
    for r in range(LANES):
        small, entry = fine[r] != 0, 0
        for k in range(k_all):
            small &= solution[k, r] * solution[k, r] <= covariance[entry, r]  # False for what is no number
            entry += k_all - k
        if small:
            for k in range(k_all):
                lines[k, r] -= solution[k, r]
