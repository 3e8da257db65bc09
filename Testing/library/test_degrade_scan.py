"""Realistic steps in the projections, and the measurement of the volume's own noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctenhance.degradation.beam_hardening import bone_hu, water_corrected_error
from ctenhance.degradation.dose import Dose, noise_fields
from ctenhance.degradation.exposure import Exposure, noise_variance, photons_per_ray
from ctenhance.degradation.projection_steps import BeamHardening, Motion, Ring, SliceScan, SparseViews
from ctenhance.degradation.reconstruction import Reconstruction, matching
from ctenhance.degradation.source_noise import measure, mode, texture
from ctenhance.degradation.steps import ProjectionStep
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid

PIXEL = 1.4
N = 160
VIEWS = 360
RECONSTRUCTION = Reconstruction(VIEWS, 0.3)
FREQUENCIES = torch.linspace(0.02, 0.35, 12)


def ellipse(half_x: float = 75, half_y: float = 75, hu: float = 0.0) -> np.ndarray:
    """Water ellipse in air, semi-axes in pixels."""
    y, x = np.indices((N, N)) - (N - 1) / 2
    return np.where((x / half_x) ** 2 + (y / half_y) ** 2 < 1, hu, -1000).astype(np.float32)


def inside(half_x: float = 75, half_y: float = 75, share: float = 0.8) -> np.ndarray:
    return ellipse(half_x * share, half_y * share) > -500


def error_of(
    step: ProjectionStep,
    image: np.ndarray,
    index: int = 0,
    seed: int = 3,
    of: Reconstruction = RECONSTRUCTION,
) -> np.ndarray:
    """What the step adds to the image, HU."""
    scan = SliceScan(torch.from_numpy(image), PIXEL, of, step.needs_detail)
    step.apply(scan, seed, index)
    return scan.error_image().numpy()


def dose_step(dose: float = 0.25, **changes: object) -> Dose:
    step = Dose(dose, 2e5, 0.0, 0.4, 180.0, 0.0, 4.0, (1.0,))
    return replace(step, **changes)  # type: ignore[arg-type]


def averaged_variance(step: Dose, image: np.ndarray, mask: np.ndarray, draws: int = 6) -> float:
    return float(np.mean([error_of(step, image, index=z)[mask].var() for z in range(draws)]))


def test_noise_variance_follows_the_dose() -> None:
    """(1/d - 1) without electronic noise; the closed form with it."""
    image, mask = ellipse(), inside()
    quarter, half = (averaged_variance(dose_step(d), image, mask) for d in (0.25, 0.5))
    assert quarter / half == pytest.approx(3, rel=0.05)
    electronic = {"electronic_sd": 5.0, "photons_per_ray": 2e4}
    quantum_map, electronic_map = noise_variance(image, PIXEL, RECONSTRUCTION, dose_step().exposure)
    for d in (0.25, 0.5):
        expected = (1 / d - 1) * quantum_map / 2e4 + (1 / d**2 - 1) * electronic_map * 25 / 2e4**2
        measured = averaged_variance(dose_step(d, **electronic), image, mask)
        assert measured == pytest.approx(float(expected[mask].mean()), rel=0.05)


def test_full_dose_adds_nothing_and_noise_has_no_mean() -> None:
    image, mask = ellipse(), inside()
    assert not error_of(dose_step(1.0), image).any()
    means = [error_of(dose_step(0.1), image, index=z)[mask].mean() for z in range(6)]
    assert abs(np.mean(means)) < 1


def test_dose_noise_is_the_sum_of_the_two_noise_fields() -> None:
    """The fields for one photon a ray, scaled as documented, have the variance that the step adds."""
    image, mask = ellipse(), inside()
    generator = torch.Generator().manual_seed(0)
    grid = ImageGrid(N, N, PIXEL)
    geometry = ParallelGeometry.covering(grid, n_views=RECONSTRUCTION.views)
    quantum, electronic = noise_fields(
        torch.from_numpy(image)[None], geometry, grid, RECONSTRUCTION.kernel, None, 0.0, generator
    )
    flat = Exposure(0.0, 180.0, 0.0, 4.0)
    for field, closed_form in zip(
        (quantum, electronic), noise_variance(image, PIXEL, RECONSTRUCTION, flat), strict=True
    ):
        assert float(field[0].numpy()[mask].var()) == pytest.approx(float(closed_form[mask].mean()), rel=0.08)


def test_noise_power_rises_from_zero_and_falls_with_the_kernel() -> None:
    """Backprojected noise: power |f| times the squared window, so proportional to the frequency at first."""
    image, soft = ellipse(), Reconstruction(VIEWS, 0.2)
    power = np.zeros((64, 64))
    window = np.hanning(64)[:, None] * np.hanning(64)
    for z in range(8):
        patch = error_of(dose_step(), image, index=z, of=soft)[48:112, 48:112]
        power += np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
    f = np.fft.fftfreq(64, PIXEL)
    radius = np.hypot(f[:, None], f[None])
    centres = np.array([0.03, 0.06, 0.12, 0.18, 0.24, 0.3])
    measured = np.array([power[np.abs(radius - c) < 0.015].mean() for c in centres])
    expected = centres * 2 ** (-2 * (centres / 0.2) ** 2)
    np.testing.assert_allclose(measured / measured[2], expected / expected[2], rtol=0.15, atol=0.02)
    assert power[radius < 0.01].mean() < 0.1 * measured[2]


def test_noise_is_streaked_along_the_bodys_long_axis() -> None:
    """Rays along the long path are the noisiest: their noise is correlated along, not across."""
    half = (75, 35)
    mask = inside(*half, share=0.6)
    noise = np.stack([error_of(dose_step(), ellipse(*half), index=z) for z in range(4)])

    def neighbours(axis: int) -> float:
        shifted = np.roll(noise, -2, axis=axis)
        return float(np.corrcoef(noise[:, mask].ravel(), shifted[:, mask].ravel())[0, 1])

    along, across = neighbours(2), neighbours(1)
    assert along > across + 0.2
    turned = error_of(dose_step(), ellipse(*half).T.copy())
    assert np.corrcoef(turned[mask.T], np.roll(turned, -2, axis=0)[mask.T])[0, 1] > 0.1


def test_tube_current_modulation_evens_out_the_directions_and_the_slices() -> None:
    wide, mask = ellipse(75, 35), inside(75, 35, 0.6)

    def imbalance(step: Dose) -> float:
        noise = np.stack([error_of(step, wide, index=z) for z in range(3)])
        across = np.diff(noise, axis=1)[:, mask[1:]].var()
        along = np.diff(noise, axis=2)[:, mask[:, 1:]].var()
        return float(across / along)

    assert imbalance(dose_step()) > imbalance(dose_step(modulation=0.5)) > 1
    thick, thin = ellipse(75, 75), ellipse(40, 40)

    def ratio(step: Dose) -> float:
        center = inside(30, 30)
        return averaged_variance(step, thick, center, 2) / averaged_variance(step, thin, center, 2)

    assert ratio(dose_step(modulation=0.5)) < 0.6 * ratio(dose_step())


def test_slices_are_independent_unless_they_overlap() -> None:
    image, mask = ellipse(), inside()

    def correlation(step: Dose) -> float:
        first, second = (error_of(step, image, index=z)[mask] for z in (5, 6))
        return float(np.corrcoef(first, second)[0, 1])

    assert abs(correlation(dose_step())) < 0.05
    overlapping = dose_step(axial_weights=(math.sqrt(0.5), math.sqrt(0.5)))
    assert correlation(overlapping) == pytest.approx(0.5, abs=0.06)
    thickened = dose_step(axial_weights=(0.25,) * 4)
    assert correlation(thickened) == pytest.approx(0.75, abs=0.06)
    ratio = averaged_variance(thickened, image, mask) / averaged_variance(dose_step(), image, mask)
    assert ratio == pytest.approx(0.25, rel=0.06)


def test_starved_rays_stay_finite() -> None:
    metal = ellipse(hu=3000)
    noise = error_of(dose_step(0.05, photons_per_ray=1e3, electronic_sd=5.0), metal)
    assert np.isfinite(noise).all()


@pytest.mark.parametrize(("roll_off", "order"), [(0.15, 2.0), (0.25, 2.0), (0.5, 2.0), (0.2, 1.0)])
def test_closed_forms_of_texture_and_strength_match_simulation(roll_off: float, order: float) -> None:
    image, mask = ellipse(75, 60), inside(75, 60)
    reconstruction = Reconstruction(VIEWS, roll_off, order)
    noise = error_of(dose_step(0.5), image, of=reconstruction)
    expected, _ = noise_variance(image, PIXEL, reconstruction, dose_step().exposure)
    assert noise[mask].var() == pytest.approx(float(expected[mask].mean()) / 2e5, rel=0.06)
    found = texture(noise, mask)
    assert found == pytest.approx(reconstruction.texture(PIXEL), rel=0.1)
    again = matching(found, PIXEL)
    assert again.texture(PIXEL) == pytest.approx(reconstruction.texture(PIXEL), rel=0.1)
    assert again.kernel(FREQUENCIES) == pytest.approx(reconstruction.kernel(FREQUENCIES), abs=0.2)


def test_texture_is_not_moved_by_anatomy() -> None:
    """Fine structure that the noise lies on raises the local SD, and not the texture that is found."""
    mask = inside(75, 60)
    noise = error_of(dose_step(0.5), ellipse(75, 60), of=Reconstruction(VIEWS, 0.25))
    anatomy = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=noise.shape), 9)
    anatomy *= 0.7 * noise[mask].std() / anatomy.std()
    assert texture(noise + anatomy, mask) == pytest.approx(texture(noise, mask), rel=0.08)


def noisy_volume(photons: float, slices: int = 5) -> np.ndarray:
    """Water scanned at `photons` per ray: going from N to N / 2 adds as much noise as N photons have."""
    step = dose_step(0.5, photons_per_ray=photons)
    image = ellipse(75, 60, 40)
    return np.stack([image + error_of(step, image, index=z, seed=11) for z in range(slices)])


def test_photons_are_found_from_the_volumes_own_noise() -> None:
    array = noisy_volume(1e5)
    own = measure(array)
    reconstruction = replace(matching(own.texture, PIXEL), views=VIEWS)
    found = photons_per_ray(own, PIXEL, 1.0, reconstruction, dose_step().exposure, 0.0)
    assert found == pytest.approx(1e5, rel=0.2)
    # and lowering the dose to a quarter doubles the noise that a reader would measure
    step = dose_step(0.25, photons_per_ray=found)
    lowered = np.stack([a + error_of(step, a, index=z, of=reconstruction) for z, a in enumerate(array)])
    again = measure(lowered)
    assert again.sd_hu == pytest.approx(2 * own.sd_hu, rel=0.07)
    assert again.texture == pytest.approx(own.texture, rel=0.1)


def test_electronic_noise_counts_when_photons_are_found() -> None:
    own = measure(noisy_volume(1e5))
    exposure = dose_step().exposure
    without, with_it = (photons_per_ray(own, PIXEL, 1.0, RECONSTRUCTION, exposure, sd) for sd in (0.0, 30.0))
    assert with_it > without * 1.02


def test_noiseless_and_bodiless_volumes_have_a_typical_exposure() -> None:
    for array in (np.stack([ellipse(hu=40)] * 3), np.full((2, N, N), -1000, np.float32)):
        own = measure(array)
        assert not own.measurable
        assert photons_per_ray(own, 0.8, 2.0, RECONSTRUCTION, dose_step().exposure, 3.0) == pytest.approx(
            1.5e5 * 0.8 * 2.0
        )


def test_mode_finds_the_peak_and_not_the_mean() -> None:
    rng = np.random.default_rng(0)
    sample = np.r_[rng.normal(10, 0.5, 5000), rng.uniform(10, 80, 4000)]
    assert mode(sample) == pytest.approx(10, abs=0.5)


def test_motion_has_no_mean_displacement_and_shifts_later_in_later_slices() -> None:
    step = Motion(2.0, 40.0, 0.9, 0.3, 0.05)
    moved = step.displacement(VIEWS, 0)
    assert moved.mean() == pytest.approx(0, abs=1e-12) and np.ptp(moved) == pytest.approx(2, rel=1e-3)
    np.testing.assert_allclose(step.displacement(VIEWS, 1), np.roll(moved, VIEWS // 20), atol=1e-9)


def test_motion_artefact_grows_with_the_amplitude_and_leaves_the_mean() -> None:
    image = ellipse(60, 45)
    mask = inside(60, 45)
    errors = [error_of(Motion(a, 20.0, 0.2, 0.4, 0.0), image) for a in (0.0, 0.5, 2.0)]
    assert np.abs(errors[0]).max() < 0.05
    spread = [np.sqrt(np.mean(e**2)) for e in errors]
    assert spread[2] > 2.5 * spread[1] > 0
    assert abs(errors[2][mask].mean()) < 2 and errors[2][mask].std() > 1


def test_motion_by_whole_pixels_equals_scanning_the_moved_image() -> None:
    """The views at the height of the movement see the image shifted by the displacement of that moment."""
    image = ellipse(40, 30, 100)
    step = Motion(4 * PIXEL, 0.0, 0.0, 0.5, 0.0)
    scan = SliceScan(torch.from_numpy(image), PIXEL, RECONSTRUCTION, True)
    step.apply(scan, 0, 0)
    seen = scan.clean + scan.error
    shift = step.displacement(VIEWS, 0)
    view = int(np.argmin(np.abs(shift - 2 * PIXEL)))  # the view at which it has moved by two pixels
    moved = SliceScan(torch.from_numpy(np.roll(image, 2, axis=1)), PIXEL, RECONSTRUCTION, True)
    difference = (seen[view] - moved.clean[view]).abs().max()
    unmoved = (scan.clean[view] - moved.clean[view]).abs().max()
    assert float(difference) < 0.15 * float(unmoved)


def bones_in_water() -> np.ndarray:
    image = ellipse()
    y, x = np.indices((N, N)) - (N - 1) / 2
    image[np.hypot(x - 40, y) < 12] = 1200
    image[np.hypot(x + 40, y) < 12] = 1200
    return image


def test_water_alone_is_corrected_perfectly() -> None:
    assert not error_of(BeamHardening(1.0), ellipse(hu=60)).any()


def test_beam_hardening_darkens_between_bones_in_proportion() -> None:
    image = bones_in_water()
    single, triple = (error_of(BeamHardening(s), image) for s in (1.0, 3.0))
    np.testing.assert_allclose(triple, 3 * single, atol=0.05)
    between = single[N // 2 - 6 : N // 2 + 6, N // 2 - 12 : N // 2 + 12].mean()
    above = single[20:32, N // 2 - 12 : N // 2 + 12].mean()
    assert between < -4 and between < above - 4
    assert abs(single[ellipse() > -500].mean()) < 8


def test_beam_hardening_error_is_of_second_order_in_bone() -> None:
    total = torch.linspace(0, 8, 50)
    assert not water_corrected_error(total, torch.zeros_like(total)).any()
    bone = torch.linspace(0, 3, 50)
    error = water_corrected_error(total, bone)
    assert float((error * bone).sum()) == pytest.approx(0, abs=1e-3)
    assert float(bone_hu(torch.tensor([-1000.0, 60.0])).max()) == pytest.approx(-1000)


def test_rings_are_circles_of_the_drawn_strength() -> None:
    image = ellipse()
    y, x = np.indices((N, N)) - (N - 1) / 2
    radius = np.hypot(x, y) * PIXEL
    band = (radius > 20) & (radius < 100)
    sd = [error_of(Ring(6.0, 1.0, 3, 0.0), image, index=z)[band].std() for z in range(3)]
    assert np.mean(sd) == pytest.approx(6, rel=0.15)
    ring = error_of(Ring(6.0, 3.0, 3, 0.0), image)
    bins = (radius / PIXEL).astype(int)
    means = np.bincount(bins.ravel(), ring.ravel()) / np.bincount(bins.ravel())
    explained = means[bins][band].var() / ring[band].var()
    assert explained > 0.8
    assert abs(ring[band].mean()) < 1.5


def test_rings_of_neighbouring_slices_are_alike_and_of_distant_ones_not() -> None:
    image, step = ellipse(), Ring(6.0, 1.0, 6, 0.2)
    first, next_one, distant = (error_of(step, image, index=z).ravel() for z in (0, 1, 30))
    assert np.corrcoef(first, next_one)[0, 1] > 0.8
    assert abs(np.corrcoef(first, distant)[0, 1]) < 0.4


def test_sparse_view_artefacts_shrink_with_the_number_of_views() -> None:
    image = bones_in_water()
    errors = [float(np.sqrt(np.mean(error_of(SparseViews(n), image) ** 2))) for n in (30, 60, 120, 240)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 3 * errors[2]
    assert not error_of(SparseViews(VIEWS), image).any()


def test_sparse_views_leave_the_mean_and_raise_the_noise() -> None:
    image, mask = ellipse(), inside()
    assert abs(error_of(SparseViews(120), image)[mask].mean()) < 1
    scan = SliceScan(torch.from_numpy(image), PIXEL, RECONSTRUCTION, True)
    dose_step().apply(scan, 1, 0)
    all_views = scan.error_image().numpy()[mask].var()
    SparseViews(120).apply(scan, 1, 0)
    artefact = error_of(SparseViews(120), image)
    third = (scan.error_image().numpy() - artefact)[mask].var()
    assert third / all_views == pytest.approx(3, rel=0.2)
