"""What the documents name is there: modules, functions and files."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
#: Decisions say what the code was like when they were taken.
TODAY = [path for path in DOCUMENTS if path.parent.name != "decisions"]


def resolved(dotted: str) -> object:
    """The module or attribute of a dotted name; AttributeError or ImportError where there is none."""
    parts = dotted.split(".")
    found: object = importlib.import_module(parts[0])
    for count, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:count]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", TODAY, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_names_of_the_package_in_a_document_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module, names in re.findall(r"^ *from (ctenhance[\w.]*) import ([\w, ]+)", text, re.M):
        for name in names.replace(" ", "").split(","):
            resolved(f"{module}.{name}")
    for dotted in re.findall(r"(?<![\w./-])(ctenhance(?:\.[a-zA-Z_]\w*)+)(?=\()", text):
        resolved(dotted)


@pytest.mark.parametrize("path", TODAY, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_files_of_the_code_in_a_document_are_there(path: Path) -> None:
    files = {
        file.relative_to(REPOSITORY).as_posix()
        for folder in ("CTEnhance", "Testing", "benchmarks", "findings")
        for file in (REPOSITORY / folder).rglob("*.py")
    }
    for named in re.findall(r"`([\w/]+\.py)(?:`|:)", path.read_text(encoding="utf-8")):
        if "Something" in named:  # stands for the reader's own
            continue
        assert any(file == named or file.endswith(f"/{named}") for file in files), named
