"""What other programs make of each kind of DICOM that is written: validators, readers, an archive.

Each test skips, with the reason, where the program is not installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from synthetic_dicom import hounsfield, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom import parametric
from ctenhance.files.dicom.maps import read_map
from ctenhance.files.dicom.writing import Derivation
from ctenhance.files.dicom.writing import write_series as write_derived
from ctenhance.runtime.errors import InputError

MADE_BY = {
    "verb": "enhance", "settings": {"strength": 0.8},
    "model": {"name": "twin", "sha256": "ab" * 32, "version": "1"},
}  # fmt: skip
DECOMPOSED = {"verb": "decompose", "settings": {"basis": ["water", "iodine"]}, "model": None}
#: Every kind of result: quantity, storage, and what else it says.
KINDS: dict[str, dict[str, Any]] = {
    "enhanced": {"report": MADE_BY},
    "vmi": {"quantity": "vmi", "kev": 70, "report": DECOMPOSED},
    "vnc": {"quantity": "vnc", "report": DECOMPOSED},
    "density as CT": {"quantity": "density", "material": "iodine", "report": DECOMPOSED},
    "density": {"quantity": "density", "material": "iodine", "report": DECOMPOSED, "storage": "map"},
    "zeff": {"quantity": "zeff", "report": DECOMPOSED, "storage": "map"},
    "electron density": {"quantity": "electron-density", "report": DECOMPOSED, "storage": "auto"},
}  # fmt: skip
MAPS = [name for name, kind in KINDS.items() if kind.get("storage")]
IMAGES = [name for name in KINDS if name not in MAPS]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient") / "ct"
    write_series(
        folder, BodyPartExamined="CHEST", PatientBirthDate="19500101", PatientSex="F", StudyID="1",
        AccessionNumber="7", StudyDate="20260101", StudyTime="120000", ReferringPhysicianName="Who^Ever",
        PatientPosition="HFS", PositionReferenceIndicator="", SeriesDescription="Thorax", AcquisitionNumber=1,
    )  # fmt: skip
    return folder


def values_of(name: str) -> np.ndarray:
    hu = hounsfield(4).astype(np.float32)
    return np.abs(hu) / 97 if "density" in name or name == "zeff" else hu


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, patient: Path, tmp_path: Path) -> tuple[str, Path, CTVolume]:
    """The name of a kind, its folder, and the volume."""
    return (request.param, *write(request.param, patient, tmp_path))


def write(name: str, patient: Path | None, tmp_path: Path) -> tuple[Path, CTVolume]:
    grid = CTVolume(hounsfield(4), (0.7, 0.8, 2.5), (-100.0, -90.0, -400.0))
    volume = grid.with_array(values_of(name))
    write_derived(volume, tmp_path / "series", Derivation(like=patient, **KINDS[name]))
    return tmp_path / "series", volume


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        beside = Path(sys.executable).with_name(names[0])
        found = str(beside) if beside.exists() else None
    if found is None:
        pytest.skip(f"{names[0]} is not installed")
    return found


def errors(tool: str, path: Path) -> set[str]:
    done = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, timeout=60)
    return {line.strip() for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_dciodvfy_finds_no_error_that_the_source_has_not(written: tuple[str, Path, CTVolume], patient: Path):
    tool = program("dciodvfy")
    own = errors(tool, next(patient.iterdir()))
    for path in written[1].iterdir():
        assert errors(tool, path) <= own


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """highdicom's tables of the standard: dicom-validator has no edition with it, and would download one."""
    folder = tmp_path_factory.mktemp("standard")
    script = Path(__file__).parents[1] / "tools" / "dicom_edition.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, timeout=300)
    return folder


def faults(standard: Path, path: Path) -> set[str]:
    """What dicom-validator finds in a file."""
    done = subprocess.run(
        [program("validate_iods"), "-src", str(standard), "-e", "local", "-svr", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    assert any("SOP class is" in line for line in lines), lines
    return {line for line in lines if line.startswith("Tag (")}


#: Of how a multi-energy scan was made (PS3.3 C.8.2.2): tubes, detectors and paths are not known of volumes.
ACQUISITION = "Tag (0018,9362) (Multi-energy CT Acquisition Sequence) is missing"


def test_dicom_validator_finds_no_error_that_the_source_has_not(
    written: tuple[str, Path, CTVolume], patient: Path, standard: Path
):
    own = faults(standard, next(patient.iterdir()))
    assert faults(standard, next(written[1].iterdir())) - own <= {ACQUISITION}


@pytest.mark.parametrize(
    ("name", "keyword"), [("enhanced", "ConversionType"), ("enhanced", "KVP"), ("zeff", "ContentLabel")]
)
def test_dicom_validator_would_find_an_error(
    patient: Path, standard: Path, tmp_path: Path, name: str, keyword: str
):
    folder, _ = write(name, patient, tmp_path)
    path = next(folder.iterdir())
    image = pydicom.dcmread(path)
    if keyword in image:
        del image[keyword]
    else:
        setattr(image, keyword, "WSD")  # of no module of a CT image
    image.save_as(path)
    tag = pydicom.datadict.tag_for_keyword(keyword) or 0
    assert any(
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})".lower() in one.lower() for one in faults(standard, path)
    )


def test_every_kind_says_unit_lineage_equipment_and_research(
    written: tuple[str, Path, CTVolume], patient: Path
):
    name, folder, _ = written
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        as_map = name in MAPS
        assert image.SOPClassUID.name == ("Parametric Map Storage" if as_map else "CT Image Storage")
        groups = image.SharedFunctionalGroupsSequence[0] if as_map else image
        mapping = groups.RealWorldValueMappingSequence[0]
        unit = mapping.MeasurementUnitsCodeSequence[0].CodeValue
        expected = {"density": "mg/ml", "density as CT": "mg/ml", "zeff": "129320", "electron density": "1"}
        assert unit == expected.get(name, "[hnsf'U]")
        equipment = image.ContributingEquipmentSequence[0]
        assert equipment.Manufacturer == "CTEnhance" and equipment.SoftwareVersions
        assert (
            "Research use only" in equipment.ContributionDescription
            and "research use only" in mapping.LUTExplanation
        )
        if name == "enhanced":
            assert "abababababab" in equipment.ContributionDescription  # the weights' hash
        if as_map:
            assert image.ContentQualification == "RESEARCH"
            frames = image.PerFrameFunctionalGroupsSequence
            sources = [one.DerivationImageSequence[0].SourceImageSequence[0] for one in frames]
            assert len(image.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 4
        else:
            sources = [image.SourceImageSequence[0]]
        known = {str(pydicom.dcmread(one).SOPInstanceUID) for one in patient.iterdir()}
        assert {str(one.ReferencedSOPInstanceUID) for one in sources} <= known
        assert (image.PatientID, image.StudyInstanceUID) == (
            "SECRET-7",
            pydicom.dcmread(next(patient.iterdir())).StudyInstanceUID,
        )


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("alone", [False, True])
def test_a_map_comes_back_exactly(name: str, alone: bool, patient: Path, tmp_path: Path):
    folder, volume = write(name, None if alone else patient, tmp_path)
    (path,) = folder.iterdir()
    again = parametric.read_map(path)
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.spacing == volume.spacing and again.origin == pytest.approx(volume.origin)
    # Not the number that DICOM's own code has.
    assert again.meta["unit"] == {"zeff": "Effective Atomic Number", "electron density": "1"}.get(
        name, "mg/ml"
    )
    if name == "density":
        assert read_map(folder).meta["unit"] == "mg/ml"
    else:
        with pytest.raises(InputError, match="not in mg/mL"):
            read_map(path)
    by_volume = CTVolume.read(folder, check_hu=False)
    np.testing.assert_array_equal(by_volume.array, volume.array)
    assert by_volume.meta["unit"] == again.meta["unit"] and by_volume.spacing == volume.spacing
    with pytest.raises(InputError, match="a parametric map holds another quantity than Hounsfield units"):
        CTVolume.read(folder)
    done = CliRunner().invoke(app, ["dicom", "list", str(folder), "--json", "--progress", "none"])
    listed = json.loads(done.stdout.splitlines()[0])
    assert listed["uses"] == (["compare-maps"] if name == "density" else [])
    assert "it is a parametric map" in listed["why_not"]


def test_highdicom_reads_a_map(patient: Path, tmp_path: Path):
    import highdicom

    folder, volume = write("density", patient, tmp_path)
    read = highdicom.imread(folder / parametric.FILE).get_volume().to_patient_orientation("HPL")
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.spacing == pytest.approx(volume.spacing[::-1])


@pytest.mark.parametrize("name", IMAGES)
def test_simpleitk_and_gdcm_read_ct_images(name: str, patient: Path, tmp_path: Path):
    folder, volume = write(name, patient, tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    step = float(np.abs(volume.array).max()) / 32766 if "density" in name else 0.5
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), volume.array, atol=step)
    assert image.GetSpacing() == pytest.approx(volume.spacing) and image.GetOrigin() == pytest.approx(
        volume.origin
    )
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed")
    for path in folder.iterdir():
        one = gdcm.ImageReader()
        one.SetFileName(str(path))
        assert one.Read() and list(one.GetImage().GetDimensions())[:2] == [16, 12]


def test_simpleitk_and_gdcm_read_no_parametric_map(patient: Path, tmp_path: Path):
    """As the table in docs/other-programs.md has it; once they do, it is to be mended."""
    folder, _ = write("density", patient, tmp_path)
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(folder / parametric.FILE))
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / parametric.FILE))
    assert not reader.Read()


def test_dcm2niix_reads_every_kind(written: tuple[str, Path, CTVolume], tmp_path: Path):
    tool = program("dcm2niix")
    _, folder, volume = written
    (tmp_path / "out").mkdir()
    subprocess.run(
        [tool, "-o", str(tmp_path / "out"), "-f", "x", str(folder)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (path,) = (tmp_path / "out").glob("*.nii")
    read = CTVolume.read(path, check_hu=False)
    # It turns rows round, and says so in the transform.
    index = np.rint((np.array(volume.origin) - read.origin) @ read.direction / read.spacing).astype(int)
    flips = tuple(slice(None, None, -1) if at > 0 else slice(None) for at in index[::-1])
    np.testing.assert_allclose(
        read.array[flips],
        volume.array,
        atol=float(np.abs(volume.array).max()) / 32000 + 0.5 * (volume.array.min() < 0),
    )


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An Orthanc of its own on this machine: its ports, and where to register a modality."""
    from dicom_service import free_port

    tool = program("Orthanc", "orthanc")
    place = tmp_path_factory.mktemp("orthanc")
    node = {"http": free_port(), "dicom": free_port(), "service": free_port()}
    settings = {
        "Name": "test", "StorageDirectory": str(place), "IndexDirectory": str(place),
        "HttpPort": node["http"], "DicomPort": node["dicom"], "DicomAet": "ORTHANC", "Plugins": [],
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
        "DicomModalities": {"node": ["CTENHANCE", "127.0.0.1", node["service"]]},
    }  # fmt: skip
    (place / "orthanc.json").write_text(json.dumps(settings))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([tool, str(place / "orthanc.json")], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                ask(node, "system")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    pytest.skip(f"Orthanc does not start here: {(place / 'log').read_text()[-300:]}")
                time.sleep(0.3)
        yield node
    finally:
        process.terminate()
        process.wait(30)


def ask(node: dict[str, Any], path: str, body: bytes | None = None, raw: bool = False) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{node['http']}/{path}", data=body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return content if raw else json.loads(content)


def test_orthanc_returns_every_kind_pixel_for_pixel(
    written: tuple[str, Path, CTVolume], orthanc: dict[str, Any], tmp_path: Path
):
    name, folder, volume = written
    (tmp_path / "back").mkdir()
    for path in sorted(folder.iterdir()):
        known = ask(orthanc, "instances", path.read_bytes())["ID"]
        (tmp_path / "back" / path.name).write_bytes(ask(orthanc, f"instances/{known}/file", raw=True))
        sent, back = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "back" / path.name)
        np.testing.assert_array_equal(back.pixel_array, sent.pixel_array)
        assert back.to_json() == sent.to_json()
    if name in MAPS:
        np.testing.assert_array_equal(
            parametric.read_map(tmp_path / "back" / parametric.FILE).array, volume.array
        )
    else:
        back = CTVolume.read(tmp_path / "back", check_hu=False)
        np.testing.assert_array_equal(back.array, CTVolume.read(folder, check_hu=False).array)


def test_orthanc_sends_to_the_service_and_takes_what_comes(
    orthanc: dict[str, Any], patient: Path, tmp_path: Path
):
    """A round trip through the archive: its series, enhanced, is in the same study in the end."""
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")
    from dicom_service import Running

    ids = [ask(orthanc, "instances", path.read_bytes()) for path in patient.iterdir()]
    study = ids[0]["ParentStudy"]
    before = set(ask(orthanc, f"studies/{study}")["Series"])
    to = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc["dicom"]}
    pipelines = [{"name": "p", "options": ["--strength", "0", "--samples", "1"], "to": to}]
    settings = {"callers": ["ORTHANC"], "port": orthanc["service"], "pipelines": pipelines}
    with Running(tmp_path / "run", 1, **settings) as service:
        series = ids[0]["ParentSeries"]
        ask(orthanc, "modalities/node/store", series.encode())
        service.until(lambda now: now.get("jobs_sent") == 1)
    (new,) = set(ask(orthanc, f"studies/{study}")["Series"]) - before
    assert len(ask(orthanc, f"series/{new}")["Instances"]) == 4
    tags = ask(orthanc, f"series/{new}")["MainDicomTags"]
    assert tags["SeriesDescription"].startswith("Enhanced CT")


def test_the_command_writes_maps_and_what_it_cannot(tmp_path: Path):
    CTVolume(values_of("density")).write(tmp_path / "iodine.nrrd")
    given = ["dicom", str(tmp_path / "iodine.nrrd")]
    quantity = ["--quantity", "density", "--material", "iodine"]
    for storage, one_file in ((None, True), ("map", True), ("ct", False)):
        out = tmp_path / str(storage)
        chosen = [] if storage is None else ["--storage", storage]
        done = CliRunner().invoke(app, [*given, str(out), *quantity, *chosen])
        assert done.exit_code == 0, done.output
        names = sorted(path.name for path in out.iterdir())
        assert names[0] == "slice0001.dcm" and (len(names) == 1) == one_file
    for storage, words in (
        ("map", "A parametric map is for values that are not HU"),
        ("xx", "There is no storage"),
    ):
        done = CliRunner().invoke(app, [*given, str(tmp_path / "no"), "--storage", storage])
        assert done.exit_code == 2 and words in done.output and not (tmp_path / "no").exists()


def test_damaged_and_uneven_maps_are_refused(patient: Path, tmp_path: Path):
    folder, _ = write("density", patient, tmp_path)
    path = folder / parametric.FILE
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        parametric.read_map(path)
    path.write_bytes(content)
    image = pydicom.dcmread(path)
    image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 9]
    image.save_as(path)
    with pytest.raises(InputError, match="no even stack"):
        parametric.read_map(path)
