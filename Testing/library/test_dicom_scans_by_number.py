"""Scans in one series that only numbers, places or the names of files tell apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_refusal import refusal
from synthetic_dicom import dataset, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

ALTERNATING: dict[str, Any] = {
    "InstanceNumber": lambda scan, index: 1 + index + 5 * scan,
    "AcquisitionTime": lambda scan, index: f"10{15 + scan}{index:02d}.5",
    "AcquisitionDateTime": lambda scan, index: f"202001011{scan}0000.{index}",
    "XRayTubeCurrent": lambda scan, index: 100 + 200 * scan + index,
    "Exposure": lambda scan, index: 100 - 50 * scan,
    "AcquisitionNumber": lambda scan, index: 1 + index + 5 * scan,
    "TableHeight": lambda scan, index: 150 + 5 * scan,
}


@pytest.mark.parametrize("keyword", ALTERNATING)
@pytest.mark.parametrize("scans", [2, 3])
def test_scans_that_differ_only_in_what_differs_anyway_are_seen_by_how_it_alternates(
    tmp_path: Path, keyword: str, scans: int
):
    value = ALTERNATING[keyword]
    volumes = [hounsfield(5, seed=scan) for scan in range(scans)]
    for scan, volume in enumerate(volumes):
        for index, plane in enumerate(volume):
            attributes = {"InstanceNumber": None, keyword: value(scan, index)}
            made = dataset(plane, (0, 0, 3 * index + 3 * scan / scans), **attributes)
            save(made, tmp_path / f"{scan}_{index}.dcm")
    sentence = refusal(tmp_path)
    assert f"it mixes {scans} scans in one series, told apart by {keyword}" in sentence
    if keyword == "AcquisitionDateTime":  # dates are not shown
        assert "folder of their own" in sentence and "2020" not in sentence
        return
    condition = re.search(r"where=\{'\w+': '?([^'}]+)", sentence)
    assert condition is not None
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={keyword: condition[1]}).array, volumes[0])


@pytest.mark.parametrize("lower", [0, 2.5])
def test_a_series_is_chosen_by_its_number_where_it_shares_a_uid(tmp_path: Path, lower: float):
    thin, thick = hounsfield(8, seed=1), hounsfield(2, seed=2)
    write_series(tmp_path, depths=np.arange(8) * 2.5, values=thin, SeriesNumber=3, SliceThickness=2.5)
    write_series(tmp_path, (lower, lower + 10), values=thick, SeriesNumber=2, SliceThickness=10, prefix="b")
    assert "SeriesNumber 2 (2 slices) and 3 (8 slices)" in refusal(tmp_path)
    for number, expected in ((3, thin), (2, thick)):
        volume = CTVolume.read(tmp_path, series=number)
        np.testing.assert_array_equal(volume.array, expected)
        note = f"{len(expected)} of 10 images with one SeriesInstanceUID: those with SeriesNumber={number}"
        assert note in volume.meta["notes"]
    with pytest.raises(InputError, match="no CT series 5"):
        CTVolume.read(tmp_path, series=5)


@pytest.mark.parametrize("apart", [0, 2, 150])
def test_two_scans_whose_headers_tell_nothing_are_pointed_out_by_their_images(tmp_path: Path, apart: int):
    values = hounsfield(12, rows=64, columns=64) + 15 * np.arange(12)[:, None, None] // 2
    values[1::2] += apart
    write_series(tmp_path, depths=np.arange(12) * 1.0, values=values)
    notes = CTVolume.read(tmp_path).meta["notes"]
    assert any("as if scans were mixed" in note for note in notes) == (apart == 150)


@pytest.mark.parametrize("scans", [2, 3])
def test_interleaved_scans_that_are_numbered_alike(tmp_path: Path, scans: int):
    for index, plane in enumerate(hounsfield(4 * scans)):
        made = dataset(plane, (0, 0, index), InstanceNumber=1 + index // scans)
        save(made, tmp_path / f"{index}.dcm")
    assert f"InstanceNumber, of which each stands {scans} times; put the files of each" in refusal(tmp_path)
    assert CTVolume.read(tmp_path, where={"InstanceNumber": "any"}).array.shape[0] == 4 * scans


@pytest.mark.parametrize("number", [lambda index: 1, lambda index: 1 + index % 6, lambda index: 12 - index])
def test_numbers_that_say_nothing_against_one_scan(tmp_path: Path, number: Callable[[int], int]):
    for index, plane in enumerate(hounsfield(12)):
        save(dataset(plane, (0, 0, index), InstanceNumber=number(index)), tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    assert volume.array.shape[0] == 12 and volume.meta["notes"] == []


def test_scans_at_the_same_places_that_only_came_one_after_the_other(tmp_path: Path):
    first, second = hounsfield(4), hounsfield(4, seed=1)
    for index in range(4):
        for scan, volume in enumerate((first, second)):
            made = dataset(volume[index], (0, 0, index), InstanceNumber=1 + index + 4 * scan)
            save(made, tmp_path / f"{scan}_{index}.dcm")
    assert "InstanceNumber 1..4 (4 slices) and 5..8 (4 slices); choose one" in refusal(tmp_path)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"InstanceNumber": "5..8"}).array, second)


def test_images_at_one_place_that_nothing_tells_apart(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 1)):
        save(dataset(hounsfield(1, seed=seed)[0], (0, 0, 0)), tmp_path / f"{name}.dcm")
    assert "nothing in their headers tells them apart; put the files of one into a folder" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("{2}.dcm", "'0.dcm' to '11.dcm' and '12.dcm' to '23.dcm'"),
        ("p{0}/{1}.dcm", "'p0/0.dcm' to 'p0/11.dcm' and 'p1/0.dcm' to 'p1/11.dcm'"),
    ],
)
def test_phases_numbered_alike_are_told_by_their_files(tmp_path: Path, name: str, parts: str):
    for index, plane in enumerate(hounsfield(24)):
        made = dataset(plane, (0, 0, 3.5 * (index % 12)), InstanceNumber=1 + index % 12)
        save(made, tmp_path / name.format(*divmod(index, 12), index))
    sentence = refusal(tmp_path)
    assert f"nothing in their headers tells them apart, only the names of the files: {parts}" in sentence


def _write_cine(folder: Path, places: int, times: int, leave_out: int = -1) -> np.ndarray:
    """Write a scan that takes all times at one place before it goes on, as cine perfusion scans do."""
    values = hounsfield(places * times)
    for index, plane in enumerate(values):
        if index != leave_out:
            place = (-100, -90, 5.0 * (index // times))
            # Two rows of the detector at once, so that times alone do not tell.
            second = 30 * (index // times // 2) + index % times
            made = dataset(plane, place, InstanceNumber=index + 1, AcquisitionTime=f"1200{second:02d}")
            save(made, folder / f"{index:03d}.dcm")
    return values


def test_one_moment_of_a_cine_scan_can_be_chosen(tmp_path: Path) -> None:
    values = _write_cine(tmp_path, places=4, times=5)
    with pytest.raises(InputError, match=r"5 were taken at each place.*cine.*InstanceNumber=1\.\.20/5"):
        CTVolume.read(tmp_path)

    for first in (1, 3):
        volume = CTVolume.read(tmp_path, where={"InstanceNumber": f"{first}..20/5"})
        np.testing.assert_array_equal(volume.array, values[first - 1 :: 5])


def test_a_cine_scan_with_an_image_less_is_told_as_one(tmp_path: Path) -> None:
    _write_cine(tmp_path, places=4, times=5, leave_out=19)
    with pytest.raises(InputError, match=r"several were taken at each place.*put one image of each place"):
        CTVolume.read(tmp_path)
