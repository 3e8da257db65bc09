"""Image files that are maps by their header's texts, by the .json file beside them, or by their names."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dicom import hounsfield, write_series

from ctenhance import CTVolume
from ctenhance.runtime.errors import InputError

CT = hounsfield(6, 48, 64).astype(np.float32)
MAP = np.where(CT > -300, CT, 0) + np.random.default_rng(0).normal(0, 6, CT.shape).astype(np.float32)
KINDS = ["DERIVED", "PRIMARY", "AXIAL"]


def write(path: Path, values: np.ndarray, beside: Any = None, **fields: bytes) -> Path:
    CTVolume(values, (0.7, 0.8, 2.5)).write(path)
    if beside is not None:
        path.with_suffix(".json").write_text(json.dumps(beside))
    content = bytearray(path.read_bytes())
    places = {"descrip": 148, "aux_file": 228, "intent_name": 328, "intent_code": 68}
    for name, said in fields.items():
        content[places[name] : places[name] + len(said)] = said
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("values", "beside"),
    [
        (CT, {"SeriesDescription": "DE_Abdomen_Rho_1.5", "ImageType": [*KINDS, "DUALENERGY"]}),
        (CT, {"ImageType": [*KINDS, "ELECTRON_DENSITY"]}),
        (CT, {"ImageType": [*KINDS, "EFF_ATOMIC_NUM"], "Units": "HU"}),
        (CT, {"SeriesDescription": "Iodine_no_Water[mg/ml]"}),
        (MAP, {"SeriesDescription": "Iodine_map"}),
        (MAP, {"ImageComments": "CBF"}),
        (MAP, {"Units": "mg/ml"}),
        (MAP, {"RescaleType": "ml/100g/min"}),
    ],
)
def test_the_file_that_a_converter_wrote_beside_it_is_heeded(
    tmp_path: Path, values: Any, beside: Any
) -> None:
    path = write(tmp_path / "out.nii", values, beside)
    with pytest.raises(InputError, match=r"'out.json' beside it .*; give the CT"):
        CTVolume.read(path)
    np.testing.assert_array_equal(CTVolume.read(path, check_hu=False).array, values)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        (CT, {"descrip": b"electron density"}),
        (MAP, {"aux_file": b"CBF"}),
        (MAP, {"intent_name": b"Tmax [s]"}),
    ],
)
def test_texts_of_the_header_are_heeded(tmp_path: Path, values: np.ndarray, fields: dict[str, bytes]) -> None:
    (place,) = fields
    with pytest.raises(InputError, match=rf"its header \({place}\) tells of"):
        CTVolume.read(write(tmp_path / "out.nii", values, **fields))


def test_what_may_be_stopping_power_beside_it_is_noted(tmp_path: Path) -> None:
    beside = {"SeriesDescription": "RSP proton planning", "ImageType": [*KINDS]}
    (note,) = CTVolume.read(write(tmp_path / "ct.nii", CT, beside)).meta["notes"]
    assert "stopping power ratio, of which some programs make images with air at -1000, too" in note


@pytest.mark.parametrize(("code", "meant"), [(5, "a statistic"), (1001, "an estimate"), (1002, "labels")])
def test_an_intent_is_noted(tmp_path: Path, code: int, meant: str) -> None:
    volume = CTVolume.read(write(tmp_path / "out.nii", CT, intent_code=struct.pack("<h", code)))
    assert f"it is {meant} (intent_code {code})" in volume.meta["notes"][0]


@pytest.mark.parametrize("name", ["rho_map", "Zeff", "patient7_spr", "iodine_density"])
def test_the_name_of_a_file_makes_a_note(tmp_path: Path, name: str) -> None:
    (note,) = CTVolume.read(write(tmp_path / f"{name}.nii", CT)).meta["notes"]
    assert note.startswith("its name tells of")


@pytest.mark.parametrize(
    ("name", "beside", "fields"),
    [
        ("red_cross_7", None, {}),
        ("mono70keV", None, {}),
        ("ct", {"SeriesDescription": "Abdomen_3.0", "ImageType": [*KINDS], "Units": "HU"}, {}),
        ("ct", {"RescaleType": "Hounsfield", "ConvolutionKernel": "B30f"}, {}),
        ("ct", ["no", "object"], {}),
        ("ct", {"SeriesDescription": None, "ImageType": "x", "Units": 3}, {"descrip": b"TE=0;Time=1015.5"}),
    ],
)
def test_others_need_no_note(tmp_path: Path, name: str, beside: Any, fields: dict[str, bytes]) -> None:
    assert "notes" not in CTVolume.read(write(tmp_path / f"{name}.nii", CT, beside, **fields)).meta


def test_a_damaged_file_beside_it_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii", CT)
    (tmp_path / "ct.json").write_bytes(b"{\xff")
    assert "notes" not in CTVolume.read(path).meta


@pytest.mark.parametrize("described", ["arterial minus native", "", "result 4"])
@pytest.mark.parametrize("filling", [None, -1024])
def test_maps_that_no_word_tells_are_noted(tmp_path: Path, described: str, filling: int | None) -> None:
    """With a sign and without an intercept, or with one value outside that is at the level of air."""
    values = np.rint(MAP)
    given: dict[str, Any] = {"RescaleIntercept": 0, "PixelRepresentation": 1}
    if filling is not None:
        values[CT < -300] = filling
        given = {}
    write_series(tmp_path, 2.5 * np.arange(6), values=values, SeriesDescription=described, **given)
    (note,) = [one for one in CTVolume.read(tmp_path).meta["notes"] if "map of something else" in one]
    assert ("hardly varies" in note) == (filling is not None)


def test_noise_all_around_at_the_level_of_water_is_noted(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :64]
    body = np.where(np.hypot((y - 24) / 20, (x - 32) / 28) < 1, 90.0, 0.0)
    values = body + np.random.default_rng(1).normal(0, 9, (6, 48, 64))
    write_series(tmp_path / "map", 2.5 * np.arange(6), values=np.rint(values))
    (note,) = CTVolume.read(tmp_path / "map").meta["notes"]
    assert "all corners of its slices are near" in note
    piece = np.where(np.arange(64) < 20, -100, 45) + np.random.default_rng(1).normal(0, 12, (6, 48, 64))
    write_series(tmp_path / "piece", 2.5 * np.arange(6), values=np.rint(piece))
    assert CTVolume.read(tmp_path / "piece").meta["notes"] == []


NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nsizes: 64 48 6\nencoding: raw\nendian: little\n"
    "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,3)\nspace origin: (0,0,0)\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nOffset = 0 0 0\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 1 1 3\nDimSize = 64 48 6\n"
    "ElementType = MET_SHORT\n"
)


@pytest.mark.parametrize(
    ("name", "said", "refused"),
    [
        ("a.nrrd", "content: iodine map [mg/ml]", True),
        ("a.nrrd", "# electron density", True),
        ("a.nrrd", "DICOM.SeriesDescription:=DE Rho 1.5", True),
        ("a.nrrd", "DICOM.RescaleType:=MGML", True),
        ("a.nrrd", "DICOM.PatientName:=Rho", False),
        ("a.nrrd", 'space units: "mm" "mm" "mm"', False),
        ("a.nrrd", "content: chest", False),
        ("a.mha", "Comment = effective Z", True),
        ("a.mha", "Comment = CT of a chest", False),
    ],
)
def test_headers_of_nrrd_and_metaimage_are_heeded(
    tmp_path: Path, name: str, said: str, refused: bool
) -> None:
    header = f"{NRRD}{said}\n\n" if name.endswith("nrrd") else f"{META}{said}\nElementDataFile = LOCAL\n"
    path = tmp_path / name
    path.write_bytes(header.encode() + CT.astype("<i2").tobytes())
    if refused:
        with pytest.raises(InputError, match=r"its header .*; give the CT"):
            CTVolume.read(path)
    np.testing.assert_array_equal(CTVolume.read(path, check_hu=not refused).array, CT)


@pytest.mark.parametrize("offset", [0, 348])
def test_voxels_within_the_header_are_refused(tmp_path: Path, offset: int) -> None:
    path = write(tmp_path / "ct.nii", CT)
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", offset)
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=rf"begin at byte {offset}, within the header.*correct vox_offset"):
        CTVolume.read(path)


@pytest.mark.parametrize(
    ("beside", "spacing", "said"),
    [
        (
            {"SliceThickness": 5, "SpacingBetweenSlices": 5},
            (1, 1, 1),
            "says SpacingBetweenSlices 5 mm, and its",
        ),
        ({"SliceThickness": 5}, (1, 1, 1), "says SliceThickness 5 mm, and its voxels are 1 x 1 x 1 mm"),
        ({"SliceThickness": 5, "SpacingBetweenSlices": 2.5}, (0.8, 0.8, 2.5), ""),  # they overlap
        ({"SliceThickness": 5, "SpacingBetweenSlices": 3}, (0.8, 0.8, 2.5), "SpacingBetweenSlices 3 mm"),
        ({"SliceThickness": 1, "SpacingBetweenSlices": 0.8}, (0.8, 2.0, 0.7), ""),  # turned
        ({"SliceThickness": 5}, (0.8, 0.8, 2.5), ""),
        ({"SliceThickness": "5"}, (1, 1, 1), ""),
    ],
)
def test_lengths_that_the_text_beside_contradicts_are_noted(
    tmp_path: Path, beside: dict, spacing: tuple[float, float, float], said: str
):
    (tmp_path / "a.json").write_text(json.dumps(beside))
    array = np.random.default_rng(0).normal(0, 20, (4, 32, 40))
    array[:, :, :12] -= 1000
    volume = CTVolume(array.astype(np.float32), tuple(map(float, spacing)), (5.0, 6.0, 7.0))
    volume.write(tmp_path / "a.nii.gz")
    notes = [one for one in CTVolume.read(tmp_path / "a.nii.gz").meta.get("notes", []) if "a.json" in one]
    assert bool(notes) == bool(said) and (not said or said in notes[0])
