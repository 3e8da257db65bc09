"""The embedded weights on a patient that no training saw: each stage of the cascade beats the last one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import FanGeometry, ScanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.quality.metrics import psnr
from ctenhance.runtime.weights import EMBEDDED
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields

WEIGHTS = ("reconstruct-projection", "reconstruct-image")
QUANTA = 2.5e5
pytestmark = pytest.mark.skipif(
    not all((EMBEDDED / f"{name}.safetensors").is_file() for name in WEIGHTS),
    reason="no weights are embedded",
)


#: Line integrals `[slice, view, column]`, their rays, and the pixels of the image that they were made from.
Patient = tuple[torch.Tensor, ScanGeometry, ImageGrid]


@pytest.fixture(scope="module")
def patient(shared_data: Path) -> Patient:
    """Line integrals `[slice, view, column]` of three slices, 2 x 2 pixels averaged, and their scan."""
    (path,) = (shared_data / "ct").glob("chest_LIDC-IDRI_0005*.nii.gz")
    volume = CTVolume.read(path)
    middle = len(volume.array) // 2
    hu = torch.from_numpy(volume.array[middle - 1 : middle + 2])
    hu = torch.nn.functional.avg_pool2d(hu[:, None], 2)[:, 0]
    pitch = 2 * math.asin(190 / 595) / 500
    geometry = FanGeometry("equiangular", 595.0, 1085.6, pitch, 500, 249.25, even_angles(600))
    grid = ImageGrid.centred(hu.shape, 2 * volume.spacing[0])
    return project(hu_to_mu(hu).clamp(min=0), geometry, grid), geometry, grid


def scan(patient: Patient, dose: float) -> Projections:
    clean, geometry, grid = patient
    generator = torch.Generator().manual_seed(3)
    counts = torch.poisson(QUANTA * dose * torch.exp(-clean), generator=generator)
    counts += torch.randn(counts.shape, generator=generator) * 10**0.5
    return Projections(
        **ray_fields(geometry),
        counts=counts.permute(1, 0, 2).numpy(),
        air_counts=np.array(QUANTA * dose),
        row_pitch_mm=2.5,
        electronic_noise_variance=10.0,
        water_mu_per_mm=MU_WATER_PER_MM,
        image_pixel_mm=grid.pixel_mm,
        image_size=grid.shape,
    )


@pytest.mark.parametrize("dose", [0.25, 0.05])
def test_each_stage_is_better_than_the_last(patient: Patient, dose: float) -> None:
    clean, geometry, grid = patient
    reference = mu_to_hu(fbp(clean[1], geometry, grid, "standard")).numpy()
    result = ctenhance.reconstruct(scan(patient, dose), all_stages=True, device="cpu")
    images = {name: volume.array[1] for name, volume in result.volumes.items()}
    likeness = {name: psnr(image, reference) for name, image in images.items()}
    assert likeness["reconstruction"] > likeness["projection"] + 0.5 > likeness["fbp"] + 2.5
    for low, high, limit in ((0, 100, 2.0), (-950, -700, 5.0)):
        tissue = (reference > low) & (reference < high)
        assert abs(float((images["reconstruction"] - reference)[tissue].mean())) < limit
    assert result.report["details"]["data_consistency"]["consistent"]
    assert result.report["warnings"] == []


def test_uncertainty_is_larger_where_the_error_is(patient: Patient) -> None:
    clean, geometry, grid = patient
    reference = mu_to_hu(fbp(clean[1], geometry, grid, "standard")).numpy()
    projections = scan(patient, 0.05)
    middle = replace(projections, counts=projections.counts[:, 1:2])  # type: ignore[index]
    result = ctenhance.reconstruct(middle, uncertainty=True, samples=3, device="cpu")
    error = np.abs(result.volumes["reconstruction"].array[0] - reference)
    spread = result.maps["uncertainty"].array[0]
    inside = reference > -300
    sure, unsure = (error[inside & (spread < limit)] for limit in np.quantile(spread[inside], (0.25, 1.0)))
    assert sure.mean() < unsure.mean()
