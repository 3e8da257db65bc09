"""The realism study that is made from two folders of scans."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from enhance_body import body

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.study import templates
from ctenhance.study.creation import create


def small(seed: int, noise: float, pixel: float = 0.8, slices: int = 4, spacing: float = 2.0) -> CTVolume:
    volume = body(slices, noise, seed)
    return CTVolume(volume.array[:, 20:160, 30:190], (pixel, pixel, spacing))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    routine, quality = tmp_path / "routine", tmp_path / "quality"
    for folder in (routine, quality):
        folder.mkdir()
    small(1, 30).write(routine / "anna.nii.gz")
    small(2, 25, 0.7, 6).write(routine / "berta.nrrd")
    small(3, 8, 0.78).write(quality / "carla.nii.gz")
    small(4, 7, 0.71, 5).write(quality / "dora.nii.gz")
    return routine, quality


def test_real_scans_beside_degraded_ones(folders: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    design, left_out = templates.realism(*folders, ("ann", "bob"), place, dose=0.25, seed=3)
    assert left_out == []
    assert design.arms == ("real", "simulated") and design.truth == {"real": "real"}
    assert [question.kind for question in design.questions] == ["choice"]
    sources = [{arm: path.name for arm, path in case.images.items()} for case in design.cases]
    assert [("berta" in one["real"], "dora" in one["simulated"]) for one in sources] == [
        (True, True),
        (False, False),
    ]
    for case in design.cases:
        real, simulated = (CTVolume.read(case.images[arm]) for arm in design.arms)
        assert real.array.shape == simulated.array.shape and real.spacing == simulated.spacing
        # the degraded one has more noise than it was given
        inside = simulated.array[:, 60:70, 100:110]
        assert inside.std() > 9
    # the real one is what it was, voxel by voxel
    first = CTVolume.read(design.cases[1].images["real"]).array
    np.testing.assert_array_equal(first, CTVolume.read(folders[0] / "anna.nii.gz").array)
    study = create(design, tmp_path / "study", tmp_path / "key.json")
    assert len(study.images) == 4
    text = (tmp_path / "study" / "study.json").read_text(encoding="utf-8")
    assert "simulated" not in text and "dora" not in text
    key = json.loads((tmp_path / "key.json").read_text(encoding="utf-8"))
    assert key["truth"] == {"real": "real"} and key["arms"] == ["real", "simulated"]


def test_scans_that_fit_no_other_are_left_out(folders: tuple[Path, Path], tmp_path: Path) -> None:
    routine, quality = folders
    small(5, 9, 1.5).write(quality / "emma.nii.gz")
    design, left_out = templates.realism(routine, quality, ("ann",), tmp_path, most=1, seed=1)
    assert len(design.cases) == 1
    assert left_out == ["Left out, as no other scan is near enough in size: emma.nii.gz."]
    for path in (*quality.iterdir(),):
        if path.name != "emma.nii.gz":
            path.unlink()
    with pytest.raises(InputError, match="near enough"):
        templates.realism(routine, quality, ("ann",), tmp_path)


def test_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ctenhance.cli import app

    def run(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["study", "from-template", *map(str, arguments)])
        assert done.exit_code == code, done.output
        return done.output

    wrong = run("beauty", *folders, tmp_path / "study", "--reader", "ann", code=2)
    assert "no template 'beauty'" in " ".join(wrong.split())
    run("realism", *folders, tmp_path / "study", "--reader", "ann", "--dose", 0.3, "--cases", 1)
    assert (tmp_path / "study" / "study.json").exists() and (tmp_path / "study-key.json").exists()
    again = run("realism", *folders, tmp_path / "study", "--reader", "ann", code=2)
    assert "something is there already" in " ".join(again.split())
