"""Spectral images as CT Decompose shows and measures them, held to the library's own."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from spectral_scan import compared, resliced, shown, shown_result, widget

from panel_run import is_seen, low, press_key
from view_pixels import pixels
from view_titles import captions, titles


@pytest.mark.parametrize("orientation", ["Axial", "Coronal", "Sagittal"])
def test_shown_slices_are_those_of_the_library(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, orientation: str
) -> None:
    ui = spectral_panel.ui
    getattr(ui, f"{orientation.lower()}Button").click()
    user.turn()
    images = {70: reference("vmi_070keV"), 50: reference("vmi_050keV"), 130: reference("vmi_130keV")}
    assert compared("CTEnhanceBefore", images[70]) < 0.01
    ui.energySlider.value = 50
    assert compared("CTEnhanceBefore", images[50]) < 0.01
    assert shown("CTEnhanceBefore").GetName() == "50 keV"
    # Scrolled in one view, all follow; what they look at is there, between two slices too.
    for offset in (4.0, 7.3, 6.1):
        widget("CTEnhanceDifference").sliceController().setSliceOffsetValue(offset)
        assert widget("CTEnhanceBefore").sliceLogic().GetSliceOffset() == pytest.approx(offset)
        assert compared("CTEnhanceBefore", images[50]) < 0.01
        ui.metalButton.click()
        assert compared("CTEnhanceBefore", images[130]) < 0.01
        ui.angiographyButton.click()
        assert compared("CTEnhanceBefore", images[50]) < 0.01
    assert compared("CTEnhanceDifference", reference("vnc")) < 0.01
    z = reference("zeff")
    array = slicer.util.arrayFromVolume(z)
    array *= 100  # in hundredths
    slicer.util.arrayFromVolumeModified(z)
    z.GetDisplayNode().SetInterpolate(False)  # as the view's: between air and tissue numbers mean nothing
    own = resliced("CTEnhanceFourth")
    widget("CTEnhanceFourth").mrmlSliceCompositeNode().SetBackgroundVolumeID(z.GetID())
    assert np.abs(100 * own - resliced("CTEnhanceFourth")).max() < 0.01


def test_presets_and_keys_set_the_window(spectral_panel: Any, user: Any, spectral_result: Any) -> None:
    ui = spectral_panel.ui
    for button, kev, window in (
        (ui.angiographyButton, 50, "W 600 L 200 HU"),
        (ui.metalButton, 130, "W 4000 L 1000 HU"),
        (ui.softTissueButton, 70, "W 350 L 50 HU"),
    ):
        button.click()
        assert titles("CTEnhanceBefore") == [f"{kev} keV"] and captions("CTEnhanceBefore")[1] == window
    press_key(user, "6")
    assert captions("CTEnhanceBefore")[1] == "W 80 L 40 HU"
    assert captions("CTEnhanceAfter")[1].endswith(" mg/mL")  # of its own


def test_tilted_planes_and_thick_slabs(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any
) -> None:
    spectral_panel.ui.spectralModeSelector.currentIndex = 1
    image = reference("vmi_070keV")
    node = widget("CTEnhanceBefore").mrmlSliceNode()
    for degrees, axis in ((7, (0, 1, 0)), (35, (1, 1, 0)), (60, (1, 0, 0.3)), (0.3, (0, 1, 0))):
        transform = vtk.vtkTransform()
        transform.RotateWXYZ(degrees, *axis)
        matrix = node.GetSliceToRAS()
        turned = slicer.util.arrayFromVTKMatrix(transform.GetMatrix()) @ slicer.util.arrayFromVTKMatrix(
            matrix
        )
        slicer.util.updateVTKMatrixFromArray(matrix, turned)
        node.UpdateMatrices()
        assert compared("CTEnhanceBefore", image) < 0.01
    node.SetOrientationToAxial()
    node.SetSlabReconstructionEnabled(True)
    node.SetSlabReconstructionThickness(6.0)
    node.SetSliceOffset(5.0)
    try:
        assert compared("CTEnhanceBefore", image) < 0.01
    finally:
        node.SetSlabReconstructionEnabled(False)


def test_only_shown_slices_are_made(spectral_panel: Any, spectral_result: Any) -> None:
    live = slicer.util.arrayFromVolume(shown("CTEnhanceBefore"))
    assert 1 <= sum(bool(plane.any()) for plane in live) <= 2
    spectral_panel.ui.energySlider.value = 60
    assert sum(bool(plane.any()) for plane in live) <= 2


def test_modes_windows_and_layers(spectral_panel: Any, user: Any, spectral_result: Any) -> None:
    ui, manager = spectral_panel.ui, slicer.app.layoutManager()
    iodine = spectral_result.GetNthNodeReference("CTDecomposeMap", 0)
    ui.spectralLungButton.click()
    assert shown("CTEnhanceBefore").GetDisplayNode().GetWindow() == 1500

    ui.spectralModeSelector.currentIndex = 1
    assert manager.layout == 7301 and ui.secondEnergySlider.enabled
    first, second = shown("CTEnhanceBefore"), shown("CTEnhanceAfter")
    assert first.GetDisplayNode() is second.GetDisplayNode()
    assert first.GetDisplayNode().GetWindow() == 1500  # as it was left
    ui.secondEnergySlider.value = 120
    assert second.GetName() == "120 keV"

    ui.spectralModeSelector.currentIndex = 2
    composite = widget("CTEnhanceBefore").mrmlSliceCompositeNode()
    plain = pixels(widget("CTEnhanceBefore").sliceView())
    assert composite.GetForegroundVolumeID() == iodine.GetID()
    ui.materialOpacitySlider.value = 0.0
    grey = pixels(widget("CTEnhanceBefore").sliceView())
    assert (plain.max(-1) != plain.min(-1)).sum() > (grey.max(-1) != grey.min(-1)).sum()
    ui.materialRangeSlider.value = 15
    assert iodine.GetDisplayNode().GetWindow() == 15 and iodine.GetDisplayNode().GetLevel() == 7.5

    ui.spectralModeSelector.currentIndex = 3
    ui.spectralFadeSlider.value = 0.25
    assert composite.GetForegroundOpacity() == pytest.approx(0.25)
    assert slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID()).GetName() == "120 keV"

    ui.spectralModeSelector.currentIndex = 4
    user.turn()
    names = [f"CTEnhanceBefore{name}" for name in ("Axial", "Coronal", "Sagittal")]
    assert [widget(name).mrmlSliceNode().GetOrientation() for name in names] == [
        "Axial",
        "Coronal",
        "Sagittal",
    ]
    assert all(pixels(widget(name).sliceView()).std() > 0 for name in names)
    assert not ui.axialButton.enabled and "three planes" in ui.axialButton.toolTip

    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    hidden = [node for node in volumes if not node.GetSaveWithScene()]
    # All that was shown is kept for the next mode, with memory for the slices that were looked at.
    assert len(hidden) == 4 and all(node.GetHideFromEditors() for node in hidden)
    ui.spectralModeSelector.currentIndex = 0
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert [node for node in volumes if not node.GetSaveWithScene()] == hidden
    ui.spectralButton.click()
    assert manager.layout < 7300
    user.waits(lambda: not any(map(slicer.mrmlScene.IsNodePresent, hidden)), 30)


def test_what_is_kept_shows_no_other_energy(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any
) -> None:
    """The three planes fill the same volume at another energy; back again each view shows its own."""
    ui = spectral_panel.ui
    first = shown("CTEnhanceBefore")
    ui.energySlider.value = 70
    kept = slicer.util.arrayFromVolume(first)[_slice("CTEnhanceBefore")].copy()
    ui.spectralModeSelector.currentIndex = 4
    ui.energySlider.value = 130
    user.rests(0.3)
    changed = slicer.util.arrayFromVolume(first)[_slice("CTEnhanceBeforeAxial")]
    assert np.abs(changed - kept).max() > 5
    widget("CTEnhanceBeforeAxial").sliceController().setSliceOffsetValue(
        widget("CTEnhanceBeforeAxial").sliceLogic().GetSliceOffset() + 5.0
    )
    ui.energySlider.value = 70  # of the slice that the axial view has left nothing is made anew
    ui.spectralModeSelector.currentIndex = 0
    user.rests(0.3)
    assert shown("CTEnhanceBefore") is first
    own = slicer.util.arrayFromVolume(first)[_slice("CTEnhanceBefore")]
    library = slicer.util.arrayFromVolume(reference("vmi_070keV"))[_slice("CTEnhanceBefore")]
    assert np.abs(own - library).max() < 0.01


def _slice(view: str) -> int:
    """Return the index of the slice that an axial view shows."""
    grid, node = vtk.vtkMatrix4x4(), widget(view).mrmlSliceNode()
    shown("CTEnhanceBefore").GetRASToIJKMatrix(grid)
    place = [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    return round(grid.MultiplyPoint((*place, 1.0))[2])


def test_what_measure_tells_is_seen(spectral_panel: Any, user: Any, spectral_result: Any) -> None:
    with low(400):
        spectral_panel.ui.spectralRegionButton.click()
        user.rests(0.1)
        assert is_seen(spectral_panel.ui.spectralTable)


def test_region_tells_materials_and_curve(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CTEnhanceLib.measure import roi

    ui = spectral_panel.ui
    section = spectral_panel.spectralSection
    ui.spectralRegionButton.click()
    region = section._region.node
    assert ui.spectralTable.visible and "iodine (mg/mL)" in ui.spectralTable.text
    assert "SD expected" in ui.spectralTable.text and "Z-eff 7." in ui.spectralTable.text

    ui.curveBox.click()
    assert ui.spectralNoteLabel.text == "This Slicer has no plots: the table stands alone."
    assert ui.spectralTable.visible and slicer.app.layoutManager().layout == 7300
    ui.curveBox.click()

    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    ui.curveBox.click()
    assert slicer.app.layoutManager().layout == 7308
    view = slicer.mrmlScene.GetSingletonNode("CTDecomposeCurve", "vtkMRMLPlotViewNode")
    user.waits(lambda: bool(view.GetPlotChartNodeID()), 30)
    chart = slicer.mrmlScene.GetNodeByID(view.GetPlotChartNodeID())
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    curve = {name: slicer.util.arrayFromTableColumn(section.plot.table, name) for name in ("keV", "Mean HU")}
    upper = slicer.util.arrayFromTableColumn(section.plot.table, "Mean + SD")
    assert curve["keV"].tolist() == list(range(40, 191))
    for kev, image in ((50, "vmi_050keV"), (70, "vmi_070keV"), (130, "vmi_130keV")):
        found = roi.statistics(region, reference(image))
        at = kev - 40
        assert curve["Mean HU"][at] == pytest.approx(found.mean, abs=0.02)
        assert upper[at] - curve["Mean HU"][at] == pytest.approx(found.deviation, abs=0.02)

    # Dragged, all follow: an iodine rod lies there.
    before, text = curve["Mean HU"][10], ui.spectralTable.text
    region.SetCenter([0.0, 87.5, 5.0])
    region.SetSize([12.0, 12.0, 12.0])
    user.waits(lambda: not section.measuring, 30)
    assert ui.spectralTable.text != text and re.search(
        r"\d+ voxels in (one|\d+) slice", ui.spectralTable.text
    )
    assert slicer.util.arrayFromTableColumn(section.plot.table, "Mean HU")[10] != before
    region.SetCenter([500.0, 500.0, 500.0])
    user.waits(lambda: not section.measuring, 30)
    assert ui.spectralTable.text == "The region holds no voxel of the volume: move or enlarge it."

    plotted = section.plot.table
    ui.spectralRegionButton.click()
    assert not slicer.mrmlScene.IsNodePresent(region) and not ui.spectralTable.visible
    assert plotted is None or not slicer.mrmlScene.IsNodePresent(plotted)


def test_low_atomic_numbers_have_a_colour_and_no_matter_has_none(
    spectral_panel: Any, user: Any, spectral_files: Path
) -> None:
    from CTEnhanceLib.decompose.job import mapsOf

    water, iodine = (
        slicer.util.arrayFromVolume(node) for node in mapsOf(shown_result(spectral_panel, spectral_files))
    )
    matter = np.where(water > 500)
    inside = tuple(int(np.median(index)) for index in matter)
    iodine[inside[0] - 1 : inside[0] + 2, :, :] = -20  # noise of low doses takes it that far below nothing
    spectral_panel.ui.spectralButton.click()
    spectral_panel.ui.spectralButton.click()
    user.turn()
    numbers = resliced("CTEnhanceFourth")
    assert set(np.unique(numbers)) == {0.0, 1.0}
    image = pixels(widget("CTEnhanceFourth").sliceView())
    rows, columns = image.shape[:2]
    flat = numbers.reshape(rows, columns)[::-1]
    # Away from title, caption and colour scale: blue where there is matter, black where there is none.
    seen = np.zeros(flat.shape, bool)
    seen[60:-70, : columns * 3 // 4] = True
    coloured, black = image[(flat == 1) & seen], image[(flat == 0) & seen]
    assert len(coloured) > 1000 and len(black) > 1000
    assert (coloured[:, 2].astype(int) - coloured[:, 0] > 90).all() and black.max() == 0


def test_the_window_is_kept_by_body_part(
    spectral_panel: Any, user: Any, spectral_result: Any, spectral_files: Path
) -> None:
    ui = spectral_panel.ui
    ui.spectralButton.click()  # nobody has chosen a window: none is kept
    assert not slicer.app.userSettings().value("CTEnhance/Windows/CONTENT-MEDIASTINUM")
    ui.spectralButton.click()
    press_key(user, "3")
    ui.spectralButton.click()
    assert slicer.app.userSettings().value("CTEnhance/Windows/CONTENT-MEDIASTINUM") == "2000 500"
    slicer.app.userSettings().setValue("CTEnhance/Windows/CONTENT-MEDIASTINUM", "333 44")
    shown_result(spectral_panel, spectral_files)
    assert spectral_panel.spectralSection.views.window == (333, 44)
