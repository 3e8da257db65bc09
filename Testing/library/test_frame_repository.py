"""Facts about the repository that the extension index, the installed extension or a fresh clone depend on."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import ctenhance

MEGABYTE = 1 << 20


def git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode != 0:
        pytest.skip("this is no git checkout")
    return done.stdout


def tracked(repository: Path) -> list[Path]:
    return [repository / name for name in git(repository, "ls-files", "-z").split("\0") if name]


@pytest.fixture(scope="module")
def lister(repository: Path) -> ModuleType:
    path = repository / "Testing" / "tools" / "list_cmake_files.py"
    spec = importlib.util.spec_from_file_location("list_cmake_files", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cmake_lists_every_file(repository: Path, lister: ModuleType) -> None:
    text = (repository / "CTEnhance" / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts, resources = lister.installed_files()
    assert "ctenhance/__init__.py" in scripts
    assert "ctenhance/weights/registry.json" in resources
    assert lister.with_lists(text, scripts, resources) == text, "run 'make cmake-list'"


def test_the_wheel_holds_every_file_of_the_package(repository: Path, tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is older than the build asks for")
    files = [path.relative_to(repository) for path in tracked(repository)]
    package = [path for path in files if path.parts[:2] == ("CTEnhance", "ctenhance")]
    for path in (*package, Path("pyproject.toml"), Path("README.md"), Path("LICENSE")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        # Of the weights their names matter here, not their megabytes.
        if path.suffix == ".safetensors":
            (tmp_path / path).touch()
        else:
            shutil.copy(repository / path, tmp_path / path)
    build = "from setuptools.build_meta import build_wheel; build_wheel('out')"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (tmp_path / "out").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to("CTEnhance").as_posix() for path in package} <= held


def test_lister_finds_what_counts(tmp_path: Path, lister: ModuleType) -> None:
    for name in (
        "CMakeLists.txt",
        "A.py",
        "lib/__pycache__/a.pyc",
        "lib/b.py",
        "x.egg-info/PKG",
        ".hid",
        "r/i.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert lister.installed_files(tmp_path) == (["A.py", "lib/b.py"], ["r/i.png"])
    text = (
        "set(A\n  # <scripts>\n  old.py\n  # </scripts>\n  )\nset(B\n  # <resources>\n  # </resources>\n  )\n"
    )
    written = lister.with_lists(text, ["n.py"], ["r\\1.png"])
    assert "old.py" not in written and "  n.py\n" in written and "  r\\1.png\n" in written
    assert lister.with_lists(written, ["n.py"], ["r\\1.png"]) == written
    with pytest.raises(ValueError, match="markers"):
        lister.with_lists("set(A)", [], [])


def cmake_settings(repository: Path) -> dict[str, str]:
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    settings = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"\)', text))
    project = re.search(r"project\((\w+)\)", text)
    assert project is not None
    return {**settings, "NAME": project[1]}


def test_descriptions_agree(repository: Path) -> None:
    cmake = cmake_settings(repository)
    catalogue = json.loads((repository / f"{cmake['NAME']}.json").read_text(encoding="utf-8"))
    older = {}
    for line in (repository / f"{cmake['NAME']}.s4ext").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            older[key] = value
    assert not cmake["NAME"].startswith("Slicer")
    assert catalogue["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    allowed = {
        "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies",
        "dicom_support_rule", "build_subdirectory", "enabled", "tier",
    }  # fmt: skip
    assert {"$schema", "category", "scm_url"} <= set(catalogue) <= allowed
    assert catalogue["category"] == older["category"] == cmake["CATEGORY"]
    assert catalogue["scm_url"] == older["scmurl"]
    assert catalogue["scm_revision"] == older["scmrevision"]
    assert older["homepage"] == cmake["HOMEPAGE"]
    assert older["description"] == cmake["DESCRIPTION"]
    assert older["contributors"] == cmake["CONTRIBUTORS"]
    assert older["iconurl"] == cmake["ICONURL"]
    assert older["screenshoturls"] == cmake["SCREENSHOTURLS"]
    assert older["depends"] == cmake["DEPENDS"]


def test_icon_stands_where_its_address_says(repository: Path) -> None:
    address = cmake_settings(repository)["ICONURL"]
    icon = repository / address.partition("/main/")[2]
    assert icon.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_package_says_the_same(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^name = "ctenhance"$', text, re.MULTILINE)
    assert re.search(r'^ctenhance = "ctenhance\.cli:main"$', text, re.MULTILINE)
    assert 'version = { attr = "ctenhance.__version__" }' in text
    changes = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {ctenhance.__version__}" in changes
    assert "Apache License" in (repository / "LICENSE").read_text(encoding="utf-8")[:200]


def test_readme_names_existing_commands(repository: Path) -> None:
    from typer.main import get_command

    from ctenhance.cli import app

    text = (repository / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"^ctenhance ([\w-]+)", text, re.MULTILINE))
    assert used >= {"enhance", "degrade", "compare", "batch", "weights"}
    assert used <= set(get_command(app).commands)
    targets = set(
        re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets


def test_a_projection_files_name_means_one_kind_of_scan(repository: Path) -> None:
    """In the examples of README, docs and --help: what one verb takes or makes with bins, no other reads."""
    texts = [repository / "README.md", *(repository / "docs").glob("*.md")]
    texts += (repository / "CTEnhance" / "ctenhance" / "commands").glob("*.py")
    plain, bins = set(), set()
    for path in texts:
        for line in path.read_text(encoding="utf-8").splitlines():
            names = re.findall(r"[\w-]+\.ctproj\.h5", line)
            if re.search(r"ctenhance (project|reconstruct)\b", line):
                plain.update(names)
            elif re.search(r"ctenhance (simulate|decompose)\b|process\(.*basis=", line):
                bins.update(names)
    assert plain and bins and not plain & bins


def test_history_stays_small(repository: Path) -> None:
    """What a clone transfers; a checkout's own store may hold the same objects loose, or in several packs."""
    git(repository, "rev-parse", "HEAD")
    pack = ["git", "pack-objects", "--revs", "--stdout", "--quiet"]
    done = subprocess.run(pack, cwd=repository, input=b"HEAD\n", capture_output=True, check=True)
    megabytes = len(done.stdout) / MEGABYTE
    assert 1 < megabytes < 95, f"a clone is {megabytes:.0f} MB; the extension index refuses 100"


def test_embedded_weights_stay_small(repository: Path) -> None:
    files = (repository / "CTEnhance" / "ctenhance" / "weights").glob("*.safetensors")
    assert sum(file.stat().st_size for file in files) < 48 * MEGABYTE


def test_nothing_pickled_is_tracked(repository: Path) -> None:
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".ckpt"}
    assert not [path for path in tracked(repository) if path.suffix in suffixes]


def test_text_files_end_lines_with_lf(repository: Path) -> None:
    kinds = {".py", ".md", ".txt", ".json", ".toml", ".s4ext", ".ui", ".sh"}
    for path in tracked(repository):
        if path.suffix in kinds and path.exists():
            assert b"\r" not in path.read_bytes(), f"{path.name} has CR line ends"


def test_findings_say_what_they_show(repository: Path) -> None:
    """Each script states its case, pins its packages, runs without us, and stands in the table once."""
    folder = repository / "findings"
    scripts = sorted(folder.glob("*.sh"))
    table = re.findall(
        r"^\| \[([\w.-]+)\]\(\1\) \|", (folder / "README.md").read_text(encoding="utf-8"), re.M
    )
    assert scripts and [script.name for script in scripts] == table
    for script in scripts:
        head, code = script.read_text(encoding="utf-8").split("set -euo pipefail\n", 1)
        assert head.startswith("#!/usr/bin/env bash\n") and os.access(script, os.X_OK), script.name
        said = re.findall(r"^# (\w[\w ]*):  ?", head, re.M)
        assert said == ["Version", "Belief", "Behaviour", "Seen", "Exit code"], script.name
        assert "mktemp -d" in code and "trap " in code, f"{script.name} leaves something behind"
        installed = " ".join(re.findall(r'pip" install (.*?)\|\|', code, re.S)).replace("\\\n", " ").split()
        packages = [word for word in installed if not word.startswith("--")]
        assert packages and all("==" in package for package in packages), f"{script.name} does not pin"
        assert "ctenhance" not in code.lower(), f"{script.name} runs the product"


def test_nothing_in_the_package_unpickles_or_evaluates(repository: Path) -> None:
    forbidden = re.compile(
        r"\bimport pickle\b|\bpickle\.|\btorch\.load\(|allow_pickle=True"
        r"|\beval\(|\bexec\(|shell=True|os\.system\("
    )
    # '.eval()' without arguments is torch's inference mode.
    for path in (repository / "CTEnhance").rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace(".eval()", "")
        assert not forbidden.search(text), f"{path.name}: {forbidden.search(text)}"


def test_module_runs_as_command(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctenhance", "--version"],
        cwd=repository / "CTEnhance",
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"ctenhance {ctenhance.__version__}", done.stderr
