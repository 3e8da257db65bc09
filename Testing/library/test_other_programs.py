"""What docs/other-programs.md says of our own files and figures beside those of other programs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
import torch
from synthetic_dicom import dataset, hounsfield, save

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.files.ctpd.elements import View
from ctenhance.files.dicom.writing import Derivation, write_series
from ctenhance.physics.materials import attenuation_matrix, material
from ctenhance.physics.phantom import chest_phantom
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.quality.metrics import ssim, to_window
from ctenhance.study.statistics.roc import auc_kernel, figure_of_merit, jackknife_covariance

IODINE = Derivation("density", material="iodine")


def iodine_map() -> CTVolume:
    values = np.random.default_rng(0).gamma(2, 3, (6, 8, 10)).astype(np.float32) - 1
    return CTVolume(values, (0.7, 0.8, 1.5), (-20.0, 12.5, 100.125))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(iodine_map(), tmp_path / "iodine", IODINE)


def test_simpleitk_reads_a_map_as_it_was(series: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image, own = reader.Execute(), iodine_map()
    step = float(pydicom.dcmread(min(series.iterdir())).RescaleSlope)
    assert np.abs(sitk.GetArrayFromImage(image) - own.array).max() <= 0.51 * step
    assert np.allclose(image.GetSpacing(), own.spacing) and np.allclose(image.GetOrigin(), own.origin)


def test_both_slopes_are_the_same_number(series: Path) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        (mapping,) = image.RealWorldValueMappingSequence
        assert mapping.RealWorldValueSlope == float(image.RescaleSlope)
        assert mapping.RealWorldValueIntercept == float(image.RescaleIntercept) == 0


def test_highdicom_gives_the_volume_from_the_head_down(series: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    found = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in series.iterdir()])
    back = CTVolume.read(series, check_hu=False)
    assert np.allclose(found.array[::-1], back.array, atol=1e-5)
    turned = found.to_patient_orientation("HPL")
    assert np.allclose(turned.array, back.array, atol=1e-5)
    assert np.allclose(turned.affine[:3, 3], back.origin)


def test_highdicom_follows_the_mapping_and_not_the_rescale_slope(series: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    path = min(series.iterdir())
    image = pydicom.dcmread(path)
    mapped = image.pixel_array * image.RealWorldValueMappingSequence[0].RealWorldValueSlope
    image.RescaleSlope = "1"
    image.save_as(path)
    assert np.allclose(highdicom.imread(path).get_frame(1), mapped, atol=1e-6)
    assert np.allclose(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], image.pixel_array)


def test_a_map_does_not_drift_from_file_to_file(tmp_path: Path) -> None:
    volume, slopes, first = iodine_map(), set(), None
    for turn in range(10):
        folder = write_series(volume, tmp_path / str(turn), IODINE)
        images = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        slopes |= {str(image.RescaleSlope) for image in images}
        stored = np.stack([image.pixel_array for image in images])
        first = stored if first is None else first
        assert np.array_equal(stored, first)
        volume = CTVolume.read(folder, check_hu=False)
    assert len(slopes) == 1


def test_every_word_of_16_bits_comes_back_through_float32() -> None:
    stored = np.arange(-32766, 32767, dtype=np.int16)
    for slope in 10.0 ** np.random.default_rng(1).uniform(-6, 3, 200):
        text = float(f"{slope:.9g}")
        assert np.array_equal(np.rint((stored * text).astype(np.float32) / text), stored)


def test_ssim_of_a_whole_slice_is_monais_and_scikit_images_gaussian_one() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    from monai.metrics.regression import SSIMMetric

    truth = chest_phantom(512, 512, 1).array[0]
    noisy = truth + np.random.default_rng(0).normal(0, 30, truth.shape).astype(np.float32)
    pair = [to_window(plane, 0, 2000) for plane in (noisy, truth)]
    own = ssim(*pair)
    alike = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    doubles = [plane.astype(float) for plane in pair]
    assert own == pytest.approx(metrics.structural_similarity(*doubles, data_range=1.0, **alike), abs=1e-4)
    assert abs(own - metrics.structural_similarity(*doubles, data_range=1.0)) > 1e-3  # its own settings
    batch = [torch.from_numpy(plane)[None, None] for plane in pair]
    assert own == pytest.approx(SSIMMetric(spatial_dims=2, data_range=1.0)(*batch).item(), abs=1e-4)


def delong(kernel: np.ndarray) -> float:
    """The variance of an area by DeLong, DeLong & Clarke-Pearson (1988)."""
    normal, diseased = kernel.shape
    return float(np.var(kernel.mean(1), ddof=1) / normal + np.var(kernel.mean(0), ddof=1) / diseased)


@pytest.mark.parametrize("times", [1, 10])
def test_the_jackknifes_variance_is_a_little_above_delongs(times: int) -> None:
    rng = np.random.default_rng(1)
    normal, diseased = 8 * times, 40 * times
    for _ in range(20):
        ratings = [np.rint(rng.normal(shift, 1, count)) for shift, count in ((0, normal), (1, diseased))]
        kernel = auc_kernel(*ratings)
        ratio = jackknife_covariance(kernel[None, None])[0, 0] / delong(kernel)
        assert diseased / (diseased - 1) * 0.999 < ratio < normal / (normal - 1) * 1.02


def test_an_area_below_one_half_is_not_turned() -> None:
    rng = np.random.default_rng(2)
    normal, diseased = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    area = figure_of_merit(auc_kernel(normal, diseased)).value
    turned = figure_of_merit(auc_kernel(diseased, normal)).value
    assert area is not None and area < 0.5 and area == pytest.approx(1 - turned)  # type: ignore[operator]


def test_photon_statistics_of_188_kilobytes_come_back_as_unknown_bytes(tmp_path: Path) -> None:
    """Longer than explicit VR can hold as FL: pydicom and dcmconv write them as UN."""
    numbers = np.random.default_rng(0).random(64 * 736).astype("<f4")
    stored = dataset(hounsfield()[0], (0, 0, 0))
    stored.add_new(0x70330010, "LO", "a creator")
    stored.add_new(0x70331065, "UN", numbers.tobytes())
    assert len(numbers.tobytes()) == 188_416
    read = pydicom.dcmread(save(stored, tmp_path / "view.dcm"))
    assert read[0x70331065].VR == "UN"
    assert np.array_equal(View(read).numbers("PhotonStatistics").astype("<f4"), numbers)


def test_iodines_k_edge_stands_at_33_169_keV() -> None:
    energies = torch.arange(33_100, 33_240, dtype=torch.float64) / 1000
    values = material("iodine").mass_attenuation(energies)
    ratios = values[1:] / values[:-1]
    edge = int(ratios.argmax())
    assert (float(energies[edge]), float(energies[edge + 1])) == (33.169, 33.170)
    assert float(ratios[edge]) == pytest.approx(5.467, abs=0.01)
    assert int((ratios > 1).sum()) == 1


@pytest.mark.parametrize(("water_mm", "iodine"), [(200, 5.0), (300, 20.0), (400, 50.0)])
def test_the_grid_of_1_keV_costs_little(water_mm: int, iodine: float) -> None:
    """Iodine in mg/cm² from counts with the attenuation at every 10 eV, the edge within a bin."""
    energies, names = energy_grid(120), ["water", "iodine"]
    quanta = tube_spectrum(120, energies_kev=energies)
    edges = (20, 33, 50, 70, 120)
    bins = [(energies >= low) & (energies < high) for low, high in itertools.pairwise(edges)]
    spectra = torch.stack([quanta * inside for inside in bins])
    fine = torch.arange(0.005, 1, 0.01, dtype=torch.float64) - 0.5
    counted = spectra.sum(0) > 0
    amounts = torch.tensor([water_mm / 10, iodine / 1000], dtype=torch.float64)
    through = torch.zeros_like(energies)
    grid = (energies[counted, None] + fine).flatten()
    passed = torch.exp(-(amounts @ attenuation_matrix(names, grid))).reshape(-1, len(fine))
    through[counted] = passed.mean(1)
    counts = 1e6 / float(spectra.sum()) * (spectra * through).sum(1)
    decomposer = Decomposer(names, 1e6 / float(spectra.sum()) * spectra, energies)
    found = decomposer.estimate(counts[None]).lines[0]
    assert abs(float(found[1]) * 1000 - iodine) < 0.1
