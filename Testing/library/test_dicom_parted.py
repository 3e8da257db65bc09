"""One scan to whose files an anonymiser gave a SeriesInstanceUID each: read as one, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from batch_folders import find_cases
from pydicom.uid import generate_uid
from synthetic_dicom import hounsfield, write_series
from test_dicom_archive import listed

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.energies import energies_in
from ctenhance.runtime.errors import InputError

DEPTHS = tuple(np.arange(6) * 2.5)


def write_parted(folder: Path, depths: tuple[float, ...] = DEPTHS, **changes: Any) -> np.ndarray:
    values = write_series(folder, depths, **changes)
    for path in folder.glob(f"{changes.get('prefix', 'image')}*.dcm"):
        one = pydicom.dcmread(path)
        one.SeriesInstanceUID = generate_uid()
        one.save_as(path)
    return values


def test_a_scan_in_parts_is_read_as_one(tmp_path: Path) -> None:
    values = write_parted(tmp_path)
    volume = CTVolume.read(tmp_path)
    assert (volume.array == values).all() and volume.spacing[2] == 2.5
    (said,) = [note for note in volume.meta["notes"] if "SeriesInstanceUID" in note]
    assert (
        said == "SeriesInstanceUID differs in all slices, as some anonymisers write it, and was passed over"
    )
    (found,) = listed(tmp_path)
    assert found["slices"] == 6 and "enhance" in found["uses"]
    assert len(energies_in(tmp_path)) == 1
    (case,) = find_cases(tmp_path, tmp_path.parent / "out").cases
    assert len(case.files) == 6


def test_other_uids_of_each_file_may_differ_too(tmp_path: Path) -> None:
    values = write_parted(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        one = pydicom.dcmread(path)
        one.StudyInstanceUID, one.FrameOfReferenceUID = generate_uid(), generate_uid()
        one.save_as(path)
    assert (CTVolume.read(tmp_path).array == values).all()


def test_two_scans_in_parts_are_two(tmp_path: Path) -> None:
    first = write_parted(tmp_path, SeriesNumber=3, prefix="a")
    second = write_parted(tmp_path, SeriesNumber=4, prefix="b", values=hounsfield(6, seed=1))
    with pytest.raises(InputError, match=r"2 CT series \(series 3: 6 slices .*; series 4: 6 slices"):
        CTVolume.read(tmp_path)
    assert (CTVolume.read(tmp_path, series=3).array == first).all()
    assert (CTVolume.read(tmp_path, series=4).array == second).all()


def test_a_scan_whose_files_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    """As programs sort them that make a folder of each series; and halves, as on discs."""
    values = write_parted(tmp_path / "all")
    for number, path in enumerate(sorted((tmp_path / "all").iterdir())):
        for folder in (f"each/s{number}", f"halves/s{number // 3}"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / folder)
    for name in ("each", "halves"):
        (case,) = find_cases(tmp_path / name, tmp_path / "out").cases
        assert len(case.files) == 6
        assert (CTVolume.read(tmp_path / name).array == values).all()


def test_a_missing_slice_is_told_as_ever(tmp_path: Path) -> None:
    write_parted(tmp_path)
    (tmp_path / "image0003.dcm").unlink()
    with pytest.raises(InputError, match="missing"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(
    ("depths", "changes"),
    [
        ((0, 0, 0, 0), {}),  # bolus tracking
        ((0, 3, 11, 12), {}),  # single images here and there
        ((0, 5), {}),
        ((0, 2.5, 5, 7.5), {"SeriesNumber": None, "SeriesDescription": None}),  # few, and nothing ties them
    ],
)
def test_single_images_are_series_still(
    tmp_path: Path, depths: tuple[float, ...], changes: dict[str, Any]
) -> None:
    write_parted(tmp_path, depths, **changes)
    with pytest.raises(InputError, match=f"it holds {len(depths)} CT series") as caught:
        CTVolume.read(tmp_path)
    advised = "--where SeriesInstanceUID=any" in str(caught.value)
    assert advised == (len(depths) > 2)
    assert len(find_cases(tmp_path, tmp_path.parent / "out").cases) == len(depths)


def test_single_images_of_several_numbers_are_series_still(tmp_path: Path) -> None:
    for number, depth in enumerate(DEPTHS, start=1):
        write_parted(tmp_path, (depth,), SeriesNumber=number, prefix=f"s{number}-")
    with pytest.raises(InputError, match="it holds 6 CT series") as caught:
        CTVolume.read(tmp_path)
    assert "any" not in str(caught.value)


def test_what_is_said_to_be_one_is_taken_together(tmp_path: Path) -> None:
    values = write_parted(tmp_path, DEPTHS[:4], SeriesNumber=None)
    where = {"SeriesInstanceUID": "any"}
    assert (CTVolume.read(tmp_path, where=where).array == values).all()
    (found,) = listed(tmp_path, "--where", "SeriesInstanceUID=any")
    assert found["slices"] == 4


def test_without_any_uid_the_number_tells_series_apart(tmp_path: Path) -> None:
    first = write_series(tmp_path, DEPTHS, SeriesNumber=2, prefix="a", SeriesInstanceUID=None)
    uid = {"SeriesInstanceUID": None}
    second = write_series(tmp_path, DEPTHS, SeriesNumber=3, prefix="b", values=hounsfield(6, seed=1), **uid)
    with pytest.raises(InputError, match=r"2 CT series \(series 2: 6 slices .*; series 3: 6 slices"):
        CTVolume.read(tmp_path)
    assert (CTVolume.read(tmp_path, series=2).array == first).all()
    assert (CTVolume.read(tmp_path, series=3).array == second).all()
    assert len(find_cases(tmp_path, tmp_path.parent / "out").cases) == 2
    assert [one["series_instance_uid"] for one in listed(tmp_path)] == ["", ""]
    for path in tmp_path.glob("b*.dcm"):
        path.unlink()
    assert (CTVolume.read(tmp_path).array == first).all()
