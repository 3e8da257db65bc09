"""Random numbers that depend on what they are for, and not on the order in which they are drawn."""

from __future__ import annotations

import numpy as np
import torch


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU for these numbers (the user's seed, the slice, the draw …): the same each time,
    and independent of that for any others."""
    state = np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))
