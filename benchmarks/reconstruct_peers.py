"""What `reconstruct` is held against: FBP, iterative reconstruction with total variation, BM3D, and a U-Net
that was trained at one dose.

The strength of SIRT-TV and BM3D is the best of a short ladder by the PSNR against the very slice's reference:
an oracle that no user has, and a favour that the project's own methods do not get."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import FanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import backproject, project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.reconstruction import dgdiff
from ctenhance.reconstruction.bank import load_sinograms
from ctenhance.reconstruction.conditions import ImageSampler, build_conditions, load_conditions
from ctenhance.reconstruction.dgdiff import HU_SCALE
from ctenhance.reconstruction.models import load_image_model
from ctenhance.reconstruction.networks import DoublyGuided, build
from ctenhance.reconstruction.training import IMAGE, image_validation
from ctenhance.runtime import weights
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.training.loop import Ahead, Settings, fit, log_error
from peers import bm3d_hu, psnr

Array = np.ndarray

#: Ordered subsets and sweeps of SIRT, and total-variation weights (HU) that are tried after each sweep.
SUBSETS, SWEEPS, TV_WEIGHTS = 16, 3, (4.0, 12.0, 36.0)
#: SD that BM3D is told, as multiples of the measured error's.
BM3D_FACTORS = (0.5, 0.8)
#: The one dose that the U-Net knows.
ONE_DOSE = 0.25


def _subsets(geometry: FanGeometry) -> Iterable[tuple[FanGeometry, torch.Tensor]]:
    # neighbouring subsets far apart, by bit reversal
    bits = int(math.log2(SUBSETS))
    for number in range(SUBSETS):
        start = int(f"{number:0{bits}b}"[::-1], 2)
        index = torch.arange(start, geometry.n_views, SUBSETS)
        yield geometry.with_views(tuple(geometry.angles()[index].tolist())), index


def sirt_tv(
    integrals: torch.Tensor,
    inverse_variance: torch.Tensor,
    geometry: FanGeometry,
    grid: ImageGrid,
    start_hu: Array,
    reference: Array,
) -> Array:
    """A slice in HU: SIRT in ordered subsets with statistical weights, total variation after each sweep.

    `integrals`, `inverse_variance` `[view, column]`; starts from an FBP.  The best of `TV_WEIGHTS`.
    """
    from skimage.restoration import denoise_tv_chambolle

    weight = inverse_variance / inverse_variance.amax()
    parts = []
    for part, index in _subsets(geometry):
        w = weight[index]
        # the diagonal of SIRT: 1 / (row sum) on rays, 1 / (weighted column sum) on pixels
        length = project(torch.ones(grid.shape), part, grid).clamp(min=grid.pixel_mm)
        share = backproject(w, part, grid).clamp(min=1e-3)
        parts.append((part, index, w / length, share))
    best, most = start_hu, -math.inf
    for tv in TV_WEIGHTS:
        mu = hu_to_mu(torch.from_numpy(start_hu.copy()))
        for _ in range(SWEEPS):
            for part, index, ray, share in parts:
                left = ray * (integrals[index] - project(mu, part, grid))
                mu = mu + backproject(left, part, grid) / share
            smooth = denoise_tv_chambolle(mu_to_hu(mu).numpy(), tv, max_num_iter=60)
            mu = hu_to_mu(torch.from_numpy(smooth.astype(np.float32)))
        image = mu_to_hu(mu).numpy()
        if (score := psnr(image, reference)) > most:
            best, most = image, score
    return best


def bm3d_on_image(image: Array, reference: Array) -> Array:
    """The FBP slice in HU through BM3D of its authors."""
    sd = float(np.std(np.clip(image, -1000, 1000) - np.clip(reference, -1000, 1000)))
    shown = np.clip(image, -1400, 3071)
    found = [bm3d_hu(shown, sd * factor) for factor in BM3D_FACTORS]
    return max(found, key=lambda candidate: psnr(candidate, reference))


def train_one_dose(
    sinograms: Path, run_dir: Path, minutes: float, start: str | None, validation: Path | None = None
) -> Path:
    """Train the image network on low-dose FBP at `ONE_DOSE` alone, by the loop of `train image`.

    `sinograms`, `validation`: banks of clean sinograms that `train projection` left in its run folder.
    """
    dose = (ONE_DOSE, ONE_DOSE)
    scans = load_sinograms(sorted(sinograms.glob("*.safetensors")))
    files = build_conditions(scans, None, run_dir / "guides", 2, doses=dose)
    drawn_ahead = Ahead(ImageSampler(load_conditions(files)).batch)
    validate = None
    if validation is not None:
        held_out = load_sinograms(sorted(validation.glob("*.safetensors")))
        kept = build_conditions(held_out, None, run_dir / "validation-guides", 1, doses=dose)
        validate = image_validation(load_conditions(kept))
    network = build("doubly-guided", IMAGE)
    assert isinstance(network, DoublyGuided)
    if start is not None:
        dgdiff.start_from_enhancer(network, weights.load(start, ["twin"])[0])

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = drawn_ahead(8, step, rank)
        return log_error(model(_channels(drawn.low)), drawn.reference)

    entry = WeightsEntry("one-dose", "", "", "none", "one dose", "doubly-guided", IMAGE, "1", "")
    return fit(network, loss, run_dir, Settings(10**6, minutes), entry, validate)


def _channels(low: torch.Tensor) -> torch.Tensor:
    """The network's input where the low-dose FBP is all there is: both guides, and nothing diffused."""
    none = torch.zeros_like(low[:, :1])
    return dgdiff.network_input(low, low, none, none, torch.zeros(()))


def one_dose_network(path: Path) -> Callable[[Array], Array]:
    """From three FBP slices HU `[3, y, x]` to the middle one, by the U-Net that knows one dose."""
    network: Any = load_image_model(path).network

    def run(stack: Array) -> Array:
        with torch.inference_mode():
            low = torch.from_numpy(stack)[None] / HU_SCALE
            return (network(_channels(low))[0, 0] * HU_SCALE).numpy()

    return run


def fbp_slice(integrals: torch.Tensor, geometry: FanGeometry, grid: ImageGrid, kernel: str) -> Array:
    """FBP in HU."""
    return mu_to_hu(fbp(integrals, geometry, grid, kernel), MU_WATER_PER_MM).numpy()
