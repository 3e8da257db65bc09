"""Options that would change nothing in a verb are refused, and the options' objects leave them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_arms import write_arms
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reconstruct", "--method", "fbp", "--engine", "torch"], "--engine has no effect on the method fbp"),
        (["reconstruct", "--method", "fbp", "--projection-steps", "2"], "--projection-steps has no effect"),
        (["reconstruct", "--method", "fbp", "--all", "--image-steps", "2"], "--image-steps has no effect"),
        (["reconstruct", "--method", "projection", "--model-image", "m"], "--model-image has no effect"),
        (["decompose", "--low-noise"], "--low-noise is for the images of --vmi"),
        (["decompose", "--scatter", "kernel", "--grid-ratio", "8"], "--grid-ratio has no effect"),
        (["degrade", "--replay", "scan.json", "--seed", "3"], "leave --preset and --seed out"),
        (["degrade", "--replay", "scan.json", "--preset", "sumi-paper"], "leave --preset and --seed out"),
        (["simulate", "--contrast", "8"], "the contrast has no effect"),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "scan.json").write_text(json.dumps({}))
    out = "maps" if words[0] == "decompose" else "out.ctproj.h5" if words[0] == "simulate" else "out.nii"
    files = [str(tmp_path / "scan.json"), str(tmp_path / out)][words[0] == "simulate" :]
    words = [str(tmp_path / word) if word == "scan.json" else word for word in words]
    done = CliRunner().invoke(app, [words[0], *files, *words[1:], "--progress", "none"])
    assert done.exit_code == 2 and said in done.output, done.output


@pytest.mark.parametrize("method", ["fbp", "projection", "need"])
def test_the_options_give_only_arguments_with_an_effect(method: str, tmp_path: Path) -> None:
    """A panel keeps the number of steps while the method changes."""
    options = ctenhance.ReconstructOptions(method=method, projection_steps=3, image_steps=2, engine="torch")
    arguments = options.to_arguments()
    assert ("--projection-steps" in arguments) == ("--engine" in arguments) == (method != "fbp")
    assert ("--image-steps" in arguments) == (method == "need")
    (tmp_path / "scan.ctproj.h5").write_bytes(b"no scan")
    files = [str(tmp_path / "scan.ctproj.h5"), str(tmp_path / "out.nii")]
    done = CliRunner().invoke(app, ["reconstruct", *files, *arguments, "--progress", "none"])
    assert "has no effect" not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "OUT", "--series", "3"], "give --ct, too"),
        (["demo", "OUT", "--where", "KVP=80"], "give --ct, too"),
        (["view", "--folder", "OUT", "--basis", "water,iodine"], "name it, too"),
        (["view", "--folder", "OUT", "--series", "3"], "name it, too"),
    ],
)
def test_a_choice_of_nothing_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    done = CliRunner().invoke(app, [*words, "--progress", "none"])
    assert done.exit_code == 2 and said in done.output, done.output


def test_a_basis_beside_true_maps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.ctproj.h5").write_bytes(b"no scan")
    words = ["calibrate", "drift", str(tmp_path / "scan.ctproj.h5"), str(tmp_path / "drift.h5")]
    words += ["--reference", str(tmp_path), "--basis", "water", "--progress", "none"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "--basis has no effect with --reference" in done.output, done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--washout-days", "14"], "A washout of 14 days has no effect on a study of one session"),
        (["--washout-days", "14", "--practice", "1"], "A washout of 14 days has no effect"),
        (["--rules", "enforce"], "neither a washout nor breaks"),
        (["--lesions", "lesions.csv"], "The true lesions have no effect on the preset 'preference'"),
        (["--washout-days", "14", "--repeats", "1", "--rules", "enforce"], ""),
    ],
)
def test_rules_and_a_truth_that_a_study_does_not_use_are_refused(
    tmp_path: Path, words: list[str], said: str
) -> None:
    write_arms(tmp_path)
    folders = [str(tmp_path / name) for name in ("before", "after", "study")]
    done = CliRunner().invoke(
        app, ["study", "from-folders", *folders, "--reader", "ann", *words, "--progress", "none"]
    )
    assert done.exit_code == (2 if said else 0) and said in " ".join(done.output.split()), done.output
    assert (tmp_path / "study").exists() == (not said)
