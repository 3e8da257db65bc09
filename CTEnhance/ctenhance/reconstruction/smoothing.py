"""Separable smoothing by sums of shifted copies: torch convolves a single channel 20 times more slowly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

#: Variance of `second_differences` of white noise of unit variance.
SECOND_DIFFERENCES_VARIANCE = 36.0


def along(x: torch.Tensor, taps: Sequence[float], axis: int, step: int = 1) -> torch.Tensor:
    """`x` `[batch, channel, view, column]` convolved with `taps` (an odd number of them, `step` apart) along
    its axis -2 or -1; beyond its ends it goes on as it ends."""
    half, n = len(taps) // 2 * step, x.shape[axis]
    padded = F.pad(x, (half, half, 0, 0) if axis == -1 else (0, 0, half, half), mode="replicate")
    total = padded.narrow(axis, 0, n) * taps[0]
    for number, tap in enumerate(taps[1:], 1):
        total = total.add_(padded.narrow(axis, number * step, n), alpha=tap)
    return total


def mean_nearby(x: torch.Tensor, side: int) -> torch.Tensor:
    """The mean of `x` `[batch, channel, view, column]` over `side` x `side` readings (an odd number); at the
    ends over those that there are. By running sums, which take as long for any side, in float64: a reading
    that is a million times the others must not be lost in theirs, nor theirs in its."""
    half, counts = side // 2, []
    for axis in (-2, -1):
        n = x.shape[axis]
        padding = (half + 1, half, 0, 0) if axis == -1 else (0, 0, half + 1, half)
        sums = F.pad(x, padding).cumsum(axis, dtype=torch.float64)
        x = (sums.narrow(axis, side, n) - sums.narrow(axis, 0, n)).float()
        place = torch.arange(n, device=x.device)
        counts.append(((place + half).clamp(max=n - 1) - (place - half).clamp(min=0) + 1).to(x))
    return x / (counts[0][:, None] * counts[1])


def asinh(x: torch.Tensor) -> torch.Tensor:
    """The inverse hyperbolic sine to float32's rounding, from functions that torch has vectors for."""
    size = x.abs()
    return torch.log1p(size + size.square() / (1 + (size.square() + 1).sqrt())).copysign(x)


def second_differences(x: torch.Tensor) -> torch.Tensor:
    """Second differences along views and columns `[..., view - 2, column - 2]`, which leave noise alone."""
    return x.diff(n=2, dim=-1).diff(n=2, dim=-2)
