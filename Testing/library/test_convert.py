"""`ctenhance convert`: a CT as every command reads it, as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from synthetic_dicom import write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume


def convert(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["convert", *arguments, "--progress", "none"])
    return result.exit_code, result.output


def test_a_series_as_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    values = write_series(tmp_path / "scan")
    code, output = convert(str(tmp_path / "scan"), str(tmp_path / "scan.nii.gz"))
    assert code == 0, output
    read, written = CTVolume.read(tmp_path / "scan"), CTVolume.read(tmp_path / "scan.nii.gz")
    assert np.array_equal(read.array, written.array) and np.array_equal(written.array, values)
    assert np.allclose(read.origin, written.origin) and np.allclose(read.spacing, written.spacing)
    assert np.allclose(read.direction, written.direction)


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"nothing")
    code, output = convert(str(tmp_path / "a.nii"), str(tmp_path / "b.nii"))
    assert code == 2 and "a.nii" in output and not (tmp_path / "b.nii").exists()
    code, output = convert(str(tmp_path / "a.nii"), str(tmp_path / "b.dcm"))
    assert code == 2 and not (tmp_path / "b.dcm").exists()
