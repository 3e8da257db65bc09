"""Do the images of a case show one body? Files that were exchanged make a case of two patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ctenhance.core.likeness import ONE_BODY, alike, small_picture

#: Another case is meant where pictures correlate by this.
_MEANT = 0.97


@dataclass
class Likeness:
    """Small pictures of the images of all cases, by case and arm."""

    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, case: str, images: Mapping[str, np.ndarray]) -> None:
        """Keep small pictures of a case's images [z, y, x] in HU by their arms."""
        self.pictures[case] = {arm: small_picture(array) for arm, array in images.items()}

    def sentences(self) -> list[str]:
        """Say of which cases the images look like different bodies, and like which other case's."""
        found = []
        for case, arms in self.pictures.items():
            first, *others = arms
            for other in others:
                if alike(arms[first], arms[other]) >= ONE_BODY:
                    continue
                meant = self._meant(case, arms[other], first)
                looks = f", and '{other}' looks like '{first}' of '{meant}'" if meant else ""
                found.append(
                    f"The images '{first}' and '{other}' of case '{case}' hardly look like one body{looks}: "
                    "make sure that no files were exchanged."
                )
        return found

    def _meant(self, case: str, picture: np.ndarray, arm: str) -> str:
        likely = {name: alike(arms[arm], picture) for name, arms in self.pictures.items() if name != case}
        best = max(likely, key=lambda name: likely[name], default="")
        return best if best and likely[best] >= _MEANT else ""
