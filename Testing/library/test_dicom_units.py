"""What the values of a DICOM image are: who says HU, who says something else, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from synthetic_dicom import enhanced, hounsfield, real_world, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.units import is_hounsfield, unit_of
from ctenhance.runtime.errors import InputError

HOUNSFIELD = (
    "CT number (HU)", "HU units", "Einheit HU", "HU (modified)", "HU, original", "HU-calibrated", "HUnits",
    "Houns. U.", "CT-Zahl", "Unidades H", "Hounsf", "ct no",
    "HU", "hu", " Hu ", "H.U.", "[HU]", "HU*", "HU_MOD", "Hounsfield", "HOUNSFIELD UNITS", "hounsfield_unit",
    "Houndsfield Unit", "Hounsfeld", "Hunsfield", "Hounsfiled", "Hounsefield units", "Hounfield", "HOUNSFILD",
    "Hounsfield-Einheiten", "unités Hounsfield", "Unidades Hounsfield", "UH", "HE", "CT number",
    "Hounsfield units (HU)", "[hnsf'U]", "HNSF", "HU (HU)", "CT HU",
)  # fmt: skip


OTHER = (
    "MGML", "mg/ml", "MG/CC", "g/cm3", "Z_EFF", "ZEff", "ED", "EDW", "PCT", "%", "percent", "ml/100g/min",
    "ml/100 ml/s", "mL/100 g", "s", "sec", "1/cm", "cm-1", "BQML", "SUV", "OD", "iodine density", "rCBF",
    "MTT", "Tmax", "100ug/cc", "mgI/ml", "mg Iodine/ml", "electron density", "mg I/ml", "mm2/s",
    "10^23 electrons/ml", "10^-3 g/cm3", "1e-3 g/cc", "10*-3 g/ml", "mg(I)/ml", "µg/ml", "mcg/mL", "SUVbw",
    "ppm", "0.1 %", "°C", "1/cm*1000", "HU*10", "HU/10", "10 HU", "Hounsfield x 10",
)  # fmt: skip


NO_UNIT = (
    "", "US", "UNSPECIFIED", "unknown", "normalized", "arbitrary units", "a.u.", "linear", "gray", "pixel",
    "original", "foo", "HUMAN", "field", "housing", "CT", "H", "1",
)  # fmt: skip


MAPPED = "RealWorldValueMappingSequence"


def labelled(label: str, explanation: str) -> Sequence:
    item = Dataset()
    item.LUTLabel, item.LUTExplanation = label, explanation
    return Sequence([item])


def typed(*words: str) -> list[str]:
    return ["DERIVED", "PRIMARY", "AXIAL", *words]


def test_every_way_to_write_hounsfield_is_hu():
    assert [said for said in HOUNSFIELD if unit_of(said) != "HU"] == []


def test_units_and_quantities_are_what_they_say():
    assert [said for said in OTHER if unit_of(said) in ("", "HU")] == []


def test_a_unit_keeps_its_prefix() -> None:
    assert {said: unit_of(said) for said in ("µg/ml", "10^-3 g/cm3", "HU*10")} == {
        "µg/ml": "µg/ml", "10^-3 g/cm3": "10^-3 g/cm3", "HU*10": "HU*10",
    }  # fmt: skip


def test_other_words_say_nothing():
    assert [said for said in NO_UNIT if unit_of(said)] == []
    assert not any(map(is_hounsfield, NO_UNIT))


MAPS: dict[str, dict[str, Any]] = {
    "mg/ml, said by the mapping, type US": {"RescaleType": "US", MAPPED: real_world("mg/ml")},
    "mg/ml, said by the mapping, no type": {"RescaleType": None, MAPPED: real_world("mg/ml")},
    "mg/ml, said by the mapping, type HU": {MAPPED: real_world("mg/ml")},
    "blood flow": {"RescaleType": "US", MAPPED: real_world("ml/100ml/s")},
    "seconds": {"RescaleType": "US", MAPPED: real_world("s", meaning="seconds")},
    "no unit": {MAPPED: real_world("1", meaning="no units")},
    "a code of DICOM's own": {MAPPED: real_world("129320", meaning="Effective Atomic Number", scheme="DCM")},
    "a mapping without unit": {"RescaleType": "US", MAPPED: labelled("RCBV", "Regional blood volume")},
    "perfusion in Image Type": {"RescaleType": "US", "ImageType": typed("RCBF")},
    "material specific": {"ImageType": typed("MAT_SPECIFIC")},
    "material fraction": {"RescaleType": None, "ImageType": typed("MAT_FRACTIONAL")},
    "effective atomic number": {"RescaleType": "US", "ImageType": typed("EFF_ATOMIC_NUM")},
    "electron density": {"RescaleType": None, "ImageType": typed("ELECTRON_DENSITY")},
    "vendor's Z_EFF": {"ImageType": typed("CT_SOM20", "Z_EFF")},
    "vendor's iodine": {"ImageType": typed("DE_IODINE")},
    "vendor's perfusion": {"ImageType": ["DERIVED", "SECONDARY", "PERFUSION", "MTT"]},
    "difference": {"ImageType": typed("SUBTRACTION")},
    "described with a unit": {"SeriesDescription": "Iodine no Water[mg/ml]"},
    "described with a unit of perfusion": {"RescaleType": "US", "SeriesDescription": "CBF (ml/100g/min)"},
    "described as electron density": {"RescaleType": None, "SeriesDescription": "Electron Density[%EDW]"},
    "described as time to peak": {"RescaleType": None, "SeriesDescription": "TTP"},
    "described as effective Z": {"RescaleType": "US", "SeriesDescription": "Z Effective"},
    "described as a map of iodine, type HU": {"SeriesDescription": "Iodine map 1.0"},
    "described as a pair, without MD": {"RescaleType": None, "SeriesDescription": "Water(HAP) 2.5mm"},
    "described as effective Z, type HU": {"SeriesDescription": "Z Effective"},
    "vendor's short words": {"RescaleType": None, "ImageType": typed("BF")},
    "lung perfused blood volume": {"RescaleType": None, "SeriesDescription": "LungPBV 2.0"},
    "described as a material pair": {"RescaleType": None, "SeriesDescription": "MD Iodine(Water)"},
    "optical density": {"RescaleType": "OD"},
    "percent": {"RescaleType": "PCT"},
    "typed mg/ml": {"RescaleType": "mg/ml"},
}  # fmt: skip


CT: dict[str, dict[str, Any]] = {
    "says nothing": {"RescaleType": None},
    "monoenergetic": {"ImageType": typed("VMI"), MAPPED: real_world("[hnsf'U]", 1, -1024)},
    "monoenergetic, type US": {"RescaleType": "US", "ImageType": typed("VMI")},
    "virtual non-contrast": {"ImageType": typed("MAT_REMOVED"), "SeriesDescription": "VNC[HU]"},
    "vendor's virtual non-contrast": {"ImageType": typed("DE_VNC"), "SeriesDescription": "Iodine removed"},
    "iodine taken out": {"ImageType": typed("IODINE_REMOVED")},
    "HU and mg/ml mapped": {MAPPED: Sequence([*real_world("mg/ml"), *real_world("[hnsf'U]")])},
    "mapped to HU of another scheme": {MAPPED: real_world("HU", scheme="99X")},
    "source of a perfusion": {
        "ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION"], "SeriesDescription": "CT Perfusion 5.0",
    },
    "contrast agent described": {"SeriesDescription": "Abdomen Iomeron 400 mg/ml 80ml", "RescaleType": None},
    "iodine described": {"SeriesDescription": "Thorax with iodine, water 500 ml"},
    "phantom of electron densities": {"SeriesDescription": "Electron density phantom", "RescaleType": None},
    "after an extraction": {"SeriesDescription": "Mandible after extraction", "RescaleType": None},
    "source of a perfusion, named so": {"SeriesDescription": "Head CBF 5.0"},
    "iodine given": {"SeriesDescription": "CT abdomen iodine water", "RescaleType": None},
    "calcium score": {"ImageType": typed("CALCIUM_SCORING"), "SeriesDescription": "Calcium Score 3.0"},
}  # fmt: skip


@pytest.mark.parametrize("case", MAPS)
def test_maps_are_no_ct(tmp_path: Path, case: str):
    write_series(tmp_path, **MAPS[case])
    with pytest.raises(
        InputError, match=r"'image0001.dcm' holds values (in|of) .*, not Hounsfield units \(.*give the CT"
    ):
        CTVolume.read(tmp_path)
    assert CTVolume.read(tmp_path, check_hu=False).meta["unit"] not in ("", "HU")


@pytest.mark.parametrize("case", CT)
def test_images_in_hu_are_ct(tmp_path: Path, case: str):
    values = write_series(tmp_path, **CT[case])
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert "unit" not in volume.meta


def map_without_air() -> np.ndarray:
    return np.random.default_rng(6).integers(-33, 128, (4, 12, 16))


@pytest.mark.parametrize(
    "said",
    [
        "Iodine conc", "Iodine conc. mg I/ml", "Jodkarte", "carte iode", "Carte d'iode", "Mapa de yodo",
        "Iod overlay", "Jod-Konzentration", "Calcium conc.", "Kalzium", "Uric Acid", "IOD", "PS", "BV",
        "Spectral slope", "Jacobian exp-insp", "Specific gas volume change", "CTVI", "Air trapping",
        "Lung ventilation", "Lungenbelüftung", "Atrapamiento aéreo", "Regional strain", "Emphysema map",
        "Nodule likelihood", "Texture classification", "Registration deformation", "fSAD", "LAA-950",
        "Photoelectric 1.0", "Compton scatter", "Mass density", "Dose map", "CT-FFR", "mu map", "ECV",
        "Mismatch", "Uncertainty", "wash-in rate", "Hepatic perfusion index",
    ],
)  # fmt: skip
def test_names_of_maps_are_believed_where_there_is_no_air(tmp_path: Path, said: str):
    write_series(tmp_path, values=map_without_air(), SeriesDescription=said)
    with pytest.raises(InputError, match="give the CT"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(
    "place", ["ProtocolName", "AcquisitionProtocolName", "PerformedProcedureStepDescription"]
)
def test_names_of_protocols_are_believed_where_there_is_no_air(tmp_path: Path, place: str):
    for index, said in enumerate(("Iodine density", "Iodine mg/ml")):
        write_series(tmp_path / str(index), values=map_without_air(), **{place: said})
        with pytest.raises(InputError, match="no air at -1000 HU"):
            CTVolume.read(tmp_path / str(index))
    # The protocol is that of all images of the examination.
    for index, described in enumerate(("VNC 3.0", "Mono 70 keV")):
        folder = tmp_path / f"hu{index}"
        write_series(
            folder, values=map_without_air(), SeriesDescription=described, **{place: "Iodine density"}
        )
        CTVolume.read(folder)
    write_series(tmp_path / "air", **{place: "Iodine density"})
    CTVolume.read(tmp_path / "air")


@pytest.mark.parametrize(
    "said",
    [
        "ED Head 5.0", "CT ED Trauma", "ED 1.0 Br40", "Rhomboid", "Rhodes protocol", "Low dose red",
        "Red. FOV", "MAR red", "Infrared", "Color red abdomen", "Electronic cleansing", "Dens axis 0.6",
        "L-SPINE STD",
        "Liver PVP", "Atlas C1", "Adrenal washout 15 min", "neck stiffness", "probable fracture",
        "Cor vent", "Abdomen PS", "HR Br40d",
        "Kalzium Score", "Calcium Scoring 3.0", "Jod KM ven", "Ultravist 300 mg I/ml", "DE Dens",
        "Type E dense",
    ],
)  # fmt: skip
def test_names_of_examinations_are_no_maps(tmp_path: Path, said: str):
    write_series(tmp_path / "air", SeriesDescription=said)
    CTVolume.read(tmp_path / "air")
    write_series(tmp_path / "none", values=map_without_air(), SeriesDescription=said)
    CTVolume.read(tmp_path / "none")


@pytest.mark.parametrize(
    "said",
    [
        "Thorax iodine contrast 80ml Br40 1.0", "Thorax with iodine", "CT TAP iodinated contrast",
        "Abdomen Iodine 100 ml venous", "Abdomen Jod 100ml", "Iodine CM arterial",
        "Liver Iodine flush delayed", "Uric acid stone protocol 120kV",
    ],
)  # fmt: skip
def test_a_scan_with_an_injected_agent_is_not_accused(tmp_path: Path, said: str):
    write_series(tmp_path, SeriesDescription=said)
    assert CTVolume.read(tmp_path).meta["notes"] == []


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ("Perfused blood volume map", True), ("Lung PBV", True), ("rCBF", True), ("Color map lung", True),
        ("ECV map", True), ("Stress MBF", True), ("CT-FFR", True), ("Xe-enhanced map", True),
        ("LAA-950 map", True), ("Blood volume", True), ("Myocardial perfusion", False), ("Lung MIP", False),
        ("DE_Thorax Lung PBV M_0.4 D30f", False), ("Lung PBV Sn140kV", False), ("Lung 1.0 MPR", False),
    ],
)  # fmt: skip
def test_a_derived_image_named_after_perfusion_is_noted(tmp_path: Path, said: str, noted: bool):
    for kind in ("DERIVED", "ORIGINAL"):
        write_series(tmp_path / kind, SeriesDescription=said, ImageType=[kind, "PRIMARY", "AXIAL"])
        notes = CTVolume.read(tmp_path / kind).meta["notes"]
        found = any("its Image Type says DERIVED" in note for note in notes)
        assert found == (noted and kind == "DERIVED"), notes


@pytest.mark.parametrize("said", HOUNSFIELD)
def test_rescale_types_that_mean_hu_need_no_note(tmp_path: Path, said: str):
    write_series(tmp_path, RescaleType=said)
    assert CTVolume.read(tmp_path).meta["notes"] == []


@pytest.mark.parametrize("said", ["US", "normalized", "UNSPECIFIED"])
def test_other_words_are_taken_for_hu_where_the_values_show_it(tmp_path: Path, said: str):
    note = f"Rescale Type '{said}' is no known unit; taken for Hounsfield units by the values themselves"
    values = write_series(tmp_path / "air", RescaleType=said, PixelRepresentation=1, RescaleIntercept=0)
    volume = CTVolume.read(tmp_path / "air")
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == [note]
    # Without air, the intercept that is made for HU says so, and no other does.
    tissue = 100 + np.random.default_rng(1).normal(0, 12, (4, 12, 16)).astype(int)
    write_series(tmp_path / "tissue", values=tissue, RescaleType=said)
    assert CTVolume.read(tmp_path / "tissue").meta["notes"] == [note]
    write_series(tmp_path / "map", values=tissue, RescaleType=said, RescaleIntercept=0)
    with pytest.raises(
        InputError, match=rf"does not say that its values are Hounsfield units \(Rescale Type {said}\)"
    ):
        CTVolume.read(tmp_path / "map")


def test_a_lost_intercept_is_named_where_nothing_says_hu(tmp_path: Path):
    write_series(tmp_path, values=hounsfield(4) + 1024, RescaleType="US", RescaleIntercept=0)
    with pytest.raises(InputError, match="CT without its rescale intercept"):
        CTVolume.read(tmp_path)


def test_units_in_the_frames_of_an_enhanced_ct(tmp_path: Path):
    def of(edit: Callable[[Dataset, int], None]) -> Path:
        made = enhanced(hounsfield(3), depths=(0, 2, 4), slopes=(1, 1, 1))
        for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
            edit(frame, index)
        return save(made, tmp_path / "multi.dcm")

    def mapped(frame: Dataset, index: int) -> None:
        frame.RealWorldValueMappingSequence = real_world("mg/ml" if index == 1 else "[hnsf'U]")

    def flavoured(frame: Dataset, index: int) -> None:
        kind = Dataset()
        kind.FrameType = ["DERIVED", "PRIMARY", "PERFUSION", "RCBV"]
        frame.CTImageFrameTypeSequence = Sequence([kind])

    for edit in (mapped, flavoured):
        with pytest.raises(InputError, match="not Hounsfield units"):
            CTVolume.read(of(edit))
    with pytest.raises(InputError, match=r"hold different quantities \(HU and mg/ml\)"):
        CTVolume.read(of(mapped), check_hu=False)


def test_a_real_perfusion_map():
    path = get_testdata_file("eCT_Supplemental.dcm", download=False)
    if path is None:
        pytest.skip("pydicom's larger test files (pydicom-data) are not installed")
    with pytest.raises(InputError, match="ml/100ml/s, not Hounsfield units"):
        CTVolume.read(path)
    assert CTVolume.read(path, check_hu=False).meta["unit"] == "ml/100ml/s"
