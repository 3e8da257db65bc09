"""The wheel as users install it: it type-checks a script of theirs, and what it needs can be had together."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

SCRIPT = """
import ctenhance
from ctenhance import EnhanceOptions, choices

volume: ctenhance.CTVolume = ctenhance.read("chest.nii.gz")
options = EnhanceOptions(strength=0.8, samples=2, seed=1)
result = ctenhance.enhance(volume, options=options)
shape: tuple[int, ...] = result.volumes["enhanced"].array.shape
degraded = ctenhance.degrade(volume, preset=choices.PRESETS[0], dose=0.25)
scan = ctenhance.read_projections("low_dose.ctproj.h5")
image = ctenhance.reconstruct(scan, method="fbp", image_size=(256, 256), device="cpu")
maps = ctenhance.decompose(scan, basis=["water", "iodine"], vmi=[40, 70], scatter="network")
ctenhance.write(image.volumes["reconstruction"], "chest.nii.gz")
"""
#: Lines that do not fit the calls above, and what mypy says of them.
MISTAKES = {
    'ctenhance.enhance(volume, strenght=0.8)': 'Unexpected keyword argument "strenght"',
    'EnhanceOptions(sample=2)': 'Unexpected keyword argument "sample"',
    'ctenhance.reconstruct(volume)': 'incompatible type "CTVolume"; expected "Projections"',
    'ctenhance.reconstruct(scan, "fbp")': "Too many positional arguments",
    'ctenhance.degrade(volume, dose="quarter")': 'incompatible type "str"',
    'options.seed = 2': "read-only",
    'ctenhance.enhanced(volume)': 'has no attribute "enhanced"',
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree: setuptools leaves its own folders beside the source."""
    pytest.importorskip(
        "setuptools", minversion="77", reason="the wheel is built with setuptools 77 or newer"
    )
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # The weights are large and no part of the types: their registry alone comes along.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.safetensors", "Resources")
    shutil.copytree(repository / "CTEnhance", source / "CTEnhance", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--quiet", "-w", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an empty environment with nothing but the wheel."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=True)
    found = next(
        path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists()
    )
    command = [sys.executable, "-m", "pip", "--python", str(found), "install", "--no-deps", "--no-index"]
    done = subprocess.run([*command, "--quiet", str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return found


def test_the_wheel_holds_the_package_and_its_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"ctenhance/py.typed", "ctenhance/__init__.pyi", "ctenhance/weights/registry.json"} <= names
    assert {f"ctenhance/{name}.py" for name in ("choices", "options", "cli", "__main__")} <= names
    assert not any(name.startswith(("CTEnhanceLib", "Testing")) for name in names)


def test_the_package_alone_needs_no_other(python: Path) -> None:
    code = "import ctenhance; print(ctenhance.EnhanceOptions(seed=2).to_arguments(), ctenhance.__version__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


def test_a_users_script_is_checked(python: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + "\n".join(MISTAKES) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), str(script)]
    command += ["--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = {}
    for line in done.stdout.splitlines():
        number = re.match(r"script\.py:(\d+): error: ", line)
        if number is not None:
            said.setdefault(int(number[1]), line)
    first = SCRIPT.count("\n") + 1
    assert set(said) == set(range(first, first + len(MISTAKES))), done.stdout
    for number, expected in enumerate(MISTAKES.values(), first):
        assert expected in said[number]


#: What releases of MONAI ask of torch, from their metadata.
MONAI_ASKS = {"1.5.0": ">=2.4.1,<2.7.0", "1.5.1": ">=2.4.1", "1.5.2": ">=2.4.1", "1.6.0": ">=2.8.0"}


def test_every_torch_that_is_allowed_has_a_monai(repository: Path) -> None:
    lists = {
        "pyproject.toml": re.findall(r'^  "(.+?)"', (repository / "pyproject.toml").read_text("utf-8"), re.M),
        "panels": (repository / "CTEnhance/Resources/requirements.txt").read_text("utf-8").splitlines(),
    }
    asked = {
        place: {one.name: one.specifier for one in map(Requirement, filter(_is_requirement, lines))}
        for place, lines in lists.items()
    }
    panels = [
        path.read_text("utf-8")
        for path in (repository / "CTEnhance" / "CTEnhanceLib").rglob("dependencies.py")
    ]
    torch = re.findall(r'^TORCH_VERSIONS = "(.+)"', panels[0], re.M)
    assert SpecifierSet(torch[0]) == asked["pyproject.toml"]["torch"]
    assert asked["panels"]["monai"] == asked["pyproject.toml"]["monai"]
    needs = next(one for one in map(Requirement, metadata.requires("monai") or ()) if one.name == "torch")
    known = MONAI_ASKS | {metadata.version("monai"): str(needs.specifier)}
    allowed = asked["pyproject.toml"]["torch"]
    oldest = next(iter(allowed)).version
    for version in (oldest, "2.5.1", "2.6.0", "2.7.1", "2.8.0", metadata.version("torch").split("+")[0]):
        assert version in allowed
        fitting = [
            monai
            for monai, torches in known.items()
            if monai in asked["panels"]["monai"] and version in SpecifierSet(torches)
        ]
        assert fitting, f"no MONAI goes with torch {version}"
    # An older one would be a promise that no MONAI keeps.
    older = "2.4.0"
    assert older not in allowed
    assert not any(older in SpecifierSet(t) for m, t in known.items() if m in asked["panels"]["monai"])


def _is_requirement(line: str) -> bool:
    return re.match(r"[A-Za-z][\w-]*(\[.*\])?[<>=]=", line) is not None
