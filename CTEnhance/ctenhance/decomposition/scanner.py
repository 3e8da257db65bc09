"""Ready-made photon-counting scans: a phantom, a scanner and a dose, by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ctenhance.decomposition.phantom import (
    MaterialPhantom,
    read_label_phantom,
    rod_phantom,
    with_contrast,
)
from ctenhance.decomposition.simulate import Imperfections, random_drift, simulate
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.decomposition.tissue import tissue_phantom
from ctenhance.physics.detector_models import detector
from ctenhance.physics.phantom import chest_phantom
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.memory import require_memory
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.scan.projections import IMAGE_SIDES, Projections
from ctenhance.scan.simulate import clinical_scan

#: Phantoms that need no file.
RODS, CHEST = "rods", "chest"
#: Where bins begin in keV; the last one ends at the tube voltage.
THRESHOLDS_KEV = (20.0, 35.0, 50.0, 65.0, 80.0)
#: Quanta in air a reading at full dose, as behind a usual abdominal scan's bowtie.
QUANTA = 5e5
#: Side of the image and distance of the slices in mm.
ROD_MM, ROD_FIELD_MM, CHEST_FIELD_MM, SLICE_MM = 250.0, 270.0, 358.0, 2.5
CONTRAST_MG_ML = 5.0
MOST_SLICES = 512
# Memory that a voxel of the chest takes while its materials are laid out (measured).
_BYTES_A_VOXEL = 90


def named_phantom(
    name: str, matrix: int, slices: int, contrast_mg_ml: float | None, seed: int
) -> MaterialPhantom:
    """The phantom 'rods', 'chest', or that of a label file (.npz), of `matrix` pixels a side.

    `contrast_mg_ml` of iodine is in the blood of the chest or of the labels (None: `CONTRAST_MG_ML`, where
    there is any). Raises InputError for another name, for sizes that make no image, and for what would change
    nothing of this phantom.
    """
    least, most = IMAGE_SIDES
    if not (least <= matrix <= most and 1 <= slices <= MOST_SLICES):
        raise InputError(f"Choose {least} to {most} pixels a side, and 1 to {MOST_SLICES} slices.")
    if contrast_mg_ml is not None and not 0 <= contrast_mg_ml < math.inf:
        raise InputError(f"The contrast cannot be {contrast_mg_ml:g} mg/mL: give 0 or more.")
    if name == CHEST:
        voxels = slices * matrix**2
        require_memory(_BYTES_A_VOXEL * voxels, f"a chest of {slices} slices of {matrix} x {matrix} pixels")
        chest = chest_phantom(matrix, matrix, slices, CHEST_FIELD_MM / matrix, SLICE_MM, seed)
        return tissue_phantom(chest, CONTRAST_MG_ML if contrast_mg_ml is None else contrast_mg_ml)
    if name == RODS:
        if contrast_mg_ml is not None:
            raise InputError("The rods hold no blood, so that the contrast has no effect: leave it out.")
        phantom = rod_phantom(matrix, ROD_MM, field_mm=ROD_FIELD_MM)
    elif name.endswith(".npz"):
        phantom = read_label_phantom(name, matrix)
        if contrast_mg_ml is None and any(one.name == "blood" for one in phantom.materials):
            contrast_mg_ml = CONTRAST_MG_ML
        phantom = with_contrast(phantom, contrast_mg_ml or 0.0)
    else:
        raise InputError(f"There is no phantom '{name}': choose {RODS}, {CHEST}, or a label file (.npz).")
    own = phantom.densities.shape[1]
    if own > 1 and slices not in (1, own):
        raise InputError(f"'{Path(name).name}' has {own} slices of its own: leave the number of slices out.")
    if own == 1:
        phantom = replace(phantom, densities=phantom.densities.expand(-1, slices, -1, -1))
    return replace(phantom, slice_mm=SLICE_MM)


def named_scan(
    phantom: str = RODS,
    dose: float = 1.0,
    slices: int = 1,
    matrix: int = 256,
    views: int = 720,
    columns: int = 512,
    kvp: int = 120,
    detector_name: str = "cdte",
    thresholds_kev: Sequence[float] = THRESHOLDS_KEV,
    contrast_mg_ml: float | None = None,
    scatter: float = 0.0,
    drift_kev: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Projections:
    """A photon-counting scan of a phantom on a clinical fan-beam scanner.

    `dose`: share of `QUANTA` in air; `thresholds_kev`: where the bins begin; `scatter`: by primary counts
    behind the middle of the object; `drift_kev`: standard deviation of the thresholds' shifts. Raises
    InputError for what makes no scan, Cancelled when asked to stop.
    """
    for what, value, least in (("dose", dose, 1e-9), ("scatter", scatter, 0.0), ("drift", drift_kev, 0.0)):
        if not (math.isfinite(value) and value >= least):
            raise InputError(
                f"The {what} cannot be {value:g}: give {'more than 0' if least else '0 or more'}."
            )
    energies = energy_grid(kvp)
    spectrum = tube_spectrum(kvp, energies_kev=energies)
    edges = torch.tensor([*thresholds_kev, float(kvp)], dtype=torch.float64)
    quanta = spectrum * (dose * QUANTA / spectrum.sum())
    beam = Beam(quanta, detector(detector_name, energies), edges, float(kvp))
    body = named_phantom(phantom, matrix, slices, contrast_mg_ml, seed)
    scan = clinical_scan("fan-equiangular", views, columns)
    drift = random_drift(columns, len(edges), drift_kev, seed=seed) if drift_kev > 0 else None
    flaws = Imperfections(spr=scatter, drift_kev=drift)
    return simulate(body, scan, beam, flaws, seed=seed, progress=progress, cancel=cancel)
