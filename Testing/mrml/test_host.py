"""The test host has PythonQt's manners, refuses what the application lacks, and stays small."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import slicer

HOST = Path(__file__).resolve().parents[1] / "slicerhost"


def test_properties_are_attributes() -> None:
    import qt

    box = qt.QCheckBox("text")
    box.checked = True
    assert box.checked is True and box.text == "text"
    with pytest.raises(TypeError):
        box.checked()
    with pytest.raises(AttributeError, match="no property 'chekced'"):
        box.chekced = True


def test_signals_by_signature_and_by_name() -> None:
    import qt

    button, heard = qt.QPushButton(), []

    def none() -> None:
        heard.append("none")

    button.connect("clicked()", none)
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.clicked.connect(none)
    button.click()
    assert heard == ["none", False, "none"]
    assert button.disconnect("clicked()", none)
    with pytest.raises(AttributeError, match=r"no signal pressed\(int\)"):
        button.connect("pressed(int)", none)
    # What is no function is given all arguments.
    button.connect("clicked(bool)", functools.partial(heard.append))
    heard.clear()
    button.click()
    assert heard.count(False) == 2


@pytest.mark.parametrize("name", ["Signal", "Slot", "Property", "QNoSuchWidget"])
def test_qt_lacks_what_pythonqt_lacks(name: str) -> None:
    import qt

    with pytest.raises(AttributeError, match=f"no '{name}'"):
        getattr(qt, name)


def test_application_lacks_what_it_lacks() -> None:
    import ctk

    for owner in (ctk, slicer.modules):
        with pytest.raises(AttributeError):
            owner.noSuchThing  # noqa: B018


@pytest.mark.parametrize(
    "line", ['<property name="enabeld"><bool>true</bool></property>', '<widget class="QNoWidget" name="a"/>']
)
def test_misspelt_panels_do_not_load(line: str, tmp_path: Path) -> None:
    text = f'<ui version="4.0"><widget class="QWidget" name="w">{line}</widget><connections/></ui>'
    (tmp_path / "panel.ui").write_text(text, encoding="utf-8")
    with pytest.raises(AttributeError):
        slicer.util.loadUI(str(tmp_path / "panel.ui"))


def test_module_refuses_unknown_facts() -> None:
    from slicerhost.application import ScriptedModule

    with pytest.raises(AttributeError, match="no 'tittle'"):
        ScriptedModule(Path("Some.py")).tittle = "Some"


def test_the_interpreter_ends_well_after_many_signals() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HOST.parent)!r})\n"
        "import slicerhost; slicerhost.start(); import qt\n"
        "button = qt.QPushButton()\n"
        "for _ in range(60_000): button.toggled(True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[:500]


def test_host_stays_small() -> None:
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in HOST.glob("*.py")) <= 900
