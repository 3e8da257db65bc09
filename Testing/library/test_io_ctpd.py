"""DICOM-CT-PD files: both pixel orders, both kinds of VR, every patient position, and what is refused."""

from __future__ import annotations

import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helical_scan import WATER, HelicalScan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctenhance.files.ctpd.elements import CREATOR, PRIVATE_GROUPS, View
from ctenhance.files.ctpd.reading import read_ctpd
from ctenhance.files.ctpd.writing import write_ctpd
from ctenhance.files.projections import read_projections
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancelled, CancelToken
from ctenhance.scan.helix import Helix

STEP = 12.5 / 65535  # of the stored values
#: Which way the patient's left, back and head point, seen from the table: x right, y up, z into the gantry.
PATIENT_AXES = {
    "HFS": ([1, 0, 0], [0, -1, 0], [0, 0, 1]),
    "HFP": ([-1, 0, 0], [0, 1, 0], [0, 0, 1]),
    "HFDR": ([0, 1, 0], [1, 0, 0], [0, 0, 1]),
    "HFDL": ([0, -1, 0], [-1, 0, 0], [0, 0, 1]),
    "FFS": ([-1, 0, 0], [0, -1, 0], [0, 0, -1]),
    "FFP": ([1, 0, 0], [0, 1, 0], [0, 0, -1]),
    "FFDR": ([0, 1, 0], [-1, 0, 0], [0, 0, -1]),
    "FFDL": ([0, -1, 0], [1, 0, 0], [0, 0, -1]),
}


def short(**changes: Any) -> HelicalScan:
    """A few views of a small detector, with every shift, an off-centre cylinder and a sphere."""
    scan = HelicalScan(
        rows=6, columns=40, views_per_turn=16, turns=0.5, spacing=14.0, central=(20.25, 3.25),
        angle_shifts=(0.002, -0.003), z_shifts=(0.4, -0.6), radius_shifts=(0.0, -1.5),
        cylinder_center=(12.0, -20.0), sphere=(30.0, 40.0, -25.0), sphere_radius=25.0,
    )  # fmt: skip
    return replace(scan, **changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ctpd") / "scan"
    write_ctpd(folder, short(photons=np.linspace(1e4, 2e4, 40)).helix())
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "scan"))


def edit(path: Path, **changes: Any) -> None:
    """Set attributes by keyword, or private elements as 'e70311001', or (None) delete them."""
    stored = pydicom.dcmread(path)
    for name, value in changes.items():
        if name.startswith("e7"):
            tag = int(name[1:], 16)
            if value is None:
                del stored[tag]
            else:
                stored[tag].value = value
        elif value is None:
            delattr(stored, name)
        else:
            setattr(stored, name, value)
    stored.save_as(path)


def ray_ends(helix: Helix, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Source and elements [row, column, xyz] of a view in LPS, by the convention of the projection file."""
    beta, radius = helix.source_angle[view], helix.source_radius[view]
    source = np.array([radius * math.sin(beta), -radius * math.cos(beta), helix.source_z[view]])
    beta, radius = helix.focal_angle[view], helix.focal_radius[view]
    focal = np.array([radius * math.sin(beta), -radius * math.cos(beta), helix.focal_z[view]])
    inward = np.array([-math.sin(beta), math.cos(beta), 0])
    along = np.array([math.cos(beta), math.sin(beta), 0])
    gamma = (np.arange(helix.n_columns) - helix.central_column[view]) * helix.column_pitch
    distance = helix.detector_distance[view]
    column = distance * (np.cos(gamma)[:, None] * inward + np.sin(gamma)[:, None] * along)
    row = (np.arange(helix.n_rows) - helix.central_row) * helix.row_pitch_mm
    return source, focal + column[None] + row[:, None, None] * np.array([0, 0, 1.0])


@pytest.mark.parametrize("position", PATIENT_AXES)
def test_patient_positions(folder: Path, position: str) -> None:
    """Each reading is the line integral, through the patient as placed, between the ends that the geometry
    says."""
    for path in folder.iterdir():
        edit(path, PatientPosition=position)
    helix = read_ctpd(folder)
    scan = short()
    to_lps = np.array(PATIENT_AXES[position], dtype=float)  # rows: left, back, head in the format's axes
    assert np.linalg.det(to_lps) == -1  # the format's axes are left-handed
    for view in (0, 3, 7):
        source, elements = ray_ends(helix, view)
        ray = (elements - source) @ to_lps  # back to the format's axes: the matrix is orthogonal
        start = source @ to_lps
        expected = WATER * scan._cylinder(start, ray) + scan.sphere_mu * scan._sphere(start, ray)
        assert expected.max() > 1
        assert np.abs(helix.load(view) - expected).max() < 2e-3
    assert helix.meta["position_on_table"] == position and helix.meta["notes"] == []


@pytest.mark.parametrize("column_fastest", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_round_trip(tmp_path: Path, column_fastest: bool, explicit: bool, flat: bool) -> None:
    original = short(flat=flat, photons=np.linspace(1e4, 2e4, 40)).helix()
    write_ctpd(tmp_path / "scan", original, column_fastest, explicit)
    read = read_ctpd(tmp_path / "scan")
    turns = (read.focal_angle - original.focal_angle) / (2 * math.pi)
    assert np.abs(turns - np.round(turns)).max() < 1e-6
    for name in (
        "focal_z", "focal_radius", "angle_shift", "z_shift", "radius_shift", "detector_distance",
        "central_column", "central_row", "column_pitch", "photons",
    ):  # fmt: skip
        assert getattr(read, name) == pytest.approx(getattr(original, name), rel=1e-5, abs=1e-6), name
    assert (read.flat, read.n_rows, read.n_columns) == (flat, 6, 40)
    assert read.row_pitch_mm == pytest.approx(-3.0) and read.water_mu_per_mm == pytest.approx(WATER)
    for view in range(read.n_views):
        assert np.abs(read.load(view) - original.load(view)).max() < STEP
    assert read.meta["flying_focal_spot"] == "FFSXYZ" and read.meta["manufacturer"] == "ctenhance"
    assert "notes" not in read.meta or read.meta["notes"] == []


def test_feet_first_files_give_the_same_scan(tmp_path: Path, written: Path) -> None:
    write_ctpd(tmp_path / "scan", short().helix(), patient_position="FFS")
    feet, head = read_ctpd(tmp_path / "scan"), read_ctpd(written)
    for view in (0, 5):
        (s1, e1), (s2, e2) = ray_ends(feet, view), ray_ends(head, view)
        assert np.allclose(s1, s2, atol=1e-3)
        # the rows and columns may be counted the other way round, with their readings
        order = np.s_[:: 1 if np.allclose(e1[0], e2[0], atol=1) else -1]
        assert np.allclose(e1[order], e2, atol=1e-2)
        assert np.abs(feet.load(view)[order] - head.load(view)).max() < 2 * STEP


def test_files_are_as_the_format_says(written: Path) -> None:
    stored = pydicom.dcmread(sorted(written.iterdir())[1])
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert stored.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66"
    assert (stored.Rows, stored.Columns, stored.BitsAllocated) == (40, 6, 16)
    for group in PRIVATE_GROUPS:
        assert stored[group, 0x0010].value == CREATOR
    # unknown to pydicom, so raw bytes: little-endian numbers of the format's own types
    scan = short()
    phi, z = (one[1] for one in scan.focal())
    for element, kind, values in (
        (0x70291010, "<u2", [6]), (0x70291011, "<u2", [40]), (0x70291002, "<f4", [14.0]),
        (0x70291006, "<f4", [3.0]), (0x70311001, "<f4", [phi]), (0x70311002, "<f4", [z]),
        (0x70311003, "<f4", [595.0]), (0x70311031, "<f4", [1085.6]), (0x70311033, "<f4", [20.25, 3.25]),
        (0x7033100B, "<f4", [-0.003]), (0x7033100C, "<f4", [-0.6]), (0x7033100D, "<f4", [-1.5]),
    ):  # fmt: skip
        assert np.frombuffer(stored[element].value, kind) == pytest.approx(values, abs=1e-5), hex(element)
    assert stored[0x7029100B].value.strip() == b"CYLINDRICAL"
    slope, intercept = float(stored.RescaleSlope), float(stored.RescaleIntercept)
    values = stored.pixel_array * slope + intercept  # [column, row]
    assert np.abs(values.T - scan.line_integrals(1)).max() < STEP


def test_other_value_representations(folder: Path) -> None:
    before = read_ctpd(folder)
    readings = before.load(2)
    for path in folder.iterdir():
        stored = pydicom.dcmread(path)
        phi = np.frombuffer(stored[0x70311001].value, "<f4")[0]
        z = np.frombuffer(stored[0x70311002].value, "<f4")[0]
        stored.add_new(0x70311001, "FD", float(phi))
        stored.add_new(0x70311002, "DS", f"{z:.4f}")
        stored.add_new(0x70291010, "UN", (6).to_bytes(2, "little"))
        stored.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        stored.save_as(path, implicit_vr=False, little_endian=True)
    after = read_ctpd(folder)
    assert after.focal_angle == pytest.approx(before.focal_angle, abs=1e-6)
    assert after.focal_z == pytest.approx(before.focal_z, abs=1e-3)
    assert np.array_equal(after.load(2), readings)


@pytest.mark.parametrize("implicit", [False, True])
def test_an_element_too_long_for_its_representation(tmp_path: Path, implicit: bool) -> None:
    """Explicit VR has 16 bits for the length of FL: 64 x 736 numbers are written as UN instead."""
    numbers = np.random.default_rng(0).normal(1e5, 1e4, 64 * 736).astype("<f4")
    stored = Dataset()
    stored.SOPClassUID, stored.SOPInstanceUID = CTImageStorage, "1.2.3"
    stored.ensure_file_meta()
    stored.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    stored.add_new(0x70330010, "LO", CREATOR)
    stored.add_new(0x70331065, "FL", numbers.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored.save_as(tmp_path / "view", enforce_file_format=True)
        found = pydicom.dcmread(tmp_path / "view")
    raw = found.get_item(0x70331065)
    assert raw.length == 188_416 and (None if implicit else "UN") == raw.VR
    np.testing.assert_array_equal(View(found).numbers("PhotonStatistics"), numbers)


def test_what_nothing_depends_on_may_be_damaged_or_absent(folder: Path) -> None:
    before = read_ctpd(folder)
    readings = before.load(2)
    for path in folder.iterdir():
        stored = pydicom.dcmread(path)
        stored.add_new(0x00180060, "LO", "high")  # kVp
        stored.add_new(0x00181151, "LO", "strong")  # tube current
        stored.add_new(0x70331065, "UN", b"\1\2\3")  # photon statistics
        # what water attenuates, which the challenge's files have elsewhere
        stored[0x70411001].value = b"none"
        stored.add_new(0x00180061, "DS", "0.0201")
        # anonymisers that do not know the private elements
        stored.add_new(0x70311001, "OB", stored[0x70311001].value)
        stored.save_as(path)
    after = read_ctpd(folder)
    assert after.water_mu_per_mm == 0.0201 and before.water_mu_per_mm == WATER
    assert "kvp" not in after.meta and "tube_current_ma" not in after.meta and after.photons is None
    assert np.array_equal(after.focal_angle, before.focal_angle)
    assert np.array_equal(after.load(2), readings)


def test_the_central_element_has_to_be_on_the_detector(folder: Path) -> None:
    before = read_ctpd(folder)
    for path in folder.iterdir():
        edit(path, e70311033=np.array([3.25, 20.25], "<f4").tobytes())
    after = read_ctpd(folder)
    assert np.array_equal(after.central_column, before.central_column)
    assert after.central_row == before.central_row
    assert "read as row, column" in after.meta["notes"][0]
    for path in folder.iterdir():
        edit(path, e70311033=np.array([50.0, 3.25], "<f4").tobytes())
    with pytest.raises(InputError, match=r"\(column 50, row 3.25\) is not on the detector"):
        read_ctpd(folder)


def test_unknown_position_is_told(folder: Path) -> None:
    for path in folder.iterdir():
        edit(path, PatientPosition=None)
    assumed = read_ctpd(folder)
    assert "head first (HFS), was assumed" in assumed.meta["notes"][0]
    told = read_ctpd(folder, patient_position="FFS")
    assert told.meta["notes"] == [] and np.allclose(told.focal_z, -assumed.focal_z)
    with pytest.raises(InputError, match="no patient position 'UP'"):
        read_ctpd(folder, patient_position="UP")


def test_order_and_other_files(folder: Path) -> None:
    names = sorted(folder.iterdir())
    names[0].rename(folder / "zzz.dcm")  # the instance number orders the views, not the name
    (folder / "LICENSE").write_text("text")
    (folder / "deeper").mkdir()
    names[3].rename(folder / "deeper" / "a.dcm")
    image = pydicom.dcmread(names[1])
    for tag in [element.tag for element in image if element.tag.group == 0x7031]:
        del image[tag]
    image.save_as(folder / "image.dcm")
    helix = read_ctpd(folder)
    assert helix.n_views == 8 and np.all(np.diff(helix.focal_z) > 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"e70311001": None}, None),  # no CT-PD file any more: left out
        ({"e70311002": None}, r"DetectorFocalCenterAxialPosition' \(7031,1002\) is missing"),
        ({"e70311033": None}, "DetectorCentralElement"),
        ({"e70311031": b"\0\0\0\0"}, "behind the isocentre"),
        ({"e70311003": b"\0\0\xc0\x7f"}, "DetectorFocalCenterRadialDistance' is nan"),
        ({"e70291010": b"\x07\0"}, "240 pixels for a detector of 7 rows"),
        ({"e70291006": b"\0\0\0\0"}, "DetectorElementAxialSpacing' is 0"),
        ({"e70291002": b"\0\0\x80\x3f"}, "another detector"),
        ({"BitsAllocated": 8}, "16 bits"),
        ({"RescaleSlope": None}, "RescaleSlope' .* is missing"),
        ({"RescaleSlope": "0"}, "RescaleSlope' is 0"),
        ({"PixelData": b"\0" * 100}, "no pixel data, or fewer"),
        ({"PixelData": None}, "no pixel data, or fewer"),
        ({"SeriesInstanceUID": "1.2.3"}, "2 series"),
    ],
    ids=str,
)
def test_one_bad_file(folder: Path, changes: dict[str, Any], named: str | None) -> None:
    edit(sorted(folder.iterdir())[4], **changes)
    if named is None:
        assert read_ctpd(folder).n_views == 7
        return
    with pytest.raises(InputError, match=named) as caught:
        read_ctpd(folder)
    assert str(caught.value).startswith(f"Cannot read '{folder}': ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"e70391009": b"NO"}, "'LogFlag' is NO"),
        ({"e70331061": b"\x02\0"}, "several spectra"),
        ({"e7029100b": b"ROUND "}, "'DetectorShape' is 'ROUND'"),
        ({"e7037100a": b"PARALLEL"}, "TypeofProjectionGeometry"),
    ],
    ids=str,
)
def test_scans_that_cannot_be_read(folder: Path, changes: dict[str, Any], named: str) -> None:
    for path in folder.iterdir():
        edit(path, **changes)
    with pytest.raises(InputError, match=named):
        read_ctpd(folder)


def test_whole_scans_only(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a whole turn is needed"):
        read_projections(folder)
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    with pytest.raises(InputError, match="a single view"):
        read_projections(folder)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no DICOM-CT-PD file"):
        read_projections(tmp_path / "nothing")


def test_pixels_that_go_while_reading(folder: Path) -> None:
    helix = read_ctpd(folder)
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cut off or has changed"):
        helix.load(2)
    with pytest.raises(InputError, match="is cut off"):
        read_ctpd(folder)


def test_writer_refuses(tmp_path: Path, written: Path) -> None:
    with pytest.raises(InputError, match="is no empty folder"):
        write_ctpd(written, short().helix())
    with pytest.raises(InputError, match="not 'HFP'"):
        write_ctpd(tmp_path / "scan", short().helix(), patient_position="HFP")
    token = CancelToken()

    def stop(_stage: str, done: int, _total: int) -> None:
        if done:
            token.cancel()

    before = sorted(tmp_path.iterdir())
    with pytest.raises(Cancelled):
        write_ctpd(tmp_path / "scan", short(turns=3.0).helix(), progress=stop, cancel=token)
    assert sorted(tmp_path.iterdir()) == before
    token.cancel()
    with pytest.raises(Cancelled):
        read_ctpd(written, cancel=token)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_crashes(tmp_path: Path, written: Path, data: st.DataObject) -> None:
    """One file with changed bytes, or cut off, among two: read, left out, or refused as InputError."""
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    first, second = sorted(written.iterdir())[:2]
    shutil.copy(first, folder)
    damaged = bytearray(second.read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(128, len(damaged) - 500), st.integers(0, 255)), max_size=5)
    ):
        damaged[at] = value
    cut = data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))
    (folder / second.name).write_bytes(bytes(damaged[:cut]))
    try:
        read_ctpd(folder).load(1)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ((1, 3, 5), "instance numbers between 1 and 8 are missing (3 views): copy the whole folder again"),
        ((0, 1), "the first view has the instance number 3, and none before it is there: copy"),
        ((), ""),
    ],
)
def test_views_that_are_not_there_by_their_numbers_are_noted(
    written: Path, tmp_path: Path, gone: tuple[int, ...], said: str
) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(written, folder)
    for index, path in enumerate(sorted(folder.iterdir())):
        if index in gone:
            path.write_text("<html>log in</html>")
    found = [note for note in read_ctpd(folder).meta["notes"] if "left out on purpose" in note]
    assert len(found) == bool(said) and all(said in note for note in found)


def test_views_without_numbers_of_their_own_are_not_counted(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(written, folder)
    for path in list(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 7
        dataset.save_as(path)
    assert not any("left out on purpose" in note for note in read_ctpd(folder).meta["notes"])
