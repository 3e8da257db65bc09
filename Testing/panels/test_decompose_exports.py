"""Spectral images as CT Decompose keeps them with the scene, adds, pictures and exports them."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from spectral_scan import SLICES, compared

import slicerhost
from panel_run import press_in, press_key, save_scene, temporaries
from view_titles import titles

SECONDS = 900


def test_volume_is_added_whole(
    spectral_panel: Any, user: Any, spectral_result: Any, spectral_files: Path, reference: Any
) -> None:
    from CTEnhanceLib.scene import placing

    ui = spectral_panel.ui
    offered = [ui.spectralVolumeSelector.itemText(i) for i in range(ui.spectralVolumeSelector.count)]
    assert offered == [
        "Monoenergetic image", "Virtual non-contrast", "Effective atomic number", "Electron density",
        "Map of water (mg/mL)", "Map of iodine (mg/mL)",
    ]  # fmt: skip
    ui.angiographyButton.click()
    ui.addVolumeButton.click()
    user.waits(lambda: not spectral_panel.spectralSection.busy, 60)
    node = slicer.util.getNode("scan 50 keV")
    assert ui.spectralNoteLabel.text == "Added: scan 50 keV."
    own, library = (slicer.util.arrayFromVolume(each) for each in (node, reference("vmi_050keV")))
    assert np.abs(own - library).max() < 0.01
    assert node.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    assert placing.reportOf(node)["image"] == {"kind": "vmi", "keV": 50.0}
    for index, name in ((2, "zeff"), (3, "electron_density")):
        ui.spectralVolumeSelector.currentIndex = index
        ui.addVolumeButton.click()
        user.waits(lambda: not spectral_panel.spectralSection.busy, 60)
        made_node = slicer.util.getNode("scan Z-eff" if name == "zeff" else "scan Electron density")
        assert (
            np.abs(
                slicer.util.arrayFromVolume(made_node) - slicer.util.arrayFromVolume(reference(name))
            ).max()
            < 1e-3
        )
    ui.spectralVolumeSelector.currentIndex = 5
    assert not ui.addVolumeButton.enabled and "already" in ui.addVolumeButton.toolTip


def test_saved_scene_shows_the_same(
    spectral_panel: Any,
    user: Any,
    spectral_result: Any,
    reference: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    spectral_panel.ui.spectralRegionButton.click()
    spectral_panel.ui.curveBox.click()
    box = spectral_panel.spectralSection._region.node
    box.SetCenter([10.0, 20.0, 6.0])
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not spectral_panel.ui.curveBox.checked and not spectral_panel.ui.spectralRegionButton.checked
    assert not spectral_panel.ui.spectralButton.enabled and not spectral_panel.ui.detailsText.plainText
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    assert names == {
        f"scan {name}{kind} (mg/mL)"
        for name in ("water", "iodine")
        for kind in ("", " standard error", " guided")
    }
    assert spectral_panel.parameters.result.GetName() == "scan water (mg/mL)"
    assert "decompose" in spectral_panel.ui.detailsText.plainText
    spectral_panel.ui.spectralButton.click()
    user.turn()
    assert compared("CTEnhanceBefore", reference("vmi_070keV")) < 0.01
    # ... with the box, where it was, and its curve.
    assert spectral_panel.ui.spectralRegionButton.checked and spectral_panel.ui.curveBox.checked
    assert np.allclose(spectral_panel.spectralSection._region.node.GetCenter(), (10, 20, 6))
    assert spectral_panel.spectralSection.plot.table is not None and slicer.app.layoutManager().layout == 7308
    spectral_panel.ui.spectralRegionButton.click()
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")


def test_a_name_with_spaces_stays_whole(spectral_panel: Any, user: Any, spectral_result: Any) -> None:
    spectral_result.SetName("25 % left hip water (mg/mL)")
    spectral_panel.ui.addVolumeButton.click()
    user.waits(lambda: not spectral_panel.spectralSection.busy, 60)
    assert spectral_panel.ui.spectralNoteLabel.text == "Added: 25 % left hip 70 keV."


def test_picture_and_film_as_in_the_other_panels(
    spectral_panel: Any, user: Any, spectral_result: Any, tmp_path: Path
) -> None:
    import qt
    from PIL import Image
    from PySide6 import QtWidgets

    ui = spectral_panel.ui
    assert not QtWidgets.QWidget.isVisible(ui.outFlickerButton)  # nothing flickers, and no page compares
    assert not QtWidgets.QWidget.isVisible(ui.outPageButton)
    qt.QFileDialog.chosen = str(tmp_path / "picture.png")
    ui.outPictureButton.click()
    with Image.open(tmp_path / "picture.png") as picture:
        assert min(picture.size) > 400
    qt.QFileDialog.chosen = str(tmp_path / "film.gif")
    ui.outScrollButton.click()
    user.waits(lambda: ui.applyButton.text == "Apply", SECONDS)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == SLICES


def test_export_names_energy_and_unit(
    spectral_panel: Any, user: Any, spectral_result: Any, tmp_path: Path
) -> None:
    import pydicom
    import qt

    ui = spectral_panel.ui
    ui.energySlider.value = 65
    for index, folder in ((0, "vmi"), (5, "iodine")):
        ui.spectralVolumeSelector.currentIndex = index
        qt.QFileDialog.chosen = str(tmp_path / folder)
        ui.outExportButton.click()
        assert ui.applyButton.text == "Cancel" and ui.progressBar.visible
        user.waits(lambda: ui.applyButton.text == "Apply", SECONDS)
        assert not slicerhost.messages, slicerhost.messages
        assert ui.outNoteLabel.text == f"Written to {tmp_path / folder}."
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "vmi").iterdir())]
    assert len(images) == SLICES
    assert images[0].MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 65
    assert list(images[0].ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "VMI"]
    iodine = pydicom.dcmread(min((tmp_path / "iodine").iterdir()))
    assert iodine.RescaleType == "MGML" and "Iodine" in iodine.SeriesDescription
    assert iodine.StudyInstanceUID == images[0].StudyInstanceUID
    # A folder with files in it is refused before anything runs.
    ui.outExportButton.click()
    assert "holds files already" in slicerhost.messages[0][0] and ui.applyButton.text == "Apply"
    assert "holds files already" in ui.statusLabel.text and not ui.outNoteLabel.text
    assert not temporaries()


def test_export_cancelled_leaves_no_folder(
    spectral_panel: Any, user: Any, spectral_result: Any, tmp_path: Path, children: Any
) -> None:
    import qt

    qt.QFileDialog.chosen = str(tmp_path / "series")
    spectral_panel.ui.outExportButton.click()
    user.waits(children, SECONDS)
    spectral_panel.ui.applyButton.click()
    user.waits(lambda: spectral_panel.ui.applyButton.text == "Apply", SECONDS)
    assert "Cancelled" in spectral_panel.ui.statusLabel.text
    assert not children() and not temporaries() and not (tmp_path / "series").exists()


def test_by_keyboard_alone_from_images_to_a_measured_and_exported_one(
    spectral_panel: Any, user: Any, spectral_result: Any, tmp_path: Path
) -> None:
    import qt
    from PySide6 import QtWidgets

    from CTEnhanceLib.decompose.views import Mode

    ui, section = spectral_panel.ui, spectral_panel.spectralSection
    (field,) = QtWidgets.QWidget.findChildren(ui.energySlider, QtWidgets.QAbstractSpinBox)
    for _ in range(3):
        press_in(user, field, "Down")
    assert ui.energySlider.value == 67 and "67 keV" in "".join(titles("CTEnhanceBefore"))
    press_in(user, ui.lowNoiseBox, "Space")
    assert section.lowNoise
    press_key(user, "3")
    window = section.views.window
    user.rests(1.0)  # what is changed at once is taken back at once
    press_key(user, "1")
    assert section.views.window != window
    press_key(user, "U")
    assert section.views.window == window
    press_key(user, "Q")
    region = section._region.node
    assert region is not None and ui.spectralTable.visible
    centre, size = np.array(region.GetCenter()), np.array(region.GetSize())
    press_key(user, "Shift+Right")
    press_key(user, "Shift+PgDown")
    assert not np.allclose(region.GetCenter(), centre) and (np.array(region.GetSize()) <= size).all()
    press_in(user, ui.curveBox, "Space")
    assert ui.curveBox.checked
    press_in(user, ui.curveBox, "Space")
    for mode in list(Mode)[1:]:
        press_in(user, ui.spectralModeSelector, "Down")
        assert section.views.mode is mode and section.views.active
    press_in(user, ui.spectralModeSelector, "Home")
    qt.QFileDialog.chosen = str(tmp_path / "picture.png")
    press_key(user, "Ctrl+Shift+I")
    assert (tmp_path / "picture.png").is_file()
    press_in(user, ui.addVolumeButton, "Space")
    user.waits(lambda: not section.busy, SECONDS)
    assert "67 keV" in ui.spectralNoteLabel.text
    press_key(user, "Q")
    assert section._region.node is None
    press_in(user, ui.spectralButton, "Space")
    assert not section.views.active
