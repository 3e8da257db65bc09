"""Regions by clicks: circles, boxes and drawn ones, several at once; what they hold, where it goes."""

from __future__ import annotations

import csv
import io
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from scipy import stats
from test_enhance_viewing import BEFORE, addCT, addResult, choose, widget

from panel_run import close_panel, open_panel, press_key, save_scene

SPACING = (2.0, 2.0, 5.0)


@pytest.fixture
def compared(panel: Any, user: Any) -> Any:
    """A CT of noise on a ramp, and a calmer, brighter result of it, side by side."""
    ct = addCT()
    user.turn()
    result = addResult(ct)
    before = slicer.util.arrayFromVolume(ct)
    after = slicer.util.arrayFromVolume(result)
    after[...] = 45 + 0.4 * (before - 40.0)
    slicer.util.arrayFromVolumeModified(result)
    choose(panel, user, result)
    panel.ui.viewModeSelector.currentIndex = 0
    panel.ui.compareButton.click()
    user.rests(0.4)
    yield ct, result
    panel.ui.figureSelector.currentIndex = 0
    panel.ui.viewModeSelector.currentIndex = 0


def settled(panel: Any, user: Any) -> list[list[str]]:
    """Wait until the table has followed; return its rows as they are copied as CSV, without the head."""
    import qt

    user.waits(lambda: not panel.compareSection.measuring.pending, 30)
    panel.ui.copyCSVButton.click()
    return list(csv.reader(io.StringIO(qt.QApplication.clipboard().text())))


def regions() -> list[Any]:
    from CTEnhanceLib.measure import shapes

    return shapes.regions()


def voxelsOf(node: Any, where: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a volume at places [slice, row, column] for which `where(RAS)` is true."""
    values = slicer.util.arrayFromVolume(node)
    k, j, i = np.mgrid[tuple(slice(0, n) for n in values.shape)]
    matrix = slicer.util.arrayFromVTKMatrix(_toRAS(node))
    ras = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ matrix.T
    inside = where(ras[..., 0], ras[..., 1], ras[..., 2])
    return values[inside].astype(float), inside


def _toRAS(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


@pytest.mark.parametrize("axis", ["Axial", "Coronal", "Sagittal"])
def test_a_circle_holds_what_lies_in_it(panel: Any, user: Any, compared: Any, axis: str) -> None:
    ct, result = compared
    getattr(panel.ui, f"{axis.lower()}Button").click()
    user.rests(0.4)
    panel.ui.roundButton.click()
    node = regions()[0]
    assert node.GetName() == "R1" and node.GetSaveWithScene()
    centre = slicer.util.arrayFromVTKMatrix(widget(BEFORE).mrmlSliceNode().GetSliceToRAS())[:3, 3]
    across = ("Sagittal", "Coronal", "Axial").index(axis)
    half = SPACING[across] / 2

    def inside(*ras: np.ndarray) -> np.ndarray:
        away = sum((ras[k] - centre[k]) ** 2 for k in range(3) if k != across)
        return (away < 12.0**2) & (np.abs(ras[across] - centre[across]) < half - 1e-6)

    _head, row = settled(panel, user)
    before, after = (voxelsOf(each, inside)[0] for each in (ct, result))
    assert abs(int(row[3]) - before.size) <= 0.02 * before.size + 1 and row[4] == "1"
    found = [float(each) for each in row[5:10]]
    expected = [before.mean(), before.std(), after.mean(), after.std(), (after - before).mean()]
    assert np.allclose(found, expected, atol=0.6)
    assert float(row[2]) == pytest.approx(np.pi * 144, rel=0.01)
    assert float(row[10]) < float(row[9]) < float(row[11])


def test_a_circle_stays_round_as_a_point_is_dragged(panel: Any, user: Any, compared: Any) -> None:
    panel.ui.roundButton.click()
    (node,) = regions()
    rng = np.random.default_rng(0)
    for index in (0, 4, 8, 12, 4):
        places = slicer.util.arrayFromMarkupsControlPoints(node).copy()
        centre = places.mean(axis=0)
        out = (places[index] - centre) / np.linalg.norm(places[index] - centre)
        radius = float(rng.uniform(5, 25))
        node.SetNthControlPointPositionWorld(
            index, *(centre + radius * out + rng.normal(0, 0.5, 3) * [1, 1, 0])
        )
        now = slicer.util.arrayFromMarkupsControlPoints(node)
        away = np.linalg.norm(now - centre, axis=1)
        assert np.allclose(now.mean(axis=0), centre, atol=1e-4)
        assert np.ptp(away) < 1e-4 and away[0] == pytest.approx(radius, abs=2)
        turns = np.diff(np.unwrap(np.arctan2(*(now - centre)[:, 1::-1].T)))
        assert np.allclose(np.abs(turns), np.pi / 8, atol=1e-4)
    assert float(settled(panel, user)[1][2]) == pytest.approx(np.pi * away[0] ** 2, rel=0.01)


def test_regions_by_keyboard_alone(panel: Any, user: Any, compared: Any) -> None:
    press_key(user, "O")
    press_key(user, "Q")
    circle, box = regions()
    for node, key in ((box, ""), (circle, "N")):
        if key:
            press_key(user, key)
        assert panel.ui.regionSelector.currentText == node.GetName()
        before = {row[0]: float(row[2]) for row in settled(panel, user)[1:]}
        place = slicer.util.arrayFromMarkupsControlPoints(node, world=True).mean(axis=0)
        step = 0.01 * widget(BEFORE).mrmlSliceNode().GetFieldOfView()[0]
        for way, by in (
            ("Right", (-1, 0)),
            ("Up", (0, 1)),
            ("Up", (0, 1)),
            ("Left", (1, 0)),
            ("Down", (0, -1)),
        ):
            press_key(user, f"Shift+{way}")
            place = place + step * np.array([*by, 0])
            now = slicer.util.arrayFromMarkupsControlPoints(node, world=True).mean(axis=0)
            assert np.allclose(now, place, atol=1e-3), way
        press_key(user, "Shift+PgUp")
        grown = {row[0]: float(row[2]) for row in settled(panel, user)[1:]}
        assert grown[node.GetName()] == pytest.approx(1.21 * before[node.GetName()], rel=1e-3)
        press_key(user, "Shift+PgDown")
        shrunk = {row[0]: float(row[2]) for row in settled(panel, user)[1:]}
        assert shrunk == pytest.approx(before, rel=1e-3)


def test_a_drawn_region_and_a_box_beside_it(panel: Any, user: Any, compared: Any) -> None:
    ct, result = compared
    panel.ui.squareButton.click()
    panel.ui.freeButton.click()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsClosedCurveNode"
    assert selection.GetActivePlaceNodeID() == regions()[-1].GetID()
    user.rests(0.2)
    assert "three points" in panel.ui.regionTable.text
    box, curve = regions()
    assert [node.GetName() for node in (box, curve)] == ["R1", "R2"]
    corners = np.array(
        [(-30.0, -20.0), (30.0, -20.0), (30.0, 10.0), (-10.0, 10.0), (-10.0, 30.0), (-30.0, 30.0)]
    )
    curve.SetCurveTypeToLinear()
    height = widget(BEFORE).sliceLogic().GetSliceOffset()
    for x, y in corners:
        curve.AddControlPointWorld(x + 0.01, y + 0.01, height)
    rows = {row[0]: row for row in settled(panel, user)[1:]}

    def inside(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        x, y = x - 0.01, y - 0.01
        wide = (x > -30) & (x < 30) & (y > -20) & (y < 10)
        high = (x > -30) & (x < -10) & (y > -20) & (y < 30)
        return (wide | high) & (np.abs(z - height) < 2.5)

    before, after = (voxelsOf(each, inside)[0] for each in (ct, result))
    row = rows["R2"]
    assert row[1] == "free" and abs(int(row[3]) - before.size) <= 2
    assert float(row[2]) == pytest.approx(60 * 30 + 20 * 20, rel=0.01)
    assert float(row[5]) == pytest.approx(before.mean(), abs=0.3)
    assert float(row[9]) == pytest.approx((after - before).mean(), abs=0.3)
    # White noise: the interval is that of the voxels, nearly.
    change = after - before
    reach = stats.t.ppf(0.975, change.size - 1) * change.std() / np.sqrt(change.size)
    assert (float(row[11]) - float(row[10])) / 2 == pytest.approx(reach, rel=0.35)
    assert int(rows["R1"][4]) >= 3 and rows["R1"][1] == "square"
    assert float(rows["R1"][2]) == pytest.approx(900)
    # Out of the slice, or out of the volume, it is said what is wrong; the other one is still measured.
    curve.SetNthControlPointPositionWorld(0, -30.0, -20.0, height + 40)
    user.waits(lambda: not panel.compareSection.measuring.pending, 30)
    assert "not flat" in panel.ui.regionTable.text and len(settled(panel, user)) == 2
    panel.ui.regionSelector.currentIndex = 1
    panel.ui.removeRegionButton.click()
    assert regions() == [box] and interaction.GetCurrentInteractionMode() != interaction.Place


def test_text_table_and_scene_keep_what_is_measured(
    panel: Any, user: Any, compared: Any, tmp_path: Path
) -> None:
    import qt

    panel.ui.roundButton.click()
    panel.ui.squareButton.click()
    rows = settled(panel, user)
    panel.ui.copyTextButton.click()
    text = qt.QApplication.clipboard().text()
    assert [line.split("\t") for line in text.splitlines()] == rows
    assert rows[0][5] == "Before: mean HU" and [row[0] for row in rows[1:]] == ["R1", "R2"]
    for _ in range(2):  # the same table again
        panel.ui.toTableButton.click()
    (node,) = [
        each for each in slicer.util.getNodesByClass("vtkMRMLTableNode") if each.GetName() == "CT regions"
    ]
    table = node.GetTable()
    assert table.GetNumberOfRows() == 2
    for column, name in enumerate(rows[0]):
        assert table.GetColumnName(column) == name
        cells = [table.GetValue(index, column).ToString() for index in range(2)]
        for cell, row in zip(cells, rows[1:], strict=True):
            try:
                assert float(cell) == pytest.approx(float(row[column]))
            except ValueError:
                assert cell == row[column]
    # A scene keeps the regions, and the panel finds them again; what it says is the same.
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    user.rests(0.2)
    assert not panel.ui.regionTable.text
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.4)
    result = slicer.util.getNode("chest enhanced (one)")
    choose(panel, user, result)
    panel.ui.compareButton.click()
    assert settled(panel, user) == rows


def test_results_of_other_voxels_are_measured_each_in_its_own(panel: Any, user: Any, compared: Any) -> None:
    prior = slicer.util.addVolumeFromArray(
        np.random.default_rng(5).normal(70, 10, (60, 100, 100)).astype(np.int16), name="prior"
    )
    prior.SetSpacing(1.5, 1.5, 1.5)
    prior.SetOrigin(-75, -75, -45)
    prior.CreateDefaultDisplayNodes()
    user.turn()
    panel.ui.otherSelector.currentIndex = panel.ui.otherSelector.findData(prior.GetID())
    panel.ui.roundButton.click()
    head, row = settled(panel, user)
    assert head[5] == "Other scan: mean HU" and float(row[5]) == pytest.approx(70, abs=2)
    assert float(row[9]) == pytest.approx(float(row[7]) - float(row[5]), abs=0.01)
    assert float(row[10]) < float(row[9]) < float(row[11])
    panel.ui.figureSelector.currentIndex = 1
    assert "same voxels" in panel.ui.figureLabel.text


def test_spectrum_and_edge_are_drawn_below_the_images(
    panel: Any, user: Any, compared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    panel.ui.squareButton.click()
    panel.ui.figureSelector.currentIndex = 1
    user.waits(lambda: bool(panel.ui.figureLabel.text), 30)
    figure = panel.compareSection.measuring._figure
    manager = slicer.app.layoutManager()
    assert manager.layout == 7111 and "SD" in panel.ui.figureLabel.text
    names = [figure.table.GetTable().GetColumnName(column) for column in range(3)]
    assert names == ["Frequency (1/mm)", "Before", "After"]
    frequency, before, after = (slicer.util.arrayFromTableColumn(figure.table, name) for name in names)
    assert np.allclose(after, 0.16 * before, rtol=1e-3) and frequency[-1] <= 0.25 + 1e-9
    # 20 HU of white noise in pixels of 2 mm.
    assert np.average(before, weights=frequency) == pytest.approx(400 * 4, rel=0.3)
    panel.ui.figureSelector.currentIndex = 2
    assert "No edge" in panel.ui.figureLabel.text and figure.table is None
    region = regions()[0]
    region.SetSize([12, 12, region.GetSize()[2]])
    region.SetCenter([0, -48 + 0.0, 0])  # where the body begins
    user.waits(lambda: not panel.compareSection.measuring.pending, 30)
    assert "10-90 %" in panel.ui.figureLabel.text
    profile = slicer.util.arrayFromTableColumn(figure.table, "Before")
    assert profile[:5].mean() == pytest.approx(-1000, abs=60) and profile[-5:].mean() == pytest.approx(
        40, abs=60
    )
    edge = figure.table
    panel.ui.figureSelector.currentIndex = 3
    assert figure.table is edge  # its nodes show one figure after the other
    names = [figure.table.GetTable().GetColumnName(column) for column in range(3)]
    assert names == ["Frequency (1/mm)", "Before", "After"]
    view = slicer.mrmlScene.GetSingletonNode("CTEnhanceRegionPlot", "vtkMRMLPlotViewNode")
    if view is not None:
        user.waits(lambda: slicer.mrmlScene.GetNodeByID(view.GetPlotChartNodeID() or "") is not None, 30)
        chart = slicer.mrmlScene.GetNodeByID(view.GetPlotChartNodeID())
        series = [chart.GetNthPlotSeriesNode(index) for index in range(2)]
        assert [each.GetXColumnName() for each in series] == ["Frequency (1/mm)"] * 2
        assert [each.GetYColumnName() for each in series] == ["Before", "After"]
    transfer = slicer.util.arrayFromTableColumn(figure.table, "Before")
    assert transfer[0] == pytest.approx(1)
    table = figure.table
    panel.ui.compareButton.click()
    assert manager.layout < 100
    user.waits(lambda: not slicer.mrmlScene.IsNodePresent(table), 30)
    close_panel(panel)
    open_panel("CTEnhance")


def test_the_plot_comes_back_with_the_scene(
    panel: Any, user: Any, compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of which region; it stands below the images when these are shown again."""
    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    ui, figure = panel.ui, panel.compareSection.measuring._figure
    for button in (ui.squareButton, ui.squareButton, ui.roundButton):
        button.click()
    ui.regionSelector.currentIndex = 1
    ui.figureSelector.currentIndex = 1
    user.waits(lambda: figure.table is not None, 30)
    assert figure.table.GetName().startswith("R2")
    ui.compareButton.click()
    assert figure.table is None and slicer.app.layoutManager().layout < 100
    ui.compareButton.click()  # it is there again
    user.waits(lambda: figure.table is not None, 30)
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    user.rests(0.1)
    assert ui.figureSelector.currentIndex == 0  # another scene begins anew
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")  # what is plotted is not saved
    ui.compareButton.click()
    user.waits(lambda: figure.table is not None, 30)
    assert slicer.app.layoutManager().layout == 7111
    assert ui.figureSelector.currentIndex == 1 and ui.regionSelector.currentText == "R2"
    assert figure.table.GetName().startswith("R2")
    for _ in range(3):  # without a region there is nothing to plot
        ui.removeRegionButton.click()
    assert slicer.app.layoutManager().layout == 7101 and figure.table is None


def test_a_free_region_that_is_given_up_goes(panel: Any, user: Any, compared: Any) -> None:
    """Before its first point it is nothing; Slicer would draw it in each view all the same."""
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    panel.ui.roundButton.click()
    panel.ui.freeButton.click()
    assert len(regions()) == 2
    panel.ui.freeButton.click()  # again, instead of that one
    user.rests(0.1)
    assert len(regions()) == 2
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # as Escape does
    user.rests(0.2)
    assert len(regions()) == 1 and panel.ui.regionSelector.count == 1
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsDisplayNode") == 1
    panel.ui.freeButton.click()
    for place in ((0.0, 0.0, 0.0), (20.0, 0.0, 0.0), (0.0, 20.0, 0.0)):
        regions()[-1].AddControlPointWorld(vtk.vtkVector3d(*place))
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    user.rests(0.2)
    assert len(regions()) == 2 and "free" in panel.ui.regionTable.text
