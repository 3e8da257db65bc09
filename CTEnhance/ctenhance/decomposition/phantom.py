"""Phantoms of several materials: maps of partial density, for the simulator and its ground truth.

A solution of iodine is water at its density plus iodine at a few mg/mL, so that the maps are at once what the
simulator projects and what a decomposition should find.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.materials import Material, material
from ctenhance.runtime.errors import InputError

#: Concentrations of a multi-energy phantom's rods in mg/mL.
IODINE_RODS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0)
CALCIUM_RODS = (50.0, 100.0, 200.0, 400.0)
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Insert:
    """A rod: name, centre x, y and radius in mm, partial densities in mg/mL by material."""

    name: str
    x_mm: float
    y_mm: float
    radius_mm: float
    contents: Mapping[str, float]


@dataclass(frozen=True)
class MaterialPhantom:
    """`densities` g/cm³ float32 `[material, slice, row, column]` of `materials`, square pixels of `pixel_mm`,
    slices `slice_mm` apart, their middle at `center_mm` (x, y) from the isocentre; `inserts` are the rods in
    it whose contents are known."""

    materials: tuple[Material, ...]
    densities: torch.Tensor
    pixel_mm: float
    inserts: tuple[Insert, ...] = ()
    slice_mm: float = 1.0
    center_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def grid(self) -> ImageGrid:
        """The pixels of a slice."""
        rows, columns = self.densities.shape[-2:]
        return ImageGrid(rows, columns, self.pixel_mm, self.center_mm)

    def map(self, name: str) -> torch.Tensor:
        """Partial density in mg/mL `[slice, row, column]` of one of its materials."""
        names = [m.name for m in self.materials]
        if name not in names:
            raise InputError(f"The phantom holds {', '.join(names)}, no {name}.")
        return 1000 * self.densities[names.index(name)]

    def inside(self, insert: Insert, part: float = 0.7) -> torch.Tensor:
        """Pixels `[row, column]` within `part` of a rod's radius."""
        y, x = self.grid.y_mm() - insert.y_mm, self.grid.x_mm() - insert.x_mm
        return x[None] ** 2 + y[:, None] ** 2 < (part * insert.radius_mm) ** 2


def _disc(size: int, pixel_mm: float, x_mm: float, y_mm: float, a_mm: float, b_mm: float) -> np.ndarray:
    """The part of each pixel inside an ellipse, by supersampling."""
    sub = (np.arange(_SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - 0.5
    axis = ((np.arange(size) - (size - 1) / 2)[:, None] + sub).ravel() * pixel_mm
    inside = ((axis[None] - x_mm) / a_mm) ** 2 + ((axis[:, None] - y_mm) / b_mm) ** 2 < 1
    return inside.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING).mean((1, 3)).astype(np.float32)


def rod_phantom(
    size: int = 256,
    diameter_mm: float = 250.0,
    rods: Sequence[Mapping[str, float]] | None = None,
    rod_mm: float = 25.0,
    field_mm: float | None = None,
) -> MaterialPhantom:
    """A water cylinder with rods on two rings, as multi-energy phantoms have them.

    `rods`: contents in mg/mL by material, each a solution in water; iodine 1 to 20 and calcium 50 to 400
    mg/mL by default. `size` pixels across `field_mm` (1.08 diameters by default).
    """
    chosen = (
        [{"iodine": c} for c in IODINE_RODS] + [{"calcium": c} for c in CALCIUM_RODS]
        if rods is None
        else list(rods)
    )
    pixel = (field_mm or 1.08 * diameter_mm) / size
    outer = min(
        len(chosen), max(3, math.floor(math.pi / math.asin(min(1, 1.15 * rod_mm / (0.7 * diameter_mm)))))
    )
    if len(chosen) > 2 * outer or diameter_mm < 3.5 * rod_mm:
        raise InputError(
            f"{len(chosen)} rods of {rod_mm:g} mm do not fit into {diameter_mm:g} mm: use fewer or thinner."
        )
    inserts = []
    for index, contents in enumerate(chosen):
        ring, place, count = (
            (0.35, index, outer) if index < outer else (0.17, index - outer, len(chosen) - outer)
        )
        angle = 2 * math.pi * (place + (0.5 if index >= outer else 0)) / count
        name = " + ".join(f"{amount:g} mg/mL {what}" for what, amount in contents.items())
        radius = ring * diameter_mm
        inserts.append(
            Insert(name, radius * math.sin(angle), -radius * math.cos(angle), rod_mm / 2, dict(contents))
        )
    names = ["water", *sorted({what for contents in chosen for what in contents} - {"water"})]
    densities = torch.zeros(len(names), 1, size, size)
    densities[0, 0] = torch.from_numpy(_disc(size, pixel, 0, 0, diameter_mm / 2, diameter_mm / 2))
    for insert in inserts:
        rod = torch.from_numpy(
            _disc(size, pixel, insert.x_mm, insert.y_mm, insert.radius_mm, insert.radius_mm)
        )
        for what, amount in insert.contents.items():
            densities[names.index(what), 0] += rod * (amount / 1000)
    return MaterialPhantom(tuple(material(n) for n in names), densities, pixel, tuple(inserts))


def label_phantom(
    labels: np.ndarray, materials: Sequence[str | Material | None], pixel_mm: float, size: int | None = None
) -> MaterialPhantom:
    """A phantom of integer labels `[row, column]` or `[slice, row, column]`, `materials` by label or None.

    Averages whole blocks of pixels down to at most `size` a side, and pads to a square.
    """
    stack = labels[None] if labels.ndim == 2 else labels
    whole = stack.ndim == 3 and stack.size > 0 and stack.dtype.kind in "iu"
    if not whole or stack.min() < 0 or stack.max() >= len(materials):
        raise InputError(
            f"The labels must be whole numbers from 0 to {len(materials) - 1} in two or three dimensions."
        )
    block = 1 if size is None else -(-max(stack.shape[1:]) // size)
    side = size or max(stack.shape[1:])
    if not (0 < pixel_mm < math.inf):
        raise InputError(f"The labels' pixels cannot be {pixel_mm:g} mm wide: correct 'pixel_mm'.")
    layers: dict[str, tuple[Material, torch.Tensor]] = {}
    for label, given in enumerate(materials):
        if given is None:
            continue
        what = material(given)
        part = torch.from_numpy((stack == label).astype(np.float32))
        rest = [side * block - n for n in stack.shape[1:]]
        part = torch.nn.functional.pad(
            part, (rest[1] // 2, rest[1] - rest[1] // 2, rest[0] // 2, rest[0] - rest[0] // 2)
        )
        part = torch.nn.functional.avg_pool2d(part[:, None], block)[:, 0] * what.density
        known = layers.get(what.name)
        layers[what.name] = (what, part if known is None else known[1] + part)
    return MaterialPhantom(
        tuple(what for what, _ in layers.values()),
        torch.stack([density for _, density in layers.values()]),
        pixel_mm * block,
    )


#: Materials of XCIST's voxel phantoms by the names in their files.
_NCAT = {
    "air": None,
    "ncat_water": "water",
    "ncat_muscle": "muscle",
    "ncat_lung": "lung",
    "ncat_dry_spine": "spine",
    "ncat_dry_rib": "rib",
    "ncat_adipose": "adipose",
    "ncat_blood": "blood",
    "ncat_heart": "heart",
    "ncat_cartilage": "cartilage",
}


def read_label_phantom(
    path: str | os.PathLike[str], size: int = 512, contrast_mg_ml: float = 0.0
) -> MaterialPhantom:
    """A slab of labels (.npz with `labels`, `materials` names and `pixel_mm`), as XCIST's chests.

    `contrast_mg_ml` of iodine is added to the blood. Raises InputError for a file that holds none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            labels, names, pixel = (
                file["labels"],
                [str(n) for n in file["materials"]],
                float(file["pixel_mm"]),
            )
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"'{Path(path).name}' is no label phantom: it needs 'labels', 'materials' and 'pixel_mm'."
        ) from error
    phantom = label_phantom(labels, [_NCAT.get(n, n) for n in names], pixel, size)
    return with_contrast(phantom, contrast_mg_ml)


def with_contrast(phantom: MaterialPhantom, contrast_mg_ml: float) -> MaterialPhantom:
    """The phantom with iodine in its blood; raises InputError where it has none."""
    if contrast_mg_ml == 0:
        return phantom
    blood = phantom.map("blood") / material("blood").density / 1000  # volume fraction
    added, iodine = (blood * contrast_mg_ml / 1000)[None], material("iodine")
    own = [one == iodine for one in phantom.materials]
    if any(own):
        densities = phantom.densities + torch.tensor(own).to(added)[:, None, None, None] * added
        return replace(phantom, densities=densities)
    return replace(
        phantom,
        materials=(*phantom.materials, iodine),
        densities=torch.cat([phantom.densities, added]),
    )
