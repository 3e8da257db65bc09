"""Maps that only their names tell, values that two places of a header make different HU, and mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from synthetic_dicom import hounsfield, real_world, write_series

from ctenhance import CTVolume
from ctenhance.files.dicom import names
from ctenhance.runtime.errors import InputError


def _map(slices: int = 4) -> np.ndarray:
    """Values of a map [z, y, x]: near zero outside, noise, some tens inside."""
    values = hounsfield(slices).astype(np.float64)
    return np.where(values < -300, 0, values).astype(np.int16) - hounsfield(slices, seed=1) % 7


@pytest.mark.parametrize("rescale_type", ["HU", None])
@pytest.mark.parametrize(
    "description",
    [
        "CBF",
        "Neuro MTT",
        "DE_LungPBV 1.5 Q30f",
        "Portal Flow",
        "Hepatic Arterial Fraction [%]",
        "Delay [s]",
        "DirectSPR 2.0",
        "Lung subtraction",
        "Xenon map",
        "AI probability map",
        "Hirnperfusion Blutvolumen",
        "Perfusion temps de transit moyen",
        "CTA Subtraktion",
        "SURESubtraction Lung",
        "CTA subtracted 0.5",
        "Knochensubtraktion",
        "Differenzbilder",
        "DSA 1.0",
        "K-edge Gd",
        "DE ratio 80/140",
    ],
)
def test_a_map_by_its_name_is_none_where_there_is_no_air(
    tmp_path: Path, description: str, rescale_type: str | None
) -> None:
    write_series(tmp_path, values=_map(), SeriesDescription=description, RescaleType=rescale_type)

    with pytest.raises(InputError, match=r"not Hounsfield units|no air at -1000 HU"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("rescale_type", ["HU", None])
@pytest.mark.parametrize(
    "keyword, said",
    [
        ("ImageComments", "MTT [s]"),
        ("ImageComments", "Iodine concentration in µg/ml"),
        ("DerivationDescription", "Iodine map"),
        ("DerivationDescription", "cerebral blood flow (ml/100g/min)"),
        ("WindowCenterWidthExplanation", "CBV"),
        ("ImageFilterDescription", "Z effective"),
    ],
)
def test_a_map_that_only_its_comments_name(
    tmp_path: Path, keyword: str, said: str, rescale_type: str | None
) -> None:
    remark: dict[str, Any] = {keyword: said}
    write_series(tmp_path / "map", values=_map(), RescaleType=rescale_type, **remark)
    values = write_series(tmp_path / "scan", RescaleType=rescale_type, **remark)

    with pytest.raises(
        InputError, match=r"a description in 'image000\d.dcm' tells of .*, and no air at -1000"
    ):
        CTVolume.read(tmp_path / "map")
    assert CTVolume.read(tmp_path / "map", check_hu=False).meta["unit"] != "HU"
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "scan").array, values)


def test_a_map_without_any_word_is_noted(tmp_path: Path) -> None:
    write_series(tmp_path, values=_map(), RescaleType=None)
    assert any("there is no air (-1000 HU)" in note for note in CTVolume.read(tmp_path).meta["notes"])


@pytest.mark.parametrize("filling", [-1024, -1000])
def test_a_filling_around_a_map_is_no_air(tmp_path: Path, filling: int) -> None:
    values = _map()
    values[:, :, :5] = filling
    write_series(tmp_path, values=values, SeriesDescription="CBF", RescaleType="HU")

    with pytest.raises(InputError, match=r"tells of blood flow, and no air"):
        CTVolume.read(tmp_path)


def test_a_volume_that_spans_less_than_any_patient_is_noted(tmp_path: Path) -> None:
    write_series(tmp_path / "map", values=hounsfield(4) % 11 - 1, SeriesDescription="8", RescaleType="HU")
    scan = write_series(tmp_path / "scan", SeriesDescription="8", RescaleType="HU")

    notes = CTVolume.read(tmp_path / "map").meta["notes"]
    assert any("span -1 to 9 HU only" in note for note in notes)
    assert not any("span" in note for note in CTVolume.read(tmp_path / "scan").meta.get("notes", []))
    assert scan.max() > 30


@pytest.mark.parametrize(
    "description", ["CT Perfusion CBF source 5.0", "Delay 70 s", "Thorax z eff dose 2 mSv", "Parenchymal map"]
)
def test_a_ct_with_such_a_word_in_its_name_is_read(tmp_path: Path, description: str) -> None:
    values = write_series(tmp_path, SeriesDescription=description)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


@pytest.mark.parametrize("word", ["SPR", "Z", "RHO", "seconds", "msec", "unitless"])
def test_further_words_in_rescale_type_are_other_quantities(tmp_path: Path, word: str) -> None:
    write_series(tmp_path, RescaleType=word)

    with pytest.raises(InputError, match=f"not Hounsfield units .Rescale Type {word}"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("word", ["SUBTRACT", "RHO", "Z", "SPR"])
def test_further_words_in_image_type(tmp_path: Path, word: str) -> None:
    write_series(tmp_path, ImageType=["DERIVED", "SECONDARY", "AXIAL", word], RescaleType=None)

    with pytest.raises(InputError, match=f"not Hounsfield units .Image Type {word}"):
        CTVolume.read(tmp_path)


def test_a_real_world_value_mapping_alone_leads_to_hu(tmp_path: Path) -> None:
    values = write_series(tmp_path / "rescaled")
    said: dict[str, Any] = {"RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None}
    stored = values.astype(np.int32) + 1024
    write_series(
        tmp_path / "mapped",
        values=stored,
        RealWorldValueMappingSequence=real_world("[hnsf'U]", 1.0, -1024.0),
        **said,
    )

    np.testing.assert_array_equal(CTVolume.read(tmp_path / "mapped").array, values)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1000.0), (1.1, -1024.0)])
def test_two_ways_to_hu_that_differ_are_noted(tmp_path: Path, slope: float, intercept: float) -> None:
    values = write_series(tmp_path, RealWorldValueMappingSequence=real_world("[hnsf'U]", slope, intercept))

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    assert any("gives other HU than its rescaling" in note for note in volume.meta["notes"])


def test_two_ways_to_the_same_hu_need_no_note(tmp_path: Path) -> None:
    write_series(tmp_path, RealWorldValueMappingSequence=real_world("[hnsf'U]", 1.0, -1024.0))

    assert not CTVolume.read(tmp_path).meta["notes"]


def test_of_hu_and_a_map_in_one_series_those_in_hu_can_be_chosen(tmp_path: Path) -> None:
    values = write_series(tmp_path)
    write_series(tmp_path, prefix="map", RescaleType="MGML")

    with pytest.raises(InputError, match=r"take only those in HU, for instance with --where .RescaleType=HU"):
        CTVolume.read(tmp_path)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"RescaleType": "HU"}).array, values)


@pytest.mark.parametrize("rescale_type", ["HU", None])
@pytest.mark.parametrize(
    ("description", "noted"),
    [
        ("VMI 70 keV iodine images", True),
        ("Monochromatic 50 keV, MD calcium", True),
        ("Iodine removed, liver", False),
        ("VNC (water, iodine subtracted)", False),
        ("VUE calcium images", False),
        ("MonoE 40 keV", False),
    ],
)
def test_hu_with_the_name_of_a_material_is_read_where_air_shows_it(
    tmp_path: Path, description: str, noted: bool, rescale_type: str | None
) -> None:
    values = write_series(tmp_path, SeriesDescription=description, RescaleType=rescale_type)

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    assert any("density of a material; taken for Hounsfield" in n for n in volume.meta["notes"]) == noted


@pytest.mark.parametrize(
    "description",
    ["Iodine map", "Iodine no water", "MD Calcium (Water)", "HAP density", "Rho e", "Z effective"],
)
@pytest.mark.parametrize("filled", [False, True])
def test_a_map_of_a_material_is_refused_and_read_back_as_one(
    tmp_path: Path, description: str, filled: bool
) -> None:
    values = _map()
    if filled:
        values[:, :, :4] = -1024
        values[:, :, 4] = -1000
    write_series(tmp_path, values=values, SeriesDescription=description)

    with pytest.raises(InputError, match=r"not Hounsfield units|tells of density of a material, and no air"):
        CTVolume.read(tmp_path)
    assert CTVolume.read(tmp_path, check_hu=False).meta["unit"] in (
        "density of a material",
        "electron density",
        "effective atomic number",
    )


def test_electron_density_with_minus_1000_in_air_is_no_ct(tmp_path: Path) -> None:
    write_series(tmp_path, SeriesDescription="Electron density", RescaleType="HU")

    with pytest.raises(InputError, match="values of electron density, not Hounsfield units"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("kind", [["VNC", "IODINE"], ["VMI", "WATER"], ["MAT_REMOVED", "IODINE"]])
def test_image_type_with_the_material_that_was_taken_out(tmp_path: Path, kind: list[str]) -> None:
    values = write_series(tmp_path, ImageType=["DERIVED", "SECONDARY", "AXIAL", *kind])

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def _lung(slices: int = 4) -> np.ndarray:
    """HU [z, y, x] of lung and small vessels, of which no more than a thousandth is air."""
    draw = np.random.default_rng(2)
    return np.rint(draw.normal(np.where(draw.random((slices, 32, 32)) < 0.02, -100, -820), 25))


@pytest.mark.parametrize("change", [{"RescaleIntercept": None}, {"RescaleIntercept": 0}])
@pytest.mark.parametrize("signed", [0, 1])
def test_lung_without_its_intercept_is_noted(tmp_path: Path, change: dict[str, Any], signed: int) -> None:
    stored = (_lung() + 1024).astype(np.int16)
    write_series(tmp_path, values=stored, PixelRepresentation=signed, RescaleType=None, **change)

    notes = CTVolume.read(tmp_path).meta["notes"]

    assert any("nothing below 0" in note and "intercept (often -1024)" in note for note in notes)


@pytest.mark.parametrize(
    "said",
    [{}, {"PixelRepresentation": 1, "RescaleIntercept": 0}, {"RescaleIntercept": -8192}],
    ids=["intercept", "signed", "extended"],
)
def test_tissue_and_lung_in_hu_need_no_note(tmp_path: Path, said: dict[str, Any]) -> None:
    draw = np.random.default_rng(2)
    for name, values in {"lung": _lung(), "muscle": np.rint(draw.normal(40, 25, (4, 32, 32)))}.items():
        write_series(tmp_path / name, values=values, **said)

        # With a sign and no intercept maps are written, too, of which the least are below -200.
        doubtful = name == "muscle" and "PixelRepresentation" in said
        assert bool(CTVolume.read(tmp_path / name).meta["notes"]) == doubtful


@pytest.mark.parametrize(
    "description",
    [
        "Jodkarte", "carte de l'iode", "mapa de yodo", "mappa di iodio", "joodkaart", "mapa de iodo",
        "effektive Ordnungszahl", "número atómico efectivo", "densité électronique", "densidade eletrônica",
        "Kalzium", "acide urique", "débit sanguin", "flusso sanguigno", "bloedvolume",
        "tempo de trânsito médio",
        "Z Effective", "Iodine no water", "HAP(Water)", "GSI MD Cal(Water)", "LungVessels",
        "Iodine uptake",
        "perfusão", "diferencia", "quoziente",
    ],
)  # fmt: skip
def test_maps_in_other_languages_and_of_further_products(tmp_path: Path, description: str) -> None:
    write_series(tmp_path, values=_map(), SeriesDescription=description)
    with pytest.raises(InputError, match=r"not Hounsfield units|no air at -1000 HU"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(
    "description, word",
    [
        ("CaSupp 25-100", "CASUPP"), ("Calcium suppressed", "CALCIUM SUPPRESSED"), ("Liver VNC", "VNC"),
        ("virtuell nativ", "VIRTUELL NATIV"), ("Virtual Unenhanced", "VIRTUAL UNENHANCED"),
        ("Bone marrow", "BONE MARROW"),
        ("Virtual Non-Calcium", "VIRTUAL NON CALCIUM"), ("Mono+ 40 keV", "MONO"), ("PureLumen", "PURE LUMEN"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("values", [hounsfield(4), _map()], ids=["with air", "without air"])
def test_virtual_images_are_hu_and_said_to_be_virtual(
    tmp_path: Path, description: str, word: str, values: np.ndarray
) -> None:
    write_series(tmp_path, values=values, SeriesDescription=description)
    notes = CTVolume.read(tmp_path).meta["notes"]
    assert any(f"virtual image by its header ({word})" in note for note in notes)


@pytest.mark.parametrize("description", ["Thorax 1.5", "bone marrow biopsy", "TUE", "Abdomen sans injection"])
def test_a_routine_ct_is_not_called_virtual(tmp_path: Path, description: str) -> None:
    write_series(tmp_path, SeriesDescription=description)
    assert CTVolume.read(tmp_path).meta["notes"] == []


@pytest.mark.parametrize(
    "said, refused", [("Perfusion", True), ("Iodine concentration", True), ("Attenuation", False)]
)
def test_the_quantity_of_a_mapping_counts_though_its_unit_is_hu(
    tmp_path: Path, said: str, refused: bool
) -> None:
    (mapping,) = real_world("[hnsf'U]", 1.0, -1024.0)
    quantity, concept = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "1", "99TEST", said
    quantity.ConceptCodeSequence = [concept]
    mapping.QuantityDefinitionSequence = [quantity]
    write_series(tmp_path, RealWorldValueMappingSequence=[mapping])
    if not refused:
        assert CTVolume.read(tmp_path).meta["notes"] == []
        return
    with pytest.raises(InputError, match=f"not Hounsfield units.*{said[:16]}"):
        CTVolume.read(tmp_path)


def test_a_material_that_a_ct_may_be_named_after_is_noted_without_air(tmp_path: Path) -> None:
    write_series(tmp_path, values=_map(), SeriesDescription="Kidney stones")
    assert any("may tell of a material" in note for note in CTVolume.read(tmp_path).meta["notes"])


@pytest.mark.parametrize(
    ("description", "quantity"),
    [
        ("電子密度 0.5mm", "electron density"),
        ("电子密度", "electron density"),
        ("전자밀도", "electron density"),
        ("Электронная плотность", "electron density"),
        ("実効原子番号", "effective atomic number"),
        ("有效原子序数", "effective atomic number"),
        ("ヨード密度画像", "density of a material"),
        ("碘图", "density of a material"),
        ("Карта йода", "density of a material"),
        ("脳血流量", "blood flow"),
    ],
)
def test_names_in_other_scripts(description: str, quantity: str) -> None:
    assert names.quantity(names.words(description)) == quantity


@pytest.mark.parametrize("description", ["仮想単色 70keV", "虚拟平扫", "Виртуальная нативная серия"])
def test_virtual_images_in_other_scripts(description: str) -> None:
    assert names.virtual(names.words(description))
    assert not names.quantity(names.words(description))


def test_electron_density_in_a_header_of_another_script(tmp_path: Path) -> None:
    write_series(tmp_path, SeriesDescription="電子密度", SpecificCharacterSet="ISO_IR 192", RescaleType="HU")
    with pytest.raises(InputError, match="electron density"):
        CTVolume.read(tmp_path)
