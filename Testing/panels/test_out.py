"""What leaves the panels: DICOM series, pictures, films and the page, by buttons."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import slicer
from PIL import Image

import slicerhost
from panel_run import close_panel, is_seen, low, open_panel, press_apply, temporaries
from view_titles import titles

PATIENT = "Doe^Jane"
SECONDS = 300.0


class Database:
    """`ctkDICOMDatabase`, as far as the panels ask it: files by instance and by series."""

    isOpen = True  # noqa: N815

    def __init__(self, folder: Path) -> None:
        self._folder, self.files = folder, {}
        folder.mkdir()

    def insert(self, path: str, copied: bool, _thumbnail: bool) -> bool:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        place = Path(path)
        if copied:
            place = Path(shutil.copy(path, self._folder / f"{header.SOPInstanceUID}.dcm"))
        self.files[header.SOPInstanceUID] = (header.SeriesInstanceUID, str(place))
        return True

    def fileForInstance(self, uid: str) -> str:
        return self.files.get(uid, ("", ""))[1]

    def seriesForFile(self, file: str) -> str:
        return next((series for series, path in self.files.values() if path == file), "")

    def patients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._tag(path, "PatientID") for _series, path in self.files.values()))

    def studiesForPatient(self, patient: str) -> tuple[str, ...]:
        return self._having("PatientID", patient, "StudyInstanceUID")

    def seriesForStudy(self, study: str) -> tuple[str, ...]:
        return self._having("StudyInstanceUID", study, "SeriesInstanceUID")

    def instancesForSeries(self, uid: str) -> tuple[str, ...]:
        return tuple(instance for instance, (series, _path) in self.files.items() if series == uid)

    def fileValue(self, file: str, tag: str) -> str:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        value = header[tag.replace(",", "")].value if tag.replace(",", "") in header else ""
        return "\\".join(value) if isinstance(value, list | pydicom.multival.MultiValue) else str(value)

    def instanceValue(self, uid: str, tag: str) -> str:
        return self.fileValue(self.fileForInstance(uid), tag)

    def _having(self, keyword: str, value: str, other: str) -> tuple[str, ...]:
        files = [path for _series, path in self.files.values() if self._tag(path, keyword) == value]
        return tuple(dict.fromkeys(self._tag(path, other) for path in files))

    @staticmethod
    def _tag(path: str, keyword: str) -> str:
        return str(getattr(pydicom.dcmread(path, stop_before_pixels=True), keyword))

    def filesForSeries(self, uid: str) -> tuple[str, ...]:
        return tuple(path for series, path in self.files.values() if series == uid)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database(tmp_path / "database")
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


@pytest.fixture
def patient(tmp_path: Path, database: Database) -> Any:
    """A CT of a patient, loaded from the database: its volume node."""
    from ctenhance.core.volume import CTVolume
    from ctenhance.files.dicom.writing import write_series
    from CTEnhanceLib.scene import volumes

    noise = np.random.default_rng(0).normal(0, 20, (4, 48, 64))
    image = np.full((4, 48, 64), -1000.0)
    image[:, 8:40, 8:56] = 40
    volume = CTVolume((image + noise).round().astype(np.float32), (0.8, 0.8, 2.5), (1.0, 2.0, 3.0))
    folder = write_series(volume, tmp_path / "scan")
    uids = []
    for path in sorted(folder.iterdir()):
        header = pydicom.dcmread(path)
        header.PatientName, header.PatientID, header.StudyID, header.ImageType = PATIENT, "4711", "7", [
            "ORIGINAL", "PRIMARY", "AXIAL",
        ]  # fmt: skip
        header.save_as(path)
        database.insert(str(path), False, False)
        uids.append(header.SOPInstanceUID)
    node = volumes.nodeFromVolume(volume, f"4711 {PATIENT}")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    return node


@pytest.fixture
def enhanced(panel: Any, user: Any, patient: Any) -> Any:
    panel.ui.inputSelector.setCurrentNode(patient)
    press_apply(panel, user)
    return panel.parameters.result


def click(panel: Any, user: Any, button: str, chosen: Path | None = None) -> str:
    """Press a button of the section, name a file where asked, and wait; return what is said then."""
    import qt

    qt.QFileDialog.chosen = "" if chosen is None else str(chosen)
    getattr(panel.ui, button).click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply", SECONDS)
    return str(panel.ui.outNoteLabel.text)


def header(folder: Path) -> Any:
    return pydicom.dcmread(min(folder.iterdir()))


def test_where_it_was_written_is_seen(panel: Any, user: Any, enhanced: Any, tmp_path: Path) -> None:
    with low(300):
        assert "picture.png" in click(panel, user, "outPictureButton", tmp_path / "picture.png")
        user.rests(0.1)
        assert is_seen(panel.ui.outNoteLabel)


def test_export_joins_the_study_of_the_input(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path
) -> None:
    assert "Slicer's database" in panel.ui.outStudyEdit.placeholderText
    assert click(panel, user, "outExportButton", tmp_path / "out") == f"Written to {tmp_path / 'out'}."
    made, source = header(tmp_path / "out"), header(tmp_path / "scan")
    assert (made.PatientName, made.PatientID, made.StudyID) == (PATIENT, "4711", "7")
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.ImageType[0] == "DERIVED" and "Enhanced" in made.SeriesDescription
    values = made.pixel_array * float(made.RescaleSlope) + float(made.RescaleIntercept)
    shown = slicer.util.arrayFromVolume(enhanced)
    assert min(np.abs(values - slab).max() for slab in shown) <= 0.5
    assert not slicerhost.messages and not temporaries()
    # A folder that is no longer empty is refused, and what was said of another one is gone.
    assert click(panel, user, "outExportButton", tmp_path / "out") == ""
    assert "holds files already" in slicerhost.messages[0][0]


def test_a_series_of_the_database_is_known_by_its_name(
    panel: Any, user: Any, patient: Any, tmp_path: Path
) -> None:
    """Slicer reads another padding than we do: other voxels, but no other series."""
    values = slicer.util.arrayFromVolume(patient)
    values[:, :4] = -1500
    slicer.util.arrayFromVolumeModified(patient)
    panel.ui.inputSelector.setCurrentNode(patient)
    press_apply(panel, user)
    click(panel, user, "outExportButton", tmp_path / "out")
    assert header(tmp_path / "out").PatientName == PATIENT and "other voxels" not in panel.ui.statusLabel.text
    # A folder that the user names may be another scan's.
    panel.ui.outStudyEdit.text = str(tmp_path / "scan")
    click(panel, user, "outExportButton", tmp_path / "again")
    assert "other voxels" in panel.ui.statusLabel.text


def test_export_without_a_database_has_a_study_of_its_own(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(slicer, "dicomDatabase")
    panel.refresh()
    assert "A new one" in panel.ui.outStudyEdit.placeholderText
    click(panel, user, "outExportButton", tmp_path / "out")
    assert header(tmp_path / "out").PatientID == "CTENHANCE"
    # The user names the study.
    panel.ui.outStudyEdit.text = f'"{tmp_path / "scan"}"'
    click(panel, user, "outExportButton", tmp_path / "joined")
    assert header(tmp_path / "joined").PatientName == PATIENT
    click(panel, user, "outDatabaseButton")
    assert "open the module DICOM, and" in slicerhost.messages[0][0]


def test_into_the_database(
    panel: Any, user: Any, enhanced: Any, patient: Any, database: Database, tmp_path: Path
) -> None:
    before = len(database.files)
    assert click(panel, user, "outDatabaseButton") == "It is in Slicer's DICOM database."
    assert len(database.files) == before + 4 and not temporaries()
    stored = [pydicom.dcmread(path) for _series, path in database.files.values()]
    assert len({one.StudyInstanceUID for one in stored}) == 1
    assert len({one.SeriesInstanceUID for one in stored}) == 2


def test_files_of_a_series_in_several_folders(
    panel: Any, user: Any, enhanced: Any, patient: Any, database: Database, tmp_path: Path
) -> None:
    for number, (uid, (series, path)) in enumerate(list(database.files.items())):
        place = tmp_path / f"part{number}"
        place.mkdir()
        database.files[uid] = (series, str(Path(path).rename(place / "image")))
    click(panel, user, "outExportButton", tmp_path / "out")
    assert header(tmp_path / "out").PatientName == PATIENT


def test_picture_shows_the_views_and_no_names(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path
) -> None:
    from CTEnhanceLib.out import pictures

    before = titles("CTEnhanceBefore"), titles("CTEnhanceAfter")
    assert any(PATIENT in text for text in before[0])
    path = tmp_path / "slide.png"
    assert click(panel, user, "outPictureButton", tmp_path / "slide") == f"Written to {path}."
    assert (titles("CTEnhanceBefore"), titles("CTEnhanceAfter")) == before
    image = np.asarray(Image.open(path))
    widgets = [slicer.app.layoutManager().sliceWidget(f"CTEnhance{side}") for side in ("Before", "After")]
    sizes = [widget.mrmlSliceNode().GetDimensions()[:2] for widget in widgets]
    assert image.shape == (sizes[0][1], sizes[0][0] + 4 + sizes[1][0], 3)
    left, right = image[:, : sizes[0][0]], image[:, sizes[0][0] + 4 :]
    assert left.std() > 10 and right.std() > 10 and not np.array_equal(left, right)
    assert PATIENT.encode() not in path.read_bytes()
    with pictures.nameless(widgets):
        written = titles("CTEnhanceBefore") + titles("CTEnhanceAfter")
        assert written and not any("4711" in text or "Doe" in text for text in written)
        assert any("tiny" in text for text in written)  # the model is told
    panel.ui.compareButton.click()
    assert "Stop" not in panel.ui.compareButton.text
    click(panel, user, "outPictureButton", path)  # brings the comparison back
    assert panel.ui.compareButton.checked


def test_a_picture_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctenhance.runtime.errors import CTEnhanceError
    from CTEnhanceLib.out import pictures

    path, kept = tmp_path / "slide.png", b"the one before"
    path.write_bytes(kept)

    def filled(self: Path, content: bytes) -> None:
        with self.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", filled)
    with pytest.raises(CTEnhanceError, match="disk is full"):
        pictures.write(np.zeros((9, 8, 3), np.uint8), path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == kept


def frames(path: Path) -> list[np.ndarray]:
    film = Image.open(path)
    found = []
    for number in range(film.n_frames):
        film.seek(number)
        found.append(np.asarray(film.convert("RGB")))
    return found


def test_flicker_film(panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path) -> None:
    click(panel, user, "outFlickerButton", tmp_path / "flicker")
    before, after = frames(tmp_path / "flicker.gif")
    assert np.abs(before.astype(int) - after).max() > 20
    assert not panel.ui.flickerButton.checked and not temporaries()
    film = Image.open(tmp_path / "flicker.gif")
    assert film.info["duration"] == 600 and film.info["loop"] == 0
    assert any("tiny" in text for text in titles("CTEnhanceAfter"))  # after is shown again


def test_scroll_film(panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path) -> None:
    logic = slicer.app.layoutManager().sliceWidget("CTEnhanceBefore").sliceLogic()
    offset = logic.GetSliceOffset()
    click(panel, user, "outScrollButton", tmp_path / "scroll.gif")
    assert len(frames(tmp_path / "scroll.gif")) == 4
    assert logic.GetSliceOffset() == offset


def test_page_tells_model_tissue_and_warnings(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    opened: list[str] = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    path = tmp_path / "page.html"
    assert click(panel, user, "outPageButton", path) == f"Written to {path}."
    text = path.read_text(encoding="utf-8")
    assert opened == [str(path)] and not slicerhost.messages
    for said in ("How it was made", "tiny", "Strength", "Soft tissue", "No warnings", "research use only"):
        assert said in text, said
    assert "Doe" not in text and "4711" not in text


def test_page_is_of_what_is_compared(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another volume beside the result the page is on that one; on another grid there is none."""
    import qt

    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: True)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "other")
    other.CopyOrientation(patient)
    slicer.util.updateVolumeFromArray(other, slicer.util.arrayFromVolume(patient) + 100)
    other.CreateDefaultDisplayNodes()
    user.turn()
    selector = panel.ui.otherSelector
    selector.currentIndex = selector.findText("other")
    assert panel.compareSection.comparison.pair.other is other
    click(panel, user, "outPageButton", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    row = text[text.index("Soft tissue") :][:200]
    assert "140" in row or "139" in row, row  # 40 HU and 100 more
    other.SetOrigin(5, 5, 5)
    assert click(panel, user, "outPageButton", tmp_path / "second.html") == ""
    assert "other places" in slicerhost.messages[0][0] and not (tmp_path / "second.html").exists()


def test_nothing_to_keep_yet(panel: Any, patient: Any) -> None:
    for button in (
        "outExportButton",
        "outDatabaseButton",
        "outPictureButton",
        "outFlickerButton",
        "outPageButton",
    ):
        assert not getattr(panel.ui, button).enabled


def test_another_job_waits_for_its_turn(
    panel: Any, user: Any, enhanced: Any, patient: Any, tmp_path: Path
) -> None:
    panel.ui.applyButton.click()
    assert not panel.ui.outExportButton.enabled and not panel.ui.outPageButton.enabled
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply", SECONDS)
    assert panel.ui.outExportButton.enabled


def test_reconstruction_joins_the_study_of_the_scanned_ct(
    app: Any, user: Any, patient: Any, tmp_path: Path
) -> None:
    panel = open_panel("CTReconstruct")
    try:
        from CTEnhanceLib.reconstruct.job import Method
        from CTReconstruct import Source

        panel.parameters.source = Source.SIMULATED
        panel.parameters.method = Method.FBP
        panel.parameters.views = panel.parameters.columns = 64
        panel.ui.inputSelector.setCurrentNode(patient)
        press_apply(panel, user)
        assert "Slicer's database" in panel.ui.outStudyEdit.placeholderText
        click(panel, user, "outExportButton", tmp_path / "out")
        made = header(tmp_path / "out")
        assert made.PatientName == PATIENT and made.SeriesDescription.startswith("Reconstructed")
        click(panel, user, "outPictureButton", tmp_path / "stages.png")
        assert (tmp_path / "stages.png").is_file()
    finally:
        panel.runSection.kill()
        close_panel(panel)
