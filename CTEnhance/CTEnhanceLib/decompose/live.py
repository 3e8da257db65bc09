"""A spectral image that is made where views look at it, of the maps there: see `liveslices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from CTEnhanceLib.decompose.spectral import SpectralImage, SpectralTable
from CTEnhanceLib.views.liveslices import LiveSlices


class LiveImage(LiveSlices):
    """One such volume, `node`; `display` is that of another to share window and level, or None.

    `guided` are the guided maps, without which there are no low-noise images.
    Raises MemoryError when there is no room.
    """

    def __init__(
        self,
        table: SpectralTable,
        maps: Sequence[Any],
        guided: Sequence[Any],
        image: SpectralImage,
        name: str,
        display: Any = None,
    ) -> None:
        super().__init__(maps[0], name, image, display)
        self._table = table
        self._maps, self._guided = (
            [slicer.util.arrayFromVolume(node) for node in nodes] for nodes in (maps, guided)
        )

    @property
    def image(self) -> SpectralImage:
        """What it shows."""
        return self.setting

    def setImage(self, image: SpectralImage, sliceNodes: Sequence[Any]) -> None:
        """Show another image, or energy, in these views."""
        if image.lowNoise != self.setting.lowNoise:
            self.forgetSources()  # it is made of other maps
        self.setting = image
        self.show(sliceNodes)

    def sources(self) -> Sequence[np.ndarray]:
        """Return the maps, and those of low noise where they are used."""
        return [*self._maps, *(self._guided if self.setting.lowNoise else [])]

    def values(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        """Return the image of the maps' values."""
        return self.setting.values(self._table, samples)
