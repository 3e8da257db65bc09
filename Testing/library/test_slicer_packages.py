"""What the panels install in Slicer suffices: their commands run where nothing else can be imported.

A worker of this Python is kept from every package but those of Resources/requirements.txt, what these ask for
themselves, PyTorch's, and what comes with Slicer. So a package that a library needs without asking for it (as
MONAI's attention blocks need einops) fails here as it would there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pydicom.uid import JPEG2000Lossless
from synthetic_dicom import dataset, hounsfield

from ctenhance.physics.phantom import chest_phantom
from ctenhance.runtime import weights

#: In the application (its SuperBuild lists them as External_python-*.cmake), and from its PyTorch extension.
SHIPPED = ("numpy", "scipy", "SimpleITK", "packaging", "requests", "pillow", "setuptools", "torch")
PACKAGE = str(Path(__file__).resolve().parents[2] / "CTEnhance")
RUNNER = """
import importlib.abc, json, runpy, sys
absent = set(json.loads(sys.argv[1]))
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{name}' (it is not in Slicer)", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["ctenhance", *sys.argv[2:]]
runpy.run_module("ctenhance", run_name="__main__")
"""


def plain(name: str) -> str:
    """A distribution's name as pip compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.fixture(scope="module")
def absent(repository: Path) -> list[str]:
    """Top-level modules of this Python's packages that the worker does not find in Slicer."""
    lines = (repository / "CTEnhance" / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    wanted = [Requirement(line).name for line in lines.splitlines() if line and not line.startswith("#")]
    wanted += SHIPPED
    found: set[str] = set()
    while wanted:
        name = plain(wanted.pop())
        if name in found:
            continue
        try:
            needs = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        wanted += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    found.add("ctenhance")
    of = metadata.packages_distributions()
    return sorted(module for module, names in of.items() if not found & {plain(name) for name in names})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, repository: Path, absent: list[str]) -> Path:
    """A folder with a small CT, projections and bins, made by the worker itself."""
    folder = tmp_path_factory.mktemp("slicer")
    chest_phantom(64, 64, 3, pixel_mm=5.0).write(folder / "ct.mha")
    work(absent, folder, "project", "ct.mha", "scan.ctproj.h5", "--dose", "0.25", "--views", "120")
    work(absent, folder, "simulate", "bins.ctproj.h5", "--matrix", "64", "--views", "90", "--scatter", "0.1")
    return folder


def work(absent: list[str], folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(absent), *arguments, "--progress", "none"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


COMMANDS = {
    "enhance-twin": ("enhance", "ct.mha", "twin.nii", "--model", "enhance-twin"),
    "enhance-diffusion": ("enhance", "ct.mha", "ld.nii", "--model", "enhance-diffusion"),
    "enhance-detail": ("enhance", "ct.mha", "sharp.nii", "--model", "enhance-detail"),
    "reconstruct-projection": ("reconstruct", "scan.ctproj.h5", "projection.nii", "--method", "projection"),
    "reconstruct-image": ("reconstruct", "scan.ctproj.h5", "need.nii", "--method", "need", "--all"),
    "decompose-scatter": ("decompose", "bins.ctproj.h5", "maps", "--scatter", "network", "--guided-maps"),
}


def test_every_embedded_model_is_tried() -> None:
    assert {entry.name for entry in weights.entries()} == set(COMMANDS)


@pytest.mark.parametrize("model", COMMANDS)
def test_the_listed_packages_suffice(made: Path, absent: list[str], model: str) -> None:
    work(absent, made, *COMMANDS[model])


def test_compressed_images_of_the_patient_can_be_read(tmp_path: Path, absent: list[str]) -> None:
    for index, plane in enumerate(hounsfield(3, 32, 32)):
        image = dataset(plane, (0, 0, 2.0 * index))
        image.compress(JPEG2000Lossless)
        image.save_as(tmp_path / f"{index}.dcm")
    (tmp_path / "patient").mkdir()
    for path in tmp_path.glob("*.dcm"):
        path.rename(tmp_path / "patient" / path.name)
    chest_phantom(64, 64, 3, pixel_mm=5.0).write(tmp_path / "ct.mha")
    work(absent, tmp_path, "dicom", "ct.mha", "series", "--like", "patient")


def test_what_is_not_listed_is_kept_away(tmp_path: Path, absent: list[str]) -> None:
    assert {"skimage", "matplotlib", "sklearn"} <= set(absent)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER.replace("runpy.run", "import skimage; runpy.run"), json.dumps(absent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not in Slicer" in done.stderr


def test_both_lists_ask_for_the_same_versions(repository: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml by itself")
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = {plain(one.name): one for one in map(Requirement, project["dependencies"])}
    lines = (repository / "CTEnhance" / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    for line in lines.splitlines():
        if line and not line.startswith("#"):
            asked = Requirement(line)
            assert asked.specifier == package[plain(asked.name)].specifier
