"""Images of a volume by name, filled slice by slice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass
class ImageStack:
    """Images `[slice, y, x]`, float32, all of one shape; each is there once its first slice is put."""

    shape: tuple[int, int, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def put(self, name: str, index: int, image: torch.Tensor) -> None:
        """Put a slice `[y, x]` of the image called `name`."""
        if name not in self.arrays:
            self.arrays[name] = np.empty(self.shape, np.float32)
        self.arrays[name][index] = image.float().cpu().numpy()
