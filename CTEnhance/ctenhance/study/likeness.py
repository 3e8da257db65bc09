"""Do the images of a case show one body, and each case another? Files are exchanged, and copied."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ctenhance.core.likeness import ONE_BODY, alike, how_displaced, small_picture
from ctenhance.runtime.words import noun

#: Another case is meant where pictures correlate by this.
_MEANT = 0.97
#: What lies around the scanned field is the blinding's, not the image's, HU.
_AIR_HU = -1000


@dataclass
class Likeness:
    """Small pictures of the images of all cases, by case and arm, hashes of the images, and how those of one
    case do not lie on each other.
    """

    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    hashes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    displaced: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, case: str, images: Mapping[str, np.ndarray], spacing: Sequence[float]) -> None:
        """Look at a case's images [z, y, x] in HU by their arms; `spacing` (x, y, z) in mm."""
        first, *others = images
        for other in others:
            if how := how_displaced(images[first], images[other], spacing):
                self.displaced[case, other] = how
        self.pictures[case] = {arm: small_picture(array) for arm, array in images.items()}
        self.hashes[case] = {arm: _hash(array) for arm, array in images.items()}

    def sentences(self) -> list[str]:
        """Say of which cases the images look like different bodies, and like which other case's, or do not
        lie on each other; and which images are there twice."""
        return [*self._two_bodies(), *self._same_in_arms(), *self._same_in_cases()]

    def _two_bodies(self) -> list[str]:
        found = []
        for case, arms in self.pictures.items():
            first, *others = arms
            for other in others:
                if how := self.displaced.get((case, other)):
                    found.append(
                        f"The images '{first}' and '{other}' of case '{case}' {how}: readers will see "
                        "that, and judge other places."
                    )
                    continue
                if alike(arms[first], arms[other]) >= ONE_BODY:
                    continue
                meant = self._meant(case, arms[other], first)
                looks = f", and '{other}' looks like '{first}' of '{meant}'" if meant else ""
                found.append(
                    f"The images '{first}' and '{other}' of case '{case}' hardly look like one body{looks}: "
                    "make sure that no files were exchanged."
                )
        return found

    def _same_in_arms(self) -> list[str]:
        cases: dict[tuple[str, str], list[str]] = {}
        for case, arms in self.hashes.items():
            for one, other in itertools.combinations(arms, 2):
                if arms[one] == arms[other]:
                    cases.setdefault((one, other), []).append(f"'{case}'")
        return [
            f"The images '{one}' and '{other}' of {noun(len(names), 'case')} {', '.join(names)} are the "
            "same, voxel for voxel: was a file copied that should have been processed?"
            for (one, other), names in cases.items()
        ]

    def _same_in_cases(self) -> list[str]:
        found = []
        for (one, arms), (other, others) in itertools.combinations(self.hashes.items(), 2):
            if same := [arm for arm, hashed in arms.items() if hashed in others.values()]:
                which = " and ".join(f"'{arm}'" for arm in same)
                found.append(
                    f"Cases '{one}' and '{other}' have the same image ({which}), voxel for voxel: one "
                    "patient counts twice, where every test takes cases as independent; leave one out."
                )
        return found

    def _meant(self, case: str, picture: np.ndarray, arm: str) -> str:
        likely = {name: alike(arms[arm], picture) for name, arms in self.pictures.items() if name != case}
        best = max(likely, key=lambda name: likely[name], default="")
        return best if best and likely[best] >= _MEANT else ""


def _hash(array: np.ndarray) -> bytes:
    digest = hashlib.sha256(repr(array.shape).encode())
    for plane in array:
        digest.update(np.ascontiguousarray(np.maximum(plane, _AIR_HU)).data)
    return digest.digest()
