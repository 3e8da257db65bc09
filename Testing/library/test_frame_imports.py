"""The direction of dependence inside `ctenhance`, read from the source (nothing is imported)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "CTEnhance" / "ctenhance"
FILES = sorted(PACKAGE.rglob("*.py"))

COMMANDS = {"cli", "commands", "__main__"}
METHODS = {"enhance", "reconstruct", "decompose", "study"}
TOOLS = {"degrade", "physics", "quality", "io"}
# The modules beside the packages: `volume` and the files that it is split into.
VOLUME = {path.stem for path in PACKAGE.glob("*.py")} - COMMANDS - {"__init__"}
BASE = VOLUME | {"runtime"}

# Which parts a part may import, besides itself.
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(COMMANDS, COMMANDS | METHODS | TOOLS | BASE),
    **dict.fromkeys(METHODS, TOOLS | BASE),
    **dict.fromkeys(TOOLS - {"physics"}, {"physics"} | BASE),
    "physics": BASE,
    **dict.fromkeys(VOLUME, VOLUME | {"runtime"}),
    "runtime": set(),
}

FOREIGN = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "mrml", "PythonQt", "PySide6", "CTEnhanceLib"}
# What may be imported at all: the declared dependencies and what they bring along.
THIRD_PARTY = {
    "numpy", "scipy", "torch", "monai", "SimpleITK", "pydicom", "pylibjpeg", "openjpeg", "safetensors",
    "matplotlib", "typer", "rich", "psutil", "h5py", "statsmodels", "openpyxl",
    "xraydb", "filelock",
}  # fmt: skip


# What only training may import: the extra [train], which a user who enhances need not install.
TRAINING_ONLY = {"skimage": {"ctenhance.enhancement.bank"}}


def part_of(module: str) -> str:
    """Return the part that a dotted module name belongs to: 'enhance' for 'ctenhance.enhancement.networks'."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def module_name(path: Path) -> str:
    pieces = ["ctenhance", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)


def imported(path: Path, source: str) -> set[str]:
    """Return every module that the source imports, anywhere, except under `if TYPE_CHECKING:`."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            found.add(base)
            # 'from ctenhance import quality' names a part only in its list.
            found.update(f"{base}.{alias.name}" for alias in node.names if base.split(".")[0] == "ctenhance")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def parts(modules: set[str]) -> set[str]:
    """Return the parts of `ctenhance` among the modules; names that the package offers are no parts."""
    known = {
        module_name(file).split(".")[1] for file in FILES if file.parent != PACKAGE or file.stem != "__init__"
    }
    return {part_of(module) for module in modules if module.split(".")[0] == "ctenhance"} & known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    own = part_of(module_name(path))
    if own == "__init__":  # ctenhance/__init__.py: everything, lazily
        assert not parts(imported(path, path.read_text(encoding="utf-8")))
        return
    assert own in ALLOWED, (
        f"{own} has no place in the order of parts yet: give it one in {Path(__file__).name}"
    )
    wrong = parts(imported(path, path.read_text(encoding="utf-8"))) - ALLOWED[own] - {own}
    assert not wrong, f"{path.name} belongs to '{own}', which must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_declared_libraries_and_no_slicer(path: Path) -> None:
    import sys

    tops = {module.split(".")[0] for module in imported(path, path.read_text(encoding="utf-8"))}
    assert not tops & FOREIGN
    training = {library for library, users in TRAINING_ONLY.items() if module_name(path) in users}
    assert not tops - THIRD_PARTY - training - set(sys.stdlib_module_names) - {"ctenhance"}


def test_no_cycle_between_parts() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        own = part_of(module_name(path))
        own = "volume" if own in VOLUME else "commands" if own in COMMANDS else own
        reached = parts(imported(path, path.read_text(encoding="utf-8")))
        reached = {
            "volume" if part in VOLUME else "commands" if part in COMMANDS else part for part in reached
        }
        graph.setdefault(own, set()).update(reached - {own})
    finished: set[str] = set()

    def walk(part: str, trail: tuple[str, ...]) -> None:
        assert part not in trail, f"imports run in a circle: {' -> '.join((*trail, part))}"
        if part not in finished:
            for target in graph.get(part, ()):
                walk(target, (*trail, part))
            finished.add(part)

    for part in graph:
        walk(part, ())


def test_the_order_itself_has_no_cycle() -> None:
    assert "physics" not in ALLOWED["physics"]
    assert all(not ALLOWED[method] & METHODS for method in METHODS)


def test_reader_of_imports() -> None:
    # The test above is worth what this reader finds.
    source = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport ctenhance.degrade\n"
        "from . import networks\nfrom ..runtime import files\nfrom ctenhance import quality\n"
        "if TYPE_CHECKING:\n    from ctenhance.study import records\n"
        "def late():\n    from ctenhance.cli import main\n"
    )
    found = imported(PACKAGE / "enhance" / "inference.py", source)
    assert {"ctenhance.degrade", "ctenhance.enhancement.networks", "ctenhance.runtime.files"} <= found
    assert "ctenhance.cli" in found
    assert not any("study" in module for module in found)
    assert parts(found) >= {"degrade", "enhance", "runtime", "cli"}


def test_help_needs_no_heavy_library() -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['ctenhance', '--help']\n"
        "import ctenhance.cli\n"
        "try:\n    ctenhance.cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'matplotlib', 'SimpleITK', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "enhance" in done.stdout
