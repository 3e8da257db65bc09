"""The patients that the benchmark measures on: pairs of degraded and reference slices, on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ctenhance
from ctenhance import degrade
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.training import read_pairs
from ctenhance.runtime.errors import InputError
from kept import Store, digest

Array = np.ndarray

#: Patients that no network of this project is trained on: the first three stop the training, the other two
#: only test.
HELD_OUT = ("LIDC-IDRI_0314", "CB001", "cptac_pda", "CT-1006", "LIDC-IDRI_0005")
#: Longer scans are cut to their middle before they are degraded, which takes up to 2 s a slice.
MOST_SLICES = 48
#: Contiguous slices on which flicker along z is measured.
FLICKER_SLICES = 8


@dataclass(frozen=True)
class Case:
    """One patient: `degraded` and `reference` HU `[z, y, x]`, `spacing` (x, y, z) mm, slices to measure."""

    name: str
    degraded: Array
    reference: Array
    spacing: tuple[float, float, float]
    chosen: tuple[int, ...]

    @property
    def contiguous(self) -> range:
        """Neighbouring slices from the middle of the volume."""
        count = min(FLICKER_SLICES, len(self.degraded))
        start = (len(self.degraded) - count) // 2
        return range(start, start + count)

    @property
    def stride_mm(self) -> float:
        """Distance of the chosen slices along z."""
        steps = np.diff(self.chosen)
        return float(self.spacing[2] * (steps.min() if len(steps) else 1))


@dataclass(frozen=True)
class Source:
    """Cases that are averaged over together, and one sentence on what they are."""

    title: str
    note: str
    names: tuple[str, ...]
    load: Callable[[str], Case]


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most `most` of `count` indices, at even distances and centred."""
    if most >= count:
        return tuple(range(count))
    return tuple(int((k + 0.5) * count / most) for k in range(most))


def middle_slices(volume: CTVolume, most: int) -> CTVolume:
    """At most `most` slices from the middle of a scan."""
    start = max(0, (len(volume.array) - most) // 2)
    array = volume.array[start : start + most]
    return CTVolume(array, volume.spacing, volume.origin, volume.direction, dict(volume.meta))


def pairs_source(folder: Path, slices: int) -> Source:
    """Pairs `<name>_degraded.*` / `<name>_reference.*`.

    Raises InputError where there are none, or one lacks its partner.
    """
    pairs = {name: (low, high) for name, low, high in read_pairs(folder)}

    def load(name: str) -> Case:
        low, high = pairs[name]
        (reference,) = folder.glob(f"{name}_reference.*")
        spacing = _floats(CTVolume.read(reference).spacing)
        return Case(name, low, high, spacing, evenly(len(low), slices))

    note = "Pairs as given: what they are (real or simulated, which dose) is for whoever made them to say."
    return Source(f"pairs in {folder.name}", note, tuple(pairs), load)


def held_out_source(
    folder: Path, parts: Sequence[str], slices: int, dose: float, seed: int, kept: Store
) -> Source:
    """Held-out scans of `folder`, degraded here by `routine`, once where `kept` has a folder.

    Raises InputError where a scan is absent."""
    files = {}
    for part in parts:
        found = sorted(folder.glob(f"*{part}*.nii.gz"))
        if len(found) != 1:
            raise InputError(
                f"{folder.name} holds {len(found)} scans with '{part}' in the name, not 1: "
                "choose others with --only."
            )
        files[found[0].name.removesuffix(".nii.gz")] = found[0]
    seeds = {name: seed + number for number, name in enumerate(files)}

    def load(name: str) -> Case:
        cut = middle_slices(CTVolume.read(files[name]), MOST_SLICES)

        def make() -> dict[str, Array]:
            found = degrade(cut, preset="routine", dose=dose, seed=seeds[name], device="cpu")
            return {"low": found.volumes["degraded"].array}

        key = {"routine": digest(cut.array), "dose": dose, "seed": seeds[name], "by": ctenhance.__version__}
        low = kept.arrays(key, make)["low"]
        return Case(name, low, cut.array, _floats(cut.spacing), evenly(len(low), slices))

    note = (
        f"Scans of patients that no model was trained on, degraded by `routine` at dose {dose:g} (seeds from "
        f"{seed} on): noise always; by chance thicker slices, another kernel, motion, beam hardening, rings."
    )
    return Source(f"held-out patients, routine at dose {dose:g}", note, tuple(files), load)


def _floats(spacing: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in spacing)
    return x, y, z
