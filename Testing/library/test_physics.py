"""The projector, filtered backprojection and noise against closed forms, adjoints and ASTRA."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import (
    attenuation_sinogram,
    bowtie_fluence,
    noise_fields,
    quantum_electronic_noise,
    tube_modulation,
)
from ctenhance.physics.projector import backproject, project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.runtime.errors import InputError


def ellipse(rows: int, columns: int, pixel_mm: float, a_mm: float, b_mm: float, x0=0.0, y0=0.0) -> np.ndarray:
    """1 inside an ellipse, with soft edges from 4 x 4 supersampling."""
    sub = (np.arange(4) + 0.5) / 4 - 0.5
    y = ((np.arange(rows) - (rows - 1) / 2)[:, None] + sub).ravel() * pixel_mm
    x = ((np.arange(columns) - (columns - 1) / 2)[:, None] + sub).ravel() * pixel_mm
    inside = ((x[None] - x0) / a_mm) ** 2 + ((y[:, None] - y0) / b_mm) ** 2 < 1
    return inside.reshape(rows, 4, columns, 4).mean((1, 3)).astype(np.float32)


def test_units_are_inverse_and_anchor_air_and_water() -> None:
    assert hu_to_mu(-1000.0) == pytest.approx(0, abs=1e-9)
    assert hu_to_mu(0.0) == pytest.approx(MU_WATER_PER_MM)
    hu = torch.tensor([-1000.0, 40.0, 1500.0])
    torch.testing.assert_close(mu_to_hu(hu_to_mu(hu)), hu, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(64, 50), (33, 70)])
def test_backproject_is_the_exact_adjoint(rows: int, columns: int) -> None:
    grid = ImageGrid(rows, columns, 0.8)
    geometry = ParallelGeometry.covering(grid, n_views=41, pitch_mm=0.9)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, rows, columns, dtype=torch.float64, generator=generator)
    y = torch.randn(2, geometry.n_views, geometry.n_columns, dtype=torch.float64, generator=generator)
    left, right = (project(x, geometry, grid) * y).sum(), (x * backproject(y, geometry, grid)).sum()
    assert abs(left - right) <= 1e-10 * abs(left)
    single = (project(x.float(), geometry, grid) * y.float()).sum()
    assert abs(single - left) <= 1e-4 * y.norm() * x.norm() / 10


def test_gradients_are_those_of_finite_differences() -> None:
    grid = ImageGrid(7, 6, 1.0)
    geometry = ParallelGeometry.covering(grid, n_views=5)
    image = torch.randn(
        7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x: project(x, geometry, grid), (image,), atol=1e-6)
    sinogram = torch.randn(5, geometry.n_columns, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: backproject(s, geometry, grid), (sinogram,), atol=1e-6)
    assert torch.autograd.gradcheck(lambda s: fbp(s, geometry, grid, "hann"), (sinogram,), atol=1e-6)


def test_line_integrals_of_an_ellipse_are_its_chords() -> None:
    grid = ImageGrid(256, 256, 0.8)
    geometry = ParallelGeometry.covering(grid, n_views=36)
    image = torch.from_numpy(ellipse(256, 256, 0.8, 80, 50))
    sinogram = project(image, geometry, grid).numpy()
    t = (np.arange(geometry.n_columns) - geometry.central_column) * geometry.column_pitch_mm
    for view, beta in enumerate(geometry.angles().numpy()):
        reach2 = (80 * math.cos(beta)) ** 2 + (50 * math.sin(beta)) ** 2
        chord = 2 * 80 * 50 * np.sqrt(np.clip(reach2 - t**2, 0, None)) / reach2
        inner = np.abs(t) < 0.9 * math.sqrt(reach2)
        assert np.abs(sinogram[view] - chord)[inner].max() < 0.9  # mm, about one pixel
        assert np.abs((sinogram[view] - chord)[inner].mean()) < 0.05


def test_a_point_off_centre_lands_where_the_convention_says() -> None:
    grid = ImageGrid(65, 65, 1.0)
    geometry = ParallelGeometry.covering(grid, n_views=24)
    image = torch.zeros(65, 65)
    image[20, 50] = 1  # x = +18 mm (patient's left), y = -12 mm (anterior)
    sinogram = project(image, geometry, grid)
    t = torch.arange(geometry.n_columns) - geometry.central_column
    for view, beta in enumerate(geometry.angles().tolist()):
        centre = float((sinogram[view] * t).sum() / sinogram[view].sum())
        assert centre == pytest.approx(18 * math.cos(beta) - 12 * math.sin(beta), abs=0.3)


@pytest.mark.parametrize("kernel", ["ramp", "shepp-logan", "hann"])
def test_water_disc_is_water_and_air_is_air(kernel: str) -> None:
    grid = ImageGrid(300, 360, 0.9)
    geometry = ParallelGeometry.covering(grid)
    disc = ellipse(300, 360, 0.9, 100, 100, x0=10, y0=-5)
    image = fbp(project(torch.from_numpy(disc) * MU_WATER_PER_MM, geometry, grid), geometry, grid, kernel)
    hu = mu_to_hu(image).numpy()
    inner = ellipse(300, 360, 0.9, 90, 90, x0=10, y0=-5) == 1
    outer = ellipse(300, 360, 0.9, 112, 112, x0=10, y0=-5) == 0
    assert abs(hu[inner].mean()) < 2
    assert abs(hu[outer].mean() + 1000) < 2
    core = ellipse(300, 360, 0.9, 20, 20, x0=10, y0=-5) == 1
    assert abs(hu[core].mean() - hu[inner].mean()) < 2  # no cupping


def test_fbp_puts_an_off_centre_object_back() -> None:
    grid = ImageGrid(200, 160, 1.0)
    geometry = ParallelGeometry.covering(grid)
    image = ellipse(200, 160, 1.0, 6, 6, x0=40, y0=-60) * 0.02
    result = fbp(project(torch.from_numpy(image), geometry, grid), geometry, grid).numpy()
    y, x = np.unravel_index(result.argmax(), result.shape)
    assert math.hypot(x - (159 / 2 + 40), y - (199 / 2 - 60)) < 6
    assert result[image == 0.02].mean() == pytest.approx(0.02, rel=0.03)


def test_fbp_refuses_a_sinogram_of_another_geometry() -> None:
    grid = ImageGrid(32, 32, 1.0)
    geometry = ParallelGeometry.covering(grid)
    with pytest.raises(InputError, match="geometry says"):
        fbp(torch.zeros(3, geometry.n_columns), geometry, grid)
    with pytest.raises(InputError, match="ramp, shepp-logan, hann, soft, standard or sharp"):
        fbp(torch.zeros(geometry.n_views, geometry.n_columns), geometry, grid, "bone")


def test_agrees_with_astra() -> None:
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    grid = ImageGrid(128, 128, 1.0)
    geometry = ParallelGeometry.covering(grid, n_views=90)
    image = ellipse(128, 128, 1.0, 40, 25, x0=8, y0=-6) * 0.02
    volume = astra.create_vol_geom(128, 128)
    # ASTRA's y points up: flipping the rows and the sense of the angle gives the same rays
    beam = astra.create_proj_geom("parallel", 1.0, geometry.n_columns, -geometry.angles().numpy())
    projector = astra.create_projector("linear", beam, volume)
    identity, theirs = astra.create_sino(image, projector)
    ours = project(torch.from_numpy(image), geometry, grid).numpy()
    assert np.abs(ours - theirs).max() < 0.02 * theirs.max()
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 2e-3 * theirs.max()
    astra.data2d.delete(identity)


def test_noise_of_line_integrals_has_the_variance_of_theory() -> None:
    p = torch.full((400, 500), 3.0)
    bowtie = torch.linspace(1, 0.5, 500)
    noisy = quantum_electronic_noise(p, 2e4, 40.0, torch.Generator().manual_seed(3), bowtie)
    counts = 2e4 * bowtie * math.exp(-3)
    theory = 1 / counts + 40 / counts**2
    measured = noisy.var(0)
    assert float((measured / theory).mean()) == pytest.approx(1, abs=0.02)
    assert float(noisy.mean()) == pytest.approx(3, abs=2e-3)


def test_starved_rays_stay_finite() -> None:
    noisy = quantum_electronic_noise(torch.full((50, 50), 14.0), 1e4, 100.0, torch.Generator().manual_seed(0))
    assert torch.isfinite(noisy).all()


def test_bowtie_and_modulation_are_relative() -> None:
    grid = ImageGrid(256, 256, 1.2)
    geometry = ParallelGeometry.covering(grid)
    bowtie = bowtie_fluence(geometry)
    assert float(bowtie.max()) == pytest.approx(1, abs=1e-3)
    assert float(bowtie[0]) < 0.2
    current = tube_modulation(torch.rand(3, 20, 10) * 5, 0.5)
    torch.testing.assert_close(current.mean(-1), torch.ones(3))


def test_coarse_attenuation_is_that_of_the_full_grid() -> None:
    hu = torch.from_numpy(ellipse(201, 260, 0.9, 90, 60, x0=5) * 1000 - 1000)[None]
    grid = ImageGrid(201, 260, 0.9)
    geometry = ParallelGeometry.covering(grid, n_views=360, pitch_mm=0.7)
    coarse, full = attenuation_sinogram(hu, geometry, grid)[0], project(hu_to_mu(hu), geometry, grid)[0]
    inner = full > 1
    assert float((coarse - full)[inner].abs().mean()) < 0.02
    assert float((coarse - full)[inner].mean().abs()) < 0.005


def test_noise_fields_are_the_noise_of_the_simulated_scan() -> None:
    """The linearised fields against Poisson counts through the log and the same FBP: SD and direction."""
    grid = ImageGrid(160, 200, 1.5)
    geometry = ParallelGeometry.covering(grid, n_views=300)
    hu = torch.from_numpy(ellipse(160, 200, 1.5, 130, 80) * 1000 - 1000)[None]
    generator = torch.Generator().manual_seed(5)
    quantum, electronic = noise_fields(hu, geometry, grid, "hann", generator=generator)
    photons, variance = 3e5, 30.0
    predicted = quantum / photons**0.5 + electronic * variance**0.5 / photons
    p = project(hu_to_mu(hu), geometry, grid)
    noisy = quantum_electronic_noise(p, photons, variance, generator)
    actual = fbp(noisy - p, geometry, grid, "hann") * 1000 / MU_WATER_PER_MM
    body = torch.from_numpy(ellipse(160, 200, 1.5, 100, 60) == 1)
    assert float(predicted[0][body].std() / actual[0][body].std()) == pytest.approx(1, abs=0.06)

    # noise is correlated along the long axis, the direction of the starved rays
    def ratio(image: torch.Tensor) -> float:
        middle = image[60:100, 70:130]
        return float((middle[:, 1:] * middle[:, :-1]).mean() / (middle[1:] * middle[:-1]).mean())

    assert ratio(actual[0]) > 1.05
    assert ratio(predicted[0]) > 1.05
