"""`ctenhance batch --verb decompose` of images at several energies, and with pile-up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from batch_folders import batch, names
from spectral_images import rod, scan
from synthetic_dicom import write_series

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.options import DecomposeOptions
from ctenhance.physics.detector import PileUp

VERB = ("--verb", "decompose")
NAMED = (*VERB, "--image", "40=low.nii.gz", "--image", "70=high.nii.gz", "--noise", "5,5")


def write_pair(folder: Path, low: str = "low.nii.gz", high: str = "high.nii.gz", seed: int = 0) -> None:
    for path, volume in zip((low, high), scan((40, 70), (5, 5), slices=1, seed=seed).values(), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        volume.write(folder / path)


def test_pairs_are_formed_by_names_in_a_folder_and_maps_are_the_single_verbs(tmp_path: Path) -> None:
    write_pair(tmp_path / "in" / "p1" / "ct", seed=1)
    write_pair(tmp_path / "in" / "p2", seed=2)
    write_pair(tmp_path / "in" / "p3", high="else.nii.gz")
    (tmp_path / "in" / "p4").mkdir()
    told = batch(tmp_path / "in", tmp_path / "out", *NAMED, code=1)
    assert "2 done, 0 finished before, 1 failed" in told.stdout
    assert "'p3' failed: There is no 'high.nii.gz' beside 'low.nii.gz'" in told.stderr
    assert names(tmp_path / "out") == [
        "p1/ct.report.json", "p1/ct/iodine.nii.gz", "p1/ct/water.nii.gz",
        "p2.report.json", "p2/iodine.nii.gz", "p2/water.nii.gz",
    ]  # fmt: skip
    images = {
        kev: CTVolume.read(tmp_path / "in" / "p2" / name)
        for kev, name in ((40, "low.nii.gz"), (70, "high.nii.gz"))
    }
    result = ctenhance.decompose_images(images, noise=[5, 5])
    alone = {**result.volumes, **result.maps}["iodine"]
    made = CTVolume.read(tmp_path / "out" / "p2" / "iodine.nii.gz", check_hu=False).array
    assert np.allclose(made, alone.array, atol=1e-4)
    assert abs(made[0][rod("iodine 10")].mean() - 10) < 0.5

    assert "2 finished before" in batch(tmp_path / "in", tmp_path / "out", *NAMED, code=1).stdout
    write_pair(tmp_path / "in" / "p2", low="another.nii.gz", seed=3)  # of the pair one changes
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *NAMED, code=1).stdout
    refused = batch(tmp_path / "in", tmp_path / "out", *NAMED, "--at-most", 1, code=2).stderr
    assert "was made before with another" in refused


def test_pairs_are_formed_by_a_pattern(tmp_path: Path) -> None:
    for name in ("Müller", "b_1"):
        write_pair(tmp_path / "in" / "x", f"{name}_40.nii.gz", f"{name}_70.nii.gz")
    write_pair(tmp_path / "in" / "y", "low/c.nii.gz", "high/c.nii.gz")
    write_pair(tmp_path / "in" / "y", "low/d.nii.gz", "high/e.nii.gz")
    options = (*VERB, "--noise", "5,5", "--image")
    flat = batch(tmp_path / "in", tmp_path / "flat", *options, "40=*_40.nii.gz", "--image", "70=*_70.nii.gz")
    assert "2 done" in flat.stdout
    assert names(tmp_path / "flat")[:2] == ["x/Müller.report.json", "x/Müller/iodine.nii.gz"]
    deep = (*options, "40=low/*.nii.gz", "--image", "70=high/*.nii.gz")
    told = batch(tmp_path / "in", tmp_path / "deep", *deep, code=1)
    assert "1 done, 0 finished before, 2 failed" in told.stdout
    assert "no 'high/d.nii.gz' beside 'low/d.nii.gz'" in told.stderr
    assert "no 'low/e.nii.gz' beside 'high/e.nii.gz'" in told.stderr


def test_dicom_that_tells_its_energies_needs_no_names(tmp_path: Path) -> None:
    images = scan((40, 70), (5, 5), slices=3)
    for number, (kev, volume) in enumerate(images.items()):
        write_series(
            tmp_path / "in" / "p1",
            (0, 2, 4),
            prefix=f"{kev}-",
            values=np.round(np.maximum(volume.array, -1000)).astype(np.int16),
            SeriesInstanceUID=f"1.2.{number}",
            SeriesNumber=number + 1,
            SeriesDescription=f"Mono {kev} keV",
            ImageType=["DERIVED", "PRIMARY", "AXIAL", "MONO"],
        )
    write_series(tmp_path / "in" / "p2")
    told = batch(tmp_path / "in", tmp_path / "out", *VERB, "--image", ".", "--noise", "5,5")
    assert "1 done, 0 finished before, 0 failed, 1 left out" in told.stdout
    assert "'p2' (its headers tell" in told.stderr
    report = json.loads((tmp_path / "out" / "p1.report.json").read_text(encoding="utf-8"))
    assert report["input"]["images"].keys() == {"40", "70"}
    # Each energy twice, with two kernels: as the sentence says, one is chosen.
    for number, (kev, volume) in enumerate(images.items()):
        write_series(
            tmp_path / "in" / "p1",
            (0, 2, 4),
            prefix=f"b{kev}-",
            values=np.round(np.maximum(volume.array, -1000)).astype(np.int16),
            SeriesInstanceUID=f"1.3.{number}",
            SeriesNumber=number + 3,
            SeriesDescription=f"Mono {kev} keV",
            ImageType=["DERIVED", "PRIMARY", "AXIAL", "MONO"],
            ConvolutionKernel="Br64",
        )
    more = (*VERB, "--image", ".", "--noise", "5,5")
    assert "choose it with --series" in batch(tmp_path / "in", tmp_path / "x", *more, code=1).stderr
    chosen = batch(tmp_path / "in", tmp_path / "y", *more, "--where", "ConvolutionKernel=Br64")
    assert "1 done" in chosen.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--image", "40=low.nii.gz"), "at two energies or more"),
        (("--image", "40=../a.nii", "--image", "70=b.nii"), "in the folder of each case"),
        (("--image", "40=a.nii", "--image", "70=a.nii"), "two energies have the same name"),
        (("--image", "40=*_*.nii", "--image", "70=*.nii"), "leave out the other"),
        (("--image", "40=*.nii", "--image", "70=a.nii"), "give each with a *, or none"),
        (("--image", "40=.", "--image", "70=a.nii"), "the headers tell"),
        (("--image", "40=a.nii", "--image", "70=b.nii"), "No folder in"),
        (("--image", "40=a.nii", "--image", "70=b.nii", "--matrix", 64), "is for projections only"),
        (("--image", "40=a.nii", "--image", "70=b.nii", "--attenuation", "gone.csv"), "There is no file"),
        (("--image", "40=a.nii", "--image", "70=b.nii", "--at-most", 0), "at most 0 materials"),
        (("--residual",), "is for images (--image) only"),
        (("--dead-time", 3), "both --dead-time and --view-time"),
    ],
)
def test_what_no_case_could_use_is_refused(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    write_pair(tmp_path / "in" / "p1")
    assert sentence in batch(tmp_path / "in", tmp_path / "out", *VERB, *options, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_pile_up_is_undone_as_by_the_single_verb(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ctenhance.cli import app

    (tmp_path / "in").mkdir()
    scanned = tmp_path / "in" / "a.ctproj.h5"
    small = ["simulate", str(scanned), "--matrix", "48", "--views", "60", "--slices", "1"]
    assert CliRunner().invoke(app, small).exit_code == 0
    pile_up = ("--dead-time", 2, "--view-time", 20000, "--matrix", 48)
    batch(tmp_path / "in", tmp_path / "out", *VERB, *pile_up)
    made = CTVolume.read(tmp_path / "out" / "a" / "iodine.nii.gz", check_hu=False).array
    projections = ctenhance.read_projections(scanned)
    own = DecomposeOptions(image_size=48, pile_up=PileUp(2e-9, 20000e-6))
    alone, without = (
        {**result.volumes, **result.maps}["iodine"].array
        for result in (
            ctenhance.decompose(projections, options=options)
            for options in (own, DecomposeOptions(image_size=48))
        )
    )
    assert np.allclose(made, alone, atol=1e-4) and not np.allclose(made, without, atol=1e-3)
    refused = batch(tmp_path / "in", tmp_path / "out", *VERB, "--matrix", 48, code=2).stderr
    assert "was made before with another" in refused
