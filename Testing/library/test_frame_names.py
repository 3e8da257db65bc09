"""One word an idea, as docs/glossary.md has it: what the names in the code must not fall back to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "CTEnhance" / "ctenhance"
FILES = sorted([*(REPOSITORY / "CTEnhance").rglob("*.py"), *(REPOSITORY / "benchmarks").glob("*.py")])
#: They say how a value came about, not what it is.
OF_NO_MEANING = {"told", "seen", "made", "wanted", "untold", "unseen", "unwanted"}
#: Former names, and the one that stands for all of them.
FORMER = {
    re.compile(r"(water|told|found|usual|object)_ratio|ratio_(entry|error)|scatter_to_primary"): "spr",
    re.compile(r"usual_?(scatter|setup|scanner)|\busual"): "reference",
    re.compile(r"(window_gain|reconstruction_window)s?"): "kernel",
    re.compile(r"with_image|image_geometry"): "ImageGrid",
    re.compile(r"cut_off_warning"): "truncation",
}


def names(tree: ast.AST) -> set[str]:
    """All identifiers that a module binds: variables, attributes, arguments, functions and classes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_names_say_what_a_thing_is_in_the_glossary_s_words(path: Path) -> None:
    found = names(ast.parse(path.read_text(encoding="utf-8")))
    assert not {name for name in found if name.strip("_").lower() in OF_NO_MEANING}
    for former, word in FORMER.items():
        assert not {name for name in found if former.search(name.lower())}, f"say {word}"


@pytest.mark.parametrize("folder", ["physics", "scan", "decomposition", "reconstruction"])
def test_a_reconstruction_filter_is_a_kernel(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"fbp", "noise_fields"}:
                assert "window" not in {keyword.arg for keyword in node.keywords}, path
            if isinstance(node, ast.FunctionDef) and node.name in {"fbp", "noise_fields"}:
                assert {"scan", "grid", "kernel"} <= {argument.arg for argument in node.args.args}, path
