"""What a derived DICOM series takes over from the patient's own, and what it leaves out."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000, EnhancedCTImageStorage, ImplicitVRLittleEndian
from synthetic_dicom import dataset, enhanced, hounsfield, save
from synthetic_dicom import write_series as write_source
from test_quality_likeness import body

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.quantities import QUANTITIES
from ctenhance.files.dicom.writing import Derivation, write_series
from ctenhance.runtime.errors import InputError

ENHANCED = {
    "verb": "enhance", "settings": {"strength": 0.5}, "model": {"name": "enhance-twin", "sha256": "0a"},
}  # fmt: skip
#: A body that widens along its length.
BODY = np.rint([body(z, wide=20 + z)[0] for z in range(8)]).clip(-1024).astype(np.int16)
DECOMPOSED = {"verb": "decompose", "settings": {"basis": ["water", "iodine"], "kernel": "soft"}}


def derive(
    tmp_path: Path, volume: CTVolume, warnings: list[str] | None = None, **derivation: Any
) -> list[pydicom.Dataset]:
    """Write the volume as a series that belongs to the one in `source`, and read that back."""
    folder = tmp_path / f"derived{len(list(tmp_path.iterdir()))}"
    derivation.setdefault("like", tmp_path / "source")
    write_series(volume, folder, Derivation(**derivation), warn=None if warnings is None else warnings.append)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def of_source(tmp_path: Path, **changes: Any) -> CTVolume:
    write_source(tmp_path / "source", **changes)
    return CTVolume.read(tmp_path / "source")


def test_what_the_source_says_of_its_scan_is_said_again(tmp_path: Path) -> None:
    said = {
        "KVP": "140", "ConvolutionKernel": ["Br40d", "3"], "SliceThickness": "4", "BurnedInAnnotation": "YES",
        "LossyImageCompression": "01", "LossyImageCompressionRatio": "8.1",
        "LossyImageCompressionMethod": "ISO_15444_1", "RecognizableVisualFeatures": "YES",
        "WindowCenter": "-600", "WindowWidth": "1500", "PatientPosition": "FFP", "BodyPartExamined": "KNEE",
        "Laterality": "L", "ContrastBolusAgent": "Iomeprol", "ContrastBolusVolume": "80",
        "AcquisitionNumber": "3", "AcquisitionDate": "20260102", "AcquisitionTime": "120102.5",
        "ExposureModulationType": "XYZ_EC", "CTDIvol": 7.25, "FilterType": "FLAT", "GantryDetectorTilt": "0",
        "ReconstructionDiameter": "11.2", "ProtocolName": "Knee", "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by hand", "MedicalAlerts": "Pacemaker", "ClinicalTrialSubjectID": "S1",
    }  # fmt: skip
    volume = of_source(tmp_path, **said)
    source = pydicom.dcmread(volume.meta["source_files"][0])
    for image in derive(tmp_path, volume, report=ENHANCED):
        for keyword in (*said, "PatientName", "PatientID", "XRayTubeCurrent", "Exposure"):
            assert image[keyword].value == source[keyword].value, keyword
        assert image.SeriesDescription == "Enhanced CT, enhance-twin, strength 50 %"
        assert image.Manufacturer == "CTEnhance"
        made, scanner = image.ContributingEquipmentSequence
        assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("ACME", "Scan 1")
        assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert made.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_what_differs_from_slice_to_slice_stays_with_its_slice(tmp_path: Path) -> None:
    for index, depth in enumerate((0.0, 2.5, 5.0)):
        one = dataset(
            hounsfield(3)[index], (0, 0, depth), XRayTubeCurrent=100 + index, InstanceNumber=index + 1
        )
        save(one, tmp_path / "source" / f"{index}.dcm")
    volume = CTVolume.read(tmp_path / "source")
    assert [int(image.XRayTubeCurrent) for image in derive(tmp_path, volume)] == [100, 101, 102]
    lower = CTVolume(volume.array[1:], volume.spacing, (0, 0, 2.5))  # cropped: the same slices all the same
    assert [int(image.XRayTubeCurrent) for image in derive(tmp_path, lower)] == [101, 102]


def test_one_lossy_or_annotated_image_marks_all(tmp_path: Path) -> None:
    for index in range(3):
        marks = {"LossyImageCompression": "01", "BurnedInAnnotation": "YES"} if index == 1 else {}
        one = dataset(hounsfield(3)[index], (0, 0, 2.5 * index), LossyImageCompression="00")
        one.BurnedInAnnotation = "NO"
        for keyword, value in marks.items():
            setattr(one, keyword, value)
        save(one, tmp_path / "source" / f"{index}.dcm")
    for image in derive(tmp_path, CTVolume.read(tmp_path / "source")):
        assert (image.LossyImageCompression, image.BurnedInAnnotation) == ("01", "YES")


def test_a_lossy_file_need_not_say_so_itself(tmp_path: Path) -> None:
    for index in range(3):
        one = dataset(hounsfield(3, 64, 64)[index], (0, 0, 2.5 * index))
        one.compress(JPEG2000, j2k_cr=[4])
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            one.pop(keyword, None)
        one.save_as(tmp_path / f"{index}.dcm")
    made = derive(tmp_path, CTVolume.read(tmp_path), like=tmp_path)[0]
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_15444_1")


def test_what_the_source_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("PatientName", "PatientID", "KVP", "ConvolutionKernel", "SliceThickness"))
    volume = of_source(tmp_path, **nothing)
    image = derive(tmp_path, volume)[0]
    for keyword in ("PatientName", "PatientID", "KVP", "SliceThickness", "PatientPosition", "Laterality"):
        assert not image[keyword].value, keyword
    for keyword in ("ConvolutionKernel", "BurnedInAnnotation", "LossyImageCompression", "ContrastBolusAgent"):
        assert keyword not in image
    alone = derive(tmp_path, CTVolume(volume.array, volume.spacing), like=None)[0]
    for keyword in ("BurnedInAnnotation", "LossyImageCompression", "BodyPartExamined"):
        assert keyword not in alone
    assert not alone.SliceThickness and not alone.PatientPosition


def test_what_is_empty_does_not_replace_what_is_known(tmp_path: Path) -> None:
    empty = dict.fromkeys(
        ("WindowCenter", "WindowWidth", "KVP", "FrameOfReferenceUID", "StudyInstanceUID"), ""
    )
    image = derive(tmp_path, of_source(tmp_path, **empty))[0]
    assert (image.WindowCenter, image.WindowWidth) == (50, 400)
    assert image.FrameOfReferenceUID.startswith("2.25.") and image.StudyInstanceUID.startswith("2.25.")


@pytest.mark.parametrize(("said", "right"), [("Y", "YES"), ("yes", "YES"), ("N", "NO"), ("NO", "NO")])
def test_other_spellings_of_a_mark_are_understood(tmp_path: Path, said: str, right: str) -> None:
    volume = of_source(tmp_path, BurnedInAnnotation=said, LossyImageCompression="1")
    image = derive(tmp_path, volume)[0]
    assert (image.BurnedInAnnotation, image.LossyImageCompression) == (right, "01")


def test_the_window_is_the_sources_for_hounsfield_units_alone(tmp_path: Path) -> None:
    volume = of_source(tmp_path, WindowCenter=["40", "-600"], WindowWidth=["350", "1600"])
    assert list(derive(tmp_path, volume)[0].WindowCenter) == [40, -600]
    density = derive(tmp_path, volume, quantity="density", material="iodine")[0]
    assert float(density.WindowWidth) < 200


def test_another_series_of_the_study_gives_no_scan(tmp_path: Path) -> None:
    volume = of_source(tmp_path, ContrastBolusAgent="Iomeprol", BodyPartExamined="CHEST", CTDIvol=9.0)
    warnings: list[str] = []
    shifted = CTVolume(volume.array, volume.spacing, tuple(np.add(volume.origin, (0.0, 0.0, 1.2))))
    image = derive(tmp_path, shifted, warnings, report=DECOMPOSED, quantity="density", material="iodine")[0]
    assert "slices are not those of" in warnings[0]
    assert image.BodyPartExamined == "CHEST" and "Laterality" not in image
    assert image.FrameOfReferenceUID == volume.meta["frame_of_reference_uid"]
    for keyword in ("ContrastBolusAgent", "CTDIvol", "SourceImageSequence", "Exposure"):
        assert keyword not in image
    assert not image.KVP and image.ConvolutionKernel == "soft" and image.SliceThickness == 2.5
    assert len(image.ContributingEquipmentSequence) == 1


def test_a_volume_elsewhere_gets_a_frame_of_reference_of_its_own(tmp_path: Path) -> None:
    volume = of_source(tmp_path, PatientPosition="FFS")
    warnings: list[str] = []
    away = CTVolume(volume.array, volume.spacing, (0.0, 0.0, 0.0))
    image = derive(tmp_path, away, warnings)[0]
    assert "lies outside" in warnings[0]
    assert image.FrameOfReferenceUID != volume.meta["frame_of_reference_uid"]
    assert image.StudyInstanceUID == volume.meta["study_instance_uid"] and not image.PatientPosition


def test_thicker_slices_do_not_keep_the_sources_thickness(tmp_path: Path) -> None:
    volume = of_source(tmp_path, depths=(0, 1, 2, 3, 4), SliceThickness=1)
    thick = CTVolume(volume.array[::2], (*volume.spacing[:2], 2.0), volume.origin)
    image = derive(tmp_path, thick)[0]
    assert image.ConvolutionKernel == "B30f" and not image.SliceThickness


def test_mirrored_axes_are_the_same_slices(tmp_path: Path) -> None:
    volume = of_source(tmp_path)
    rows = volume.array.shape[1]
    corner = np.add(volume.origin, (0, (rows - 1) * volume.spacing[1], 0))
    mirrored = CTVolume(volume.array[:, ::-1], volume.spacing, tuple(corner), np.diag([1.0, -1.0, 1.0]))
    image = derive(tmp_path, mirrored)[0]
    assert image.ConvolutionKernel == "B30f" and image.SliceThickness == 5


@pytest.mark.parametrize(
    ("axes", "said"),
    [((0,), "head to foot"), ((2,), "left to right"), ((1, 2), "left to right and front to")],
)
def test_a_body_that_is_turned_against_its_header_is_refused(
    tmp_path: Path, axes: tuple[int, ...], said: str
) -> None:
    depths = 2.5 * np.arange(len(BODY))
    volume = of_source(tmp_path, depths=depths, values=BODY)
    noisy = volume.array + np.random.default_rng(3).normal(0, 20, volume.array.shape)
    grid = volume.spacing, volume.origin, volume.direction
    warnings: list[str] = []
    derive(tmp_path, CTVolume(noisy.astype(np.float32), *grid), warnings)
    assert not warnings
    turned = CTVolume(np.flip(noisy, axes).astype(np.float32), *grid)
    with pytest.raises(InputError, match=f"once one is turned {said}.* turn its voxels"):
        derive(tmp_path, turned)
    assert len(list(tmp_path.iterdir())) == 2  # nothing is written
    derive(tmp_path, CTVolume(np.roll(noisy, 5, 2).astype(np.float32), *grid), warnings)
    assert "one is 3.5 mm aside (+0 rows, +5 columns)" in warnings.pop()
    moved = CTVolume(np.roll(np.flip(noisy, 2), 15, 2).astype(np.float32), *grid)
    with pytest.raises(InputError, match="once one is turned left to right"):
        derive(tmp_path, moved)
    another = CTVolume(np.rot90(noisy, axes=(1, 2)).astype(np.float32), *grid)
    derive(tmp_path, another, warnings)
    assert "hardly look like one body" in warnings.pop()
    iodine = CTVolume(((noisy > 30) * 9 + noisy.clip(-5, 5) / 5).astype(np.float32), *grid)
    derive(tmp_path, iodine, warnings, quantity="density", material="iodine")
    assert not warnings


def test_a_body_that_lies_elsewhere_on_its_own_grid_is_told(tmp_path: Path) -> None:
    volume, warnings = of_source(tmp_path, depths=2.5 * np.arange(len(BODY)), values=BODY), list[str]()
    derive(tmp_path, replace(volume, array=volume.array[2:]), warnings)  # as where the origin was left
    assert "one is 5 mm aside (-2 slices)" in warnings.pop()
    with pytest.raises(InputError, match="are alike once one is turned left to right"):
        derive(tmp_path, replace(volume, array=volume.array[2:, :, ::-1]))


def test_a_simulated_dose_is_not_the_scans(tmp_path: Path) -> None:
    volume = of_source(tmp_path)
    report = {"verb": "degrade", "settings": {"preset": "routine", "dose": 0.25}}
    image = derive(tmp_path, volume, report=report)[0]
    assert image.SeriesDescription == "Degraded CT, routine, dose 25 %"
    assert image.KVP == 120
    for keyword in ("XRayTubeCurrent", "Exposure", "ConvolutionKernel"):
        assert keyword not in image


def test_a_report_of_other_voxels_is_pointed_out(tmp_path: Path) -> None:
    volume = of_source(tmp_path)
    warnings: list[str] = []
    derive(tmp_path, volume, warnings, report={**ENHANCED, "input": volume.identity()})
    assert warnings == []
    derive(tmp_path, volume, warnings, report={**ENHANCED, "input": {"sha256": "other"}})
    assert "other voxels" in warnings[0]


def test_images_are_counted_as_the_scanner_counts(tmp_path: Path) -> None:
    volume = of_source(tmp_path)  # its numbers run against the order in space
    assert [image.InstanceNumber for image in derive(tmp_path, volume)] == [4, 3, 2, 1]


def test_a_reformatted_volume_is_not_called_axial(tmp_path: Path) -> None:
    sagittal = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    image = derive(tmp_path, CTVolume(hounsfield(2), direction=sagittal), like=None)[0]
    assert image.ImageType[2] == "REFORMATTED"


def test_frames_of_an_enhanced_image_are_named(tmp_path: Path) -> None:
    made = enhanced(hounsfield(3), (0, 2, 4), (1.0, 1.0, 1.0))
    made.PatientName, made.SeriesDescription, made.LossyImageCompression = "A^B", "Thorax", "00"
    save(made, tmp_path / "source" / "image.dcm")
    volume = CTVolume.read(tmp_path / "source")
    images = derive(tmp_path, volume, report=ENHANCED)
    for index, image in enumerate(images):
        item = image.SourceImageSequence[0]
        assert item.ReferencedSOPClassUID == EnhancedCTImageStorage
        assert (item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber) == (made.SOPInstanceUID, index + 1)
    assert (images[0].KVP, images[0].ConvolutionKernel, images[0].SliceThickness) == (100, "Br40", 5)
    assert images[0].XRayTubeCurrent == 150 and images[0].PatientName == "A^B"
    assert images[0].LossyImageCompression == "00" and images[0].SeriesDescription.endswith(": Thorax")


def test_an_enhanced_monoenergetic_image_stays_one(tmp_path: Path) -> None:
    energy = pydicom.Dataset()
    energy.MonoenergeticEnergyEquivalent = 70.0
    said = {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"], "MultienergyCTAcquisition": "YES"}
    volume = of_source(tmp_path, **said, MultienergyCTCharacteristicsSequence=[energy])
    image = derive(tmp_path, volume, report=ENHANCED)[0]
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "VMI"]
    assert image.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 70
    assert image.MultienergyCTAcquisition == "YES"
    other = derive(tmp_path, volume, quantity="vmi", kev=50.0)[0]
    assert other.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 50


def test_what_stands_within_a_sequence_is_not_the_patients(tmp_path: Path) -> None:
    other = pydicom.Dataset()
    other.PatientID, other.IssuerOfPatientID = "ELSEWHERE", "other hospital"
    image = derive(tmp_path, of_source(tmp_path, PatientID=None, OtherPatientIDsSequence=[other]))[0]
    assert not image.PatientID and "IssuerOfPatientID" not in image
    assert image.OtherPatientIDsSequence[0].PatientID == "ELSEWHERE"


def test_a_value_against_the_standard_does_not_stop_the_export(tmp_path: Path) -> None:
    volume = of_source(tmp_path)
    for path in (tmp_path / "source").iterdir():
        one = pydicom.dcmread(path)
        raw = {"Exposure": b"n/a ", "PatientWeight": b"heavy ", "StudyDate": b"2026.01.02"}
        for keyword, value in raw.items():
            one[keyword] = pydicom.DataElement(keyword, "UN", b"")
            one[keyword] = pydicom.dataelem.RawDataElement(
                one[keyword].tag, pydicom.datadict.dictionary_VR(keyword), len(value), value, 0, False, True
            )
        one.save_as(path)
    image = derive(tmp_path, volume)[0]
    assert image.KVP == 120 and image.StudyDate == "2026.01.02"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
@pytest.mark.parametrize("description", [None, "Größe, Ελλάδα"])
def test_names_of_all_alphabets_stay(
    tmp_path: Path, character_set: Any, name: str, description: str | None
) -> None:
    volume = of_source(tmp_path, SpecificCharacterSet=character_set, PatientName=name, ProtocolName="Kopf")
    image = derive(tmp_path, volume, description=description)[0]
    assert str(image.PatientName) == name
    assert description is None or image.SeriesDescription == description
    if description is None:
        assert image.SpecificCharacterSet == character_set


def test_every_quantity_energy_and_material_has_a_number_of_its_own() -> None:
    made = [Derivation(quantity) for quantity in ("hu", "vnc", "zeff", "electron-density")]
    made += [
        Derivation("vmi", kev=kev, low_noise=quiet) for kev in (40, 40.5, 70, 190) for quiet in (False, True)
    ]
    made += [Derivation("density", material=name) for name in ("water", "iodine", "calcium", "bone")]
    made += [Derivation(report={**ENHANCED, "settings": {"strength": share}}) for share in (0.5, 1.0)]
    kept = Derivation(report={**ENHANCED, "settings": {"strength": 1.0, "keep_faint": 1.0}})
    assert "faint kept 100 %" in kept.text()
    made.append(kept)
    for source in (None, 0, 3, 204, 3000566, 2**31 - 1):
        numbers = [one.number(source) for one in made]
        assert len(set(numbers)) == len(made)
        assert all(0 < number < 2**31 for number in numbers)
    assert Derivation("vmi", kev=70).number(3) == 30070
    assert Derivation("vmi", kev=70).number(None) == 90070


def test_series_of_one_quantity_have_numbers_by_source_and_slices(tmp_path: Path) -> None:
    """Two series of a study, and of one of them both the slices and others: no two numbers alike."""
    numbers = []
    for name, given in (("a", 3), ("b", 9), ("c", None), ("d", 0)):
        of_source(tmp_path / name, SeriesNumber=given, SeriesInstanceUID=f"1.2.{ord(name)}")
        volume = CTVolume.read(tmp_path / name / "source")
        for depth in (0.0, 1.2, 1.6):
            moved = CTVolume(volume.array, volume.spacing, tuple(np.add(volume.origin, (0.0, 0.0, depth))))
            for made in ({"quantity": "vmi", "kev": 70.0}, {"quantity": "vnc"}):
                image = derive(tmp_path / name, moved, [], like=tmp_path / name / "source", **made)[0]
                numbers.append(int(image.SeriesNumber))
    assert len(set(numbers)) == len(numbers) and 30070 in numbers and 90070 in numbers
    assert [number // 10_000 for number in numbers[:6]] == [3] * 6


def test_research_use_is_said_where_anonymisers_leave_it(tmp_path: Path) -> None:
    image = derive(tmp_path, of_source(tmp_path), quantity="zeff")[0]
    said = [
        image.ImageComments,
        image.RealWorldValueMappingSequence[0].LUTExplanation,
        image.ContributingEquipmentSequence[0].ContributionDescription,
    ]
    assert all("research use only" in text.lower() for text in said)


def test_the_mapped_range_survives_implicit_value_types(tmp_path: Path) -> None:
    image = derive(tmp_path, of_source(tmp_path))[0]
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.save_as(tmp_path / "implicit.dcm", implicit_vr=True)
    mapping = pydicom.dcmread(tmp_path / "implicit.dcm").RealWorldValueMappingSequence[0]
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == -32768.0
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 32767.0
    assert "RealWorldValueFirstValueMapped" not in mapping


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"description": "two\nlines"}, "one line"),
        ({"description": "a\\b"}, "backslash"),
        ({"description": "x" * 65}, "64 characters"),
        ({"quantity": "density", "material": "gold", "report": DECOMPOSED}, "not of gold"),
        ({"series": 3}, "--like"),
    ],
)
def test_what_cannot_be_written_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Derivation(**settings)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("quantity", list(QUANTITIES))
@pytest.mark.parametrize("part", [None, "CHEST", "KNEE", "UNHEARDOF"])
@pytest.mark.parametrize("alone", [False, True])
def test_dciodvfy_finds_no_error(tmp_path: Path, quantity: str, part: str | None, alone: bool) -> None:
    volume = of_source(tmp_path, BodyPartExamined=part)
    given = {
        "kev": 70.0 if quantity == "vmi" else None,
        "material": "iodine" if quantity == "density" else None,
    }
    report = DECOMPOSED if quantity != "hu" else ENHANCED
    like = None if alone else tmp_path / "source"
    image = derive(tmp_path, volume, quantity=quantity, report=report, like=like, **given)[0]
    done = subprocess.run(["dciodvfy", "-new", image.filename], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert said == []
