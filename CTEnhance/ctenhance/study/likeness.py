"""Do the images of a case show one body? Files that were exchanged make a case of two patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

#: Slices, rows and columns of the small picture by which images are compared, and its range, HU.
_SHAPE, _RANGE_HU = (8, 24, 24), (-1000.0, 300.0)
#: Pictures of one body correlate more than the first, however noisy or sharp they are; another case is meant
#: where they do so much better. Without so much in them (SD, HU) nothing is said.
_ONE_BODY, _MEANT, _LEAST_SD_HU = 0.93, 0.97, 80.0


@dataclass
class Likeness:
    """Small pictures of the images of all cases, by case and arm."""

    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, case: str, images: Mapping[str, np.ndarray]) -> None:
        """Keep small pictures of a case's images [z, y, x] in HU by their arms."""
        self.pictures[case] = {arm: _small(array) for arm, array in images.items()}

    def sentences(self) -> list[str]:
        """Say of which cases the images look like different bodies, and like which other case's."""
        found = []
        for case, arms in self.pictures.items():
            first, *others = arms
            for other in others:
                if _alike(arms[first], arms[other]) >= _ONE_BODY:
                    continue
                meant = self._meant(case, arms[other], first)
                looks = f", and '{other}' looks like '{first}' of '{meant}'" if meant else ""
                found.append(
                    f"The images '{first}' and '{other}' of case '{case}' hardly look like one body{looks}: "
                    "make sure that no files were exchanged."
                )
        return found

    def _meant(self, case: str, picture: np.ndarray, arm: str) -> str:
        likely = {name: _alike(arms[arm], picture) for name, arms in self.pictures.items() if name != case}
        best = max(likely, key=lambda name: likely[name], default="")
        return best if best and likely[best] >= _MEANT else ""


def _small(array: np.ndarray) -> np.ndarray:
    """Return means of the image's parts [z, y, x], as many as `_SHAPE` has or it has voxels."""
    parts = [
        np.array_split(np.arange(length), min(length, count))
        for length, count in zip(array.shape, _SHAPE, strict=True)
    ]
    rows, columns = ([one[0] for one in axis] for axis in parts[1:])
    slices = []
    for some in parts[0]:
        plane = np.clip(array[some[len(some) // 2]], *_RANGE_HU).astype(np.float64)
        sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
        slices.append(sums / np.outer([len(one) for one in parts[1]], [len(one) for one in parts[2]]))
    return np.stack(slices)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return how pictures correlate; 1 where there is too little in them to say."""
    if one.shape != other.shape or min(one.std(), other.std()) < _LEAST_SD_HU:
        return 1.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
