"""Derived DICOM series: what they say of unit, energy, patient and lineage, and that they read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from synthetic_dicom import write_series as write_source
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.quantities import MATERIAL_CODES, QUANTITIES
from ctenhance.files.dicom.writing import Derivation, write_series
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken

REPORT = {
    "verb": "decompose", "ctenhance": "0.1.0", "input": {"sha256": "ab12"},
    "settings": {"basis": ["water", "iodine"], "kernel": "soft"}, "model": None,
}  # fmt: skip


def volume(low: float = -900.0, high: float = 1500.0, direction: np.ndarray | None = None) -> CTVolume:
    values = np.linspace(low, high, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)
    return CTVolume(
        values, (0.7, 0.7, 2.5), (-12.25, 3.0, 100.5), np.eye(3) if direction is None else direction
    )


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_monoenergetic_images_name_their_energy(tmp_path: Path) -> None:
    given = volume()
    folder = write_series(given, tmp_path / "vmi", Derivation("vmi", kev=55, report=REPORT))
    images = headers(folder)
    assert len(images) == 3 and len({image.SOPInstanceUID for image in images}) == 3
    first = images[0]
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "VMI"]
    assert first.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 55.0
    assert first.RescaleType == "HU" and "55 keV" in first.SeriesDescription
    assert first.MultienergyCTProcessingSequence[0].DecompositionMethod == "PROJECTION_BASED"
    basis = first.MultienergyCTProcessingSequence[0].DecompositionMaterialSequence
    assert [item.MaterialCodeSequence[0].CodeMeaning for item in basis] == ["Water", "Iodine"]
    assert "water, iodine" in first.DerivationDescription and first.ConvolutionKernel == "soft"
    equipment = first.ContributingEquipmentSequence[0]
    assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("CTEnhance", "0.1.0")
    back = CTVolume.read(folder)
    assert np.abs(back.array - given.array).max() <= 0.5
    assert np.allclose(back.origin, given.origin) and np.allclose(back.spacing, given.spacing)


@pytest.mark.parametrize(
    ("quantity", "material", "most", "rescale", "code", "kind"),
    [
        ("density", "iodine", 17.0, "MGML", "mg/ml", "MAT_SPECIFIC"),
        ("zeff", None, 13.8, "Z_EFF", "129320", "EFF_ATOMIC_NUM"),
        ("electron-density", None, 1.7, "EDW", "1", "ELECTRON_DENSITY"),
    ],
)
def test_maps_say_their_unit_and_keep_their_values(
    tmp_path: Path, quantity: str, material: str | None, most: float, rescale: str, code: str, kind: str
) -> None:
    given = volume(-0.1 * most, most)
    write_series(given, tmp_path / "map", Derivation(quantity, material=material, report=REPORT))
    for index, image in enumerate(headers(tmp_path / "map")):
        mapping = image.RealWorldValueMappingSequence[0]
        assert image.RescaleType == rescale and image.ImageType[3] == kind
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == code
        assert mapping.RealWorldValueSlope == pytest.approx(float(image.RescaleSlope))
        assert "MultienergyCTCharacteristicsSequence" not in image
        values = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        assert np.abs(values - given.array[index]).max() <= most / 60000
        low = mapping.DoubleFloatRealWorldValueFirstValueMapped
        high = mapping.DoubleFloatRealWorldValueLastValueMapped
        assert low <= image.pixel_array.min() and image.pixel_array.max() <= high


def test_codes_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes

    group = codes.CID300
    meant = {getattr(group, name).value for name in group.dir()}
    assert {code for code, _scheme, _meaning in MATERIAL_CODES.values()} <= meant
    units = {getattr(codes.CID301, name).value for name in codes.CID301.dir()}
    assert {q.unit[0] for name, q in QUANTITIES.items() if name != "electron-density"} <= units


def test_all_images_of_a_scan_share_a_study(tmp_path: Path) -> None:
    write_series(volume(), tmp_path / "a", Derivation("vmi", kev=50, report=REPORT))
    write_series(volume(0, 20), tmp_path / "b", Derivation("density", material="iodine", report=REPORT))
    write_series(volume(), tmp_path / "c", Derivation(report={**REPORT, "input": {"sha256": "other"}}))
    first, second, other = (headers(tmp_path / name)[0] for name in "abc")
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_patient_and_study_of_a_series_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_source(source)
    own = CTVolume.read(source)
    original = pydicom.dcmread(own.meta["source_files"][0])
    write_series(own, tmp_path / "derived", Derivation(like=source))
    derived = headers(tmp_path / "derived")
    assert derived[0].StudyInstanceUID == original.StudyInstanceUID
    assert derived[0].FrameOfReferenceUID == original.FrameOfReferenceUID
    assert derived[0].SeriesInstanceUID != original.SeriesInstanceUID
    assert derived[0].PatientID == original.PatientID
    named = [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in derived]
    assert named == own.meta["sop_instance_uids"]


def test_mirrored_axes_lie_where_they_did(tmp_path: Path) -> None:
    given = volume(direction=np.diag([1.0, 1.0, -1.0]))
    write_series(given, tmp_path / "mirrored")
    last = headers(tmp_path / "mirrored")[2]
    assert float(last.ImagePositionPatient[2]) == pytest.approx(100.5 - 5.0)


def test_cancelled_leaves_nothing(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        write_series(volume(), tmp_path / "none", cancel=token)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantity": "suv"}, "no quantity 'suv'"),
        ({"quantity": "vmi"}, "needs its energy: give it in keV"),
        ({"kev": 70.0}, "energy in keV"),
        ({"quantity": "density"}, "needs its material: say of what it is"),
        ({"material": "iodine"}, "A material belongs to the quantity density"),
        ({"quantity": "vmi", "kev": 0.0}, "0 keV is not possible"),
        ({"quantity": "vnc", "low_noise": True}, "Low noise belongs"),
    ],
)
def test_what_does_not_go_together_is_said(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Derivation(**settings)


def test_verb_writes_a_series_and_refuses_a_full_folder(tmp_path: Path) -> None:
    source, report = tmp_path / "iodine.nii.gz", tmp_path / "made.json"
    volume(0, 20).write(source)
    report.write_text(json.dumps(REPORT), encoding="utf-8")
    arguments = ["dicom", str(source), str(tmp_path / "out"), "--quantity", "density", "--material", "iodine"]
    arguments += ["--made-by", str(report), "--progress", "none", "--storage", "ct"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").iterdir())) == 3
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "no empty folder" in again.output


def test_low_noise_is_said(tmp_path: Path) -> None:
    volume().write(tmp_path / "vmi.nii.gz")
    arguments = ["dicom", str(tmp_path / "vmi.nii.gz"), str(tmp_path / "out"), "--quantity", "vmi"]
    arguments += ["--kev", "40", "--low-noise", "--progress", "none"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    image = headers(tmp_path / "out")[0]
    assert image.SeriesDescription == "Monoenergetic 40 keV low noise"
    assert image.DerivationDescription.startswith("Monoenergetic 40 keV low noise; by CTEnhance")
