"""How much a scanner scatters, from a scan of a cylinder of water: the SPR that corrections start from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.inference import absolute_spectra
from ctenhance.decomposition.scatter.correction import (
    TRAINED_SPRS,
    ScatterEstimator,
    grid_ratio_in_file,
    scatter_method,
)
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.scan.projections import Projections

#: Pixels a side of the image that is judged, and what is left out at the rim in mm.
SIZE, RIM_MM = 128, 15.0
#: Trials of the golden section: the SPR is then known to 1 %.
TRIALS = 12
#: Mean density in mg/mL by which the corrected image of water may err, and a cylinder's least size in mm².
MOST_ERROR, LEAST_AREA_MM2 = 40.0, 5000.0
_GOLDEN = (math.sqrt(5) - 1) / 2


def water_spr(
    projections: Projections,
    method: str = "network",
    grid_ratio: float | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> tuple[float, float]:
    """The SPR (behind 300 mm of water) with which a correction makes the image of a water cylinder most
    nearly that of water, and the error (RMS, mg/mL) that is left; from the middle row of its scan.
    `grid_ratio`: of the anti-scatter grid, where it is known (else as in the projections' `meta`).

    Raises InputError where the scan shows nothing like a cylinder of water."""
    spectra = absolute_spectra(projections)
    energies = torch.from_numpy(np.array(projections.energies_keV, dtype=np.float64))
    grid = grid_ratio_in_file(projections) if grid_ratio is None else grid_ratio
    scan = projections.scan_geometry()
    image_grid = ImageGrid(SIZE, SIZE, scan.field_of_view_mm / SIZE)
    row = projections.n_rows // 2
    counts = torch.from_numpy(np.asarray(projections.rows(row, row + 1).counts))[:, 0]
    basis = ("water", "iodine")[: counts.shape[-1]]
    decomposer = Decomposer(basis, spectra, energies)

    def image(scatter: torch.Tensor | None) -> torch.Tensor:
        lines = decomposer.estimate(counts, scatter, correct_bias=True, cancel=cancel).lines
        return 1000 * density_images(lines.float(), scan, image_grid, cancel=cancel)[0]

    body = image(None) > 500
    rim = 2 * max(1, round(RIM_MM / image_grid.pixel_mm)) + 1
    inner = F.avg_pool2d(body[None, None].float(), rim, 1, rim // 2)[0, 0] > 0.999
    if float(inner.sum()) * image_grid.pixel_mm**2 < LEAST_AREA_MM2:
        raise InputError("The scan shows no cylinder of water: scan one of 150 to 400 mm at the isocentre.")
    tell = progress or silent
    done = 0

    def error(log_spr: float) -> tuple[float, float]:
        nonlocal done
        check(cancel)
        chosen = scatter_method(method, math.exp(log_spr), grid)
        assert chosen is not None
        found = image(ScatterEstimator(chosen, spectra, energies)(counts, scan))
        smooth = F.avg_pool2d(found[None, None], 9, 1, 4)[0, 0][inner] - 1000
        done += 1
        tell("calibrate", min(done, TRIALS), TRIALS)
        return float(smooth.square().mean().sqrt()), float(smooth.mean())

    best, (rms, mean) = _least(error, *(math.log(spr) for spr in TRAINED_SPRS))
    if abs(mean) > MOST_ERROR:
        raise InputError(
            f"No amount of scatter makes this scan one of water ({mean:+.0f} mg/mL on average): scan a "
            "cylinder of water, or calibrate the detector first."
        )
    return math.exp(best), rms


def _least(
    error: Callable[[float], tuple[float, float]], low: float, high: float
) -> tuple[float, tuple[float, float]]:
    """Where the first number of `error` is least, and its value there, by `TRIALS` golden sections."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = error(left), error(right)
    for _ in range(TRIALS - 2):
        if at_left[0] < at_right[0]:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = error(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = error(right)
    return min((left, at_left), (right, at_right), key=lambda pair: pair[1])
