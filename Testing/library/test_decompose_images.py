"""Spectral images against tabulated attenuation, and the verb from file to maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decompose_cases import THRESHOLDS, beam, toy_detector
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import decompose, images, products
from ctenhance.decomposition.calibration.thresholds import DriftCalibration
from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.simulate import Beam, Imperfections, random_drift, simulate
from ctenhance.options import DecomposeOptions
from ctenhance.physics.detector import PileUp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.materials import material, solution
from ctenhance.runtime.errors import InputError

BASIS = ("water", "iodine")
BEAM = Beam(beam(2e6), toy_detector(), THRESHOLDS, 120)


def maps(iodine: float) -> torch.Tensor:
    return torch.tensor([1.0, iodine / 1000], dtype=torch.float64)[:, None, None].expand(2, 4, 4)


@pytest.mark.parametrize("kev", [40, 70, 100, 140, 190])
def test_a_monoenergetic_image_is_the_tabulated_attenuation(kev: int) -> None:
    energy = torch.tensor([float(kev)])
    water = material("water").linear_attenuation(energy)
    expected = 1000 * (solution("iodine", 10).linear_attenuation(energy) / water - 1)
    assert float(images.vmi(maps(10.0), BASIS, kev)[0, 0]) == pytest.approx(float(expected), rel=1e-9)
    assert float(images.vmi(maps(0.0), BASIS, kev)[0, 0]) == pytest.approx(0, abs=1e-9)


def test_non_contrast_electrons_and_atomic_number() -> None:
    assert float(images.virtual_non_contrast(maps(15.0), BASIS)[0, 0]) == pytest.approx(0, abs=1e-9)
    assert float(images.electron_density(maps(0.0), BASIS)[0, 0]) == pytest.approx(1)
    assert float(images.effective_atomic_number(maps(0.0), BASIS)[0, 0]) == pytest.approx(7.42, abs=0.01)
    mixed = solution("iodine", 10.0)
    expected = mixed.power_mean_z(images.Z_EXPONENT) ** (1 / images.Z_EXPONENT)
    assert float(images.effective_atomic_number(maps(10.0), BASIS)[0, 0]) == pytest.approx(expected, rel=1e-6)
    assert float(images.effective_atomic_number(0 * maps(0.0), BASIS)[0, 0]) == 0
    # Noise that takes iodine far below nothing leaves matter, which has hydrogen's number at least.
    assert float(images.effective_atomic_number(maps(-15.0), BASIS)[0, 0]) == 1
    # Noise that lets the densities of air rise, one against the other, makes no matter of it.
    air = 0 * maps(0.0)
    weights = images.vmi_weights(BASIS, images.NON_CONTRAST_KEV)
    air[0], air[1] = 0.3, -0.3 * weights[0] / weights[1]
    assert float(images.electron_density(air, BASIS)[0, 0]) > 0.2
    assert float(images.effective_atomic_number(air, BASIS)[0, 0]) == 0


def test_low_noise_images_keep_contrast_and_lose_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 96, 96, dtype=torch.float64)
    truth[0] = 1.0
    truth[1, 30:66, 30:66] = 0.008
    # anti-correlated noise, as decomposition makes it: it cancels near 70 keV
    common = torch.randn(96, 96, generator=generator, dtype=torch.float64)
    own = torch.randn(2, 96, 96, generator=generator, dtype=torch.float64)
    factor = float(-images.vmi_weights(BASIS, 70)[0] / images.vmi_weights(BASIS, 70)[1])
    noisy = (
        truth
        + 0.05 * torch.stack([common, factor * common])
        + torch.tensor([0.008, 3e-4])[:, None, None] * own
    )
    assert 60 <= images.quietest_energy(noisy, BASIS) <= 80
    plain, quiet = images.vmi(noisy, BASIS, 45), images.low_noise_vmi(noisy, BASIS, 45)
    inside, flat = (slice(36, 60), slice(36, 60)), (slice(4, 24), slice(4, 90))
    assert float(quiet[flat].std()) < 0.4 * float(plain[flat].std())
    contrast = float(quiet[inside].mean() - quiet[flat].mean())
    expected = float(images.vmi(truth, BASIS, 45)[inside].mean())
    assert contrast == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: images.vmi(maps(0), BASIS, 20), "35 to 200 keV"),
        (lambda: images.virtual_non_contrast(maps(0), ("water", "calcium")), "contrast agent"),
    ],
)
def test_impossible_images_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


class Case:
    def __init__(self) -> None:
        self.phantom = rod_phantom(
            64, 160.0, [{"iodine": 10.0}, {"iodine": 5.0}, {"iodine": 2.0}], rod_mm=34.0
        )
        self.geometry = ParallelGeometry.covering(self.phantom.grid, n_views=180)
        self.scan = simulate(self.phantom, self.geometry, BEAM, seed=1)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def test_a_report_gives_the_settings_to_do_it_again(case: Case) -> None:
    result = decompose(case.scan, vmi=[60], vnc=True, errors=True, kernel="soft", device="cpu", seed=3)
    options = DecomposeOptions.from_report(result.report)
    again = decompose(case.scan, options=options)
    for found, expected in ((again.volumes, result.volumes), (again.maps, result.maps)):
        assert all(np.array_equal(found[name].array, expected[name].array) for name in expected)
    assert again.report["settings"] == result.report["settings"]


def test_the_report_of_a_calibrated_scan_wants_the_calibration(case: Case, tmp_path: Path) -> None:
    shifts = torch.zeros(case.scan.n_columns, len(BEAM.thresholds_kev), dtype=torch.float64)
    path = tmp_path / "drift.h5"
    DriftCalibration.of(shifts, BEAM).write(path)
    result = decompose(case.scan, calibration=path, device="cpu")  # a file will do, as in the command
    with pytest.raises(InputError, match="name the calibration"):
        DecomposeOptions.from_report(result.report)
    assert DecomposeOptions.from_report(result.report, calibration=path).calibration == path


def test_guided_maps_make_low_noise_images_of_every_energy(case: Case) -> None:
    result = ctenhance.decompose(case.scan, vmi=[45, 110], low_noise=True, guided_maps=True)
    viewing = result.report["details"]["viewing"]
    names = viewing["materials"]
    plain = np.stack([result.volumes[name].array for name in names])
    guided = np.stack([result.maps[f"{name}_guided"].array for name in names])
    weights = np.array(viewing["hounsfield_per_mg_ml"])

    def at(kev: float) -> np.ndarray:
        return np.array([np.interp(kev, viewing["energies_keV"], row) for row in weights])

    quiet = at(viewing["quiet_keV"])
    for kev in (45, 110):
        image = np.tensordot(quiet, plain, 1) + np.tensordot(at(kev) - quiet, guided, 1) - 1000
        assert np.abs(image - result.volumes[f"vmi_{kev:03d}keV"].array).max() < 0.05
    alone = ctenhance.decompose(case.scan, vmi=[45, 110])
    assert "quiet_keV" not in alone.report["details"]["viewing"] and not alone.maps
    assert result.volumes["vmi_045keV"].array.std() < alone.volumes["vmi_045keV"].array.std()


def test_the_verb_finds_concentrations_and_their_errors(case: Case) -> None:
    result = ctenhance.decompose(case.scan, vmi=[50, 70, 140], vnc=True, errors=True, seed=4)
    assert set(result.volumes) == {"water", "iodine", "vmi_050keV", "vmi_070keV", "vmi_140keV", "vnc"}
    assert set(result.maps) == {"water_sd", "iodine_sd"}
    iodine = torch.from_numpy(result.volumes["iodine"].array[0])
    sd = torch.from_numpy(result.maps["iodine_sd"].array[0])
    for insert in case.phantom.inserts:
        inside = case.phantom.inside(insert)
        truth = insert.contents["iodine"]
        assert float(iodine[inside].mean()) == pytest.approx(truth, abs=0.25)
        for kev in (50, 70, 140):
            image = torch.from_numpy(result.volumes[f"vmi_{kev:03d}keV"].array[0])
            energy = torch.tensor([float(kev)])
            expected = solution("iodine", truth).linear_attenuation(energy)
            expected = float(1000 * (expected / material("water").linear_attenuation(energy) - 1))
            # within 1 % of the attenuation
            assert float(image[inside].mean()) == pytest.approx(expected, abs=0.01 * (1000 + expected))
    body = case.phantom.inside(case.phantom.inserts[0], 0.8)
    residual = (iodine - case.phantom.map("iodine")[0])[body]
    assert float(residual.std()) == pytest.approx(float(sd[body].mean()), rel=0.25)
    assert result.report["details"]["rays"]["converged"] > 0.999
    assert result.report["details"]["misfit"] == pytest.approx(1, abs=0.1)
    assert result.report["warnings"] == []


def test_the_same_seed_gives_the_same_bytes(case: Case) -> None:
    one, two = (decompose(case.scan, errors=True, seed=1) for _ in range(2))
    for name in ("water", "iodine"):
        assert (one.volumes[name].array == two.volumes[name].array).all()
        assert (one.maps[f"{name}_sd"].array == two.maps[f"{name}_sd"].array).all()


def test_drift_is_told_and_a_calibration_takes_it_away(case: Case) -> None:
    shifts = random_drift(case.geometry.n_columns, 6, 0.8, seed=3)
    scan = simulate(case.phantom, case.geometry, BEAM, Imperfections(drift_kev=shifts), seed=1)
    plain = decompose(scan)
    assert any("drifted" in warning for warning in plain.report["warnings"])
    corrected = decompose(scan, calibration=DriftCalibration.of(shifts, BEAM))
    assert corrected.report["warnings"] == []
    inside = case.phantom.inside(case.phantom.inserts[0]).numpy()
    assert (
        corrected.volumes["water"].array[0][inside].std()
        < 0.6 * plain.volumes["water"].array[0][inside].std()
    )


def test_pile_up_is_undone(case: Case) -> None:
    pile_up = PileUp(1e-8, 0.1)  # one part in five is lost in air
    scan = simulate(case.phantom, case.geometry, BEAM, Imperfections(pile_up=pile_up), noise=False)
    inside = case.phantom.inside(case.phantom.inserts[0]).numpy()
    found = decompose(scan, pile_up=pile_up).volumes["iodine"].array[0][inside].mean()
    assert found == pytest.approx(10.0, abs=0.2)


def changed(scan, **fields):
    """A copy of a scan with other fields."""
    import dataclasses

    return dataclasses.replace(scan, **fields)


def test_another_matrix_shows_the_same_field(case: Case) -> None:
    whole, coarse = (decompose(case.scan, image_size=size).volumes["water"] for size in (None, 32))
    assert coarse.array.shape == (1, 32, 32)
    assert coarse.spacing[0] == pytest.approx(2 * whole.spacing[0])
    assert coarse.array.mean() == pytest.approx(whole.array.mean(), rel=0.02)
    with pytest.raises(InputError, match="matrix is 5 x 5"):
        decompose(case.scan, image_size=5)


@pytest.mark.parametrize(
    ("basis", "said"),
    [
        (["water", "water_sd=CaCl2@2.15"], "'water_sd' is named like another image"),
        (["water", "VMI_070keV=CaCl2@2.15"], "'VMI_070keV' is named like another image"),
        (["zeff=H2O@1", "iodine"], "'zeff' is named like another image"),
        (["Salt=H2O@1", "salt=CaCl2@2.15"], "Two basis materials are called 'Salt'"),
    ],
)
def test_no_material_takes_the_name_of_another_image(case: Case, basis: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        decompose(case.scan, basis=basis)


def test_energies_near_each_other_have_names_of_their_own() -> None:
    names = [products.vmi_name(kev) for kev in (40, 70.0, 70.5, 70.01, 70.04, 190)]
    assert names == [f"vmi_{kev}keV" for kev in ("040", "070", "070.5", "070.01", "070.04", "190")]


def test_energies_without_quanta_need_no_attenuation(case: Case) -> None:
    energies, spectra = case.scan.energies_keV, case.scan.effective_spectra
    padded = changed(
        case.scan,
        energies_keV=np.concatenate([[0.0], energies, [1000.0]]),
        effective_spectra=np.pad(spectra, ((0, 0), (1, 1))),
    )
    found, usual = (decompose(scan).volumes["iodine"].array for scan in (padded, case.scan))
    assert np.allclose(found, usual, atol=1e-4)


def test_projections_that_cannot_be_decomposed_are_refused(case: Case) -> None:
    scan = case.scan
    for other, message in (
        (changed(scan, effective_spectra=None, energies_keV=None, thresholds_keV=None), "effective_spectra"),
        (changed(scan, meta={"kvp": 80}), "another tube voltage"),
        (changed(scan, counts=scan.counts.sum(-1), effective_spectra=None, energies_keV=None,
                 thresholds_keV=None, air_counts=np.array(1e5)), "energy bins"),
        (changed(scan, air_counts=scan.air_counts / 3), "saturated"),
        (changed(scan, counts=np.minimum(scan.counts, 0.2 * scan.air_counts.astype(np.float32))),
         "energy bin 1 are .* the counter was saturated"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            decompose(other)
    with pytest.raises(InputError, match="35 to 200 keV"):
        decompose(scan, vmi=[300])
    with pytest.raises(InputError, match="kernel"):
        decompose(scan, kernel="bone")
    with pytest.raises(InputError, match="no material 'watre'"):
        decompose(scan, basis=["watre"])


def test_the_commands_write_maps_and_calibrations(case: Case, tmp_path: Path) -> None:
    runner = CliRunner()
    path = tmp_path / "scan.ctproj.h5"
    np.save(tmp_path / "response.npy", toy_detector().response.numpy())
    case.scan.write(path)
    done = runner.invoke(
        app,
        ["calibrate", "drift", str(path), str(tmp_path / "drift.h5"), "--before", str(path), "--detector",
         str(tmp_path / "response.npy"), "--progress", "none"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = DriftCalibration.read(tmp_path / "drift.h5")
    assert found.reference == "earlier scan"
    assert float(np.abs(found.shifts_kev).max()) < 1e-9
    done = runner.invoke(
        app,
        ["decompose", str(path), str(tmp_path / "maps"), "--vmi", "70", "--zeff", "--electron-density",
         "--errors", "--calibration", str(tmp_path / "drift.h5"), "--report",
         str(tmp_path / "r.json"), "--progress", "none"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = sorted(p.name for p in (tmp_path / "maps").iterdir())
    assert written == [
        f"{name}.nii.gz"
        for name in ("electron_density", "iodine", "iodine_sd", "vmi_070keV", "water", "water_sd", "zeff")
    ]
    assert (
        json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["settings"]["drift_calibration"] is True
    )
    vmi = CTVolume.read(tmp_path / "maps" / "vmi_070keV.nii.gz").array[0]
    body = case.phantom.inside(case.phantom.inserts[2]).numpy()
    assert abs(float(vmi[body].mean()) - 50) < 15
    done = runner.invoke(
        app,
        ["calibrate", "drift", str(path), str(tmp_path / "again.h5"), "--reference", str(tmp_path / "maps"),
         "--detector", str(tmp_path / "response.npy"), "--report", str(tmp_path / "again.json"),
         "--progress", "none"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "again.json").read_text())["settings"]["basis"] == ["water", "iodine"]
    done = runner.invoke(
        app,
        ["calibrate", "drift", str(path), str(tmp_path / "alone.h5"), "--detector",
         str(tmp_path / "response.npy"), "--progress", "none"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Without a reference only images get right" in done.output
    assert DriftCalibration.read(tmp_path / "alone.h5").reference == "none"
    for wrong, message in (
        (["decompose", str(path), str(tmp_path / "m"), "--vmi", "a,b"], "no list of numbers"),
        (["decompose", str(path), str(tmp_path / "m"), "--dead-time", "20"], "both"),
        (
            ["calibrate", "drift", str(path), str(tmp_path / "d.h5"), "--detector", "ideal"],
            "not those of 120 kV",
        ),
    ):
        done = runner.invoke(app, [*wrong, "--progress", "none"])
        assert done.exit_code == 2
        assert message in done.output
    assert not (tmp_path / "d.h5").exists()


def test_a_command_that_fails_leaves_no_folder(case: Case, tmp_path: Path) -> None:
    case.scan.write(tmp_path / "scan.ctproj.h5")
    (tmp_path / "there").mkdir()
    for folder in ("new", "there"):
        arguments = [str(tmp_path / "scan.ctproj.h5"), str(tmp_path / folder), "--vmi", "10"]
        failed = CliRunner().invoke(app, ["decompose", *arguments, "--progress", "none"])
        assert failed.exit_code == 2 and "10 keV" in failed.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.ctproj.h5", "there"]


@pytest.mark.parametrize("bins", [2, 5])
def test_bins_in_another_order_than_their_spectra_are_told(bins: int) -> None:
    thresholds = THRESHOLDS if bins == 5 else THRESHOLDS[[0, 3, 5]]
    rods = rod_phantom(64, 200.0)
    geometry = ParallelGeometry.covering(rods.grid, n_views=60)
    scan = simulate(rods, geometry, Beam(beam(1e6), toy_detector(), thresholds, 120), seed=3)
    readings, air = np.asarray(scan.counts), np.asarray(scan.air_counts)

    def told(order: list[int]) -> list[str]:
        other = replace(scan, counts=readings[..., order].copy(), air_counts=air[..., order].copy())
        return [w for w in decompose(other, device="cpu").report["warnings"] if "order" in w]

    assert not told(list(range(bins)))
    (sentence,) = told(list(range(bins))[::-1])
    assert "in the reverse order of '/effective_spectra'" in sentence
    if bins == 5:
        (sentence,) = told([0, 3, 2, 1, 4])
        assert "in the order [1, 4, 3, 2, 5]" in sentence
