"""`ctenhance project`: what it writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.projections import read_projections
from ctenhance.scan.projections import Projections

runner = CliRunner()
SMALL = ("--views", 64, "--columns", 48, "--device", "cpu", "--progress", "none")


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    y, x = np.indices((32, 40)) - 16
    array = np.where(np.hypot(x - 4, y) < 12, 40.0, -1000.0) + draw.normal(0, 10, (3, 32, 40))
    path = tmp_path / "ct.nii.gz"
    CTVolume(array.astype(np.float32), (6.0, 6.0, 2.5), (1.0, 2.0, 3.0)).write(path)
    return path


def run(*arguments: object, code: int = 0) -> Any:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def test_writes_projections_and_report(ct: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "low.ctproj.h5", tmp_path / "report.json"
    done = run("project", ct, out, "--dose", 0.25, "--seed", 7, "--report", report, *SMALL)
    p = read_projections(out)
    assert p.shape == (64, 3, 48) and p.geometry == "fan_equiangular"
    assert float(p.air_counts) == 62500 and p.electronic_noise_variance == 10
    assert p.image_shape == (32, 40) and p.image_pixel_mm == 6 and p.row_pitch_mm == 2.5
    assert str(out) in done.stdout and str(report) in done.stdout
    written = json.loads(report.read_text(encoding="utf-8"))
    assert written["verb"] == "project" and written["seed"] == 7
    assert written["settings"]["dose"] == 0.25
    assert written["details"]["projections"]["sha256"] == p.identity()["sha256"]
    again = tmp_path / "again.ctproj.h5"
    run("project", ct, again, "--dose", 0.25, "--seed", 7, *SMALL)
    assert Projections.read(again).identity() == p.identity()


@pytest.mark.parametrize("geometry", ["fan-flat", "parallel"])
def test_other_geometries(ct: Path, tmp_path: Path, geometry: str) -> None:
    run("project", ct, tmp_path / "out.ctproj.h5", "--geometry", geometry, "--bowtie", 0.5, *SMALL)
    p = read_projections(tmp_path / "out.ctproj.h5")
    assert p.geometry == geometry.replace("-", "_") and p.air_counts.shape == (48,)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("out.nii.gz",), "must end in .h5 or .hdf5"),
        (("none/out.ctproj.h5",), "does not exist; create it first"),
        (("out.ctproj.h5", "--dose", 0), "The dose cannot be 0"),
        (("out.ctproj.h5", "--geometry", "cone"), "no geometry 'cone'"),
        (("out.ctproj.h5", "--photons", -3), "photons cannot be -3"),
        (("out.ctproj.h5", "--views", 2), "20 to 20000 views, not 2"),
        (("out.ctproj.h5", "--views", 1_000_000), "not 1000000"),
        (("out.ctproj.h5", "--kvp", 80), "--kvp is for --polychromatic only"),
    ],
)
def test_refusals(ct: Path, tmp_path: Path, arguments: tuple[Any, ...], sentence: str) -> None:
    done = run("project", ct, tmp_path / arguments[0], *SMALL, *arguments[1:], code=2)
    assert sentence in done.stderr and done.stderr.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["ct.nii.gz"]


def test_missing_input(tmp_path: Path) -> None:
    done = run("project", tmp_path / "none.nii", tmp_path / "out.ctproj.h5", *SMALL, code=2)
    assert "none.nii" in done.stderr


def test_a_note_on_the_input_is_said_once(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    CTVolume(draw.normal(45, 10, (1, 32, 32)).round(), (6.0, 6.0, 2.5)).write(tmp_path / "liver.nrrd")
    report = tmp_path / "report.json"
    done = run("project", tmp_path / "liver.nrrd", tmp_path / "a.ctproj.h5", "--report", report, *SMALL)
    assert done.output.count("there is no air") == 1
    assert "there is no air" in json.loads(report.read_text(encoding="utf-8"))["input"]["notes"][0]
