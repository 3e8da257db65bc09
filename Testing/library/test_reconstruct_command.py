"""`ctenhance reconstruct`: what it writes, what it tells, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reconstruct_scan import ROWS, SIDE, measured, small_models
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume

runner = CliRunner()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.ctproj.h5"
    measured().write(path)
    return path


def run(*words: object) -> tuple[int, str]:
    done = runner.invoke(app, ["reconstruct", *map(str, words), "--device", "cpu"])
    return done.exit_code, done.output + (done.stderr if done.stderr_bytes else "")


def test_writes_all_that_is_asked_for(scan: Path, tmp_path: Path) -> None:
    models = small_models(tmp_path)
    out = tmp_path / "out.nii.gz"
    maps = {name: tmp_path / f"{name}.nii.gz" for name in ("uncertainty", "residual")}
    report = tmp_path / "report.json"
    code, text = run(
        scan, out, "--all", "--samples", 2, "--report", report, "--progress", "none",
        *(word for name, path in maps.items() for word in (f"--{name}", path)),
        "--model-projection", models["model_projection"], "--model-image", models["model_image"],
    )  # fmt: skip
    assert code == 0, text
    stages = [tmp_path / f"out_{name}.nii.gz" for name in ("fbp", "projection")]
    for path in (out, *stages, *maps.values()):
        volume = CTVolume.read(path, check_hu=False)
        assert volume.array.shape == (ROWS, SIDE, SIDE)
        assert volume.spacing == pytest.approx((4.0, 4.0, 2.5))
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["details"]["dose_estimate"]["from"] == "air counts"
    assert told["settings"]["method"] == "need"


def test_matrix_field_and_kernel(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mha"
    code, text = run(scan, out, "--method", "fbp", "--matrix", 48, "--fov", 96, "--kernel", "hann")
    assert code == 0, text
    volume = CTVolume.read(out)
    assert volume.array.shape == (ROWS, 48, 48)
    assert volume.spacing[0] == pytest.approx(2.0)
    assert np.abs(volume.array[:, 20:28, 36:44]).max() < 400


def test_tells_its_progress_as_json(scan: Path, tmp_path: Path) -> None:
    code, text = run(scan, tmp_path / "out.nii.gz", "--method", "fbp", "--progress", "json")
    assert code == 0, text
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    stages = {event["stage"] for event in events if event["event"] == "progress"}
    assert {"reconstruct", "write"} <= stages
    assert events[-1]["event"] == "result"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--method", "magic"), "no reconstruction method"),
        (("--method", "fbp", "--samples", 3), "--samples is for the map of --uncertainty only"),
        (("--method", "fbp", "--fov", 0.01), "would be 0.01 mm wide"),
        (("--kernel", "magic", "--method", "fbp"), "no reconstruction kernel"),
        (("--method", "fbp", "--matrix", "2"), "matrix"),
        (("--method", "fbp", "--uncertainty", "u.nii.gz"), "uncertainty"),
    ],
)
def test_refuses_with_one_sentence_and_writes_nothing(
    words: tuple[str, ...], sentence: str, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = run(scan, tmp_path / "out.nii.gz", *words, "--progress", "none")
    assert code == 2
    assert sentence in text
    assert not list(tmp_path.iterdir())


def test_refuses_what_are_no_projections(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.ctproj.h5"
    wrong.write_bytes(b"nothing")
    code, text = run(wrong, tmp_path / "out.nii.gz", "--method", "fbp", "--progress", "none")
    assert code == 2
    assert "wrong.ctproj.h5" in text
    assert not (tmp_path / "out.nii.gz").exists()
