"""Energies, patients and times from the headers of images, and the way of a pair through DICOM and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from spectral_images import scan
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.decomposition.images import vmi_weights
from ctenhance.files.dicom.derivation import Derivation
from ctenhance.files.dicom.energies import (
    ATTRIBUTES,
    ScanHeader,
    differences,
    energies_in,
    read_at,
    scan_header,
)
from ctenhance.files.dicom.header import read_file
from ctenhance.files.dicom.writing import write_series as write_dicom
from ctenhance.runtime.errors import InputError

KEV = "MonoenergeticEnergyEquivalent"


def characteristics(kev: float) -> Sequence:
    item = Dataset()
    item.MonoenergeticEnergyEquivalent = float(kev)
    return Sequence([item])


def told(path: Path, **changes):
    save(dataset(hounsfield()[0], (0, 0, 0), **changes), path)
    file = read_file(path, ATTRIBUTES)
    assert file is not None
    return scan_header(file)


@pytest.mark.parametrize(
    "changes, energy, place",
    [
        ({"MultienergyCTCharacteristicsSequence": characteristics(65)}, "65", KEV),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI_65KEV"]}, "65", "ImageType"),
        ({"SeriesDescription": "Abdomen 1.0 Qr40 Mono+ 40 keV"}, "40", "SeriesDescription"),
        ({"SeriesDescription": "MonoE 70keV[1]"}, "70", "SeriesDescription"),
        ({"SeriesDescription": "GSI MONO keV=55"}, "55", "SeriesDescription"),
        ({"ImageComments": "E = 190 keV"}, "190", "ImageComments"),
        ({"DerivationDescription": "virtual monoenergetic, 62.5 keV"}, "62.5", "DerivationDescription"),
        ({"KVP": 80}, "80kV", "KVP"),
        ({"KVP": 150, "SeriesDescription": "DE Abdomen 1.5 B_Sn150kV"}, "Sn150kV", "KVP"),
        ({"KVP": 140, "FilterMaterial": "TIN"}, "Sn140kV", "KVP"),
        ({"SeriesDescription": "spectral 40-70 keV 40 keV"}, "", ""),  # which of the two?
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]}, "", ""),  # not its tube's voltage
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "M_0.5"]}, "", ""),
        ({"KVP": None}, "", ""),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_energies_in_headers(tmp_path: Path, changes: dict, energy: str, place: str) -> None:
    found = told(tmp_path / "one.dcm", **changes)
    assert (found.energy, found.place) == (energy, place)


def test_patients_are_told_apart_without_their_names(tmp_path: Path) -> None:
    one, other = told(tmp_path / "a.dcm"), told(tmp_path / "b.dcm", PatientID="SECRET-8")
    assert one.patient != other.patient and "SECRET" not in repr(one) and "Nobody" not in repr(one)
    assert told(tmp_path / "c.dcm", PatientID="", PatientName="").patient == ""


def pair_of_series(folder: Path, **changes_of_second) -> dict[float, np.ndarray]:
    """Two monoenergetic series of one scan in a folder, as a scanner exports them, in whole HU."""
    values = {
        kev: np.clip(np.rint(v.array), -1024, None).astype(np.int16)
        for kev, v in scan([40, 70], [20, 8]).items()
    }
    for number, (kev, array) in enumerate(values.items(), start=1):
        changes = {
            "SeriesInstanceUID": generate_uid(entropy_srcs=[str(kev)]), "SeriesNumber": number,
            "MultienergyCTCharacteristicsSequence": characteristics(kev), "PixelSpacing": [1.0, 1.0],
            "AcquisitionDate": "20260301", "AcquisitionTime": "101500", "SliceThickness": 2,
        }  # fmt: skip
        changes |= changes_of_second if number == 2 else {}
        write_series(folder / f"s{number}", (0.0, 2.0), values=array, **changes)
    return values


def decompose(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["decompose", *map(str, arguments), "--progress", "none"])
    return found.exit_code, found.stderr.strip()


def test_a_folder_of_two_series_needs_no_energies(tmp_path: Path) -> None:
    values = pair_of_series(tmp_path / "study")
    assert [one.energies for one in energies_in(tmp_path / "study")] == [("40",), ("70",)]
    report = tmp_path / "report.json"
    code, said = decompose("--image", tmp_path / "study", tmp_path / "maps", "--report", report)
    assert code == 0, said
    from_arrays = ctenhance.decompose_images(
        {kev: ctenhance.CTVolume(v.astype(np.float32), (1, 1, 2)) for kev, v in values.items()}
    )
    found = ctenhance.read(tmp_path / "maps" / "iodine.nii.gz", check_hu=False)
    np.testing.assert_allclose(found.array, from_arrays.volumes["iodine"].array, atol=1e-4)
    text = report.read_text(encoding="utf-8")
    assert '"40": "MonoenergeticEnergyEquivalent"' in text and "SECRET" not in text and "Nobody" not in text
    # named, the series of that energy is taken
    code, said = decompose(
        f"--image=40={tmp_path / 'study'}", f"--image=70={tmp_path / 'study'}", tmp_path / "again"
    )
    assert code == 0, said
    again = ctenhance.read(tmp_path / "again" / "iodine.nii.gz", check_hu=False)
    np.testing.assert_array_equal(again.array, found.array)


def test_a_folder_without_images_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert energies_in(tmp_path / "empty") == []
    code, said = decompose(
        f"--image=40={tmp_path / 'empty'}", f"--image=70={tmp_path / 'empty'}", tmp_path / "maps"
    )
    assert code == 2 and "there is no DICOM image in it" in said and not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"PatientID": "OTHER-9"}, "different patients"),
        ({"FrameOfReferenceUID": generate_uid()}, "different frames of reference"),
        ({"AcquisitionTime": "101545"}, "acquired 45 s apart"),
    ],
)
def test_series_that_are_not_one_scan(tmp_path: Path, changes: dict, sentence: str) -> None:
    pair_of_series(tmp_path, **changes)
    code, said = decompose(
        f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path / 's2'}", tmp_path / "maps"
    )
    assert code == 2 and sentence in said and "OTHER" not in said and said.count("\n") == 0
    assert not (tmp_path / "maps").exists()
    if "acquired" in sentence:
        code, said = decompose(
            "--image", tmp_path / "s1", "--image", tmp_path / "s2", "--apart-s", 60, tmp_path / "m"
        )
        assert code == 0, said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SeriesDescription": "VNC 70 keV Abdomen"}, "VNC"),
        ({"SeriesDescription": "70keV VirtuellNativ", "ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "VIRTU"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]}, "MAT_REMOVED"),
        ({"SeriesDescription": "Calcium Suppressed 70 keV"}, "CALCIUM SUPPRESSED"),
    ],
)
def test_an_image_without_a_material_is_none_at_an_energy(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    pair_of_series(tmp_path, **{"MultienergyCTCharacteristicsSequence": None, **changes})
    code, said = decompose(f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path / 's2'}", tmp_path / "m")
    assert code == 2 and "image at 70 keV had a material taken out" in said and f"({named}" in said
    # and where the header is to tell the energy
    code, said = decompose(f"--image=40={tmp_path / 's1'}", "--image", tmp_path / "s2", tmp_path / "m")
    assert code == 2 and "had a material taken out" in said and f"({named}" in said


def test_monoenergetic_images_are_what_is_asked_for(tmp_path: Path) -> None:
    """They are noted as virtual images where a routine CT is wanted, and not here."""
    kinds = {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]}
    pair_of_series(tmp_path, **kinds)
    assert any("virtual" in note for note in ctenhance.read(tmp_path / "s2").meta["notes"])
    code, said = decompose(f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path / 's2'}", tmp_path / "m")
    assert code == 0 and "virtual" not in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ConvolutionKernel": "Br64"}, "differ in ConvolutionKernel (B30f and Br64): edges"),
        ({"SliceThickness": 3}, "differ in SliceThickness (2 and 3)"),
        ({"SeriesDescription": "Venoes Mono 70 keV"}, None),
        ({"AcquisitionNumber": 3}, None),  # at one time
        ({"AcquisitionNumber": 3, "AcquisitionDate": None, "AcquisitionTime": None}, None),
        ({"SliceThickness": "2.00"}, None),
    ],
)
def test_what_makes_false_materials_is_told(
    tmp_path: Path, changes: dict[str, Any], expected: str | None
) -> None:
    pair_of_series(tmp_path, **changes)
    code, said = decompose(f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path / 's2'}", tmp_path / "m")
    assert code == 0
    assert expected in said if expected else "differ in" not in said, said


def test_two_phases_and_acquisitions_without_times_are_told() -> None:
    one = ScanHeader(phase="arterial", how={"AcquisitionNumber": "2"})
    other = ScanHeader(phase="venous", how={"AcquisitionNumber": "3"})
    phases, numbers = differences([one, other], ["at 40", "at 70"])
    assert "two contrast phases by their descriptions (arterial and venous)" in phases
    assert "differ in AcquisitionNumber (2 and 3), and no times tell" in numbers
    assert not differences([one, one], ["at 40", "at 70"])


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        ("Abdomen arteriell 1.0 Qr40", "arterial"), ("Portal venous 70 keV", "venous"),
        ("Thorax nativ", "native"),
        ("Spätphase", "late"), ("Leber venös Mono+ 40 keV", "venous"), ("Aorta 1.5", ""),
        ("arterial and venous", ""), ("Abdomen retardé", "late"),
    ],
)  # fmt: skip
def test_phases_are_named_in_several_languages(tmp_path: Path, said: str, phase: str) -> None:
    assert (
        told(tmp_path / "one.dcm", SeriesDescription=said, SpecificCharacterSet="ISO_IR 192").phase == phase
    )


def test_python_asks_the_headers_too(tmp_path: Path) -> None:
    pair_of_series(tmp_path, PatientID="OTHER-9")
    low, high = (ctenhance.read(tmp_path / name) for name in ("s1", "s2"))
    with pytest.raises(InputError, match="different patients"):
        ctenhance.decompose_images({40: low, 70: high})
    pair_of_series(tmp_path / "same")
    low, high = (ctenhance.read(tmp_path / "same" / name) for name in ("s1", "s2"))
    with pytest.raises(InputError, match="tells 70 keV"):
        ctenhance.decompose_images({40: low, 80: high})
    report = ctenhance.decompose_images({40: low, 70: high}).report
    assert report["details"]["energies_from"] == dict.fromkeys(("40", "70"), KEV)


def test_an_energy_that_the_header_contradicts(tmp_path: Path) -> None:
    pair_of_series(tmp_path)
    arguments = [f"--image=40={tmp_path / 's1'}", f"--image=80={tmp_path / 's2'}", tmp_path / "maps"]
    code, said = decompose(*arguments)
    assert code == 2 and "given at 80 keV, but its MonoenergeticEnergyEquivalent tells 70 keV" in said
    code, said = decompose(*arguments, "--energies-as-given")
    assert code == 0, said


def test_a_study_with_maps_and_the_usual_image_beside_the_energies(tmp_path: Path) -> None:
    """As scanners export it: 40 and 70 keV, iodine, a non-contrast image, the 120-kV image."""
    values = pair_of_series(tmp_path)
    common = {"PixelSpacing": [1.0, 1.0], "AcquisitionDate": "20260301", "AcquisitionTime": "101500"}
    others = {
        "iodine": {"RescaleType": "MGML", "MultienergyCTCharacteristicsSequence": characteristics(70)},
        "vnc": {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]},
        "usual": {},
    }
    for number, (name, changes) in enumerate(others.items(), start=3):
        write_series(
            tmp_path / name, (0.0, 2.0), values=values[70], SeriesNumber=number,
            SeriesInstanceUID=generate_uid(), **common, **changes,
        )  # fmt: skip
    found = {one.number: one.energies for one in energies_in(tmp_path)}
    assert found == {1: ("40",), 2: ("70",), 3: ("",), 4: ("",), 5: ("120kV",)}
    code, said = decompose("--image", tmp_path, tmp_path / "maps", "--report", tmp_path / "report.json")
    assert code == 0 and "120kV was left out" in said
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["from_images"] == ["40", "70"]


def test_a_folder_that_leaves_open_which_series_is_meant(tmp_path: Path) -> None:
    pair_of_series(tmp_path)
    pair_of_series(tmp_path / "again", SeriesInstanceUID=generate_uid(), SeriesNumber=9)
    code, said = decompose(f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path}", tmp_path / "m")
    assert code == 2 and "holds 2 series at 70 (numbers 2, 9)" in said
    code, said = decompose(f"--image=40={tmp_path / 's1'}", f"--image=100={tmp_path}", tmp_path / "m")
    assert code == 2 and "none at 100 but at 40, 70" in said


def test_two_series_at_one_energy_are_chosen_from(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"MultienergyCTCharacteristicsSequence": characteristics(40)}
    first = write_series(tmp_path, SeriesInstanceUID="1.2.1", SeriesNumber=3, prefix="a", **changes)
    other = hounsfield(4, seed=5)
    write_series(tmp_path, SeriesInstanceUID="1.2.2", SeriesNumber=4, values=other, prefix="b",
                 ConvolutionKernel="B70f", **changes)  # fmt: skip

    with pytest.raises(InputError, match=r"2 series at 40 .numbers 3, 4.: .* choose it with --series 3"):
        read_at(tmp_path, "40")
    np.testing.assert_array_equal(read_at(tmp_path, "40", series="3").array, first)
    _, said = decompose(f"--image=40={tmp_path}", f"--image=70={tmp_path}", "--series=3", tmp_path / "m")
    assert "given at 70 keV, but its MonoenergeticEnergyEquivalent tells 40 keV" in said  # both of series 3
    np.testing.assert_array_equal(read_at(tmp_path, "40", where={"ConvolutionKernel": "B70f"}).array, other)


def test_maps_are_no_images_at_an_energy(tmp_path: Path) -> None:
    pair_of_series(tmp_path)
    write_series(
        tmp_path / "iodine", (0.0, 2.0), values=np.full((2, 128, 128), 3, np.int16), RescaleType="MGML",
        PixelSpacing=[1.0, 1.0],
    )  # fmt: skip
    code, said = decompose(
        f"--image=40={tmp_path / 's1'}", f"--image=70={tmp_path / 'iodine'}", tmp_path / "m"
    )
    assert code == 2 and "mg/ml" in said and said.count("\n") == 0


def test_one_enhanced_object_of_two_energies(tmp_path: Path) -> None:
    values = {
        kev: np.clip(np.rint(v.array), -1024, None).astype(np.int16)
        for kev, v in scan([40, 70], [20, 8]).items()
    }
    planes = np.concatenate([values[40], values[70]])
    made = enhanced(planes, (0.0, 2.0, 0.0, 2.0), (1, 1, 1, 1))
    made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.0]
    for frame, kev in zip(made.PerFrameFunctionalGroupsSequence, (40, 40, 70, 70), strict=True):
        frame.MultienergyCTCharacteristicsSequence = characteristics(kev)
    path = save(made, tmp_path / "both" / "image.dcm")
    (one,) = energies_in(path)
    assert one.energies == ("40", "70") and one.within
    code, said = decompose(f"--image=40={path}", f"--image=50={path}", tmp_path / "maps")
    assert code == 2 and "'image.dcm' holds images, none at 50 but at 40, 70: give one of these" in said
    code, said = decompose("--image", path, tmp_path / "maps")
    assert code == 0, said
    found = ctenhance.read(tmp_path / "maps" / "iodine.nii.gz", check_hu=False).array
    alone = ctenhance.decompose_images(
        {kev: ctenhance.CTVolume(v.astype(np.float32), (1, 1, 2)) for kev, v in values.items()}
    )
    np.testing.assert_allclose(found, alone.volumes["iodine"].array, atol=1e-4)


def test_our_monoenergetic_pair_comes_back_from_dicom(tmp_path: Path) -> None:
    """Exported, read and decomposed again, the maps return within what rounding to whole HU makes."""
    first = ctenhance.decompose_images(scan([45, 90], [15, 6]), vmi=(40, 70))
    for kev in (40, 70):
        made = Derivation("vmi", float(kev), report=first.report)
        write_dicom(first.volumes[f"vmi_0{kev}keV"], tmp_path / f"vmi{kev}", made)
        header = pydicom.dcmread(tmp_path / f"vmi{kev}" / "slice0001.dcm")
        processing = header.MultienergyCTProcessingSequence[0]
        assert processing.DecompositionMethod == "IMAGE_BASED"
        assert "decomposed of images at 45 keV, 90 keV" in header.DerivationDescription
    code, said = decompose("--image", tmp_path / "vmi40", "--image", tmp_path / "vmi70", tmp_path / "maps")
    assert code == 0, said
    # half a HU in each image, in the worst case through the inverse of the two materials' weights
    weights = np.stack([vmi_weights(("water", "iodine"), kev).numpy() for kev in (40, 70)]) / 1000
    worst = dict(zip(("water", "iodine"), np.abs(np.linalg.inv(weights)).sum(1) * 0.51, strict=True))
    for name, most in worst.items():
        again = ctenhance.read(tmp_path / "maps" / f"{name}.nii.gz", check_hu=False).array
        assert np.abs(again - first.volumes[name].array).max() <= most
