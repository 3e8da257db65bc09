"""The direction of dependence inside `ctenhance`, read from the source (nothing is imported)."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from layers import ORDER

PACKAGE = Path(__file__).resolve().parents[2] / "CTEnhance" / "ctenhance"
FILES = sorted(PACKAGE.rglob("*.py"))

ALLOWED: dict[str, set[str]] = {
    part: set().union(*ORDER[:level], ORDER[-1] if part in ORDER[-1] else set())
    for level, parts_of_line in enumerate(ORDER)
    for part in parts_of_line
}

FOREIGN = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "mrml", "PythonQt", "PySide6", "CTEnhanceLib"}
# What may be imported at all: the declared dependencies and what they bring along.
THIRD_PARTY = {
    "numpy", "scipy", "torch", "monai", "SimpleITK", "pydicom", "pylibjpeg", "openjpeg", "safetensors",
    "matplotlib", "typer", "rich", "psutil", "h5py", "statsmodels", "openpyxl",
    "xraydb", "filelock", "openvino", "PIL",
}  # fmt: skip


# What single files may import: the extras that need not be installed.
EXTRAS = {
    "skimage": {"ctenhance.enhancement.bank"},
    "onnx": {"ctenhance.runtime.engines.export"},
    "onnxscript": {"ctenhance.runtime.engines.export"},
    "highdicom": {"ctenhance.files.dicom.parametric"},
    "isal": {"ctenhance.files.damage"},
    "pynetdicom": {"ctenhance.service.network"},
    "numba": {f"ctenhance.decomposition.solver.{name}" for name in ("fused", "compiled")},
    "llvmlite": {"ctenhance.decomposition.solver.fused"},
}


# What only the page in the browser may import: the extra [view].
VIEW_ONLY = {"slicer", "vtk", "vtkmodules", "trame_slicer", "aiohttp"}


# What only a batch may import: the extra [batch].
BATCH_ONLY = {"dask", "distributed"}


def part_of(module: str) -> str:
    """Return the part that a dotted module name belongs to: 'core' for 'ctenhance.core.volume'."""
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


LIBRARY = PACKAGE.parent / "CTEnhanceLib"
#: The rooms that the panels share, each may import those before it; a panel's own room ("wing") all of them.
SHARED = ["scene", "process", "views", "measure", "compare", "out", "panel"]
WINGS = {"enhance", "reconstruct", "decompose", "readerstudy"}
PANEL_WINGS = {
    "CTEnhance": {"enhance"},
    "CTReconstruct": {"reconstruct"},
    "CTDecompose": {"decompose"},
    "CTReaderStudy": {"readerstudy"},
}


def rooms(path: Path, package: str) -> set[str]:
    """Return the rooms of `CTEnhanceLib` that a file names in an import, anywhere."""
    names = {name for name in all_imported(package, path) if name.split(".")[0] == "CTEnhanceLib"}
    return {name.partition(".")[2].split(".")[0] for name in names}


@pytest.mark.parametrize(
    "path", sorted(LIBRARY.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_rooms_import_one_way(path: Path) -> None:
    room = path.parent.name
    assert room in {*SHARED, *WINGS}
    allowed = {*SHARED, room} if room in WINGS else set(SHARED[: SHARED.index(room) + 1])
    wrong = rooms(path, f"CTEnhanceLib.{room}") - allowed
    assert not wrong, f"{path.name} belongs to '{room}', which must not import {sorted(wrong)}"


@pytest.mark.parametrize("panel", sorted(PANEL_WINGS))
def test_panels_import_their_own_wing(panel: str) -> None:
    assert rooms(PACKAGE.parent / f"{panel}.py", panel) <= {*SHARED, *PANEL_WINGS[panel]}


def test_every_file_has_a_room() -> None:
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"]


def test_reader_of_rooms() -> None:
    # The tests above are worth what it finds.
    assert {"decompose", "scene", "process"} <= rooms(
        LIBRARY / "decompose" / "volumes.py", "CTEnhanceLib.decompose"
    )


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
    view = {"view": VIEW_ONLY, "batch": BATCH_ONLY}.get(part_of(module_name(path)), set())
    assert not tops & (FOREIGN - view)
    extras = {library for library, users in EXTRAS.items() if module_name(path) in users}
    assert not tops - THIRD_PARTY - extras - view - set(sys.stdlib_module_names) - {"ctenhance"}


def circles(root: Path, package: str) -> list[list[str]]:
    """Files of `package` below `root` that import one another in a circle, lazily or for types only too."""
    files = {}
    for path in sorted((root / package).rglob("*.py")):
        parts_of_path = path.relative_to(root).with_suffix("").parts
        files[".".join(parts_of_path[:-1] if path.stem == "__init__" else parts_of_path)] = path
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found = all_imported(name if path.stem == "__init__" else name.rpartition(".")[0], path)
        graph[name] = {target for target in found if target in files} - {name}
    return [sorted(group) for group in strongly_connected(graph) if len(group) > 1]


def all_imported(package: str, path: Path) -> set[str]:
    """Every module that a file names in an import; a name out of a package is its module, if it is one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [base, node.module]))
            modules = {f"{base}.{alias.name}" for alias in node.names}
            folder = path.parents[len(package.split(".")) - 1].parent
            known = {m for m in modules if is_module(folder, m)}
            found.update(known or set())
            if len(known) < len(modules):
                found.add(base)
    return found


def is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """Tarjan's strongly connected components, by scipy."""
    names = sorted(graph)
    index = {name: number for number, name in enumerate(names)}
    edges = [(index[name], index[target]) for name in names for target in graph[name]]
    matrix = coo_array(
        (np.ones(len(edges)), tuple(np.array(edges, dtype=int).reshape(-1, 2).T)), shape=(len(names),) * 2
    )
    count, labels = connected_components(matrix, directed=True, connection="strong")
    return [{name for name in names if labels[index[name]] == label} for label in range(count)]


@pytest.mark.parametrize("package", ["ctenhance", "CTEnhanceLib"])
def test_no_files_import_one_another_in_a_circle(package: str) -> None:
    assert circles(PACKAGE.parent, package) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").write_text("")
    (tmp_path / "p" / "a.py").write_text("from p import b\n")
    (tmp_path / "p" / "b.py").write_text("def late():\n    from p.c import x\n")
    (tmp_path / "p" / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y\n"
    )
    assert circles(tmp_path, "p") == [["p.a", "p.b", "p.c"]]


def test_every_part_has_its_place() -> None:
    names = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert names <= set().union(*ORDER)


def test_reader_of_imports() -> None:
    # The test above is worth what this reader finds.
    source = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport ctenhance.degradation\n"
        "from . import networks\nfrom ..runtime import files\nfrom ctenhance import quality\n"
        "if TYPE_CHECKING:\n    from ctenhance.study import records\n"
        "def late():\n    from ctenhance.cli import main\n"
    )
    found = imported(PACKAGE / "enhancement" / "inference.py", source)
    assert {"ctenhance.degradation", "ctenhance.enhancement.networks", "ctenhance.runtime.files"} <= found
    assert "ctenhance.cli" in found
    assert not any("study" in module for module in found)
    assert parts(found) >= {"degradation", "enhancement", "runtime", "cli"}


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
