"""What CMake installs is enough: the panel and its packages are imported from a folder of the listed files.

A stand-in for Slicer's macro copies what CTEnhance/CMakeLists.txt lists; where there is a CMake it reads that
file itself (script mode), otherwise a few lines of Python do. Installed, only what was listed is found.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "CTEnhance"

_MACRO = """
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    get_filename_component(folder "${DESTINATION}/${file}" DIRECTORY)
    file(COPY "${SOURCE}/${file}" DESTINATION "${folder}")
  endforeach()
endfunction()
function(slicer_add_python_unittest)
endfunction()
include("${SOURCE}/CMakeLists.txt")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install into a folder; return it."""
    folder = tmp_path_factory.mktemp("installed")
    cmake = shutil.which("cmake")
    if cmake is not None:
        script = folder.parent / "install.cmake"
        script.write_text(_MACRO, encoding="utf-8")
        defined = [f"-DSOURCE={MODULE}", f"-DDESTINATION={folder}"]
        subprocess.run([cmake, *defined, "-P", str(script)], check=True)
        return folder
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    for block in re.findall(r"# <(?:scripts|resources)>\n(.*?)# </", text, re.DOTALL):
        for name in block.split():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MODULE / name, target)
    return folder


def in_slicer(folder: Path, code: str) -> str:
    """Run Python where the host has opened the installed module; return what it printed."""
    start = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'Testing')!r})\n"
        "from pathlib import Path; import slicerhost\n"
        f"before = set(sys.modules); module = slicerhost.addModule(Path({str(folder)!r}, 'CTEnhance.py'))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "QT_QPA_PLATFORM": "offscreen"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_module_opens_from_the_installed_files(installed: Path) -> None:
    code = (
        "ui = module.widgetRepresentation().self().ui; import CTEnhanceLib, ctenhance\n"
        "print(CTEnhanceLib.__file__, ctenhance.__file__, ui.applyButton.text)\n"
    )
    library, package, text = in_slicer(installed, code).split()[-3:]
    assert Path(library).is_relative_to(installed) and Path(package).is_relative_to(installed)
    assert text == "Apply"


def test_nothing_heavy_at_start(installed: Path) -> None:
    heavy = "{'torch', 'monai', 'pydicom', 'matplotlib', 'scipy', 'SimpleITK', 'psutil', 'typer', 'rich'}"
    code = f"print('heavy', sorted({heavy} & (set(sys.modules) - before)))\n"
    assert "heavy []" in in_slicer(installed, code)


def test_about_and_icon(installed: Path) -> None:
    code = (
        "print('about', all(vars(module)[key] for key in "
        "('title', 'categories', 'contributors', 'helpText', 'acknowledgementText', 'icon')))\n"
    )
    assert "about True" in in_slicer(installed, code)


def test_worker_runs_from_the_installed_files(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "ctenhance", "weights", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_help_links_to_the_described_repository(installed: Path) -> None:
    description = json.loads((REPOSITORY / "CTEnhance.json").read_text(encoding="utf-8"))
    code = "from CTEnhanceLib.panel import about; print(about.DOCUMENTATION); print(module.helpText)"
    address, text = in_slicer(installed, code).strip().splitlines()[-2:]
    assert address.startswith(description["scm_url"].removesuffix(".git") + "/")
    page = text.partition(f'href="{address}/')[2].partition('"')[0]
    assert (REPOSITORY / "docs" / page).is_file()
