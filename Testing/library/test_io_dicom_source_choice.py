"""Which of several series, scans or energies a derived DICOM series takes over from."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from synthetic_dicom import enhanced, hounsfield, save
from synthetic_dicom import write_series as write_source
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.source import Source


def test_one_series_of_several_is_chosen(tmp_path: Path) -> None:
    write_source(tmp_path / "patient" / "soft")
    sharp = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 7, "ConvolutionKernel": "Bl60"}
    write_source(tmp_path / "patient" / "sharp", **sharp)
    CTVolume.read(tmp_path / "patient", series=7).write(tmp_path / "own.nii.gz")
    arguments = ["dicom", str(tmp_path / "own.nii.gz"), str(tmp_path / "out"), "--progress", "none"]
    arguments += ["--like", str(tmp_path / "patient")]
    without = CliRunner().invoke(app, arguments)
    assert without.exit_code == 2 and "--series" in without.output
    done = CliRunner().invoke(app, [*arguments, "--series", "7"])
    assert done.exit_code == 0, done.output
    assert pydicom.dcmread(tmp_path / "out" / "slice0001.dcm").ConvolutionKernel == "Bl60"


def test_one_scan_of_a_series_that_mixes_two_is_chosen(tmp_path: Path) -> None:
    for kvp in (80, 140):
        write_source(tmp_path / "patient", prefix=str(kvp), KVP=kvp, values=hounsfield(4, seed=kvp))
    CTVolume.read(tmp_path / "patient", where={"KVP": 140}).write(tmp_path / "own.nii.gz")
    arguments = ["dicom", str(tmp_path / "own.nii.gz"), str(tmp_path / "out"), "--progress", "none"]
    arguments += ["--like", str(tmp_path / "patient")]
    assert "--where KVP=80" in CliRunner().invoke(app, arguments, env={"COLUMNS": "400"}).output
    done = CliRunner().invoke(app, [*arguments, "--where", "KVP=140"])
    assert done.exit_code == 0, done.output
    assert pydicom.dcmread(tmp_path / "out" / "slice0001.dcm").KVP == 140


def test_frames_of_the_chosen_energy_are_the_sources(tmp_path: Path) -> None:
    """Both energies lie at the same places; the second's own frames and their voltage are named."""
    values = hounsfield(8)
    made = enhanced(values, [0.0, 2.0, 4.0, 6.0] * 2, (1,) * 8)
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        energy, details = Dataset(), Dataset()
        energy.MonoenergeticEnergyEquivalent, details.KVP = (40.0, 80.0) if index < 4 else (70.0, 140.0)
        frame.MultienergyCTCharacteristicsSequence = [energy]
        frame.CTXRayDetailsSequence = [details]
    path = save(made, tmp_path / "both.dcm")
    volume = CTVolume.read(path, where={"MonoenergeticEnergyEquivalent": 70})
    found = Source.of(path, volume, where={"MonoenergeticEnergyEquivalent": 70})
    assert [image.frame for image in found.images] == [4, 5, 6, 7]
    assert {image.values["KVP"] for image in found.images} == {140.0}
