"""The window that a reader chose is there again for the next scan of the same part of the body."""

from __future__ import annotations

import types
from typing import Any

import pytest
import slicer
from test_enhance_viewing import addCT, addResult, choose

from panel_run import press_key


def window(node: Any) -> tuple[float, float]:
    display = node.GetDisplayNode()
    return display.GetWindow(), display.GetLevel()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Slicer's DICOM database says of the body part, by instance."""
    parts: dict[str, str] = {}
    stand_in = types.SimpleNamespace(
        isOpen=True,
        instanceValue=lambda uid, tag: parts.get(uid, ""),
        fileForInstance=lambda uid: "",
    )
    monkeypatch.setattr(slicer, "dicomDatabase", stand_in, raising=False)
    return parts


def scan(name: str, instance: str, header: tuple[float, float] | None = None) -> Any:
    node = addCT(name)
    node.SetAttribute("DICOM.instanceUIDs", instance)
    if header is not None:
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.AddWindowLevelPreset(*header)
        display.SetWindowLevel(*header)
    return node


def test_the_last_one_is_kept_by_body_part(panel: Any, user: Any, database: dict[str, str]) -> None:
    database.update({"1.1": "HEAD", "1.2": "Chest", "1.3": "HEAD", "1.4": "CHEST"})
    head = scan("head", "1.1")
    choose(panel, user, addResult(head))
    panel.ui.compareButton.click()
    press_key(user, "6")
    assert window(head) == (80, 40)
    chest = scan("chest", "1.2", header=(1400, -500))
    choose(panel, user, addResult(chest))
    assert window(chest) == (1400, -500)  # its header's, as there was none before
    press_key(user, "2")
    press_key(user, "9")
    assert window(chest) == (1400, -500)  # the scan's own
    chest.GetDisplayNode().SetWindowLevel(1300, -550)  # with the mouse
    panel.ui.compareButton.click()
    for number, header, expected in (("1.3", None, (80, 40)), ("1.4", (1500, -600), (1300, -550))):
        node = scan(f"next {number}", number, header)
        addResult(node)
        assert window(node) == expected


def test_without_a_header_its_content_says_what_it_is(panel: Any, user: Any) -> None:
    tissue, lung = addCT("tissue", 40.0), addCT("lung", -800.0)
    for node in (tissue, lung):
        result = addResult(node)
        choose(panel, user, result)
        press_key(user, "7")
    press_key(user, "9")
    assert window(lung) == (1500, -600)
    other = addCT("another", 40.0)
    addResult(other)
    assert window(other) == (600, 200)
    third = addCT("a third", -800.0)
    addResult(third)
    assert window(third) == (1500, -600)


def test_what_the_settings_hold_is_not_trusted(panel: Any, user: Any) -> None:
    from CTEnhanceLib.scene import bodywindows

    node = addCT()
    for text in ("", "nonsense", "-5 3", "nan nan", "400", "1e9 0", "inf 0"):
        slicer.app.userSettings().setValue("CTEnhance/Windows/CONTENT-MEDIASTINUM", text)
        assert bodywindows.remembered(node) is None, text
