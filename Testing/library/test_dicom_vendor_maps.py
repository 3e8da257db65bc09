"""Maps of materials as vendors store them, in mg/mL, and beside ours in regions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from spectral_images import PIXEL_MM, RODS, SIZE, rod, scan
from synthetic_dicom import hounsfield, real_world, write_series
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.derivation import Derivation
from ctenhance.files.dicom.maps import mg_per_ml_of, read_map
from ctenhance.files.dicom.writing import write_series as write_dicom
from ctenhance.quality.regions import Sphere, compare_maps
from ctenhance.runtime.errors import InputError


@pytest.mark.parametrize(
    "unit, factor",
    [
        ("mg/ml", 1.0), ("MG/ML", 1.0), ("mg/cm3", 1.0), ("g/l", 1.0), ("g/cm3", 1000.0), ("ug/ml", 0.001),
        ("0.1 mg/ml", 0.1), ("10^-3 g/cm3", 1.0), ("1e-3 g/ml", 1.0), ("10^2 mg/l", 0.1), ("mcg/ml", 0.001),
        ("µg/mL", 0.001), ("100ug/cm^3", 0.1), ("mg{I}/mL", 1.0), ("HU", None), ("ml/100g/min", None),
        ("density of a material", None),
    ],
)  # fmt: skip
def test_units(unit: str, factor: float | None) -> None:
    assert mg_per_ml_of(unit) == (None if factor is None else pytest.approx(factor))


def test_the_unit_of_the_header_is_believed(tmp_path: Path) -> None:
    amounts = np.abs(hounsfield(4)) % 40
    write_series(tmp_path / "a", values=amounts, RescaleType="MGML", RescaleSlope=0.1, RescaleIntercept=0)
    np.testing.assert_allclose(read_map(tmp_path / "a").array, amounts, atol=0.051)
    # The Real World Value Mapping says it, where the rescaling is to HU; stored values are the amounts.
    write_series(
        tmp_path / "b", values=amounts, RescaleIntercept=0,
        RealWorldValueMappingSequence=real_world("ug/mm3", 0.5, 0.0),
    )  # fmt: skip
    found = read_map(tmp_path / "b")
    np.testing.assert_allclose(found.array, 0.5 * amounts, atol=1e-5)
    assert found.meta["unit"] == "mg/ml"
    write_series(tmp_path / "c", values=hounsfield(4))
    with pytest.raises(InputError, match="'c' is in HU, not in mg/mL"):
        read_map(tmp_path / "c")


def test_ours_comes_back_from_dicom_and_agrees_by_region(tmp_path: Path) -> None:
    result = ctenhance.decompose_images(scan([40, 70], [12, 6]))
    iodine = result.volumes["iodine"]
    write_dicom(iodine, tmp_path / "series", Derivation("density", material="iodine", report=result.report))
    iodine.write(tmp_path / "iodine.nrrd")
    middle = (SIZE - 1) / 2 * PIXEL_MM
    x, y = RODS["iodine 10"]
    place = f"{middle + x},{middle + y},1,6"
    found = CliRunner().invoke(
        app, ["compare-maps", str(tmp_path / "iodine.nrrd"), str(tmp_path / "series"), "--sphere", place]
    )
    assert found.exit_code == 0, found.stderr
    assert "difference +0.00" in found.stdout or "difference -0.00" in found.stdout
    (told,) = compare_maps(iodine, read_map(tmp_path / "series"), [Sphere(middle + x, middle + y, 1.0, 6.0)])
    expected = iodine.array[:, rod("iodine 10", 6 / 9)]
    assert told["mean"][0] == pytest.approx(expected.mean(), abs=0.05) and told["mean"][0] == pytest.approx(
        10, abs=0.2
    )
    for wrong, sentence in (("900,0,0,5", "No voxel lies"), ("1,2,3", "no region"), ("a,b,c,d", "no region")):
        found = CliRunner().invoke(
            app, ["compare-maps", str(tmp_path / "iodine.nrrd"), str(tmp_path / "series"), "--sphere", wrong]
        )
        assert found.exit_code == 2 and sentence in found.stderr


def test_regions_on_other_grids_are_the_same_places() -> None:
    x = np.mgrid[:10, :20, :30][2]
    fine = CTVolume((x * 0.5).astype(np.float32), (0.5, 0.5, 1.0), (10.0, 0.0, 0.0))
    mirrored = np.ascontiguousarray((2.0 * np.mgrid[:10, :8, :8][2]).astype(np.float32)[:, :, ::-1])
    coarse = CTVolume(mirrored, (2.0, 2.0, 1.0), (24.0, 0.0, 0.0), np.diag([-1.0, 1.0, 1.0]))
    (told,) = compare_maps(fine, coarse, [Sphere(16.0, 4.0, 5.0, 2.5)])
    assert told["mean"][0] == pytest.approx(6.0, abs=0.1)
    assert told["mean"][1] == pytest.approx(6.0, abs=0.1)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error_in_what_comes_of_images(tmp_path: Path) -> None:
    result = ctenhance.decompose_images(scan([40, 70], [12, 6]), vmi=(50,))
    for name, made in (
        ("vmi_050keV", Derivation("vmi", 50.0, report=result.report)),
        ("iodine", Derivation("density", material="iodine", report=result.report)),
    ):
        write_dicom(result.volumes[name], tmp_path / name, made)
        done = subprocess.run(
            ["dciodvfy", "-new", str(tmp_path / name / "slice0001.dcm")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Error" not in done.stdout + done.stderr, done.stderr
