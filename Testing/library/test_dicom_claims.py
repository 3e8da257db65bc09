"""Volumes that are to be written to DICOM as something that they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spectral_images import scan
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.report import Result
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.claims import require_true
from ctenhance.files.dicom.derivation import Derivation
from ctenhance.runtime.errors import InputError

#: What each image of the run is, by its name.
RIGHT: dict[str, dict[str, Any]] = {
    "vmi_050keV": {"quantity": "vmi", "kev": 50.0},
    "vmi_067.5keV": {"quantity": "vmi", "kev": 67.5},
    "vnc": {"quantity": "vnc"},
    "water": {"quantity": "density", "material": "water"},
    "iodine": {"quantity": "density", "material": "iodine"},
    "zeff": {"quantity": "zeff"},
    "electron_density": {"quantity": "electron-density"},
}


@pytest.fixture(scope="module")
def made() -> Result:
    return ctenhance.decompose_images(
        scan([40, 70], [10, 5]), vmi=[50, 67.5], vnc=True, zeff=True, electron_density=True, errors=True
    )


def plain(volume: CTVolume) -> CTVolume:
    """As read from a file that tells no unit."""
    return CTVolume(volume.array, volume.spacing)


def sentences(made: Result, image: str, name: str = "", report: bool = False, **claim: Any) -> list[str]:
    said: list[str] = []
    derivation = Derivation(**claim, report=made.report if report else {})
    require_true(plain({**made.volumes, **made.maps}[image]), derivation, name, said.append)
    return said


@pytest.mark.parametrize("image", RIGHT)
def test_what_is_right_is_taken_without_a_word(made: Result, image: str) -> None:
    for report in (True, False):
        for name in (f"{image}.nii.gz", f"patient 1_{image}.nrrd", "some.mha", ""):
            assert sentences(made, image, name, report, **RIGHT[image]) == []


@pytest.mark.parametrize(
    ("image", "claim", "sentence"),
    [
        ("water", RIGHT["zeff"], "no map of effective atomic numbers: its values run from"),
        ("zeff", RIGHT["electron_density"], "matter has 7.4 in it, and water's is 1"),
        ("electron_density", RIGHT["zeff"], "matter has 1 in it, and water's is 7.4"),
    ],
)
def test_values_that_a_quantity_does_not_have(
    made: Result, image: str, claim: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        sentences(made, image, **claim)


@pytest.mark.parametrize("quantity", ["iodine", "zeff"])
def test_hounsfield_units_are_no_map(made: Result, quantity: str) -> None:
    """Refused where a report tells what the run made; without one it is the user's word, and a warning."""
    with pytest.raises(InputError, match="its values have air at -1000"):
        sentences(made, "vmi_050keV", report=True, **RIGHT[quantity])
    (warning,) = sentences(made, "vmi_050keV", **RIGHT[quantity])
    assert "its values have air at -1000" in warning


def test_values_that_no_body_has_are_told(made: Result) -> None:
    assert "more than 400 mg/mL of iodine" in sentences(made, "water", **RIGHT["iodine"])[0]
    assert "mg/mL of water, as no body has" in sentences(made, "iodine", **RIGHT["water"])[0]
    for image in ("water", "zeff"):
        assert "as a CT is hardly one in HU" in sentences(made, image)[0]
        with pytest.raises(InputError, match="is hardly one in HU"):
            sentences(made, image, report=True)


def test_a_report_of_another_run_is_told(made: Result) -> None:
    said = sentences(made, "vmi_050keV", report=True, quantity="vmi", kev=70.0)
    assert len(said) == 1 and "made images at 50, 67.5 keV, none at 70 keV" in said[0]
    assert "no CT as scanned" in sentences(made, "vnc", report=True)[0]
    quiet = sentences(made, "vmi_050keV", report=True, quantity="vmi", kev=50.0, low_noise=True)
    assert "not of low noise" in quiet[0]
    with pytest.raises(InputError, match="report is of 'enhance', whose results are in HU"):
        require_true(plain(made.volumes["zeff"]), Derivation("zeff", report={"verb": "enhance"}))


def test_a_report_of_other_slices_or_of_no_image_is_told(made: Result) -> None:
    few = plain(made.volumes["vmi_050keV"])
    cut = CTVolume(few.array[:, :100], few.spacing)
    said: list[str] = []
    for report, volume in ((made.report, cut), ({**made.report, "verb": "enhance"}, cut), ({}, cut)):
        require_true(volume, Derivation("vmi", kev=50.0, report=report), warn=said.append)
    assert len(said) == 2
    assert all("on other slices (128 x 128 x 2 voxels; the volume has 128 x 100 x 2" in one for one in said)
    require_true(few, Derivation(report={"verb": "compare"}), warn=said.append)
    assert "'compare', which makes no image" in said[-1]


def test_densities_in_grams_are_told(made: Result) -> None:
    for name, amount in (("iodine", "in mg/mL, and not in g/mL"), ("water", "in mg/mL")):
        grams = CTVolume(made.volumes[name].array / 1000, made.volumes[name].spacing)
        said: list[str] = []
        require_true(grams, Derivation("density", material=name), warn=said.append)
        assert len(said) == 1 and amount in said[0]


@pytest.mark.parametrize(
    ("image", "claim", "sentence"),
    [
        ("vmi_050keV", {"quantity": "vmi", "kev": 70.0}, "a monoenergetic image at 50 keV"),
        ("vnc", RIGHT["vmi_050keV"], "a virtual non-contrast image"),
        ("vmi_050keV", {"quantity": "vnc"}, "a monoenergetic image at 50 keV"),
        ("iodine", RIGHT["water"], "a map of iodine"),
        ("water_sd", RIGHT["water"], "a map of standard errors"),
    ],
)
def test_names_that_the_run_gave(made: Result, image: str, claim: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"is {sentence} by the name that the report's run gives"):
        sentences(made, image, f"{image}.nii.gz", True, **claim)
    # without the report it may be anybody's name, of a phantom for instance
    said = sentences(made, image, f"{image}.nii.gz", **claim)
    assert all("by its name" in one or "as no body has" in one for one in said)


def test_the_command_refuses_and_leaves_nothing(made: Result, tmp_path: Path) -> None:
    plain(made.volumes["vmi_050keV"]).write(tmp_path / "vmi_050keV.nii.gz")
    (tmp_path / "r.json").write_text(json.dumps(made.report), encoding="utf-8")
    given = [
        "dicom",
        "write",
        str(tmp_path / "vmi_050keV.nii.gz"),
        str(tmp_path / "out"),
        "--progress",
        "none",
    ]
    given += ["--made-by", str(tmp_path / "r.json"), "--quantity", "vmi", "--kev"]
    done = CliRunner().invoke(app, [*given, "70"])
    assert done.exit_code == 2 and "monoenergetic image at 50 keV by the name" in done.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*given, "50"])
    assert done.exit_code == 0 and done.stderr.strip() == "", done.output
    assert len(list((tmp_path / "out").iterdir())) == len(made.volumes["vmi_050keV"].array)


def test_few_voxels_and_differences_are_written(made: Result) -> None:
    few = CTVolume(np.full((2, 3, 3), -1000.0, np.float32), (1.0, 1.0, 1.0))
    require_true(few, Derivation("zeff"))
    difference = made.volumes["vmi_050keV"].array - made.volumes["vnc"].array
    require_true(CTVolume(difference, (1.0, 1.0, 1.0)), Derivation())
