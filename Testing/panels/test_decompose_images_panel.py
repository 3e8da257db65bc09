"""CT Decompose by clicks from volumes of the scene at two energies, and from a DICOM study."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from panel_run import nodes, press_apply, temporaries

SIDE, SLICES = 48, 3
IMAGES = 2  # in the list of sources
SECONDS = 600


def values(kev: int, seed: int = 0) -> np.ndarray:
    """A body of water with a rod of 10 mg/mL iodine, HU by the tables, and noise."""
    hu = {40: 817.0, 70: 255.5}[kev]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    plane = np.where(x**2 + y**2 < 20**2, 0.0, -1000.0)
    plane[x**2 + (y - 6) ** 2 < 6**2] = hu
    noise = np.random.default_rng(kev + seed).normal(0, {40: 15, 70: 6}[kev], (SLICES, SIDE, SIDE))
    return np.clip(plane + noise, -1024, None)


def rod(part: float = 0.7) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return x**2 + (y - 6) ** 2 < (part * 6) ** 2


def volume(name: str, array: np.ndarray) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array.astype(np.float32))
    node.SetSpacing(1.5, 1.5, 2.0)
    node.SetOrigin(10.0, -20.0, 30.0)
    return node


@pytest.fixture
def panel(spectral_panel: Any) -> Any:
    """The panel, opened, with images as its source."""
    spectral_panel.ui.sourceSelector.currentIndex = IMAGES
    return spectral_panel


def test_two_volumes_to_maps(panel: Any, user: Any) -> None:
    ui = panel.ui
    assert ui.sourceSelector.currentText == "Images at two or more energies"
    assert not ui.pathEdit.visible and not ui.phantomSelector.visible and ui.firstImageSelector.visible
    assert not ui.kernelSelector.enabled and not ui.scatterSelector.enabled
    assert "two or more energies" in ui.applyButton.toolTip and not ui.applyButton.enabled
    low, high = volume("liver 40 keV", values(40)), volume("liver", values(70))
    ui.firstImageSelector.setCurrentNode(low)
    ui.secondImageSelector.setCurrentNode(high)
    user.turn()
    # the name tells the one, the user the other
    assert ui.firstEnergyEdit.text == "40" and ui.secondEnergyEdit.text == ""
    assert "Write the energy of 'liver'" in ui.applyButton.toolTip
    panel.parameters.secondEnergy = "70"
    press_apply(panel, user, SECONDS)

    from CTEnhanceLib.decompose.job import errorsOf, guidedOf, mapsOf
    from CTEnhanceLib.scene import placing

    result = panel.parameters.result
    maps = mapsOf(result)
    assert [node.GetName() for node in maps] == ["liver 40 keV water (mg/mL)", "liver 40 keV iodine (mg/mL)"]
    assert len(errorsOf(result)) == 2 and len(guidedOf(result)) == 2
    iodine = slicer.util.arrayFromVolume(maps[1])
    assert iodine[:, rod()].mean() == pytest.approx(10, abs=0.2)
    assert np.allclose(maps[1].GetOrigin(), low.GetOrigin()) and np.allclose(
        maps[1].GetSpacing(), (1.5, 1.5, 2)
    )
    report = placing.reportOf(result)
    assert report["settings"]["from_images"] == ["40", "70"] and not temporaries()
    # everything behind it is as for projections: the slider's images are there
    assert ui.spectralButton.checked and ui.spectralButton.enabled
    from CTDecompose import CTDecomposeLogic

    image = CTDecomposeLogic().addImage(result, kev=70)
    assert np.allclose(slicer.util.arrayFromVolume(image), values(70), atol=0.05)


def test_low_noise_images_of_images(panel: Any, user: Any) -> None:
    """What is shown and kept has less noise than the image it came from, and the rod's contrast."""
    from spectral_scan import shown

    ui = panel.ui
    ui.firstImageSelector.setCurrentNode(volume("liver 40 keV", values(40)))
    ui.secondImageSelector.setCurrentNode(volume("liver 70 keV", values(70)))
    user.turn()
    press_apply(panel, user, SECONDS)
    ui.energySlider.value = 40
    assert ui.lowNoiseBox.enabled and not ui.lowNoiseBox.checked
    ui.lowNoiseBox.click()
    assert shown("CTEnhanceBefore").GetName() == "40 keV low noise"
    from CTDecompose import CTDecomposeLogic

    image = CTDecomposeLogic().addImage(panel.parameters.result, kev=40, lowNoise=True)
    found = slicer.util.arrayFromVolume(image)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    water = (x**2 + y**2 < 18**2) & (x**2 + (y - 6) ** 2 > 9**2)
    assert found[:, water].std() < 0.7 * values(40)[:, water].std()
    contrast = found[:, rod()].mean() - found[:, water].mean()
    assert contrast == pytest.approx(817, rel=0.02)
    ui.lowNoiseBox.click()


def test_only_scans_are_said_to_take_minutes(panel: Any, user: Any) -> None:
    from CTEnhanceLib.process.devices import computer

    panel.runSection._onDevices(computer())  # a machine without a graphics card
    panel.ui.deviceSelector.currentIndex = 1  # after a run nothing is said until a device is chosen
    user.turn()
    assert not panel.ui.deviceWarningLabel.visible
    panel.ui.sourceSelector.currentIndex = 0
    user.turn()
    assert panel.ui.deviceWarningLabel.visible
    panel.ui.deviceSelector.currentIndex = 0


def test_swapped_energies_end_in_a_sentence_with_the_volumes_names(panel: Any, user: Any) -> None:
    import slicerhost

    ui = panel.ui
    ui.firstImageSelector.setCurrentNode(volume("a", values(70)))
    ui.secondImageSelector.setCurrentNode(volume("b", values(40)))
    panel.parameters.firstEnergy, panel.parameters.secondEnergy = "40", "70"
    scene = nodes()
    ui.applyButton.click()
    user.waits(lambda: ui.applyButton.text == "Apply", SECONDS)
    said = f"{ui.statusLabel.text} {slicerhost.messages}"
    slicerhost.messages.clear()
    assert "energies are swapped" in said and nodes() == scene and not temporaries()


@pytest.mark.parametrize("same", [True, False])
def test_problems_are_told_before_apply(panel: Any, user: Any, same: bool) -> None:
    from CTEnhanceLib.scene import units

    ui = panel.ui
    first = volume("first 40 keV", values(40))
    second = first if same else volume("iodine 70 keV", values(70))
    if not same:
        units.setUnits(second, units.DENSITY, "iodine")
    ui.firstImageSelector.setCurrentNode(first)
    ui.secondImageSelector.setCurrentNode(second)
    user.turn()
    assert ("chosen twice" if same else "is a map") in ui.applyButton.toolTip


def series(folder: Path, kev: int, patient: str = "P1", moment: str = "101500") -> list[Path]:
    """A DICOM series at an energy, as a scanner writes it."""
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    frame, study, uid = (generate_uid(entropy_srcs=[patient, one]) for one in ("f", "s", str(kev)))
    paths = []
    for index, plane in enumerate(np.rint(values(kev)).astype(np.int16)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, uid, frame
        image.PatientID, image.PatientName, image.Modality = patient, patient, "CT"
        image.ImageType, image.SeriesNumber, image.KVP = ["DERIVED", "PRIMARY", "AXIAL", "VMI"], kev, 120
        image.AcquisitionDate, image.AcquisitionTime = "20260301", moment
        item = Dataset()
        item.MonoenergeticEnergyEquivalent = float(kev)
        image.MultienergyCTCharacteristicsSequence = [item]
        image.ImagePositionPatient, image.PixelSpacing = [0.0, 0.0, 2.0 * index], [1.5, 1.5]
        image.ImageOrientationPatient, image.SliceThickness = [1, 0, 0, 0, 1, 0], 2
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = plane.shape
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
        image.PixelData = plane.tobytes()
        paths.append(folder / f"{index}.dcm")
        pydicom.dcmwrite(paths[-1], image, enforce_file_format=True)
    return paths


def test_a_dicom_study_needs_no_energies(panel: Any, user: Any, tmp_path: Path) -> None:
    import qt

    for kev in (40, 70):
        series(tmp_path / "study" / str(kev), kev)
    qt.QFileDialog.chosen = str(tmp_path / "study")
    panel.ui.imageFolderButton.click()
    assert panel.ui.imageFolderEdit.text == str(tmp_path / "study")
    press_apply(panel, user, SECONDS)

    from CTEnhanceLib.decompose.job import mapsOf

    maps = mapsOf(panel.parameters.result)
    assert maps[1].GetName() == "study iodine (mg/mL)"
    assert slicer.util.arrayFromVolume(maps[1])[:, rod()].mean() == pytest.approx(10, abs=0.2)


def test_a_vendors_map_is_compared_in_mg_per_ml(
    panel: Any, user: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer takes it for HU; its Real World Value Mapping says that 20 of it are 1 mg/mL."""
    import pydicom
    from pydicom.dataset import Dataset

    from CTEnhanceLib.decompose import othermap

    ui = panel.ui
    ui.firstImageSelector.setCurrentNode(volume("liver 40 keV", values(40)))
    ui.secondImageSelector.setCurrentNode(volume("liver 70 keV", values(70)))
    user.turn()
    press_apply(panel, user, SECONDS)
    path = series(tmp_path / "map", 70)[0]
    image = pydicom.dcmread(path)
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "mg/ml", "UCUM", "mg/ml"
    item.MeasurementUnitsCodeSequence, item.RealWorldValueSlope = [code], 0.05
    item.RealWorldValueIntercept, item.LUTLabel = 0.0, "Iodine"
    image.RealWorldValueMappingSequence, image.ImageType = (
        [item],
        ["DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"],
    )
    image.save_as(path)
    database = types.SimpleNamespace(isOpen=True, fileForInstance=lambda uid: str(path))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    other = volume("vendor iodine", np.full((SLICES, SIDE, SIDE), 190.0))
    other.SetAttribute("DICOM.instanceUIDs", str(image.SOPInstanceUID))
    ui.spectralRegionButton.checked = True
    ui.otherMapSelector.setCurrentNode(other)
    user.turn()
    assert othermap.toDensity(other) == pytest.approx((0.05, 0.0))
    assert "vendor iodine: 9.50 ± 0.00 mg/mL" in ui.spectralTable.text
    # it is no image at an energy either
    ui.secondImageSelector.setCurrentNode(other)
    user.turn()
    assert "is a map" in ui.applyButton.toolTip
    ui.otherMapSelector.setCurrentNode(volume("plain CT", values(70)))
    assert "'plain CT' is no density" in ui.spectralTable.text.replace("&#x27;", "'")
    ui.otherMapSelector.setCurrentNode(None)
    ui.spectralRegionButton.checked = False


def test_energies_and_patients_of_volumes_come_from_their_dicom_images(
    panel: Any, user: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host has no database: one that knows where the images lie stands in for it."""
    import pydicom

    ui = panel.ui
    found: dict[str, str] = {}
    loaded = []
    for kev, patient in ((40, "P1"), (70, "P2")):
        paths = series(tmp_path / patient, kev, patient)
        uids = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
        found |= dict(zip(uids, map(str, paths), strict=True))
        node = volume("series", values(kev))
        node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
        loaded.append(node)
    database = types.SimpleNamespace(isOpen=True, fileForInstance=lambda uid: found.get(uid, ""))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    ui.firstImageSelector.setCurrentNode(loaded[0])
    ui.secondImageSelector.setCurrentNode(loaded[1])
    user.turn()
    assert (ui.firstEnergyEdit.text, ui.secondEnergyEdit.text) == ("40", "70")
    assert "different patients" in ui.applyButton.toolTip and "P2" not in ui.applyButton.toolTip
    assert not ui.applyButton.enabled
