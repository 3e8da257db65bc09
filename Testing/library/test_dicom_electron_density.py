"""Electron density and stopping power: maps with air at -1000, which look like a CT in HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from synthetic_dicom import hounsfield, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError


@pytest.mark.parametrize(
    "said",
    [
        "DE Rho", "Rho", "Rho 3.0", "Elektronendichte", "e-Density", "ED map", "Rel. e- Dens.",
        "Densité électronique", "DE_Abdomen Rho 1.5 Qr40", "Abd DE 1,5 Rho", "DE_RHO_ABDOMEN", "rhoE 2.0",
        "ρe", "DE_ρ_1.5", "RED", "RED 2.0", "DECT RED", "Relative Electron Density (RED)", "Rel ED x1000",
        "eDensity", "electrondensity 1mm", "Electronic density", "el. density",
        "densità elettronica relativa",
        "Densidad electrónica", "densidade de elétrons", "elektrondichtheid", "gęstość elektronowa",
        "elektronová hustota", "elektrontäthet", "elektronsűrűség", "Elektron yoğunluğu", "电子密度",
    ],
)  # fmt: skip
def test_electron_density_is_no_ct_even_with_air(tmp_path: Path, said: str):
    own = {"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": said}
    write_series(tmp_path, values=hounsfield(4) * 0.9, **own)
    with pytest.raises(InputError, match=r"values of electron density, not Hounsfield units \(series desc"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(
    "said", ["DirectSPR 1.5 Abdomen", "DE_SPR  Pelvis", "Stopping Power Ratio", "SPR map", "Relative (SPR)"]
)
def test_stopping_power_ratio_is_no_ct_even_with_air(tmp_path: Path, said: str):
    write_series(tmp_path, values=hounsfield(4) * 0.9, SeriesDescription=said)
    with pytest.raises(InputError, match="values of stopping power ratio, not Hounsfield units"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("said", ["SPR Thorax nativ", "RSP proton planning", "Stopping power CT"])
def test_words_that_may_mean_stopping_power_are_noted(tmp_path: Path, said: str):
    values = hounsfield(4)
    write_series(tmp_path, values=values, SeriesDescription=said)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    (note,) = volume.meta["notes"]
    assert "stopping power ratio, of which some programs make images with air at -1000, too" in note


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("ImageComments", "Rho"),
        ("DerivationDescription", "Z effective"),
        ("ImageFilterDescription", "RED map"),
    ],
)
def test_electron_density_in_the_remarks_of_an_image_with_air_is_noted(
    tmp_path: Path, keyword: str, said: str
):
    write_series(tmp_path, values=hounsfield(4), **{keyword: said})
    (note,) = CTVolume.read(tmp_path).meta["notes"]
    assert "some programs make images with air at -1000, too" in note


@pytest.mark.parametrize("place", ["private", "item", "protocol"])
def test_electron_density_in_any_other_text_of_it(tmp_path: Path, place: str):
    item = Dataset()
    item.CodeMeaning, item.CodeValue, item.CodingSchemeDesignator = "Electron Density", "1", "99X"
    said = {
        "item": {"DerivationCodeSequence": Sequence([item])},
        "protocol": {"ProtocolName": "DE Abd Rho/Z"},
    }
    write_series(tmp_path, values=hounsfield(4), **said.get(place, {}))
    for path in tmp_path.iterdir() if place == "private" else ():
        made = pydicom.dcmread(path)
        made.private_block(0x0021, "SIEMENS MED", create=True).add_new(0x10, "LO", "RHO")
        made.save_as(path)
    notes = CTVolume.read(tmp_path).meta["notes"]
    assert ["air at -1000, too" in note for note in notes] == ([] if place == "protocol" else [True])


@pytest.mark.parametrize(
    "said",
    [{"ConvolutionKernel": "Sd36f"}, {"ConvolutionKernel": "Sm40"}, {"SeriesDescription": "DirectDensity"}],
)
def test_direct_density_is_noted(tmp_path: Path, said: dict[str, str]):
    write_series(tmp_path, values=hounsfield(4), **said)
    (note,) = CTVolume.read(tmp_path).meta["notes"]
    assert "DirectDensity" in note
