"""The host's stand-in for Slicer's parameter node wrapper keeps what the real one promises."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import pytest
import slicer
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper


class Method(enum.Enum):
    FBP = "fbp"
    NEED = "need"


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    method: Method = Method.NEED
    basis: Annotated[str, Choice(["water", "iodine"])] = "water"
    dose: Annotated[float, WithinRange(0, 1)] = 0.25
    steps: int = 4
    stages: bool = False
    note: str = "none"


@pytest.fixture
def node() -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def test_defaults(node: Any) -> None:
    chosen = Parameters(node)
    assert chosen.volume is None
    assert (chosen.method, chosen.basis) == (Method.NEED, "water")
    assert (chosen.dose, chosen.steps, chosen.stages, chosen.note) == (0.25, 4, False, "none")


def test_values_live_in_the_node(node: Any) -> None:
    chosen, again = Parameters(node), Parameters(node)
    chosen.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    chosen.method, chosen.basis = Method.FBP, "iodine"
    chosen.dose, chosen.steps, chosen.stages = 1, 8, True
    assert again.volume is chosen.volume
    assert (again.method, again.basis) == (Method.FBP, "iodine")
    assert (again.dose, again.steps, again.stages) == (1.0, 8, True)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("dose", 1.5, ValueError),
        ("dose", "much", TypeError),
        ("basis", "gold", ValueError),
        ("steps", 0.5, TypeError),
        ("stages", 1, TypeError),
        ("method", "fbp", TypeError),
        ("note", None, (TypeError, ValueError)),
        ("volume", "chest", TypeError),
    ],
)
def test_wrong_values_raise(node: Any, name: str, value: Any, error: Any) -> None:
    chosen = Parameters(node)
    before = getattr(chosen, name)
    with pytest.raises(error):
        setattr(chosen, name, value)
    assert getattr(chosen, name) == before


def test_a_change_tells_its_observers_once(node: Any) -> None:
    import vtk

    chosen, heard = Parameters(node), []
    chosen.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: heard.append(chosen.steps))
    chosen.steps = 9
    chosen.steps = 9
    assert heard == [9]


def test_widgets_follow_and_lead(node: Any) -> None:
    import ctk
    import qt

    chosen = Parameters(node)
    slider, box, method, line = ctk.ctkSliderWidget(), qt.QCheckBox(), qt.QComboBox(), qt.QLineEdit()
    basis, steps = qt.QComboBox(), qt.QSpinBox()
    tag = chosen.connectParametersToGui(
        {
            "dose": slider, "stages": box, "method": method, "note": line, "basis": basis,
            "steps": steps,
        }
    )  # fmt: skip
    assert (slider.value, slider.maximum, box.checked, method.currentText) == (0.25, 1.0, False, "NEED")
    assert (basis.currentText, steps.value, line.text) == ("water", 4, "none")
    slider.value, box.checked, method.currentIndex, line.text = 0.5, True, 0, "seen"
    basis.currentIndex, steps.value = 1, 7
    assert (chosen.dose, chosen.stages, chosen.method, chosen.note) == (0.5, True, Method.FBP, "seen")
    assert (chosen.basis, chosen.steps) == ("iodine", 7)
    chosen.dose, chosen.method = 0.75, Method.NEED
    assert (slider.value, method.currentText) == (0.75, "NEED")
    chosen.disconnectGui(tag)
    slider.value = 0.1
    assert chosen.dose == 0.75


def test_what_the_application_cannot_raises(node: Any) -> None:
    import ctk
    import qt

    with pytest.raises(RuntimeError):
        Parameters(node).connectParametersToGui({"note": qt.QSpinBox()})
    with pytest.raises(RuntimeError, match="unbounded"):
        Parameters(node).connectParametersToGui({"steps": ctk.ctkSliderWidget()})
    with pytest.raises(Exception, match="serializer"):

        @parameterNodeWrapper
        class _Unknown:
            value: complex
