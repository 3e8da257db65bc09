"""Every sentence that a user can see goes through `_()`, so that it can be translated."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

MODULE = Path(__file__).resolve().parents[2] / "CTEnhance"
SOURCES = [*sorted(MODULE.glob("CT*.py")), *sorted((MODULE / "CTEnhanceLib").rglob("*.py"))]
SHOWN = {"text", "toolTip", "title", "helpText", "acknowledgementText"}
ERRORS = {"InputError", "CTEnhanceError"}
WORDS = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}")


def untranslated(tree: ast.AST) -> list[str]:
    """Return the sentences that are shown or raised as they stand."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            found += node.args
        elif isinstance(node, ast.Assign):
            names = {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
            found += [node.value] if names & SHOWN else []
    texts = [
        part.value
        for one in found
        for part in ([one] if isinstance(one, ast.Constant) else getattr(one, "values", []))
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return [text for text in texts if WORDS.search(text)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_sentences_can_be_translated(source: Path) -> None:
    assert untranslated(ast.parse(source.read_text(encoding="utf-8"))) == []


def test_the_check_finds_one() -> None:
    assert untranslated(ast.parse("raise InputError('not so good')")) == ["not so good"]


@pytest.mark.parametrize(
    "path", sorted((MODULE / "Resources" / "UI").glob("*.ui")), ids=lambda path: path.name
)
def test_panel_texts_can_be_translated(path: Path) -> None:
    for item in ElementTree.parse(path).iter("property"):
        string = item.find("string")
        if item.get("name") in SHOWN and string is not None and WORDS.search(string.text or ""):
            assert string.get("notr") is None, string.text
