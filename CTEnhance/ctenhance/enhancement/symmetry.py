"""The eight symmetries of a slice: what a network makes of a turned or mirrored slice errs in another way.

For numpy arrays and torch tensors alike, so that what runs without torch and what trains do the same."""

from __future__ import annotations

from typing import Any

import numpy as np

SYMMETRIES = 8


def turned(x: Any, symmetry: int) -> Any:
    """Images `[..., y, x]` turned by `symmetry` % 4 quarters, and mirrored after that from the fourth on."""
    return _mirrored(_rotated(x, symmetry % 4)) if symmetry >= 4 else _rotated(x, symmetry % 4)


def turned_back(x: Any, symmetry: int) -> Any:
    """The inverse of `turned`."""
    return _rotated(_mirrored(x) if symmetry >= 4 else x, -symmetry % 4)


def _rotated(x: Any, quarters: int) -> Any:
    if quarters == 2:
        return _flipped(x, (-2, -1))
    return _flipped(x.swapaxes(-2, -1), (-2,) if quarters == 1 else (-1,)) if quarters else x


def _mirrored(x: Any) -> Any:
    return _flipped(x, (-1,))


def _flipped(x: Any, axes: tuple[int, ...]) -> Any:
    return np.flip(x, axes) if isinstance(x, np.ndarray) else x.flip(axes)
