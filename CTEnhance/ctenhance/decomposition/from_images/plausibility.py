"""Whether a table's attenuations can be those of its materials, and whether densities can be a body's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ctenhance.decomposition.from_images.attenuation import Attenuation, distinctness, most_alike
from ctenhance.decomposition.products import LEAST_IMPOSSIBLE, far_below_zero
from ctenhance.physics.materials import Material, material
from ctenhance.runtime.errors import InputError

#: keV at which the program's own tables are looked at: from micro-CT to the highest monoenergetic images.
_KEV = np.geomspace(12.0, 250.0, 300)
#: How far around an image's energy a table's ratio to water is looked for: measured ones and averages over a
#: spectrum are not those of one energy; and by what factor it may lie outside of what is found there.
_AROUND_KEV, _AROUND_WATER, _OF_TUBE, _WITHIN = 1.15, 1.5, (0.25, 0.95), 2.0
#: cm²/g in the units that tables are written in (cm²/g, m²/kg); 1 for water in all images: relative to it.
_UNITS = (1.0, 10.0)
#: What a material adds to an image, in parts of water's attenuation, to be looked at (fat in a basis of water
#: and iodine lacks 0.12), and so many of its standard errors; how much of that is negative where it is wrong,
#: and the fewest voxels that tell.
_CLEAR, _CLEAR_ERRORS, _MOST_NEGATIVE, _FEWEST, _LEAST_SHARE = 0.2, 5.0, 0.8, 100, 2e-4

#: Materials are much alike below this distinctness.
_ALIKE = 0.15


def doubts_of_table(attenuation: Attenuation) -> list[str]:
    """Sentences on materials whose attenuation in a table is not, within wide limits, what the program's own
    tables have for them beside water's, at energies that fit.

    Raises InputError where columns or lines are clearly exchanged."""
    worst = _misfit(attenuation)
    if worst is None:
        return []
    labels, names = [one.label for one in attenuation.energies], [one.name for one in attenuation.materials]
    for one, other in itertools.combinations(("water", *(name for name in names if name != "water")), 2):
        if _misfit(_columns_exchanged(attenuation, one, other)) is None:
            raise InputError(
                f"The table's columns '{one}' and '{other}' are exchanged, by what these materials "
                "attenuate: correct its first line."
            )
    for i, j in itertools.combinations(range(len(labels)), 2):
        order = list(range(len(labels)))
        order[i], order[j] = j, i
        if (
            _misfit(replace(attenuation, mass=attenuation.mass[order], water=attenuation.water[order]))
            is None
        ):
            raise InputError(
                f"The table's lines '{labels[i]}' and '{labels[j]}' are exchanged, by what materials "
                "attenuate at these energies: correct their names."
            )
    image, k, factor = worst
    ratio = float(attenuation.relative[image, k])
    way = f"{1 / factor:.2g} times too little" if factor < 1 else f"{factor:.2g} times too much"
    return [
        f"By the table, {names[k]} attenuates {ratio:.3g} times as much as water in the image "
        f"'{labels[image]}', gram for gram: {way} or more, by the program's own tables. Check the column "
        f"'{names[k]}': all columns must be in one unit (cm²/g), and per density, not of the solid; what is "
        "found of it will be wrong by as much."
    ]


def order_of(attenuation: Attenuation) -> list[float] | None:
    """What the images can be sorted by from low to high energy: their own energies, or, where these are not
    told, how little water attenuates by the table; None where nothing tells."""
    known = [one.order for one in attenuation.energies]
    if all(one is not None for one in known):
        return [one or 0.0 for one in known]
    water = attenuation.water.tolist()
    apart = min(abs(np.log(a / b)) for a, b in itertools.combinations(water, 2))
    return [-one for one in water] if apart > 0.02 else None


class Negatives:
    """Voxels in which the one material of a basis that attenuates more than water is clearly there, or
    clearly negative, as no material is.

    `errors_mg_ml`: its standard errors `[material]`."""

    def __init__(self, attenuation: Attenuation, errors_mg_ml: torch.Tensor) -> None:
        relative = attenuation.relative
        heavy = [k for k in range(relative.shape[1]) if bool((relative[:, k] > 1.02).any())]
        self.index = heavy[0] if len(heavy) == 1 else None
        self.positive = self.negative = self.body = 0
        if self.index is None:
            return
        self.name = attenuation.materials[self.index].name
        # beyond its K edge bone, which the basis lacks, is rightly negative
        order = order_of(attenuation)
        sorted_by = relative[np.argsort(order), self.index].tolist() if order else []
        if any(high > low for low, high in itertools.pairwise(sorted_by)):
            self.index = None
            return
        error = float(errors_mg_ml[self.index]) / 1000
        self.least = max(_CLEAR / float(relative[:, self.index].max()), _CLEAR_ERRORS * error)

    def add(self, maps: torch.Tensor, body: torch.Tensor) -> None:
        """Count in maps in g/cm³ `[material, row, column]`."""
        if self.index is not None:
            inside = maps[self.index][body]
            self.body += inside.numel()
            self.positive += int((inside > self.least).sum())
            self.negative += int((inside < -self.least).sum())

    def sentences(self) -> list[str]:
        """What is to be said of them."""
        clear = self.positive + self.negative
        if self.negative < max(_FEWEST, _LEAST_SHARE * self.body) or self.negative < _MOST_NEGATIVE * clear:
            return []
        return [
            f"{self.name.capitalize()} is negative in {100 * self.negative / clear:.0f} % of the voxels "
            "where it is clearly not zero, as nothing is: images, or lines or columns of the table, are "
            "exchanged, or the attenuations are not those of these images."
        ]


class Impossible:
    """Voxels with so much less than nothing of a material as one of its solid has: where the materials of a
    basis are much alike, whatever else is in the images becomes large amounts of them with opposite signs.

    `errors_mg_ml`: the materials' standard errors `[material]`."""

    def __init__(self, attenuation: Attenuation, errors_mg_ml: torch.Tensor, conserved: bool) -> None:
        self.attenuation, self.conserved = attenuation, conserved
        densities = torch.tensor([one.density for one in attenuation.materials], dtype=torch.float64)
        self.least = torch.maximum(densities, _CLEAR_ERRORS * errors_mg_ml.double().cpu() / 1000)
        self.count = torch.zeros(len(densities), dtype=torch.int64)
        self.total = torch.zeros(len(densities), dtype=torch.float64)
        self.body = 0

    def add(self, maps: torch.Tensor, body: torch.Tensor) -> None:
        """Count in maps in g/cm³ `[material, row, column]`."""
        inside = maps[:, body]
        self.body += inside.shape[1]
        low = inside < -self.least.to(inside)[:, None]
        self.count += low.sum(1).cpu()
        self.total += (inside * low).sum(1, dtype=torch.float64).cpu()

    def sentences(self) -> list[str]:
        """What is to be said of them."""
        k = int(self.count.argmax())
        count = int(self.count[k])
        if count < max(_FEWEST, LEAST_IMPOSSIBLE * self.body):
            return []
        one = self.attenuation.materials[k]
        found = far_below_zero(one, float(self.total[k]) / count, count / self.body)
        pair = most_alike(self.attenuation)
        alike = float(distinctness(self.attenuation, self.conserved).min()) < _ALIKE
        if not alike or one.name not in pair:
            return [
                f"{found} The energies or attenuations are not those of these images, or something is in "
                "them that the basis lacks: name what is in them."
            ]
        if set(pair) == {"water", "iodine"}:
            return [
                f"{found} At these energies even water and iodine attenuate much alike: make sure that they "
                "are those of the images; images at energies that are further apart tell them apart."
            ]
        return [
            f"{found} At these energies {pair[0]} and {pair[1]} attenuate much alike, and whatever else is "
            "in the images becomes large amounts of both with opposite signs: choose a basis of what is in "
            "them, such as water,iodine."
        ]


def _columns_exchanged(attenuation: Attenuation, one: str, other: str) -> Attenuation:
    columns = {material.name: attenuation.mass[:, k] for k, material in enumerate(attenuation.materials)}
    columns["water"] = attenuation.water
    columns[one], columns[other] = columns[other], columns[one]
    mass = torch.stack([columns[material.name] for material in attenuation.materials], 1)
    return replace(attenuation, mass=mass, water=columns["water"])


def _misfit(attenuation: Attenuation) -> tuple[int, int, float] | None:
    """Image and material that fit worst, and the factor by which they do not; None where all fit in one of
    the ways in which tables are written."""
    found = [_worst(attenuation, spans) for spans in _spans(attenuation)]
    if not found or any(abs(np.log(factor)) <= np.log(_WITHIN) for *_, factor in found):
        return None
    return min(found, key=lambda one: abs(np.log(one[2])))


def _worst(attenuation: Attenuation, spans: Sequence[tuple[float, float]]) -> tuple[int, int, float]:
    worst = (0, 0, 1.0)
    for k, one in enumerate(attenuation.materials):
        expected = _beside_water(one)
        for image, (low, high) in enumerate(spans):
            within = expected[(low <= _KEV) & (high >= _KEV)]
            ratio = float(attenuation.relative[image, k])
            factor = ratio / float(np.clip(ratio, within.min(), within.max()))
            if abs(np.log(factor)) > abs(np.log(worst[2])):
                worst = (image, k, factor)
    return worst


def _beside_water(one: Material) -> np.ndarray:
    at = torch.from_numpy(_KEV)
    return (one.mass_attenuation(at) / material("water").mass_attenuation(at)).numpy()


def _spans(attenuation: Attenuation) -> Iterator[list[tuple[float, float]]]:
    """By the ways in which a table may be written, in what span of keV each image may be."""
    energies, water = attenuation.energies, attenuation.water.numpy()
    whole = (float(_KEV[0]), float(_KEV[-1]))
    ours = material("water").mass_attenuation(torch.from_numpy(_KEV)).numpy()

    def span(image: int, by_water: tuple[float, float] | None) -> tuple[float, float]:
        one = energies[image]
        if one.kev is not None:
            return one.kev / _AROUND_KEV, one.kev * _AROUND_KEV
        if one.kvp is not None:
            return _OF_TUBE[0] * one.kvp, _OF_TUBE[1] * one.kvp
        return by_water or whole

    if np.ptp(water) < 0.005 * water.max() or all(one.order is not None for one in energies):
        yield [span(image, None) for image in range(len(energies))]
        return
    known = False
    for unit in _UNITS:
        if (water * unit <= ours.max()).all() and (water * unit >= ours.min()).all():
            known = True
            middle = [float(np.interp(-one * unit, -ours, _KEV)) for one in water]
            yield [
                span(image, (max(whole[0], kev / _AROUND_WATER), min(whole[1], kev * _AROUND_WATER)))
                for image, kev in enumerate(middle)
            ]
    if not known:  # what stands in water's column is none, so nothing tells energies
        yield [span(image, None) for image in range(len(energies))]
