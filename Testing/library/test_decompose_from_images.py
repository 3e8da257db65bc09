"""Decomposition of images: the estimate against independent algebra, and the verb on known content."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import minimize, nnls
from spectral_images import body, hounsfield, rod, scan
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import images as spectral
from ctenhance.decomposition.from_images import ImageDecomposeOptions
from ctenhance.decomposition.from_images import noise as noises
from ctenhance.decomposition.from_images.attenuation import attenuation_of, distinctness, read_table
from ctenhance.decomposition.from_images.energies import Energy
from ctenhance.decomposition.from_images.estimate import ImageDecomposer
from ctenhance.decomposition.scanner import named_phantom, named_scan
from ctenhance.physics.materials import material
from ctenhance.physics.spectrum import TUBE_FILTERS, energy_grid, tube_spectrum
from ctenhance.runtime.errors import InputError

DRAW = np.random.default_rng(17)
A = torch.from_numpy(DRAW.uniform(0.2, 2.0, (6, 4)))
_ROOT = DRAW.normal(size=(6, 6))
C = torch.from_numpy(_ROOT @ _ROOT.T + np.eye(6))


def of(*kevs: str | float, basis: tuple[str, ...] = ("water", "iodine")):
    return attenuation_of([Energy.of(kev) for kev in kevs], basis)


def test_two_monoenergetic_images_are_the_exact_algebra() -> None:
    how = of(40, 70)
    density = np.array([0.93, 0.0071])
    values = how.relative.numpy() @ density
    # whatever the noise
    for covariance in (torch.eye(2), torch.tensor([[9.0, -2.0], [-2.0, 1.0]])):
        found = ImageDecomposer(how.relative, covariance).estimate(torch.from_numpy(values)[:, None])
        np.testing.assert_allclose(found[:, 0], density, rtol=1e-10)
    # the attenuation is that of the tables: 10 mg/mL have the HU that an independent formula gives
    hu = [hounsfield("iodine", 10, kev) for kev in (40.0, 70.0)]
    found = ImageDecomposer(how.relative, torch.eye(2)).estimate(
        torch.tensor(hu, dtype=torch.float64)[:, None] / 1000 + 1
    )
    np.testing.assert_allclose(found[:, 0], [1.0, 0.01], rtol=1e-9)


def test_more_images_than_materials_are_weighted_by_the_whole_covariance() -> None:
    values = DRAW.normal(size=(6, 50)) + 3
    weight = np.linalg.inv(C.numpy())
    expected = np.linalg.solve(A.numpy().T @ weight @ A.numpy(), A.numpy().T @ weight @ values)
    found = ImageDecomposer(A, C).estimate(torch.from_numpy(values))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_nonnegative_densities_agree_with_scipy() -> None:
    values = DRAW.normal(size=(6, 300)) * 2
    white = np.linalg.inv(np.linalg.cholesky(C.numpy()))
    found = ImageDecomposer(A, C, nonnegative=True).estimate(torch.from_numpy(values)).numpy()
    expected = np.array([nnls(white @ A.numpy(), white @ column)[0] for column in values.T]).T
    assert (expected == 0).any() and (expected > 0).any()
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_conserved_volume_agrees_with_a_general_minimiser(nonnegative: bool) -> None:
    densities = torch.tensor([1.0, 0.95, 3.1, 4.9], dtype=torch.float64)
    values = DRAW.normal(size=(6, 8)) * 0.3 + 1
    weight = np.linalg.inv(C.numpy())
    made = ImageDecomposer(A, C, densities, nonnegative)
    found = made.estimate(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose((found / densities.numpy()[:, None]).sum(0), 1, rtol=1e-9)

    def cost(rho: np.ndarray, column: np.ndarray) -> float:
        rest = column - A.numpy() @ rho
        return float(rest @ weight @ rest)

    for index, column in enumerate(values.T):
        best = minimize(
            cost, np.full(4, 0.25), (column,), method="SLSQP", tol=1e-14,
            bounds=[(0, None)] * 4 if nonnegative else None,
            constraints={"type": "eq", "fun": lambda rho: (rho / densities.numpy()).sum() - 1},
        )  # fmt: skip
        assert cost(found[:, index], column) <= best.fun + 1e-6
        np.testing.assert_allclose(found[:, index], best.x, atol=2e-3)


def test_few_materials_a_voxel_are_the_likeliest_ones() -> None:
    truth = np.array([[1.0, 0.8, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 2.0]])
    values = torch.from_numpy(A.numpy() @ truth + 1e-4 * DRAW.normal(size=(6, 3)))
    found = ImageDecomposer(A, 1e-8 * C, at_most=2).estimate(values).numpy()
    assert ((found != 0).sum(0) <= 2).all()
    np.testing.assert_allclose(found[[0, 2], 0], [1.0, 0.5], atol=0.01)
    np.testing.assert_allclose(found[[0, 3], [1, 2]], [0.8, 2.0], atol=0.01)


@pytest.mark.parametrize(
    "options", [{}, {"nonnegative": True}, {"densities": torch.tensor([1.0, 2.0, 1.5, 4.0])}]
)
def test_the_gradient_is_that_of_finite_differences(options: dict) -> None:
    values = torch.from_numpy(DRAW.normal(size=(6, 5)) + 1).requires_grad_()
    upstream = torch.from_numpy(DRAW.normal(size=(4, 5)))
    mass = A.clone().requires_grad_()
    loss = (ImageDecomposer(A, C, **options)(values, mass) * upstream).sum()
    of_values, of_mass = torch.autograd.grad(loss, (values, mass))

    def at(changed_values: torch.Tensor, changed_mass: torch.Tensor) -> float:
        made = ImageDecomposer(changed_mass, C, **options)
        return float((made.estimate(changed_values) * upstream).sum())

    step = 1e-6
    for i, j in ((0, 0), (3, 2), (5, 4)):
        moved = torch.zeros_like(values)
        moved[i, j] = step
        there = at(values.detach() + moved, A) - at(values.detach() - moved, A)
        assert float(of_values[i, j]) == pytest.approx(there / (2 * step), rel=1e-5, abs=1e-7)
    for i, k in ((0, 0), (2, 3), (4, 1)):
        moved = torch.zeros_like(A)
        moved[i, k] = step
        there = at(values.detach(), A + moved) - at(values.detach(), A - moved)
        assert float(of_mass[i, k]) == pytest.approx(there / (2 * step), rel=1e-4, abs=1e-6)


def test_error_bars_are_the_spread_of_the_estimates() -> None:
    factor = np.linalg.cholesky(C.numpy())
    truth = np.array([2.0, 3.0, 1.0, 4.0])
    values = A.numpy() @ truth
    noisy = torch.from_numpy(values[:, None] + factor @ DRAW.normal(size=(6, 20000)))
    made = ImageDecomposer(A, C)
    found = made.estimate(noisy)
    np.testing.assert_allclose(found.std(1), made.standard_errors()[0], rtol=0.03)
    np.testing.assert_allclose(found.mean(1), truth, atol=0.1)
    # and the misfit is one where noise explains the values
    assert float(made.misfit(noisy, found).square().mean()) == pytest.approx(1, rel=0.03)


def test_errors_of_few_materials_are_those_of_the_materials_that_are_there() -> None:
    factor = np.linalg.cholesky(C.numpy())
    truth = np.array([60.0, 0.0, 80.0, 0.0])
    noisy = torch.from_numpy((A.numpy() @ truth)[:, None] + factor @ DRAW.normal(size=(6, 20000)))
    made = ImageDecomposer(A, C, at_most=2)
    found, sets = made.estimate_sets(noisy)
    usual = int(sets.mode().values)
    here = found[:, sets == usual]
    assert here.shape[1] > 15000 and (here[[1, 3]] == 0).all()
    errors = made.standard_errors()
    np.testing.assert_allclose(here[[0, 2]].std(1), errors[usual, [0, 2]], rtol=0.1)
    assert (errors[usual, [0, 2]] < errors[0, [0, 2]]).all()
    np.testing.assert_allclose(errors[usual, [1, 3]], errors[0, [1, 3]])


def test_a_tube_voltage_is_its_spectrum_behind_a_body() -> None:
    how = attenuation_of([Energy.of("80kV"), Energy.of("Sn140kV")], ("water", "iodine"), body_mm=150)
    for row, kvp, filters in ((0, 80, {}), (1, 140, {"tin": 0.4})):
        grid = energy_grid(kvp)
        seen = tube_spectrum(kvp, {**TUBE_FILTERS, **filters}, energies_kev=grid) * grid
        seen *= torch.exp(-15.0 * material("water").mass_attenuation(grid))
        iodine = (seen * material("iodine").mass_attenuation(grid)).sum() / seen.sum()
        assert float(how.mass[row, 1]) == pytest.approx(float(iodine), rel=1e-12)
    assert how.mass[0, 1] > 1.5 * how.mass[1, 1]  # tin hardens the beam


def test_tables_with_a_decimal_comma_are_those_with_a_point(tmp_path: Path) -> None:
    plain = "image,water,iodine\nlow,0.2683,22.1\nhigh,0.1929,5\n"
    (tmp_path / "plain.csv").write_text(plain, encoding="utf-8")
    for name, mark in (("semicolons", ";"), ("tabs", "\t")):
        text = plain.replace(",", mark).replace(".", ",")
        (tmp_path / f"{name}.csv").write_text("\ufeff" + text, encoding="utf-8")
        assert read_table(tmp_path / f"{name}.csv") == read_table(tmp_path / "plain.csv")


def test_spectra_in_a_table_are_what_a_tube_voltage_is(tmp_path) -> None:
    grid = energy_grid(140)
    rows = ["keV,low,Sn140kV"]
    low = tube_spectrum(80, energies_kev=grid) * grid
    high = tube_spectrum(140, {**TUBE_FILTERS, "tin": 0.4}, energies_kev=grid) * grid
    rows += [
        f"{e:.17g},{a:.17g},{b:.17g}"
        for e, a, b in zip(grid.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    (tmp_path / "spectra.csv").write_text("\n".join(rows), encoding="utf-8")
    basis = ("water", "iodine")
    table = read_table(tmp_path / "spectra.csv")
    found = attenuation_of([Energy.of("low"), Energy.of("Sn140kV")], basis, table, 150)
    expected = attenuation_of([Energy.of("80kV"), Energy.of("Sn140kV")], basis, None, 150)
    torch.testing.assert_close(found.mass, expected.mass, rtol=1e-9, atol=0)
    with pytest.raises(InputError, match="no spectrum of the image 'high'"):
        attenuation_of([Energy.of("low"), Energy.of("high")], basis, table)
    (tmp_path / "bad.csv").write_text("keV,low\n30,1\n20,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="rising energies"):
        read_table(tmp_path / "bad.csv")


def test_the_verb_finds_iodine_and_its_error_and_gives_back_the_images() -> None:
    pair = scan([40, 70], [20, 8], slices=3)
    result = ctenhance.decompose_images(
        pair, vmi=(40, 70, 100), vnc=True, zeff=True, electron_density=True, errors=True
    )
    maps = result.volumes
    for name, amount in (("iodine 2", 2), ("iodine 10", 10), ("iodine 20", 20), ("plain", 0)):
        here = maps["iodine"].array[:, rod(name)]
        assert here.mean() == pytest.approx(amount, abs=0.12)
        assert maps["water"].array[:, rod(name)].mean() == pytest.approx(1000, abs=4)
        assert maps["vnc"].array[:, rod(name)].mean() == pytest.approx(0, abs=4)
        expected = 0.0 if name == "plain" else hounsfield("iodine", amount, 100)
        assert maps["vmi_100keV"].array[:, rod(name)].mean() == pytest.approx(expected, abs=4)
    for kev in (40, 70):
        np.testing.assert_allclose(maps[f"vmi_0{kev}keV"].array, pair[kev].array, atol=0.01)
    spread = maps["iodine"].array[:, rod("plain", 1.0)].std()
    told = result.maps["iodine_sd"].array[:, rod("plain", 1.0)].mean()
    assert told == pytest.approx(spread, rel=0.15)
    details = result.report["details"]
    assert details["noise_HU"]["40"] == pytest.approx(20, rel=0.1)
    assert details["noise_covariance_HU2"][0][1] == pytest.approx(-0.5 * 20 * 8, rel=0.2)
    assert details["viewing"]["materials"] == ["water", "iodine"]
    assert ctenhance.decomposition.from_images.ImageDecomposeOptions.from_report(result.report).vmi == (
        40,
        70,
        100,
    )


def test_options_are_keywords_command_and_report_alike() -> None:
    options = ImageDecomposeOptions(basis=["water", "iodine"], vmi=[50], nonnegative=True, at_most=2, seed=3)
    fields = {one.name: one for one in dataclasses.fields(options)}
    parameters = dict(inspect.signature(ctenhance.decompose_images).parameters)
    for name in ("images", "attenuation", "noise", "options", "progress", "cancel"):
        del parameters[name]
    assert {name: one.default for name, one in parameters.items()} == {
        n: f.default for n, f in fields.items()
    }
    seen = {}

    def catch(run, given, folder, found, *others) -> None:
        seen["options"] = found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctenhance.commands.decompose.decompose_images", catch)
        CliRunner().invoke(app, ["decompose", "--image", "x", "maps", *options.to_arguments()])
    assert seen["options"] == options
    pair = scan([40, 70], [20, 8])
    report = ctenhance.decompose_images(pair, options=options).report
    assert ImageDecomposeOptions.from_report(report) == options
    with pytest.raises(TypeError, match="once"):
        ctenhance.decompose_images(pair, options=options, vnc=True)


def test_low_noise_takes_the_noise_out_of_40_kev_and_leaves_iodine() -> None:
    pair = scan([40, 70], [40, 12], correlation=-0.3, slices=2, seed=3)
    plain = ctenhance.decompose_images(pair, vmi=(40,))
    quiet = ctenhance.decompose_images(pair, vmi=(40,), low_noise=True, guided_maps=True)
    kev = quiet.report["details"]["viewing"]["quiet_keV"]
    quietest = ctenhance.decompose_images(pair, vmi=(kev,)).volumes
    (quietest_image,) = (v for name, v in quietest.items() if name.startswith("vmi"))
    flat = rod("plain", 1.0)
    noise = [
        v.array[:, flat].std()
        for v in (plain.volumes["vmi_040keV"], quiet.volumes["vmi_040keV"], quietest_image)
    ]
    assert noise[1] <= 1.3 * noise[2] < 0.6 * noise[0]
    for name in ("iodine 10", "iodine 20"):
        before = plain.volumes["iodine"].array[:, rod(name)].mean()
        assert quiet.maps["iodine_guided"].array[:, rod(name)].mean() == pytest.approx(before, abs=0.15)
        hu = [v.volumes["vmi_040keV"].array[:, rod(name)].mean() for v in (plain, quiet)]
        assert float(hu[1]) == pytest.approx(float(hu[0]), rel=0.02)


def test_the_residual_shows_what_the_basis_lacks() -> None:
    lacking = {"iodine 2": ("gadolinium", 8.0)}
    images = scan([45, 55, 80, 120], [8, 8, 8, 8], 0.0, slices=2, others=lacking)
    result = ctenhance.decompose_images(images, residual=True)
    found = result.maps["residual"].array
    assert found[:, rod("iodine 2")].mean() > 5
    assert found[:, rod("iodine 20")].mean() == pytest.approx(0.9, abs=0.3)
    full = ctenhance.decompose_images(images, basis=("water", "iodine", "gadolinium"), residual=True)
    assert full.maps["residual"].array[:, rod("iodine 2")].mean() < 1.3
    assert full.volumes["gadolinium"].array[:, rod("iodine 2")].mean() == pytest.approx(8, abs=0.3)
    assert full.volumes["gadolinium"].array[:, rod("iodine 20")].mean() == pytest.approx(0, abs=0.3)
    assert set(full.report["details"]["residual"]) == {"45", "55", "80", "120"}


def test_volume_conservation_tells_three_materials_from_two_images() -> None:
    fat = material("adipose")
    images = scan([40, 80], [3, 3], 0.0)
    how = of(40, 80, basis=("water", "adipose", "iodine"))
    for (_, volume), relative in zip(images.items(), how.relative, strict=True):
        volume.array[:, rod("plain", 1.0)] += 1000 * (float(relative[1]) * fat.density - 1)
    result = ctenhance.decompose_images(images, basis=("water", "adipose", "iodine"), conserve_volume=True)
    assert result.volumes["adipose"].array[:, rod("plain")].mean() == pytest.approx(950, abs=15)
    assert result.volumes["iodine"].array[:, rod("iodine 10")].mean() == pytest.approx(10, abs=0.2)
    # air holds no fat that takes the place of what is not there
    assert np.abs(result.volumes["adipose"].array[:, ~body()]).max() == 0


@pytest.mark.parametrize(
    "energies, basis, sentence",
    [
        ((40, 70), ("water", "iodine", "calcium"), "3 materials cannot be told from 2 images"),
        ((60, 80, 100), ("water", "iodine", "gadolinium"), "no K edge"),
        ((40, 70), ("water", "soft_tissue"), "cannot tell water from soft_tissue"),
        ((40, 70), ("water", "water"), "different basis materials"),
        ((40,), ("water", "iodine"), "One image"),
        ((40, "40keV"), ("water", "iodine"), "Two images are given at 40 keV"),
        ((20, 70), ("water", "iodine"), "cannot be used"),
        (("bin1", "bin2"), ("water", "iodine"), "--attenuation"),
        (("80kV", "Sn70kV"), ("water", "iodine"), "with tin"),
    ],
)
def test_requests_that_images_cannot_answer(energies, basis, sentence: str) -> None:
    one = scan([70])[70]
    with pytest.raises(InputError, match=sentence):
        ctenhance.decompose_images(dict.fromkeys(energies, one), basis=basis)


def test_monoenergetic_images_of_two_tell_two_materials_only() -> None:
    pair = scan([40, 70], [20, 8])
    made = ctenhance.decompose_images(pair, vmi=(55, 100)).volumes
    four = {**pair, 55: made["vmi_055keV"], 100: made["vmi_100keV"]}
    with pytest.raises(InputError, match="made of 2"):
        ctenhance.decompose_images(four, basis=("water", "iodine", "gadolinium"))
    again = ctenhance.decompose_images(four).volumes["iodine"]
    np.testing.assert_allclose(
        again.array, ctenhance.decompose_images(pair).volumes["iodine"].array, atol=0.02
    )


def test_all_smaller_sines_are_of_materials_that_a_percent_would_confuse() -> None:
    how = of(60, 80, 100, basis=("water", "iodine", "gadolinium"))
    least = int(distinctness(how).argmin())
    wrong = how.relative * torch.tensor([1.0, 1.02, 1.0])[:, None]
    made = ImageDecomposer(how.relative, torch.eye(3))
    off = made.estimate(wrong @ torch.tensor([1.0, 0.01, 0.0], dtype=torch.float64)[:, None])
    assert abs(float(off[least, 0]) - (0.01 if least == 1 else 0)) > 0.01  # more than all of it


def test_without_a_uniform_region_nothing_is_said_of_errors() -> None:
    draw = np.random.default_rng(0)
    small = {
        kev: CTVolume(draw.normal(40, 300, (1, 12, 12)).astype(np.float32), (1.0, 1.0, 1.0))
        for kev in (40, 70)
    }
    result = ctenhance.decompose_images(small, tolerance_mm=100)
    assert any("uniform enough" in one for one in result.report["warnings"])
    with pytest.raises(InputError, match="--noise"):
        ctenhance.decompose_images(small, tolerance_mm=100, errors=True)
    told = ctenhance.decompose_images(small, tolerance_mm=100, errors=True, noise=[10, 5])
    assert told.maps["iodine_sd"].array.min() > 0


def test_dependent_images_are_counted() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(0, 10, (2, 4, 32, 32)).astype(np.float32)
    assert noises.independent_images([a, b, 0.3 * a + 0.7 * b]) == 2
    assert noises.independent_images([a, b, draw.normal(0, 10, a.shape).astype(np.float32)]) == 3


def test_the_quietest_energy_is_where_noise_cancels() -> None:
    pair = scan([40, 70], [40, 12], correlation=-0.3)
    maps = ctenhance.decompose_images(pair).volumes
    stack = torch.stack([torch.from_numpy(maps[n].array / 1000) for n in ("water", "iodine")])
    kev = spectral.quietest_energy(stack, ("water", "iodine"))
    flat = rod("plain", 1.0)
    noise = {e: float(spectral.vmi(stack, ("water", "iodine"), e)[:, flat].std()) for e in (40, kev, 190)}
    assert noise[kev] < noise[40] and noise[kev] <= noise[190] * 1.02


def test_monoenergetic_images_of_a_chest_are_within_a_percent() -> None:
    """From projections with noise to a 40/70-keV pair in whole HU and on to images at other energies."""
    options = {"matrix": 128, "seed": 3}
    phantom = named_phantom("chest", slices=1, contrast_mg_ml=5.0, **options)
    scan = named_scan("chest", views=360, columns=256, **options)
    made = ctenhance.decompose(scan, vmi=(40, 70), device="cpu").volumes
    pair = {k: made[f"vmi_{k:03d}keV"].with_array(np.rint(made[f"vmi_{k:03d}keV"].array)) for k in (40, 70)}
    energies = (50, 70, 100, 140)
    found = ctenhance.decompose_images(pair, vmi=energies, device="cpu").volumes
    truth = phantom.densities[:, 0].double()
    iodine, bone = (phantom.map(name)[0].numpy() for name in ("iodine", "bone"))
    soft = spectral.vmi(truth, phantom.materials, 70).numpy()
    plain = (iodine == 0) & (bone < 20)
    regions = {
        "blood": ndimage.binary_erosion(iodine > 4.5, iterations=2),
        "fat": ndimage.binary_erosion(plain & (soft > -150) & (soft < -50), iterations=2),
        "bone": ndimage.binary_erosion(bone > 150),
    }
    for kev in energies:
        true = spectral.vmi(truth, phantom.materials, kev).numpy()
        for name, region in regions.items():
            assert region.sum() > 50, name
            attenuation = 1000 + true[region].mean()
            error = found[f"vmi_{kev:03d}keV"].array[0][region].mean() - true[region].mean()
            assert abs(error) < 0.01 * attenuation, (name, kev, error)
