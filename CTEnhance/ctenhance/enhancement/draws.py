"""The mean of draws and their standard deviation, as one draw after another comes."""

from __future__ import annotations

import numpy as np

#: Pixels a side over which the variance of few draws is averaged.
POOLED = 5


class Draws:
    """Draws of one image. With `paired` each second one is antithetic: drawn from the noise of the one before
    turned negative.

    Half the difference of such a pair and its mean do not correlate, and their variances add up to that of a
    draw. So the variance is that of the half differences, whose mean is 0, plus that of the means; to take
    the draws for independent would double the first. A last draw without its partner counts for the mean
    alone; of one pair only the first part is known."""

    def __init__(self, paired: bool, spread: bool = True) -> None:
        self.paired, self._spread = paired, spread
        self.count = 0
        self._mean: np.ndarray = np.zeros((), np.float32)
        self._half: np.ndarray | None = None  # the draw that waits for its partner
        self._differences: np.ndarray = np.zeros((), np.float32)
        self._groups = 0
        self._centre: np.ndarray = np.zeros((), np.float32)
        self._squares: np.ndarray = np.zeros((), np.float32)

    def add(self, image: np.ndarray) -> None:
        """One more draw."""
        self.count += 1
        if self.count == 1:
            self._mean = image
        else:
            self._mean = self._mean + (image - self._mean) / np.float32(self.count)
        if not self._spread:
            return
        if not self.paired:
            self._group(image)
        elif self._half is None:
            self._half = image
        else:
            first, self._half = self._half, None
            self._differences = self._differences + np.square((image - first) / 2)
            self._group((image + first) / 2)

    def _group(self, value: np.ndarray) -> None:
        """Welford's sums over what is independent: draws, or means of pairs."""
        self._groups += 1
        delta = value - self._centre
        self._centre = self._centre + delta / np.float32(self._groups)
        self._squares = self._squares + delta * (value - self._centre)

    @property
    def mean(self) -> np.ndarray:
        """The mean of all draws so far."""
        return self._mean

    @property
    def variance(self) -> np.ndarray | None:
        """The variance of one draw, pixel by pixel; None where there are too few."""
        if self._groups == 0 or (self._groups == 1 and not self.paired):
            return None
        variance = self._squares / np.float32(max(1, self._groups - 1))
        return variance + self._differences / np.float32(self._groups)

    @property
    def sd(self) -> np.ndarray | None:
        """The standard deviation `[..., y, x]` of one draw: the root of the variance's mean over `POOLED` x
        `POOLED` pixels, since that of a few draws alone is mostly chance."""
        variance = self.variance
        if variance is None:
            return None
        return np.sqrt(_pooled(_pooled(variance).swapaxes(-2, -1)).swapaxes(-2, -1))


def _pooled(values: np.ndarray) -> np.ndarray:
    """The mean over `POOLED` neighbours along the last axis; at its ends the edge is repeated."""
    padding = [(0, 0)] * (values.ndim - 1) + [(POOLED // 2, POOLED // 2)]
    padded = np.pad(values, padding, mode="edge")
    parts = [padded[..., k : k + values.shape[-1]] for k in range(POOLED)]
    return np.sum(parts, axis=0) / np.float32(POOLED)
