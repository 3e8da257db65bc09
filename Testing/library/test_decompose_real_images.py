"""A real photon-counting measurement, as images: three contrast agents, bone and a sample in eight bins.

Di Trapani, Brombal, Brun, Opt Express 30:42995, 2022. The attenuations are the authors' calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

import ctenhance
from ctenhance.core.report import Result
from ctenhance.core.volume import CTVolume

BASIS = ("water", "bone", "iodine", "barium", "gadolinium")
AGENTS = BASIS[2:]
VIALS = {"iodine": (316, 136), "barium": (454, 176), "gadolinium": (516, 300)}
_VIAL_PX, _PIXEL_MM = 45, 0.0453


@dataclass(frozen=True)
class Measured:
    images: dict[str, CTVolume]
    table: dict[str, dict[str, float]]
    alone: Result  # at most two materials a voxel
    joint: Result  # all five, not negative

    def means(self, result: Result, vial: str) -> dict[str, float]:
        inside = self.vial(vial)
        return {name: float(result.volumes[name].array[0][inside].mean()) for name in BASIS}

    def vial(self, name: str) -> np.ndarray:
        row, column = VIALS[name]
        y, x = np.ogrid[:690, :690]
        return (y - row) ** 2 + (x - column) ** 2 < _VIAL_PX**2


@pytest.fixture(scope="module")
def measured(shared_data: Path) -> Measured:
    path = shared_data / "spectral" / "microct_8bins_real.npz"
    if not path.is_file():
        pytest.skip("the real photon-counting measurement is not here")
    with np.load(path, allow_pickle=False) as file:
        planes = np.moveaxis(file["mu_per_cm"], -1, 0)
        names = dict(zip(BASIS, ("M_water", "M_bone", "M_I", "M_Ba", "M_Gd"), strict=True))
        table = {
            f"bin{index + 1}": {name: float(file[key][index]) for name, key in names.items()}
            for index in range(len(planes))
        }
    spacing = (_PIXEL_MM, _PIXEL_MM, _PIXEL_MM)
    images = {label: CTVolume(plane[None], spacing) for label, plane in zip(table, planes, strict=True)}
    options = {"basis": BASIS, "attenuation": table, "unit": "1/cm", "nonnegative": True}
    alone = ctenhance.decompose_images(images, at_most=2, residual=True, **options)
    return Measured(images, table, alone, ctenhance.decompose_images(images, **options))


@pytest.mark.parametrize("vial", AGENTS)
def test_each_vial_holds_its_own_material(measured: Measured, vial: str) -> None:
    found = measured.means(measured.alone, vial)
    agents = {name: found[name] for name in AGENTS}
    assert agents[vial] >= 0.9 * sum(agents.values())
    assert agents[vial] > 20  # mg/mL: vials, no traces
    errors = measured.alone.report["details"]["standard_error_mg_ml"]
    for name in AGENTS:
        if name != vial:
            assert agents[name] <= max(errors[name], 0.1 * agents[vial])
    # what the agent is dissolved in
    assert 900 < found["water"] < 1500 and found["bone"] < 60


def test_no_map_of_a_real_measurement_is_called_impossible(measured: Measured) -> None:
    free = ctenhance.decompose_images(
        measured.images, basis=("water", "bone", "iodine"), attenuation=measured.table, unit="1/cm"
    )
    for result in (measured.alone, measured.joint, free):
        assert not [one for one in result.report["warnings"] if "no concentration" in one]


@pytest.mark.parametrize("vial", AGENTS)
def test_all_materials_at_once_find_the_same_agent(measured: Measured, vial: str) -> None:
    found = measured.means(measured.joint, vial)
    assert max(AGENTS, key=lambda name: found[name]) == vial
    assert found[vial] == pytest.approx(measured.means(measured.alone, vial)[vial], rel=0.12)


def test_it_agrees_with_an_independent_nonnegative_least_squares(measured: Measured) -> None:
    """Weighted with the noise that the report tells, in 1/cm, by scipy, voxel by voxel."""
    mass = np.array([[row[name] for name in BASIS] for row in measured.table.values()])
    water = np.array([row["water"] for row in measured.table.values()])
    told = np.array(measured.joint.report["details"]["noise_covariance_HU2"]) + 4.0 * np.eye(len(mass))
    covariance = told * 1e-6 * np.outer(water, water)
    white = np.linalg.inv(np.linalg.cholesky(covariance))
    values = np.stack([volume.array[0] for volume in measured.images.values()])
    draw = np.random.default_rng(0)
    inside = np.any([measured.vial(name) for name in VIALS], axis=0)
    for rows, columns in (np.nonzero(inside), np.nonzero(values.mean(0) > 0.5)):
        for pick in draw.integers(0, len(rows), 100):
            y, x = rows[pick], columns[pick]
            expected = 1000 * nnls(white @ mass, white @ values[:, y, x].astype(np.float64))[0]
            found = [measured.joint.volumes[name].array[0, y, x] for name in BASIS]
            # mg/mL; water, of which an eighth of the noise makes a gram, less closely
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=0.2)


def test_bone_is_bone_and_air_is_nothing(measured: Measured) -> None:
    bone, total = measured.alone.volumes["bone"].array[0], 0.0
    for name in AGENTS:
        total = total + measured.alone.volumes[name].array[0]
    dense = np.s_[300:345, 340:365]  # cortical bone of the sample's vertebra
    assert np.median(bone[dense]) > 300
    assert np.median(bone[dense] / np.maximum(bone[dense] + total[dense], 1)) > 0.9
    air = np.s_[40:90, 560:640]
    assert np.median(sum(v.array[0][air] for v in measured.alone.volumes.values())) < 100


def test_the_residual_is_told_by_bin_and_by_place(measured: Measured) -> None:
    residual = measured.alone.report["details"]["residual"]
    assert list(residual) == [f"bin{index}" for index in range(1, 9)]
    noise = measured.alone.report["details"]["noise_HU"]
    inside = measured.alone.maps["residual"].array[0]
    for vial in VIALS:
        assert np.median(inside[measured.vial(vial)]) < 2.5
    for label, told in residual.items():
        assert told["rms_HU"] < 4 * noise[label]
