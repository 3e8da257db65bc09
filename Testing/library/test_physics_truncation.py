"""Bodies that reach beyond the detector: seen as such, and continued as cylinders of water."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from decompose_cases import THRESHOLDS, beam, toy_detector

import ctenhance
from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.simulate import simulate
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.physics.analytic import Ellipse, ellipse_sinogram
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, ScanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.materials import material
from ctenhance.physics.truncation import MOST_TRUNCATED, beyond, truncated_share
from ctenhance.physics.units import MU_WATER_PER_MM, mu_to_hu
from ctenhance.scan.projections import Projections

SIDE, PIXEL, VIEWS = 96, 2.0, 360
GRID = ImageGrid(SIDE, SIDE, PIXEL)
BODY = [Ellipse(MU_WATER_PER_MM, (85.0, 60.0)), Ellipse(1e-3, (10.0, 10.0), (20.0, 10.0))]


def scan(kind: str, n_columns: int) -> ScanGeometry:
    """About 1.1 mm from column to column at the isocentre."""
    middle = (n_columns - 1) / 2
    if kind == "parallel":
        return ParallelGeometry(VIEWS, n_columns, 1.1, central_column=middle)
    pitch = 1.1 / 595 if kind == "equiangular" else 2.0
    return FanGeometry(kind, 595.0, 1085.6, pitch, n_columns, middle, even_angles(VIEWS))


def rings(geometry: ScanGeometry) -> list[torch.Tensor]:
    """The inner half of the field that every view sees, and what lies near its edge."""
    radius = torch.hypot(GRID.x_mm()[None], GRID.y_mm()[:, None]) / (geometry.field_of_view_mm / 2)
    return [radius < 0.5, (radius > 0.85) & (radius < 0.95)]


@pytest.mark.parametrize("kind", ["parallel", "equiangular", "flat"])
def test_known_rays_outside_are_as_good_as_columns(kind: str) -> None:
    wide, narrow = scan(kind, 190), scan(kind, 130)
    sinogram = ellipse_sinogram(wide, BODY).float()
    image = fbp(
        sinogram[..., 30:160], narrow, GRID, "soft", outside=(sinogram[..., :30], sinogram[..., 160:])
    )
    difference = (image - fbp(sinogram, wide, GRID, "soft")) * (1000 / MU_WATER_PER_MM)
    assert float(difference[rings(narrow)[0]].abs().max()) < 1


@pytest.mark.parametrize("kind", ["parallel", "equiangular", "flat"])
def test_a_body_that_is_cut_off_keeps_its_hu(kind: str) -> None:
    geometry = scan(kind, 130)
    sinogram = ellipse_sinogram(geometry, BODY[:1]).float()
    assert truncated_share(sinogram, geometry, GRID) > 0.5
    images = [
        mu_to_hu(fbp(sinogram, geometry, GRID, "soft", outside=outside))
        for outside in (None, beyond(sinogram, geometry, MU_WATER_PER_MM))
    ]
    inner, edge = rings(geometry)
    body = torch.hypot(GRID.x_mm()[None] / 80, GRID.y_mm()[:, None] / 55) < 1
    plain, mended = ([float(image[ring & body].mean()) for ring in (inner, edge)] for image in images)
    assert plain[0] > 10 and plain[1] > 80
    assert abs(mended[0]) < 5 and abs(mended[1]) < 15


def test_what_all_views_see_or_opposite_ones_complete_is_not_cut_off() -> None:
    whole = scan("equiangular", 166)  # the body ends some columns before the detector
    half = replace(whole, n_columns=120, central_column=30.25)
    for geometry in (whole, half):
        assert truncated_share(ellipse_sinogram(geometry, BODY), geometry, GRID) == 0
    # half a turn has no opposite views
    parallel = replace(scan("parallel", 120), central_column=30.25)
    assert truncated_share(ellipse_sinogram(parallel, BODY), parallel, GRID) > MOST_TRUNCATED


def test_noise_in_air_is_no_body() -> None:
    geometry = scan("equiangular", 190)
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(500 * torch.exp(-ellipse_sinogram(geometry, BODY)), generator=generator)
    assert truncated_share(-torch.log(counts.clamp(min=0.5) / 500), geometry, GRID) < MOST_TRUNCATED


def test_the_ends_are_continued_smoothly_and_end() -> None:
    geometry = scan("equiangular", 130)
    sinogram = ellipse_sinogram(geometry, BODY)
    before, after = beyond(sinogram, geometry, MU_WATER_PER_MM)
    assert before.shape == after.shape == (VIEWS, 65)
    assert float((before[:, -1] - sinogram[:, 0]).abs().mean()) < 0.1
    assert float((after[:, 0] - sinogram[:, -1]).abs().mean()) < 0.1
    assert float(before[:, 0].max()) < 1e-6 and float(after[:, -1].max()) < 1e-6


def test_the_user_is_told_and_the_image_is_right() -> None:
    geometry = scan("equiangular", 130)
    assert isinstance(geometry, FanGeometry)
    projections = Projections(
        geometry="fan_equiangular",
        view_angles=np.array(geometry.view_angles),
        central_column=geometry.central_column,
        line_integrals=ellipse_sinogram(geometry, BODY[:1]).float().numpy()[:, None],
        column_pitch_rad=geometry.column_pitch,
        source_to_isocenter_mm=595.0,
        source_to_detector_mm=1085.6,
        water_mu_per_mm=MU_WATER_PER_MM,
        image_pixel_mm=PIXEL,
        image_size=SIDE,
    )
    result = ctenhance.reconstruct(projections, method="fbp", kernel="soft", residual=True, device="cpu")
    assert any("beyond the detector" in warning for warning in result.report["warnings"])
    inner = rings(geometry)[0].numpy()
    assert abs(result.volumes["reconstruction"].array[0][inner].mean()) < 5
    assert abs(result.maps["residual"].array[0][inner].mean()) < 5
    assert math.isclose(geometry.field_of_view_mm, 143, abs_tol=1)


def test_maps_of_materials_are_continued_too() -> None:
    """Water with 5 mg/mL of iodine in it, cut off."""
    geometry = scan("equiangular", 130)
    body = 0.1 * ellipse_sinogram(geometry, [Ellipse(1.0, (85.0, 60.0))])  # cm, so g/cm² of water
    lines = torch.stack([body, 0.005 * body], -1)
    materials = [material("water"), material("iodine")]
    plain, mended = (density_images(lines, geometry, GRID, "soft", truncated=m) for m in (None, materials))
    inner = rings(geometry)[0]
    assert float(plain[0][inner].mean()) > 1.01
    assert float(mended[0][inner].mean()) == pytest.approx(1, abs=0.005)
    assert float(mended[1][inner].mean()) == pytest.approx(0.005, abs=5e-5)


def test_decomposition_tells_it_and_keeps_the_density() -> None:
    geometry = scan("equiangular", 130)
    phantom = rod_phantom(SIDE, 180.0, [], field_mm=SIDE * PIXEL)
    counted = simulate(
        phantom, geometry, Beam(beam(5e6), toy_detector(), THRESHOLDS, 120), noise=False, seed=1
    )
    found = ctenhance.decompose(counted, kernel="soft", device="cpu")
    assert any("beyond the detector" in warning for warning in found.report["warnings"])
    assert found.volumes["water"].array[0][rings(geometry)[0].numpy()].mean() == pytest.approx(1000, abs=8)
