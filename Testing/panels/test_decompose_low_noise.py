"""Low-noise images in CT Decompose: shown, measured, kept, exported and saved, held to the library's own."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from spectral_scan import compared, shown, shown_result, widget

import slicerhost
from panel_run import press_apply, save_scene, temporaries

SECONDS = 900
FIRST, SECOND = "CTEnhanceBefore", "CTEnhanceAfter"


def guided() -> list[Any]:
    """Return the volumes of the scene that are guided maps, by their names."""
    return [
        node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "guided" in node.GetName()
    ]


def loaded(path: Path, user: Any) -> None:
    """Open a scene in place of the one that is there."""
    slicer.mrmlScene.Clear(False)
    user.turn()
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Connect()
    user.rests(0.2)


@pytest.mark.parametrize("orientation", ["Axial", "Coronal", "Sagittal"])
def test_shown_slices_are_those_of_the_library(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, orientation: str
) -> None:
    ui = spectral_panel.ui
    getattr(ui, f"{orientation.lower()}Button").click()
    user.turn()
    quiet = {kev: reference(f"vmi_{kev:03d}keV", "quiet") for kev in (50, 70, 130)}
    plain = reference("vmi_050keV")
    assert ui.lowNoiseBox.enabled and not ui.lowNoiseBox.checked
    ui.angiographyButton.click()
    assert compared(FIRST, plain) < 0.01 and compared(FIRST, quiet[50]) > 10
    ui.lowNoiseBox.click()
    assert shown(FIRST).GetName() == "50 keV low noise"
    assert compared(FIRST, quiet[50]) < 0.05
    for offset in (4.0, 7.3):
        widget(FIRST).sliceController().setSliceOffsetValue(offset)
        ui.metalButton.click()
        assert compared(FIRST, quiet[130]) < 0.05
        ui.energySlider.value = 50
        assert compared(FIRST, quiet[50]) < 0.05
    # What is no monoenergetic image stays as it is.
    assert shown("CTEnhanceDifference").GetName() == "VNC"
    assert compared("CTEnhanceDifference", reference("vnc")) < 0.01
    ui.lowNoiseBox.click()
    assert shown(FIRST).GetName() == "50 keV" and compared(FIRST, plain) < 0.01


def test_all_views_with_an_energy_follow(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any
) -> None:
    ui = spectral_panel.ui
    ui.lowNoiseBox.click()
    quiet = {kev: reference(f"vmi_{kev:03d}keV", "quiet") for kev in (50, 70, 130)}
    ui.energySlider.value, ui.secondEnergySlider.value = 50, 130
    ui.spectralModeSelector.currentIndex = 1
    assert compared(FIRST, quiet[50]) < 0.05 and compared(SECOND, quiet[130]) < 0.05
    ui.spectralModeSelector.currentIndex = 2  # material over the image
    assert compared(FIRST, quiet[50]) < 0.05
    ui.spectralModeSelector.currentIndex = 3  # fade
    above = widget(FIRST).mrmlSliceCompositeNode().GetForegroundVolumeID()
    assert slicer.mrmlScene.GetNodeByID(above).GetName() == "130 keV low noise"
    ui.spectralModeSelector.currentIndex = 4
    user.turn()
    for name in ("Axial", "Coronal", "Sagittal"):
        assert compared(f"CTEnhanceBefore{name}", quiet[50]) < 0.05
    ui.softTissueButton.click()
    assert compared("CTEnhanceBeforeCoronal", quiet[70]) < 0.05


def test_only_shown_slices_are_made(spectral_panel: Any, spectral_result: Any) -> None:
    spectral_panel.ui.lowNoiseBox.click()
    spectral_panel.ui.energySlider.value = 60
    live = slicer.util.arrayFromVolume(shown(FIRST))
    assert 1 <= sum(bool(plane.any()) for plane in live) <= 2


def test_region_and_curve_are_of_what_is_shown(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CTEnhanceLib.measure import roi

    ui, section = spectral_panel.ui, spectral_panel.spectralSection
    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    ui.spectralRegionButton.click()
    ui.curveBox.click()
    region = section._region.node
    region.SetCenter([0.0, 87.5, 5.0])  # an iodine rod
    region.SetSize([40.0, 40.0, 12.0])
    user.waits(lambda: not section.measuring, 30)
    view = slicer.mrmlScene.GetSingletonNode("CTDecomposeCurve", "vtkMRMLPlotViewNode")
    user.waits(lambda: bool(view.GetPlotChartNodeID()), 30)
    chart = slicer.mrmlScene.GetNodeByID(view.GetPlotChartNodeID())
    assert "70 keV (HU)" in ui.spectralTable.text and chart.GetTitle() == "Spectral curve of the region"
    materials = ui.spectralTable.text.partition("70 keV")[0]
    caption = ui.spectralTable.text.partition("</table>")[2]
    ui.lowNoiseBox.click()
    assert "70 keV low noise (HU)" in ui.spectralTable.text
    assert chart.GetTitle() == "Spectral curve of the region, low noise"
    mean, upper = (slicer.util.arrayFromTableColumn(section.plot.table, n) for n in ("Mean HU", "Mean + SD"))
    for kev in (50, 70, 130):
        found = roi.statistics(region, reference(f"vmi_{kev:03d}keV", "quiet"))
        assert mean[kev - 40] == pytest.approx(found.mean, abs=0.05)
        assert upper[kev - 40] - mean[kev - 40] == pytest.approx(found.deviation, abs=0.05)
        if kev == 70:
            cells = f">{found.mean:.1f}</td><td align='right'>{found.deviation:.1f}<"
            assert cells in ui.spectralTable.text.partition("70 keV low noise")[2]
    # Moved, the first map takes the region's voxels along: hidden maps are read where it stands.
    text = ui.spectralTable.text
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.array([[1, 0, 0, 300], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    )
    spectral_result.SetAndObserveTransformNodeID(transform.GetID())
    region.SetCenter([300.0, 87.5, 5.0])
    user.waits(lambda: not section.measuring, 30)
    assert ui.spectralTable.text == text
    # Materials, effective atomic number and electron density stay those of the maps.
    assert ui.spectralTable.text.startswith(materials) and ui.spectralTable.text.endswith(caption)


def test_added_volume_says_so(spectral_panel: Any, user: Any, spectral_result: Any, reference: Any) -> None:
    from ctenhance.runtime.errors import InputError
    from CTEnhanceLib.scene import placing

    ui = spectral_panel.ui
    ui.lowNoiseBox.click()
    ui.angiographyButton.click()
    ui.addVolumeButton.click()
    user.waits(lambda: not spectral_panel.spectralSection.busy, 60)
    node = slicer.util.getNode("scan 50 keV low noise")
    assert ui.spectralNoteLabel.text == "Added: scan 50 keV low noise."
    quiet = slicer.util.arrayFromVolume(reference("vmi_050keV", "quiet"))
    assert np.abs(slicer.util.arrayFromVolume(node) - quiet).max() < 0.05
    assert placing.reportOf(node)["image"] == {"kind": "vmi", "keV": 50.0, "low_noise": True}
    ui.spectralVolumeSelector.currentIndex = 1  # others have no such form
    ui.addVolumeButton.click()
    user.waits(lambda: not spectral_panel.spectralSection.busy, 60)
    assert ui.spectralNoteLabel.text == "Added: scan VNC."
    again = spectral_panel.logic.addImage(spectral_result, "vmi", 50, lowNoise=True)
    assert np.abs(slicer.util.arrayFromVolume(again) - quiet).max() < 0.05
    with pytest.raises(InputError, match="monoenergetic images only"):
        spectral_panel.logic.addImage(spectral_result, "vnc", lowNoise=True)


def test_export_says_so_and_joins_the_patients_study(
    spectral_panel: Any, user: Any, spectral_result: Any, tmp_path: Path
) -> None:
    import pydicom
    import qt

    ui = spectral_panel.ui

    def export(folder: str) -> Any:
        qt.QFileDialog.chosen = str(tmp_path / folder)
        ui.outExportButton.click()
        user.waits(lambda: ui.applyButton.text == "Apply", SECONDS)
        assert not slicerhost.messages, slicerhost.messages
        return pydicom.dcmread(min((tmp_path / folder).iterdir()))

    ui.energySlider.value = 45
    plain = export("original")
    assert plain.SeriesDescription == "Monoenergetic 45 keV" and plain.PatientID == "CTENHANCE"
    # As if they were the images of a scanner.
    for path in (tmp_path / "original").iterdir():
        image = pydicom.dcmread(path)
        image.PatientName, image.PatientID, image.StudyID = "Doe^Jane", "4711", "7"
        image.StudyInstanceUID = "1.2.826.0.1.3680043.10.1"
        image.save_as(path)

    ui.lowNoiseBox.click()
    qt.QFileDialog.chosen = str(tmp_path / "original")
    ui.outStudyButton.click()
    assert spectral_panel.parameters.study == str(tmp_path / "original")
    ui.outStudyEdit.text = f' "{tmp_path / "original"}" '  # as pasted
    made = export("quiet")
    assert made.SeriesDescription == "Monoenergetic 45 keV low noise"
    assert "45 keV low noise" in made.DerivationDescription
    assert made.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 45
    assert (str(made.PatientName), made.PatientID, made.StudyID) == ("Doe^Jane", "4711", "7")
    assert made.StudyInstanceUID == "1.2.826.0.1.3680043.10.1"
    assert made.SeriesInstanceUID != plain.SeriesInstanceUID
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == plain.SOPInstanceUID

    ui.outStudyEdit.text = str(tmp_path / "nowhere")
    qt.QFileDialog.chosen = str(tmp_path / "third")
    ui.outExportButton.click()
    assert slicerhost.messages[0][0].startswith(f"There is no folder '{tmp_path / 'nowhere'}'")
    assert ui.applyButton.text == "Apply" and not (tmp_path / "third").exists() and not temporaries()


def test_older_results_have_none(
    spectral_panel: Any, user: Any, spectral_result: Any, spectral_files: Path
) -> None:
    from ctenhance.runtime.errors import InputError

    ui = spectral_panel.ui
    ui.lowNoiseBox.click()
    older = shown_result(spectral_panel, spectral_files, guided=False)
    assert not ui.lowNoiseBox.enabled and not ui.lowNoiseBox.checked
    assert ui.lowNoiseBox.toolTip.startswith("This result has no guided maps")
    assert shown(FIRST).GetName() == "70 keV"
    with pytest.raises(InputError, match="no guided maps"):
        spectral_panel.logic.addImage(older, "vmi", 50, lowNoise=True)
    spectral_panel._onResult(spectral_result)
    user.turn()
    assert ui.lowNoiseBox.enabled and "noise of the quietest" in ui.lowNoiseBox.toolTip
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not ui.lowNoiseBox.enabled and "noise of the quietest" in ui.lowNoiseBox.toolTip


def test_saved_scene_shows_the_same(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, tmp_path: Path
) -> None:
    ui = spectral_panel.ui
    ui.lowNoiseBox.click()
    ui.outStudyEdit.text = "/a/folder"
    save_scene(tmp_path / "scene.mrml")
    loaded(tmp_path / "scene.mrml", user)
    assert len(guided()) == 2 and all(node.GetHideFromEditors() for node in guided())
    assert ui.lowNoiseBox.enabled and ui.lowNoiseBox.checked and ui.outStudyEdit.text == "/a/folder"
    ui.spectralButton.click()
    user.turn()
    assert shown(FIRST).GetName() == "70 keV low noise"
    assert compared(FIRST, reference("vmi_070keV", "quiet")) < 0.05
    # The scene came back in the layout of its views; the way out of it is one of Slicer's.
    ui.spectralButton.click()
    assert slicer.app.layoutManager().layout < 100

    # Another scene begins without.
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not ui.lowNoiseBox.checked and not ui.outStudyEdit.text


def test_scene_without_the_data_of_hidden_nodes(
    spectral_panel: Any, user: Any, spectral_result: Any, reference: Any, tmp_path: Path
) -> None:
    spectral_panel.ui.lowNoiseBox.click()
    save_scene(tmp_path / "scene.mrml")
    files = [path for path in tmp_path.rglob("*.nrrd") if "guided" in path.name]
    assert files
    for path in files:
        path.unlink()
    loaded(tmp_path / "scene.mrml", user)
    assert not spectral_panel.ui.lowNoiseBox.enabled and not spectral_panel.ui.lowNoiseBox.checked
    spectral_panel.ui.spectralButton.click()
    user.turn()
    assert compared(FIRST, reference("vmi_070keV")) < 0.01


def test_guided_maps_go_with_their_result(spectral_panel: Any, user: Any, spectral_result: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(spectral_result))
    nodes = guided()
    assert len(nodes) == 2 and all(node.GetSaveWithScene() for node in nodes)
    assert {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes} == {folder}
    assert all(node.GetVoxelValueUnits().GetCodeValue() == "mg/ml" for node in nodes)
    slicer.mrmlScene.RemoveNode(spectral_result)
    user.turn()
    assert not guided() and not spectral_panel.ui.lowNoiseBox.enabled


def test_a_run_makes_them(spectral_panel: Any, user: Any, spectral_files: Path, reference: Any) -> None:
    spectral_panel.ui.pathEdit.text = str(spectral_files / "scan.ctproj.h5")
    press_apply(spectral_panel, user, SECONDS)
    assert len(guided()) == 2 and spectral_panel.ui.lowNoiseBox.enabled
    spectral_panel.ui.lowNoiseBox.click()
    spectral_panel.ui.energySlider.value = 50
    assert compared(FIRST, reference("vmi_050keV", "quiet")) < 0.05
