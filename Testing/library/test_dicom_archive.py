"""`ctenhance dicom list`: every series of an archive, what can be done with it, and why not."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    generate_uid,
)
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series
from test_dicom_tilt import write_tilted
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom import archive
from ctenhance.files.dicom.choice import Conditions
from ctenhance.runtime.errors import InputError


def listed(folder: Path, *options: str) -> list[dict]:
    done = CliRunner().invoke(app, ["dicom", "list", str(folder), "--json", "--progress", "none", *options])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two patients: two kernels, two energies, a scout, an MR, a tilted head, a gap, a map; and no DICOM."""
    root = tmp_path / "archive"
    one = {"StudyInstanceUID": "1.2.1", "StudyDate": "20260102"}
    write_series(
        root / "a", SeriesInstanceUID="1.2.1.3", SeriesNumber=3, SeriesDescription="Thorax 1.0", **one
    )
    write_series(
        root / "a", SeriesInstanceUID="1.2.1.4", SeriesNumber=4, ConvolutionKernel=["Br64", "3"], prefix="k",
        SeriesDescription="Thorax sharp", KVP=80, **one,
    )  # fmt: skip
    scout = dataset(
        hounsfield()[0],
        (0, 0, 0),
        SeriesInstanceUID="1.2.1.1",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        **one,
    )
    save(scout, root / "a" / "scout.dcm")
    save(
        dataset(hounsfield()[0], (0, 0, 0), SeriesInstanceUID="1.2.1.9", Modality="MR", **one),
        root / "a" / "mr",
    )
    two = {"StudyInstanceUID": "1.2.2", "PatientName": "Other^One"}
    write_series(
        root / "b" / "gap", depths=(0, 2.5, 7.5, 10), SeriesInstanceUID="1.2.2.1", SeriesNumber=1, **two
    )
    write_series(
        root / "b" / "map", SeriesInstanceUID="1.2.2.2", SeriesNumber=2, RescaleType="MGML",
        RescaleSlope=0.01, RescaleIntercept=0, values=np.full((4, 12, 16), 5, np.int16), **two,
    )  # fmt: skip
    write_tilted(root / "c", 12.0)
    (root / "b" / "notes.txt").write_text("nothing")
    (root / "b" / "empty.dcm").write_bytes(b"")
    (root / "b" / "more.zip").write_bytes(b"PK\x03\x04")
    (root / "b" / "study.tar.gz").write_bytes(b"\x1f\x8b" + bytes(300))
    (root / "b" / "i0.dcm.gz").write_bytes(b"\x1f\x8b" + bytes(300))
    return root


def test_each_series_with_what_can_be_done_and_why_not(many: Path):
    found = listed(many)
    by_uid = {one["series_instance_uid"]: one for one in found if "series_instance_uid" in one}
    thorax, sharp = by_uid["1.2.1.3"], by_uid["1.2.1.4"]
    assert thorax["uses"][:2] == ["enhance", "degrade"] and thorax["why_not"] == ""
    assert (thorax["slices"], thorax["thickness_mm"], thorax["spacing_mm"], thorax["kernel"]) == (
        4,
        5,
        2.5,
        "B30f",
    )
    assert (sharp["kernel"], sharp["energies"], thorax["energies"]) == ("Br64/3", ["80kV"], ["120kV"])
    assert "decompose --image" in thorax["uses"] and thorax["choose"] == "--series 3"
    assert by_uid["1.2.1.1"]["uses"] == [] and "scout" in by_uid["1.2.1.1"]["why_not"]
    assert "1 MR object" in by_uid["1.2.1.9"]["why_not"]
    assert by_uid["1.2.2.1"]["uses"] == [] and "a slice is missing" in by_uid["1.2.2.1"]["why_not"]
    assert by_uid["1.2.2.2"]["uses"] == ["compare-maps", "view"] and "mg/ml" in by_uid["1.2.2.2"]["why_not"]
    tilted = next(one for one in by_uid.values() if one["folder"] == "c")
    assert (
        "enhance" in tilted["uses"] and tilted["choose"] == "--resample-tilt" and "tilt" in tilted["why_not"]
    )
    passed = {one["file"]: one["why"] for one in found if "why" in one}
    assert passed.keys() == {
        str(Path("b") / name) for name in ("empty.dcm", "more.zip", "study.tar.gz", "i0.dcm.gz")
    }


def test_what_it_says_can_be_done_is_so(many: Path):
    for one in listed(many):
        if one.get("uses", [""])[:1] == ["enhance"]:
            choice = one["choose"].split()
            where = {"GantryDetectorTilt": "resample"} if "--resample-tilt" in choice else None
            series = choice[1] if choice[:1] == ["--series"] else None
            volume = CTVolume.read(many / one["folder"], series, where=where)
            assert len(volume.array) == one["slices"]


def test_names_and_dates_only_where_asked_for(many: Path):
    for options, shown in (((), False), (("--names",), True)):
        for extra in ((), ("--json",)):
            done = CliRunner().invoke(app, ["dicom", "list", str(many), *extra, *options])
            assert ("Nobody^Known" in done.output and "20260102" in done.output) == shown
            assert ("Other^One" in done.output) == shown


@pytest.mark.parametrize(
    ("options", "uids"),
    [
        (["--where", "ConvolutionKernel=Br64"], ["1.2.1.4"]),
        (["--where", "SeriesDescription=Thorax 1.0"], ["1.2.1.3"]),
        (["--where", "StudyInstanceUID=1.2.2"], ["1.2.2.1", "1.2.2.2"]),
        (["--where", "KVP=80"], ["1.2.1.4"]),
        (["--series", "4"], ["1.2.1.4"]),
        (["--where", "SliceThickness=2..3"], None),
    ],
)
def test_any_of_them_chooses(many: Path, options: list[str], uids: list[str] | None):
    found = [one["series_instance_uid"] for one in listed(many, *options) if "uses" in one]
    assert found == uids if uids is not None else len(found) == 1


def test_parts_and_copies_of_a_series(tmp_path: Path):
    """Split over folders below one it is one; copies in folders of the archive's own are said to be such."""
    write_series(tmp_path / "disc" / "1", depths=(0, 2.5))
    write_series(tmp_path / "disc" / "2", depths=(5, 7.5), prefix="b")
    shutil.copytree(tmp_path / "disc", tmp_path / "x" / "disc")
    first, second = listed(tmp_path)
    assert (first["slices"], first["folder"], first["notes"]) == (4, "disc", [])
    assert second["notes"] == ["has the UID of a series listed above: a copy, or another part of it"]


def test_an_archive_is_told_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No more headers are held at once than allowed, and nothing is lost for it."""
    monkeypatch.setattr(archive, "MOST_HEADERS", 5)
    for index in range(6):
        write_series(tmp_path / f"p{index}", SeriesInstanceUID=f"1.2.{index}", StudyInstanceUID=f"1.{index}")
    found = archive.Archive(tmp_path, Conditions.of(None))
    stream = iter(found)
    assert next(stream).slices == 4 and found.counts.files < 24  # type: ignore[union-attr]
    assert sum(one.slices for one in stream) == 20  # type: ignore[union-attr]
    assert (found.counts.series, found.counts.studies) == (6, 6)


@pytest.mark.parametrize("kept", [-200, 1000])
def test_a_series_with_a_slice_cut_off_takes_part_in_nothing(tmp_path: Path, kept: int):
    """As the commands say that it cannot be read; another one beside it can, where its slice tells whose it
    is."""
    write_series(tmp_path)
    write_series(tmp_path, SeriesInstanceUID="1.2.7", SeriesNumber=7, prefix="other")
    last = sorted(tmp_path.glob("image*"))[-1]
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(InputError, match="cut off"):
        CTVolume.read(tmp_path, 2)
    found = {one["series_number"]: one for one in listed(tmp_path) if one.get("series_number") in (2, 7)}
    assert not found[2]["uses"] and "cut off" in found[2]["why_not"]
    try:
        CTVolume.read(tmp_path, "7")
    except InputError as error:
        assert not found[7]["uses"] and found[7]["why_not"] in str(error)
    else:
        assert found[7]["uses"]


def write_index(path: Path, *listed_files: list[str], uids: tuple[str, ...] = ()) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        MediaStorageDirectoryStorage,
        generate_uid(),
    )
    index = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    index.SOPClassUID = MediaStorageDirectoryStorage
    items = []
    for number, parts in enumerate(listed_files):
        item = Dataset()
        item.ReferencedFileID = parts
        if uids:
            item.ReferencedSOPInstanceUIDInFile = uids[number]
        items.append(item)
    index.DirectoryRecordSequence = items
    index.save_as(path, enforce_file_format=True)


def test_a_disc_by_its_index(tmp_path: Path):
    write_series(tmp_path / "IMAGES")
    write_index(
        tmp_path / "DICOMDIR",
        ["IMAGES", "image0001.dcm"],
        ["IMAGES", "gone.dcm"],
        ["..", "..", "etc", "passwd"],
    )
    outside, series, gone = listed(tmp_path / "DICOMDIR")
    assert (gone["file"], outside["file"]) == ("IMAGES/gone.dcm", "../../etc/passwd")
    assert "not there" in gone["why"] and "outside" in outside["why"]
    assert series["slices"] == 4


def test_a_disc_that_was_copied_in_lower_case_has_lost_nothing(tmp_path: Path):
    write_series(tmp_path / "images")
    files = sorted((tmp_path / "images").iterdir())
    uids = tuple(str(pydicom.dcmread(file).SOPInstanceUID) for file in files)
    names = [["IMAGES", file.name.upper()] for file in files]
    write_index(tmp_path / "dicomdir", *names, uids=uids)
    (series,) = listed(tmp_path / "dicomdir")
    assert series["slices"] == 4
    files[1].unlink()
    assert any("not there" in one.get("why", "") for one in listed(tmp_path / "dicomdir"))


@pytest.mark.filterwarnings("ignore:.*VR CS")
@pytest.mark.parametrize("name", ["DICOMDIR", "index.dcm", "IMAGES/zzz"])
def test_an_index_in_a_folder_tells_what_was_lost(tmp_path: Path, name: str):
    write_series(tmp_path / "IMAGES")
    inside = [] if name.startswith("IMAGES") else ["IMAGES"]
    write_index(tmp_path / name, *[[*inside, f"image000{number}.dcm"] for number in range(1, 5)])
    assert not [one for one in listed(tmp_path) if "why" in one]
    (tmp_path / "IMAGES" / "image0002.dcm").unlink()
    (lost,) = [one for one in listed(tmp_path) if "why" in one]
    assert lost["file"] == "IMAGES/image0002.dcm" and "not there" in lost["why"]


@pytest.mark.parametrize("kept", [60, 30, 10])
def test_a_damaged_index_hides_no_series(tmp_path: Path, kept: int):
    write_series(tmp_path / "IMAGES")
    write_index(tmp_path / "DICOMDIR", *[["IMAGES", f"LOST{number}"] for number in range(20)])
    whole = (tmp_path / "DICOMDIR").read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(whole[: len(whole) * kept // 100])
    done = CliRunner().invoke(app, ["dicom", "list", str(tmp_path / "DICOMDIR"), "--progress", "none"])
    assert "unexpected" not in done.output
    assert done.exit_code == 2 or "1 series of 1 study in" in done.output
    assert [one["slices"] for one in listed(tmp_path) if "slices" in one] == [4]


@pytest.mark.filterwarnings("ignore:.*VR CS")
def test_an_index_with_names_that_no_file_can_have(tmp_path: Path):
    write_series(tmp_path / "IMAGES")
    write_index(tmp_path / "DICOMDIR", ["IMAGES", "a\0b"], ["x" * 5000])
    found = listed(tmp_path / "DICOMDIR")
    assert any("why" in one for one in found) and [one["slices"] for one in found if "slices" in one] == [4]


def test_texts_of_a_header_are_no_commands_to_the_terminal(tmp_path: Path):
    name = "a\x1b]0;owned\x07\x9b2J"
    write_series(tmp_path / name, SeriesDescription="Thorax\x1b[31m\r\nred", ConvolutionKernel="B\x1b[2J")
    (tmp_path / name / "x\x1b[2J.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / name / "y\x1b[2J.dcm").write_bytes(b"")
    out = CliRunner().invoke(app, ["dicom", "list", str(tmp_path), "--progress", "none"]).output
    assert "red" in out and "1 series" in out and "archive" in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    failed = CliRunner().invoke(app, ["enhance", str(tmp_path / name / "x\x1b[2J.zip"), "out.nii"])
    assert failed.exit_code == 2 and "\x1b" not in failed.output


#: By their encodings: descriptions as scanners write them there.
DESCRIPTIONS = {
    "ISO_IR 192": "胸部 高分解能 Ω Ж",
    "GB18030": "胸部薄层平扫",
    "GBK": "肺窗重建",
    "ISO_IR 144": "Грудная клетка",
    "ISO_IR 126": "Θώρακας",
    "ISO_IR 100": "Ausschluß Lungenembolie",
    "ISO_IR 13": "ｷｮｳﾌﾞ",
    "\\ISO 2022 IR 87": "胸部単純",
    "\\ISO 2022 IR 149": "흉부 조영",
}


@pytest.mark.parametrize("encoding", DESCRIPTIONS)
def test_descriptions_and_names_of_files_in_every_writing(tmp_path: Path, encoding: str):
    said = DESCRIPTIONS[encoding]
    write_series(tmp_path / said, SpecificCharacterSet=encoding.split("\\"), SeriesDescription=said)
    found = listed(tmp_path, "--where", f"SeriesDescription={said}")
    assert (found[0]["description"], found[0]["folder"], found[0]["slices"]) == (said, said, 4)
    assert CTVolume.read(tmp_path / said, where={"SeriesDescription": said}).array.shape == (4, 12, 16)


def test_progress_names_no_total_that_nobody_knows(tmp_path: Path):
    write_series(tmp_path)
    done = CliRunner().invoke(app, ["dicom", "list", str(tmp_path), "--progress", "json"])
    steps = [json.loads(line) for line in done.stdout.splitlines() if '"progress"' in line]
    assert steps and {step["total"] for step in steps} == {0} and steps[0]["done"] == 1
    for number in range(200):
        (tmp_path / f"note{number}.txt").write_text("nothing")
    done = CliRunner().invoke(app, ["dicom", "list", str(tmp_path), "--progress", "json"])
    assert done.stdout.count('"progress"') < 150
    done = CliRunner().invoke(app, ["dicom", "list", str(tmp_path)])
    assert "/0" not in done.output and "204 files" in done.output


def test_an_enhanced_object_and_refusals(tmp_path: Path):
    save(enhanced(hounsfield(6), range(6), [1] * 6), tmp_path / "e" / "one.dcm")
    assert listed(tmp_path)[0]["slices"] == 6
    for given in (tmp_path / "absent", tmp_path / "e" / "one.dcm"):
        done = CliRunner().invoke(app, ["dicom", "list", str(given)])
        assert done.exit_code == 2 and "Error:" in done.output
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(app, ["dicom", "list", str(tmp_path / "empty")]).exit_code == 2


def test_dicom_without_list_writes_as_ever(tmp_path: Path):
    CTVolume(hounsfield(3)).write(tmp_path / "a.nrrd")
    for words in (["dicom"], ["dicom", "write"]):
        out = tmp_path / "-".join(words)
        done = CliRunner().invoke(app, [*words, str(tmp_path / "a.nrrd"), str(out)])
        assert done.exit_code == 0 and len(list(out.iterdir())) == 3, done.output


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    values = write_series(tmp_path / "study")
    (tmp_path / "elsewhere").mkdir()
    for path in sorted((tmp_path / "study").iterdir())[2:]:
        path.rename(tmp_path / "elsewhere" / path.name)
    for name in ("again", "rest"):
        (tmp_path / "study" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    volume = CTVolume.read(tmp_path / "study")
    np.testing.assert_array_equal(volume.array, values)
    assert not volume.meta["notes"]
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "patient").symlink_to(tmp_path / "study")
    (tmp_path / "root" / "patient again").symlink_to(tmp_path / "study")
    (series,) = listed(tmp_path / "root")
    assert series["slices"] == len(values) and not series["why_not"] and not series["notes"], series


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("lost", [1, 100, 12 * 16 * 2, 12 * 16 * 2 + 12])
def test_images_that_are_cut_off_are_told(tmp_path: Path, syntax: str, lost: int):
    write_series(tmp_path, transfer_syntax=syntax)
    cut = tmp_path / "image0002.dcm"
    cut.write_bytes(cut.read_bytes()[:-lost])
    done = CliRunner().invoke(app, ["dicom", "list", str(tmp_path), "--progress", "none"])
    assert "image0002.dcm" in done.output and "copy it again" in done.output, done.output
    with pytest.raises(InputError):
        CTVolume.read(tmp_path)
