"""Films of pictures, and what the page tells of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.quality.making import making


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    """Write grey pictures with a coloured title each, all different."""
    folder.mkdir()
    for number, (rows, columns) in enumerate(sizes):
        grey = np.tile(np.linspace(0, 255, columns).astype(np.uint8)[None, :, None], (rows, 1, 3))
        grey[:4] = (20 * number, 90, 40)
        Image.fromarray(grey).save(folder / f"{number:03d}.png")
    return folder


def film(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["film", *arguments, "--progress", "none"])
    return result.exit_code, result.output


def test_film_has_every_picture_in_order(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", *[(24, 200)] * 12)
    assert film(str(source), str(tmp_path / "out.gif"), "--seconds", "0.25")[0] == 0
    made = Image.open(tmp_path / "out.gif")
    assert (made.n_frames, made.size, made.info["loop"]) == (12, (200, 24), 0)
    for number in range(12):
        made.seek(number)
        assert made.info["duration"] == 250
        given = np.asarray(Image.open(source / f"{number:03d}.png")).astype(int)
        # 256 colours for 200 greys and one more: nothing is seen of it.
        assert np.abs(np.asarray(made.convert("RGB")).astype(int) - given).max() <= 2


@pytest.mark.parametrize(
    ("sizes", "said"), [([], "holds no pictures"), ([(24, 200), (24, 201)], "has another size")]
)
def test_no_film_of_that(tmp_path: Path, sizes: list[tuple[int, int]], said: str) -> None:
    source = pictures(tmp_path / "in", *sizes)
    code, output = film(str(source), str(tmp_path / "out.gif"))
    assert code == 2 and said in output and not (tmp_path / "out.gif").exists()


def test_damaged_picture(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", (24, 200), (24, 200))
    (source / "001.png").write_bytes(b"no picture")
    code, output = film(str(source), str(tmp_path / "out.gif"))
    assert code == 2 and "cannot be read" in output and not (tmp_path / "out.gif").exists()
    noise = np.random.default_rng(0).integers(0, 255, (24, 200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(source / "001.png")
    (source / "001.png").write_bytes((source / "001.png").read_bytes()[:2000])  # cut
    assert film(str(source), str(tmp_path / "out.gif"))[0] == 2 and not (tmp_path / "out.gif").exists()


def test_page_tells_how_it_was_made() -> None:
    run = {
        "verb": "enhance",
        "model": {"name": "<b>mine</b>", "version": "2", "sha256": "ab" * 32},
        "settings": {"strength": 0.8, "steps": None, "uncertainty": False, "file": "/home/doe/scan.nii"},
        "device": "cpu",
        "engine": {"name": "openvino", "precision": "bfloat16"},
        "seconds": {"total": 12.3},
        "warnings": ["Slices are <far> apart."],
        "preceding": [{"verb": "project", "settings": {"dose": 0.1}, "warnings": ["Simulated."]}],
        "input": {"PatientName": "Doe"},
    }
    text = making(run)
    for said in (
        "&lt;b&gt;mine&lt;/b&gt; 2 (abababababab)",
        "0.8",
        "cpu (openvino, bfloat16)",
        "12.3 s",
        "0.1",
    ):
        assert said in text, said
    assert "Slices are &lt;far&gt; apart." in text and "Simulated." in text
    assert "doe" not in text.lower() and "Steps" not in text and "<b>" not in text
    assert "No warnings" in making({"verb": "reconstruct"})


def test_a_report_without_a_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(json.dumps({"verb": "enhance"}))
    arguments = ["compare", "a.nii", "b.nii", "--made-by", str(tmp_path / "made.json"), "--progress", "none"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "give --page, too" in result.output


@pytest.mark.parametrize("report", [{}, {"verb": 3}, {"verb": "enhance", "settings": [1]}, {"runs": []}])
def test_what_is_no_report_is_refused(tmp_path: Path, report: dict) -> None:
    """An empty page section would say that nothing was made with any setting."""
    (tmp_path / "made.json").write_text(json.dumps(report))
    arguments = ["compare", "a.nii", "b.nii", "--page", str(tmp_path / "p.html")]
    for words in (arguments, ["dicom", "write", "a.nii", str(tmp_path / "out")]):
        words = [*words, "--made-by", str(tmp_path / "made.json"), "--progress", "none"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and "'made.json' is no report of a run" in result.output, result.output
