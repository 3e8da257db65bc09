"""Reading CT from DICOM: what must be refused, in one sentence that helps."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_refusal import refusal
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

PLANE = hounsfield()[0]


def one(folder: Path, **changes: object) -> None:
    save(dataset(PLANE, (0, 0, 0), **changes), folder / "one.dcm")


def mr(folder: Path) -> None:
    write_series(folder, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")


def missing(folder: Path) -> None:
    write_series(folder, depths=(0, 2.5, 7.5, 10, 12.5, 15))


def missing_many(folder: Path) -> None:
    write_series(folder, depths=(0, 1, 2, 4, 5, 6, 10, 11, 12, 13, 14))


def uneven(folder: Path) -> None:
    write_series(folder, depths=(0, 2.5, 5, 7.9, 10.4, 12.9))


def creeping(folder: Path) -> None:
    """No single distance is far off, but the stack drifts off any even grid."""
    write_series(folder, depths=[*np.arange(30) * 1.0, *(30 + np.arange(30) * 1.05)])


def tilted(folder: Path) -> None:
    write_series(folder, sideways=2.5 * np.tan(np.radians(15)))


def moved(folder: Path) -> None:
    for index, x in enumerate((0, 0, 3, 3)):
        save(dataset(PLANE, (x, 0, 2 * index)), folder / f"{index}.dcm")


def of_two_sizes(folder: Path) -> None:
    save(dataset(PLANE, (0, 0, 0)), folder / "a.dcm")
    save(dataset(hounsfield(1, 8, 8)[0], (0, 0, 2)), folder / "b.dcm")


def of_two_pixel_sizes(folder: Path) -> None:
    save(dataset(PLANE, (0, 0, 0)), folder / "a.dcm")
    save(dataset(PLANE, (0, 0, 2), PixelSpacing=[0.5, 0.5]), folder / "b.dcm")


def of_two_orientations(folder: Path) -> None:
    write_series(folder)
    write_series(folder, prefix="coronal", orientation=(1, 0, 0, 0, 0, -1))


def two_phases(folder: Path) -> None:
    write_series(folder)
    write_series(folder, prefix="late", values=hounsfield(4, seed=1))


def two_phases_in_one_file(folder: Path) -> None:
    save(enhanced(hounsfield(4), depths=(0, 2, 0, 2), slopes=(1, 1, 1, 1)), folder / "both.dcm")


def localizers(folder: Path) -> None:
    write_series(folder, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def screen_capture(folder: Path) -> None:
    one(
        folder,
        SOPClassUID=SecondaryCaptureImageStorage,
        ImagePositionPatient=None,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
    )


def colour_slices(folder: Path) -> None:
    one(folder, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)


def no_rows(folder: Path) -> None:
    one(folder, Rows=None, Columns=None, PixelData=None)


def no_pixels(folder: Path) -> None:
    one(folder, PixelData=None)


def no_position(folder: Path) -> None:
    one(folder, ImagePositionPatient=None)


def unplaced_frames(folder: Path) -> None:
    made = dataset(PLANE, (0, 0, 0), NumberOfFrames=2)
    made.PixelData = made.PixelData * 2
    save(made, folder / "two.dcm")


def _with_frames(folder: Path, said: int) -> None:
    made = enhanced(hounsfield(4), range(4), [1] * 4)
    made.NumberOfFrames = said
    save(made, folder / "four.dcm")


def fewer_frames_than_described(folder: Path) -> None:
    _with_frames(folder, 3)


def one_frame_of_four(folder: Path) -> None:
    _with_frames(folder, 1)


def raw_data(folder: Path) -> None:
    one(folder, SOPClassUID="1.2.840.10008.5.1.4.1.1.66", ImagePositionPatient=None, Rows=None)


def effective_atomic_number(folder: Path) -> None:
    one(folder, RescaleType="Z_EFF")


def table_of_hu(folder: Path) -> None:
    _table(folder, "HU")


def table_of_density(folder: Path) -> None:
    _table(folder, "OD")


def _table(folder: Path, unit: str) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [4, 0, 16], unit, bytes(8)
    one(folder, ModalityLUTSequence=DicomSequence([item]))


def commas(folder: Path) -> None:
    _text(folder, 0x00280030, "0,8\\0,7")


def no_number(folder: Path) -> None:
    _text(folder, 0x00281053, "one")


def _text(folder: Path, tag: int, said: str) -> None:
    """As a program writes it that does not look at what it writes."""
    one(folder)
    path = folder / "one.dcm"
    made = pydicom.dcmread(path)
    made._dict[Tag(tag)] = RawDataElement(
        Tag(tag),
        "DS",
        len(said),
        said.encode(),
        0,
        False,
        True,  # type: ignore[arg-type]
    )
    made.save_as(path)


def no_orientation(folder: Path) -> None:
    one(folder, ImageOrientationPatient=[0, 0, 0, 0, 0, 0])


def too_few_spacings(folder: Path) -> None:
    one(folder, PixelSpacing=[0.8])


def stored_without_intercept(folder: Path) -> None:
    write_series(folder, values=hounsfield(4) + 1024, RescaleIntercept=None, RescaleSlope=None)


def constant(folder: Path) -> None:
    write_series(folder, values=np.full((4, 12, 16), -1000))


def cut_off(folder: Path) -> None:
    write_series(folder)
    path = folder / "image0002.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def cut_off_in_header(folder: Path) -> None:
    write_series(folder)
    path = folder / "image0002.dcm"
    path.write_bytes(path.read_bytes()[:300])


def an_empty_file(folder: Path) -> None:
    write_series(folder)
    (folder / "image0002.dcm").write_bytes(b"")


def nothing(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def other_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image here")
    (folder / "table.csv").write_text("1,2")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mr, ("no CT in it but 4 MR objects", "give a CT series")),
        (missing, ("a slice is missing between -397.50 and -392.50 mm (a gap of 5.00 mm instead of 2.50)",)),
        (missing_many, ("4 slices are missing, most of them between -394.00 and -390.00 mm", "export")),
        (
            uneven,
            ("unevenly spaced", "between -395.00 and -392.10 mm", "2.90 mm", "usually 2.50", "resample"),
        ),
        (creeping, ("unevenly spaced", "1.05 mm", "usually 1.00")),
        (tilted, ("sheared by 15.0 degrees (gantry tilt)", "0.67 mm sideways", "resample")),
        (moved, ("shifted sideways", "3.00 mm", "one centre")),
        (of_two_sizes, ("'a.dcm' and 'b.dcm'", "16 x 12 and 8 x 8 pixels", "into a folder")),
        (of_two_pixel_sizes, ("'a.dcm' and 'b.dcm'", "0.7 x 0.8 and 0.5 x 0.5 mm", "into a folder")),
        (of_two_orientations, ("'coronal0001.dcm' and 'image0001.dcm'", "orientations", "into a folder")),
        (two_phases, ("two different images lie at", "phases", "into a folder")),
        (two_phases_in_one_file, ("two different images lie at 0.00 mm", "'both.dcm'")),
        (localizers, ("localizer", "give the series with the slices")),
        (screen_capture, ("colour pictures (RGB)", "give the original CT")),
        (colour_slices, ("it holds colour pictures (RGB) only", "give the original CT")),
        (no_rows, ("'one.dcm' has no pixel data", "copy it again")),
        (no_pixels, ("'one.dcm' has no complete pixel data", "copy it again")),
        (no_position, ("'one.dcm' does not say where it lies (ImagePositionPatient is missing)", "export")),
        (
            unplaced_frames,
            ("'two.dcm' holds 2 frames without saying where each lies", "export single slices"),
        ),
        (fewer_frames_than_described, ("'four.dcm' contradicts itself: it gives 3", "describes 4", "export")),
        (one_frame_of_four, ("'four.dcm' contradicts itself: it gives 1 as", "describes 4", "export")),
        (raw_data, ("no slices with a position", "give the original CT")),
        (
            effective_atomic_number,
            ("'one.dcm' holds values of effective atomic number", "(Rescale Type Z_EFF)", "give the CT"),
        ),
        (
            table_of_hu,
            ("maps its values by a table (Modality LUT), as no CT", "export it", "give the original"),
        ),
        (table_of_density, ("'one.dcm' maps its values by a table to OD, not to Hounsfield", "give the")),
        (commas, ("'one.dcm' has the PixelSpacing 0,8", "with commas where DICOM has decimal points")),
        (no_number, ("'one.dcm' has the RescaleSlope 'one', no number", "export")),
        (no_orientation, ("the header of 'one.dcm' is damaged", "export")),
        (too_few_spacings, ("the header of 'one.dcm' is damaged", "export")),
        (stored_without_intercept, ("nothing below zero", "rescale intercept", "subtract 1024")),
        (constant, ("every voxel has the same value (-1000)",)),
        (cut_off, ("pixel data of 'image0002.dcm' cannot be decoded (cut off", "copy it again")),
        (cut_off_in_header, ("'image0002.dcm' has no pixel data (it was cut off", "copy it again")),
        (an_empty_file, ("'image0002.dcm' is empty", "copy it again")),
        (nothing, ("no DICOM image in it", "give a DICOM folder")),
        (other_files, ("no DICOM image in it", "give a DICOM folder")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_refusals(tmp_path: Path, make: Callable[[Path], None], words: Sequence[str]):
    make(tmp_path)
    sentence = refusal(tmp_path)
    for word in words:
        assert word in sentence


def test_several_series_are_listed_without_names(tmp_path: Path):
    uid = generate_uid()
    write_series(tmp_path / "soft", SeriesDescription="Nobody's chest")
    sharp = {"SeriesNumber": 5, "SeriesInstanceUID": uid, "ConvolutionKernel": ["Br59f", "3"]}
    write_series(tmp_path / "sharp", depths=(0, 1, 2), SliceThickness=1, **sharp)
    listing = "series 2: 4 slices of 5 mm, kernel B30f; series 5: 3 slices of 1 mm, kernel Br59f 3"
    sentence = refusal(tmp_path)
    assert f"it holds 2 CT series ({listing}); choose one by its number with --series 2" in sentence
    for wrong in (3, "2.25.7"):  # what the user gives may be said, a UID of the files may not
        assert f"it holds no CT series {wrong}; choose from: {listing}." in refusal(tmp_path, series=wrong)
    only_ct = tmp_path / "soft"
    assert "no CT series 7; choose from: series 2: 4 slices" in refusal(only_ct, series=7)


def test_the_list_of_many_series_is_cut_short(tmp_path: Path):
    for number in range(1, 16):
        save(dataset(PLANE, (0, 0, 0), SeriesInstanceUID=f"1.2.{number}"), tmp_path / f"{number}.dcm")
    sentence = refusal(tmp_path)
    assert "it holds 15 CT series (series 3: 1 slice of 5 mm" in sentence and "; and 3 more)" in sentence


def test_paths_that_are_not_there_or_no_dicom(tmp_path: Path):
    assert "there is no file or folder" in refusal(tmp_path / "absent")
    assert "give at least one file" in refusal([])
    (tmp_path / "notes.txt").write_text("no image here")
    sentence = refusal(tmp_path / "notes.txt")
    assert "'notes.txt' is no DICOM image" in sentence and ".nii.gz" in sentence
    write_series(tmp_path / "ct")
    mixed = [*sorted((tmp_path / "ct").iterdir()), tmp_path / "notes.txt"]
    assert "image0001.dcm' and 4 more" in refusal(mixed)
    index = dataset(PLANE, (0, 0, 0), SOPClassUID="1.2.840.10008.1.3.10")
    assert "it is a DICOMDIR" in refusal(save(index, tmp_path / "DICOMDIR"))


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar", "bztar"])
def test_archives_are_to_be_unpacked_first(tmp_path: Path, kind: str):
    write_series(tmp_path / "ct")
    (tmp_path / "sent").mkdir()
    archive = Path(shutil.make_archive(str(tmp_path / "sent" / "ct"), kind, tmp_path / "ct"))
    assert f"'{archive.name}' is an archive (zip or the like); unpack it first" in refusal(archive)
    assert f"no DICOM image in it but an archive, '{archive.name}'; unpack it first" in refusal(
        tmp_path / "sent"
    )


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_cut_off_jpeg_2000(shared_data: Path, tmp_path: Path, share: float):
    folder = shared_data / "dicom" / "totalseg_siemens_3mm_j2k_lossless"
    if not folder.is_dir():
        pytest.skip("the real JPEG 2000 series is not on this machine")
    whole = sorted(folder.glob("*.dcm"))[0].read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: int(share * len(whole))])
    assert "'cut.dcm' has no complete pixel data (it was cut off" in refusal(tmp_path / "cut.dcm")


damage = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", ["slice.dcm", "frames.dcm", "ct.nii", "ct.nii.gz"])
@given(changes=damage, length=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damaged_files_are_read_or_refused_but_never_break(
    kind: str, changes: list[tuple[float, int]], length: float
):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, kind)
        if kind == "slice.dcm":
            save(dataset(PLANE, (0, 0, 0), PixelPaddingValue=0), path)
        elif kind == "frames.dcm":
            save(enhanced(hounsfield(2), (0, 1), (1, 1)), path)
        else:
            CTVolume(hounsfield(2)).write(path)
        content = bytearray(path.read_bytes())
        for where, value in changes:
            content[int(where * (len(content) - 1))] = value
        path.write_bytes(content[: int(length * len(content))])
        with contextlib.suppress(InputError):
            assert CTVolume.read(path).array.size


def test_oblique_is_not_tilted(tmp_path: Path):
    """An oblique stack is a rectangular grid; only shear is refused."""
    angle = np.radians(20)
    write_series(tmp_path, orientation=(1, 0, 0, 0, np.cos(angle), np.sin(angle)))
    assert CTVolume.read(tmp_path).array.shape[0] == 4


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="other systems have no such permissions and pipes")
def test_what_cannot_be_opened_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "in")
    write_series(tmp_path / "in" / "further", (10, 12.5))
    os.mkfifo(tmp_path / "in" / "pipe")  # to read it would wait for ever
    assert len(CTVolume.read(tmp_path / "in").array) == 6
    (tmp_path / "a.nii").write_bytes(b"")
    os.mkfifo(tmp_path / "b.nii")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        CTVolume.read(tmp_path / "b.nii")

    def refusing(opened: Any) -> Any:
        def open_or_refuse(path: Any, *given: Any, **named: Any) -> Any:
            if str(path).endswith(("further", "a.nii")):
                raise PermissionError(13, "Permission denied", path)
            return opened(path, *given, **named)

        return open_or_refuse

    # The superuser, as whom tests may run, opens everything.
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(Path, "open", refusing(Path.open))
    with pytest.raises(InputError, match=r"'further' cannot be opened \(Permission denied\)"):
        CTVolume.read(tmp_path / "in")  # not without those slices
    with pytest.raises(InputError, match=r"a\.nii': it cannot be opened \(Permission denied\)"):
        CTVolume.read(tmp_path / "a.nii")
