"""Which CT objects count as slices: scouts, exam summaries and pictures are neither CTs nor need a choice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from synthetic_dicom import AXIAL, dataset, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.archive import Archive
from ctenhance.files.dicom.choice import Conditions
from ctenhance.runtime.errors import InputError

FROM_THE_SIDE = [0, 1, 0, 0, 0, -1]
MULTI_FRAME_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.2"

SCOUTS: dict[str, dict[str, Any]] = {
    "the standard's word": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "Philips' exam summary": {
        "SOPClassUID": SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY", "REF_SURVIEW"],
    },
    "surview in the scan options": {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ScanOptions": "SURVIEW"},
    "scout mode": {"ScanOptions": ["SCOUT MODE"]},
    "scanoscope": {"ImageType": ["ORIGINAL", "PRIMARY"], "ScanOptions": "SCANOSCOPE"},
    "topogram in the image type": {"ImageType": ["ORIGINAL", "PRIMARY", "TOPOGRAM"]},
    "topogram in the description": {"ImageType": None, "SeriesDescription": "Topogram  0.6  T20s"},
    "a tube that stands still": {"AcquisitionType": "CONSTANT_ANGLE"},
}  # fmt: skip
PAGES: dict[str, dict[str, Any]] = {
    "patient protocol": {"ImageType": ["ORIGINAL", "SECONDARY", "OTHER", "CT_SOM7 PROT"]},
    "dose page": {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"], "ImagePositionPatient": None},
    "dose report": {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Dose Report"},
    "screen save": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    "a capture with a place": {
        "SOPClassUID": SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY"],
    },
    "a capture of frames": {"SOPClassUID": MULTI_FRAME_CAPTURE, "ImagePositionPatient": None},
}  # fmt: skip
COLOURS: dict[str, dict[str, Any]] = {
    "a CT in colours": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
    "a palette": {"PhotometricInterpretation": "PALETTE COLOR"},
}
RENDERINGS: dict[str, dict[str, Any]] = {
    "a thick MIP": {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
    "a projection": {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "CSA MIP"]},
    "a rendering": {"VolumeBasedCalculationTechnique": "VOLUME_RENDER"},
}
CURVES: dict[str, dict[str, Any]] = {
    "a curved one": {"VolumeBasedCalculationTechnique": "CURVED_MPR"},
    "a dental one": {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "CPR"]},
}
KEYS: dict[str, dict[str, Any]] = {
    "key images": {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Key Images"},
    "Schlüsselbilder": {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Schlüsselbilder Thorax"},
    "in the image type": {"ImageType": ["DERIVED", "SECONDARY", "KEY_IMAGE"]},
}
BESIDE = [
    *((name, one, "localizer (scout) images") for name, one in SCOUTS.items()),
    *((name, one, "pictures of the screen or pages of an exam summary") for name, one in PAGES.items()),
    *((name, one, "colour pictures (RGB)") for name, one in COLOURS.items()),
    *((name, one, "projections through the volume") for name, one in RENDERINGS.items()),
    *((name, one, "reformats along a curve") for name, one in CURVES.items()),
    *((name, one, "key images (a choice of slices)") for name, one in KEYS.items()),
]


# What a note calls one of them.
SHORT = {
    "localizer": "scout", "pictures of the screen": "page or picture of the screen",
    "colour pictures": "colour picture", "projections": "rendering",
    "reformats along": "reformat along a curve", "key images": "key image",
}  # fmt: skip


def write_one(path: Path, attributes: dict[str, Any]) -> None:
    changes = {"ImageOrientationPatient": FROM_THE_SIDE, "SeriesNumber": 9, **attributes}
    made = dataset(hounsfield()[0], (0, 0, 0), SeriesInstanceUID=generate_uid(), **changes)
    if changes.get("SamplesPerPixel") == 3:
        made.PixelData = made.PixelData * 3
    save(made, path)


@pytest.mark.parametrize(("attributes", "words"), [one[1:] for one in BESIDE], ids=[one[0] for one in BESIDE])
def test_what_comes_along_with_a_scan_is_refused_alone_and_left_out_beside_it(
    tmp_path: Path, attributes: dict[str, Any], words: str
):
    write_one(tmp_path / "beside" / "one.dcm", attributes)
    with pytest.raises(InputError, match="it holds ") as caught:
        CTVolume.read(tmp_path)
    assert f"it holds {words}" in str(caught.value) and "only" in str(caught.value)

    values = write_series(tmp_path / "slices")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    short = next(one for kind, one in SHORT.items() if kind in words)
    assert volume.meta["notes"] == [f"left out, as no slices of this CT: 1 CT object (1 {short})"]


def test_a_scout_within_the_series_itself_is_left_out(tmp_path: Path):
    values = write_series(tmp_path)
    scout = dataset(
        hounsfield()[0], (0, 0, 0), ImageOrientationPatient=FROM_THE_SIDE, ScanOptions="SCOUT MODE"
    )
    save(scout, tmp_path / "scout.dcm")
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_a_whole_study_needs_no_choice(tmp_path: Path):
    for number, (name, attributes, _) in enumerate(BESIDE):
        write_one(tmp_path / f"{number}" / f"{name}.dcm", attributes)
    # What says nothing: an image from the side, and one that lies nowhere.
    write_one(tmp_path / "mute.dcm", {"ImageType": None})
    write_one(tmp_path / "nowhere.dcm", {"ImageType": None, "ImagePositionPatient": None})
    values = write_series(tmp_path / "slices")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    counts = Counter(one for *_, words in BESIDE for kind, one in SHORT.items() if kind in words)
    (said,) = volume.meta["notes"]
    assert said.startswith(f"left out, as no slices of this CT: {len(BESIDE) + 2} CT objects (")
    assert f"{counts['scout'] + 2} scouts" in said, "and the two from the side that say nothing"
    assert f"{counts['page or picture of the screen']} pages or pictures of the screen" in said


REFERRING = {
    "KO": "list of key images", "PR": "presentation state", "SR": "structured report",
    "RTSTRUCT": "structures", "REG": "registration",
}  # fmt: skip


@pytest.mark.parametrize(("modality", "what"), REFERRING.items())
def test_objects_that_refer_to_images_are_called_what_they_are(tmp_path: Path, modality: str, what: str):
    attributes = {"Modality": modality, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59"}
    write_one(tmp_path / "beside" / "one.dcm", attributes)
    with pytest.raises(InputError) as caught:
        CTVolume.read(tmp_path)
    said = f"no CT in it but 1 {modality} ({what}) object without images of its own; give a CT series"
    assert said in str(caught.value)
    write_series(tmp_path / "slices")
    notes = CTVolume.read(tmp_path).meta["notes"]
    assert notes == [f"left out, as no slices of this CT: 1 {modality} ({what}) object"]


def test_several_kinds_of_them_are_all_named(tmp_path: Path):
    for number, modality in enumerate(("KO", "PR", "PR", "MR")):
        write_one(tmp_path / f"{number}.dcm", {"Modality": modality})
    with pytest.raises(InputError) as caught:
        CTVolume.read(tmp_path)
    assert "1 KO (list of key images) and 1 MR and 2 PR (presentation state) objects; give" in str(
        caught.value
    )


def test_key_images_with_arrows_within_the_series_are_left_out(tmp_path: Path):
    """At the places of two slices, with the series' own UID, derived, and with annotations burned in."""
    values = write_series(tmp_path)
    for z in range(2):
        arrow = values[z].copy()
        arrow[2:5, 2:5] = 1500
        key = dataset(arrow, (0, 0, 3.0 * z), ImageType=["DERIVED", "SECONDARY"], BurnedInAnnotation="YES")
        save(key, tmp_path / f"key{z}.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == ["left out, as no slices of this CT: 2 CT objects (2 key images)"]


def test_a_whole_series_that_is_said_to_have_annotations_is_read(tmp_path: Path):
    burned = {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "BurnedInAnnotation": "YES"}
    values = write_series(tmp_path, **burned)
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_slices_that_converters_wrote_as_captures_are_read_where_there_is_no_other_ct(tmp_path: Path):
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY"]}
    converted = write_series(tmp_path / "converted", SeriesInstanceUID=generate_uid(), **capture)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, converted)
    assert "secondary captures" in volume.meta["notes"][0]

    proper = write_series(tmp_path / "proper", values=hounsfield(4, seed=1))
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, proper)


def test_words_that_slices_may_have_do_not_leave_them_out(tmp_path: Path):
    """A description is believed where there are few images only, and these words are no scout's."""
    image_type = ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI DUAL", "AVERAGE", "LOW_DOSE"]
    values = write_series(
        tmp_path, ImageType=image_type, SeriesDescription="Thorax after topogram", ScanOptions="HELICAL MODE"
    )
    assert CTVolume.read(tmp_path).array.shape == values.shape


@pytest.mark.parametrize(
    "description",
    ["Dose Report", "Exam Summary", "Patientenprotokoll", "Untersuchungsübersicht", "Relevé: Rapport de dose",
     "Résumé d'examen", "Informe de dosis", "Resumen del examen", "Protocolo do paciente",
     "Protocollo paziente", "Riepilogo esame", "Dosisrapport", "DOSIS"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["AXIAL", "OTHER"])
def test_many_pages_are_no_slices_either(tmp_path: Path, description: str, kind: str):
    pages = {"SeriesDescription": description, "ImageType": ["DERIVED", "SECONDARY", kind], "SeriesNumber": 9}
    write_series(tmp_path / "pages", range(6), SeriesInstanceUID=generate_uid(), **pages)
    with pytest.raises(InputError, match="it holds pictures of the screen or pages of an exam summary only"):
        CTVolume.read(tmp_path)
    values = write_series(tmp_path / "slices")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    what = "6 CT objects (6 pages or pictures of the screen)"
    assert volume.meta["notes"] == [f"left out, as no slices of this CT: {what}"]


@pytest.mark.parametrize(
    ("description", "image_type"),
    [
        ("Low dose", ["DERIVED", "SECONDARY", "AXIAL"]),
        ("Dosis 50%", ["DERIVED", "SECONDARY", "AXIAL"]),
        ("Patient protocol 7", ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("Thorax, protocol of the patient", ["ORIGINAL", "PRIMARY", "AXIAL"]),
    ],
)
def test_slices_with_such_words_remain_slices(tmp_path: Path, description: str, image_type: list[str]):
    values = write_series(tmp_path, SeriesDescription=description, ImageType=image_type)
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def write_scout(folder: Path, change: Any, **attributes: Any) -> Path:
    """A scout without a word for it: a body's mean from the front, on the scale that `change` gives it."""
    y, x = np.mgrid[-1:1:64j, -1:1:96j]
    body = np.clip(1 - x**2 / 0.7, 0, None) ** 0.5 * (1 - 0.2 * y**2)
    body *= 1 - 0.5 * np.exp(-8 * y**2 - 6 * x**2)
    values = change(body) + np.random.default_rng(3).normal(0, 5, body.shape)
    attributes = {
        "ImageType": None, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ConvolutionKernel": None,
        "SeriesInstanceUID": generate_uid(), "SeriesNumber": 1, **attributes,
    }  # fmt: skip
    return save(dataset(values.round(), (-30, 0, 90), **attributes), folder / "im.dcm")


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, "lies from the front or the side"),
        ({"ImageType": ["ORIGINAL", "PRIMARY"], "ImageOrientationPatient": FROM_THE_SIDE}, "or the side"),
        ({"ImageOrientationPatient": list(AXIAL), "PixelSpacing": [0.5, 2.0]}, "not square (0.5 x 2 mm)"),
        ({"ImageOrientationPatient": list(AXIAL), "PixelSpacing": [10.0, 10.0]}, "shows 960 mm"),
    ],
)
def test_a_scout_that_lost_its_image_type_is_told_by_what_it_is(
    tmp_path: Path, attributes: dict[str, Any], why: str
):
    write_scout(tmp_path / "scout", lambda body: 600 * body - 300, **attributes)
    with pytest.raises(InputError, match=r"likely a localizer \(scout\)") as caught:
        CTVolume.read(tmp_path / "scout")
    assert why in str(caught.value)
    (listed,) = Archive(tmp_path, Conditions.of({}))
    assert not listed.uses and "likely a localizer (scout)" in listed.why_not
    # with air where a slice has it nobody can be sure
    write_scout(tmp_path / "scout", lambda body: 900 * body - 990, **attributes)
    assert any(why in note and "as scouts do" in note for note in CTVolume.read(tmp_path).meta["notes"])


def test_scouts_from_two_sides_alone_are_called_so(tmp_path: Path):
    uid = generate_uid()
    for side, orientation in (("front", [1, 0, 0, 0, 0, -1]), ("side", FROM_THE_SIDE)):
        write_scout(
            tmp_path / side,
            lambda body: 600 * body - 300,
            ImageOrientationPatient=orientation,
            SeriesInstanceUID=uid,
        )
    with pytest.raises(InputError, match=r"as localizers \(scouts\) do; give the series with the slices"):
        CTVolume.read(tmp_path)


def test_what_is_derived_or_looks_like_a_slice_is_no_scout_for_sure(tmp_path: Path):
    for name, image_type in (("mute", None), ("mpr", ["DERIVED", "SECONDARY", "MPR"])):
        values = hounsfield(rows=48, columns=60)[0]
        attributes = {"ImageType": image_type, "ImageOrientationPatient": FROM_THE_SIDE}
        save(dataset(values, (0, 0, 0), **attributes), tmp_path / name / "im.dcm")
        volume = CTVolume.read(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], values)
        noted = [note for note in volume.meta["notes"] if "as scouts do" in note]
        assert len(noted) == (name == "mute")
        (listed,) = Archive(tmp_path / name, Conditions.of({}))
        assert "enhance" in listed.uses and noted == [one for one in listed.notes if "as scouts do" in one]


def test_single_slices_from_the_front_are_a_ct_when_there_is_nothing_else(tmp_path: Path):
    write_series(tmp_path, orientation=(1, 0, 0, 0, 0, -1), depths=(0,))
    assert CTVolume.read(tmp_path).array.shape[0] == 1


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (SecondaryCaptureImageStorage, "1 Secondary Capture Image object"),
        ("1.2.840.10008.5.1.4.39.1", "1 Color Palette object"),
        ("1.2.3", "1 unnamed object"),
    ],
)
def test_objects_without_a_modality_are_called_by_what_they_are(tmp_path: Path, kind: str, word: str):
    save(dataset(hounsfield()[0], (0, 0, 0), SOPClassUID=kind, Modality=None), tmp_path / "one.dcm")
    with pytest.raises(InputError, match=f"there is no CT in it but {word}; give a CT series"):
        CTVolume.read(tmp_path)
