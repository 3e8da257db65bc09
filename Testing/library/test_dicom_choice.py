"""Choosing images of a DICOM folder by what their headers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid
from synthetic_dicom import enhanced, hounsfield, save, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.commands.options import Choice
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

TWO_KINDS: dict[str, tuple[Any, Any]] = {
    "KVP": (80, 140),
    "AcquisitionNumber": (3, 4),
    "ConvolutionKernel": (["Br40f", "3"], ["Br59f", "3"]),
    "ImageType": (["DERIVED", "PRIMARY", "E70"], ["DERIVED", "PRIMARY", "E140"]),
    "ContrastBolusAgent": (None, "yes"),
    "FrameOfReferenceUID": ("1.2.5", "1.2.6"),
}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A series in which two scans lie one above the other, different in all of `TWO_KINDS`."""
    first, second = ({name: values[index] for name, values in TWO_KINDS.items()} for index in (0, 1))
    lower = write_series(tmp_path, prefix="first", **first)
    upper = write_series(
        tmp_path, prefix="second", values=hounsfield(4, seed=1), depths=(10, 12.5, 15, 17.5), **second
    )
    return tmp_path, lower, upper


@pytest.mark.parametrize(
    ("where", "which"),
    [
        ({"KVP": 80}, 0),
        ({"KVP": "140.0"}, 1),
        ({"kvp": 140}, 1),
        ({"KVP": "100..150"}, 1),
        ({"KVP": "#1"}, 0),
        ({"AcquisitionNumber": 4}, 1),
        ({"ConvolutionKernel": "br59F"}, 1),
        ({"ConvolutionKernel": ["Br40f", "3"]}, 0),
        ({"ConvolutionKernel": "Br40f/3"}, 0),
        ({"ImageType": "E140"}, 1),
        ({"ImageType": "DERIVED\\PRIMARY\\E70"}, 0),
        ({"ContrastBolusAgent": ""}, 0),
        ({"ContrastBolusAgent": "yes"}, 1),
        ({"FrameOfReferenceUID": "1.2.6"}, 1),
        ({"FrameOfReferenceUID": "#2"}, 1),
        ({"KVP": 80, "AcquisitionNumber": 3}, 0),
    ],
)
def test_images_are_chosen_by_any_attribute(two: tuple[Path, np.ndarray, np.ndarray], where: Any, which: int):
    folder, *scans = two
    volume = CTVolume.read(folder, where=where)
    np.testing.assert_array_equal(volume.array, scans[which])
    assert any(note.startswith("slices chosen by ") for note in volume.meta["notes"])
    assert "1.2.6" not in str(volume.meta["notes"])


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"KVP": 100}, "no slice has KVP=100; choose from: KVP 80 (4 slices) and 140 (4 slices)."),
        ({"ImageType": "E90"}, "choose from: ImageType E140 (4 slices) and E70 (4 slices)."),
        ({"FrameOfReferenceUID": "9.9"}, "FrameOfReferenceUID #1 (4 slices) and #2 (4 slices)."),
        ({"FrameOfReferenceUID": "#3"}, "FrameOfReferenceUID #1 (4 slices) and #2 (4 slices)."),
        ({"PhaseNumber": 1}, "choose from: PhaseNumber none (8 slices)."),
        ({"KVP": 80, "AcquisitionNumber": 4}, "no slice has AcquisitionNumber=4; choose from: "),
        ({"Voltage": 80}, "'Voltage' is no attribute of DICOM images; give its keyword, such as"),
    ],
)
def test_what_no_image_has_is_refused_with_what_they_have(
    two: tuple[Path, np.ndarray, np.ndarray], where: Any, words: str
):
    with pytest.raises(InputError) as caught:
        CTVolume.read(two[0], where=where)
    assert words in str(caught.value)


def test_a_choice_is_made_before_the_series_are_told_apart(tmp_path: Path):
    write_series(tmp_path / "soft")
    sharp = write_series(
        tmp_path / "sharp", values=hounsfield(4, seed=1), ConvolutionKernel="B70f",
        SeriesInstanceUID=generate_uid(), SeriesNumber=7,
    )  # fmt: skip
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"ConvolutionKernel": "B70f"}).array, sharp)


def test_frames_are_chosen_by_what_their_functional_groups_say(tmp_path: Path):
    values = hounsfield(6)
    made = enhanced(values, depths=(0, 2, 4, 0, 2, 4), slopes=(1,) * 6)
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        frame.CTExposureSequence[0].XRayTubeCurrentInmA = 100.0 if index < 3 else 300.0
    path = save(made, tmp_path / "both.dcm")
    np.testing.assert_array_equal(CTVolume.read(path, where={"XRayTubeCurrent": 300}).array, values[3:])


def test_a_choice_in_a_volume_file_is_refused(tmp_path: Path):
    CTVolume(hounsfield(3)).write(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="in DICOM folders only"):
        CTVolume.read(tmp_path / "a.nrrd", where={"KVP": 80})


@pytest.mark.parametrize(
    "verb", ["enhance", "degrade", "project", "compare", "demo", "dicom write", "dicom list", "batch"]
)
def test_every_command_that_reads_a_volume_takes_the_choice(verb: str):
    shown = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    for option in ("--series", "--acquisition", "--where", "--resample-tilt"):
        assert option in shown


def test_commands_choose(two: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path):
    folder, first, second = two
    CTVolume.read(folder, where={"KVP": 80}).write(tmp_path / "first.nrrd")
    for choice, expected in (
        (["--acquisition", "4"], second),
        (["--where", "KVP=80"], first),
        (["--where", "KVP=80", "--where", "AcquisitionNumber=3"], first),
    ):
        out = tmp_path / "out.nrrd"
        done = CliRunner().invoke(
            app, ["enhance", str(folder), str(out), "--strength", "0", "--samples", "1", *choice]
        )
        assert done.exit_code == 0, done.output
        np.testing.assert_allclose(CTVolume.read(out).array, expected, atol=0.5)

    done = CliRunner().invoke(
        app,
        ["compare", str(tmp_path / "first.nrrd"), str(folder), "--where", "KVP=80"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output


def test_compare_takes_two_series_of_one_folder(tmp_path: Path):
    write_series(tmp_path / "study", SeriesInstanceUID="1.2.1", SeriesNumber=3)
    write_series(tmp_path / "study", SeriesInstanceUID="1.2.2", SeriesNumber=4, prefix="b")
    study = str(tmp_path / "study")
    done = CliRunner().invoke(app, ["compare", study, study, "--series", "3", "--after-series", "4"])
    assert done.exit_code == 0, done.output
    assert (
        CliRunner().invoke(app, ["compare", study, study, "--series", "3", "--after-series", "5"]).exit_code
        == 2
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--where", "KVP"], "--where KVP names no value"),
        (["--where", "KVP=80", "--where", "KVP=140"], "KVP is asked for twice"),
        (["--acquisition", "1", "--where", "AcquisitionNumber=2"], "AcquisitionNumber is asked for twice"),
    ],
)
def test_unclear_choices_are_refused(tmp_path: Path, given: list[str], words: str):
    write_series(tmp_path / "ct")
    done = CliRunner().invoke(app, ["enhance", str(tmp_path / "ct"), str(tmp_path / "o.nrrd"), *given])
    assert done.exit_code == 2 and words in done.output


def test_the_choice_is_for_the_dicom_ones_of_several_inputs(tmp_path: Path):
    CTVolume(hounsfield(3)).write(tmp_path / "a.nrrd")
    (tmp_path / "folder").mkdir()
    choice = Choice("3")
    assert choice.each([tmp_path / "a.nrrd", tmp_path / "folder"]) == [Choice(), choice]
    assert Choice().each([tmp_path / "a.nrrd"]) == [Choice()]
    with pytest.raises(InputError, match=r"in DICOM folders only, not in 'a\.nrrd'"):
        choice.each([tmp_path / "a.nrrd"])
